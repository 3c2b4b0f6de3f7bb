"""CUDA graphs of TensorRT sessions on a stand-in GPU: what is recorded, and when it is not."""

import pytest

from engines import layout
from engines.bundle import Bundle
from engines.plans import PLAN_BACKENDS
from tests.engines.backends.stand_in_cuda import Status
from tests.engines.backends.stand_in_plans import (
    StandInMachine,
    add_plans,
    open_unet,
    run_and_compare,
)
from tests.engines.backends.tiny_bundle import feeds


def test_a_graph_is_recorded_for_each_set_of_shapes(
    bundle: Bundle, machine: StandInMachine
) -> None:
    counts = machine.cuda.counts
    with open_unet(machine, bundle) as session:
        for seed in range(4):
            run_and_compare(session, feeds(2, 16, 16, seed=seed))
        assert (counts["cudaStreamBeginCapture"], counts["cudaGraphLaunch"]) == (1, 3)
        for seed in range(3):
            run_and_compare(session, feeds(1, 8, 8, seed=seed))
        assert (counts["cudaStreamBeginCapture"], counts["cudaGraphLaunch"]) == (2, 5)
        run_and_compare(session, feeds(2, 16, 16, seed=9))
        assert (counts["cudaStreamBeginCapture"], counts["cudaGraphLaunch"]) == (2, 6)
        assert counts["executions"] == 8


def test_a_graph_is_recorded_anew_where_memory_has_moved(
    bundle: Bundle, machine: StandInMachine
) -> None:
    with open_unet(machine, bundle) as session:
        for seed in range(3):
            run_and_compare(session, feeds(1, 8, 8, seed=seed))
        for seed in range(3):
            run_and_compare(session, feeds(8, 32, 32, seed=seed))
        before = machine.cuda.counts["cudaStreamBeginCapture"]
        for seed in range(3):
            run_and_compare(session, feeds(1, 8, 8, seed=seed))
        assert machine.cuda.counts["cudaStreamBeginCapture"] == before + 1


def test_tensorrt_for_rtx_records_its_own(bundle: Bundle, machine: StandInMachine) -> None:
    with open_unet(machine, bundle, "tensorrt-rtx") as session:
        for seed in range(3):
            run_and_compare(session, feeds(1, 8, 8, seed=seed))
    assert machine.cuda.counts["cudaStreamBeginCapture"] == 0
    assert machine.modules["tensorrt_rtx"].graph_strategies == ["WHOLE_GRAPH_CAPTURE"]


@pytest.mark.parametrize("backend", PLAN_BACKENDS)
def test_graphs_can_be_left_out(bundle: Bundle, machine: StandInMachine, backend: str) -> None:
    add_plans(bundle, backend)
    with machine.backend(backend, graphs=False).open_session(bundle, layout.UNET) as session:
        for seed in range(3):
            run_and_compare(session, feeds(1, 8, 8, seed=seed))
    assert machine.cuda.counts["cudaStreamBeginCapture"] == 0
    assert set(machine.modules[backend.replace("-", "_")].graph_strategies) == {"DISABLED"}


def test_what_cannot_be_recorded_runs_without_and_says_so(
    bundle: Bundle, machine: StandInMachine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.cuda.fail["cudaStreamEndCapture"] = Status.cudaErrorStreamCaptureInvalidated
    with open_unet(machine, bundle) as session:
        for seed in range(4):
            run_and_compare(session, feeds(1, 8, 8, seed=seed))
    (record,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert "unet runs without a CUDA graph" in record.getMessage()
    assert machine.cuda.counts["cudaStreamBeginCapture"] == 1, "it is not tried again"


def test_an_engine_that_refuses_to_be_recorded_runs_without(
    bundle: Bundle, machine: StandInMachine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.modules["tensorrt"].refuses_recording = True
    with open_unet(machine, bundle) as session:
        for seed in range(4):
            run_and_compare(session, feeds(1, 8, 8, seed=seed))
    assert "this engine allocates while it runs" in caplog.text
    assert machine.cuda.counts["cudaStreamEndCapture"] == 0, "it ended in an error"
    assert machine.cuda.counts["cudaStreamBeginCapture"] == 1


def test_only_so_many_shapes_are_remembered(bundle: Bundle, machine: StandInMachine) -> None:
    with open_unet(machine, bundle) as session:
        for width in range(8, 20):
            for seed in range(2):
                run_and_compare(session, feeds(1, 8, width, seed=seed))
        graphs = [each for each in machine.cuda.left_over() if "graphs" in each]
        assert graphs == ["8 graphs"]
        run_and_compare(session, feeds(1, 8, 8))
