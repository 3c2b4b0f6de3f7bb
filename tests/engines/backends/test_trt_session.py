"""Sessions of TensorRT plans on a stand-in GPU: what is copied, kept, refused and released."""

import gc
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engines import layout
from engines.bundle import Bundle
from engines.errors import BackendError, InternalError, OutOfMemoryError, SettingError
from engines.plans import PLAN_BACKENDS
from tests.engines.backends.stand_in_cuda import StandInCuda, Status
from tests.engines.backends.stand_in_plans import (
    ANY_SIZE,
    NARROW,
    Ranges,
    StandInMachine,
    add_plans,
    open_unet,
    run_and_compare,
)
from tests.engines.backends.stand_in_tensorrt import working_size
from tests.engines.backends.tiny_bundle import expected, feeds
from tests.waiting import PATIENCE


@pytest.mark.parametrize("backend", PLAN_BACKENDS)
def test_shapes_come_and_go(bundle: Bundle, machine: StandInMachine, backend: str) -> None:
    shapes = [(2, 16, 16, 77), (1, 8, 32, 154), (2, 16, 16, 77), (8, 32, 32, 308), (1, 8, 32, 154)]
    with open_unet(machine, bundle, backend) as session:
        for seed, shape in enumerate([*shapes, *shapes, *shapes]):
            run_and_compare(session, feeds(*shape, seed=seed))
    gc.collect()
    assert machine.cuda.left_over() == []


@pytest.mark.parametrize("backend", PLAN_BACKENDS)
def test_only_what_changed_crosses_the_bus(
    bundle: Bundle, machine: StandInMachine, backend: str
) -> None:
    inputs = feeds(2, 16, 16)
    with open_unet(machine, bundle, backend) as session:
        run_and_compare(session, inputs)
        counts = machine.cuda.counts
        assert counts["cudaMemcpyHostToDevice"] == 3
        for step in range(3):
            inputs["timestep"] = inputs["timestep"] + 1
            out = session.run({"timestep": inputs["timestep"]})["out_sample"]
            np.testing.assert_allclose(out, expected(inputs), rtol=1e-5, atol=1e-6)
            assert counts["cudaMemcpyHostToDevice"] == 4 + step
        run_and_compare(session, {name: array.copy() for name, array in inputs.items()})
        assert counts["cudaMemcpyHostToDevice"] == 6, "the same content is not sent again"
        session.run({})
        assert counts["cudaMemcpyHostToDevice"] == 6
        assert counts["cudaStreamSynchronize"] == 6, "once a call"


def test_a_zero_of_another_sign_is_another_content(bundle: Bundle, machine: StandInMachine) -> None:
    inputs = feeds(1, 8, 8)
    inputs["sample"][:] = 0.0
    with open_unet(machine, bundle) as session:
        session.run(inputs)
        session.run({"sample": -inputs["sample"]})
    assert machine.cuda.counts["cudaMemcpyHostToDevice"] == 4


def test_a_callers_array_may_be_reused_at_once(bundle: Bundle, machine: StandInMachine) -> None:
    inputs = feeds(1, 8, 8)
    with open_unet(machine, bundle) as session:
        for _ in range(3):
            wanted = expected(inputs)
            out = session.run(inputs)["out_sample"]
            inputs["sample"] *= 3
            np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-6)


def test_an_input_that_stays_survives_the_change_of_another(
    bundle: Bundle, machine: StandInMachine
) -> None:
    inputs = feeds(2, 16, 16, 77)
    with open_unet(machine, bundle) as session:
        run_and_compare(session, inputs)
        for tokens in (308, 154, 77):
            inputs["encoder_hidden_states"] = feeds(2, 1, 1, tokens)["encoder_hidden_states"]
            text = {"encoder_hidden_states": inputs["encoder_hidden_states"]}
            out = session.run(text)["out_sample"]
            np.testing.assert_allclose(out, expected(inputs), rtol=1e-5, atol=1e-6)


def test_the_shapes_that_are_used_are_remembered(bundle: Bundle, machine: StandInMachine) -> None:
    contexts = machine.modules["tensorrt"].profiles
    with open_unet(machine, bundle) as session:
        for width in (*range(8, 16), 8, 16, 8, 10):
            run_and_compare(session, feeds(1, 8, width))
        assert len(contexts) == 9, "9 widths"
        run_and_compare(session, feeds(1, 8, 9))
        assert len(contexts) == 10, "the width that was not used for longest"


@pytest.mark.parametrize("order", [(NARROW, ANY_SIZE), (ANY_SIZE, NARROW)])
def test_the_narrowest_profile_is_taken(
    bundle: Bundle, machine: StandInMachine, order: tuple[Ranges, Ranges]
) -> None:
    add_plans(bundle, "tensorrt", *order)
    with machine.backend("tensorrt").open_session(bundle, layout.UNET) as session:
        run_and_compare(session, feeds(1, 16, 16))
        run_and_compare(session, feeds(1, 8, 16))
    assert machine.modules["tensorrt"].profiles == [order.index(NARROW), order.index(ANY_SIZE)]


def test_shapes_that_no_profile_takes_are_refused(bundle: Bundle, machine: StandInMachine) -> None:
    """The first profile is for 16 x 16 alone, and has room for 16 entries."""
    with open_unet(machine, bundle) as session:
        run_and_compare(session, feeds(16, 16, 16))
        run_and_compare(session, feeds(8, 16, 15))
        with pytest.raises(SettingError, match=r"does not take sample 16x4x16x15") as refusal:
            session.run(feeds(16, 16, 15))
        assert "sample 1x4x16x16 to 16x4x16x16" in str(refusal.value)
        assert "or sample 1x4x8x8 to 8x4x32x32" in str(refusal.value)
        run_and_compare(session, feeds(1, 8, 8))


def test_a_failed_run_does_not_spoil_the_next(bundle: Bundle, machine: StandInMachine) -> None:
    inputs = feeds(2, 16, 16)
    with open_unet(machine, bundle) as session:
        run_and_compare(session, inputs)
        inputs["sample"] = inputs["sample"] + 1
        machine.cuda.fail["cudaMemcpyAsync"] = Status.cudaErrorInvalidValue
        with pytest.raises(BackendError, match="CUDA failed copying sample of unet: the text of"):
            session.run({"sample": inputs["sample"]})
        machine.cuda.fail.clear()
        out = session.run({})["out_sample"]
        np.testing.assert_allclose(out, expected(inputs), rtol=1e-5, atol=1e-6)


def test_what_was_fed_with_a_refused_shape_stays_fed(
    bundle: Bundle, machine: StandInMachine
) -> None:
    inputs = feeds(2, 16, 16)
    with open_unet(machine, bundle) as session:
        run_and_compare(session, inputs)
        later = {"timestep": inputs["timestep"] + 1, "sample": feeds(2, 16, 40)["sample"]}
        with pytest.raises(SettingError, match="does not take sample 2x4x16x40"):
            session.run(later)
        inputs["timestep"] = later["timestep"]
        out = session.run({"sample": inputs["sample"]})["out_sample"]
        np.testing.assert_allclose(out, expected(inputs), rtol=1e-5, atol=1e-6)


def test_a_fault_on_the_gpu_is_told(bundle: Bundle, machine: StandInMachine) -> None:
    with open_unet(machine, bundle) as session:
        machine.cuda.fail["cudaStreamSynchronize"] = Status.cudaErrorIllegalAddress
        with pytest.raises(BackendError, match="CUDA failed computing on the GPU"):
            session.run(feeds(1, 8, 8))
        machine.cuda.fail.clear()


def test_not_enough_memory_names_what_it_was_for(bundle: Bundle) -> None:
    machine = StandInMachine(memory=(1 << 20) + 200_000)
    with open_unet(machine, bundle) as session:
        run_and_compare(session, feeds(1, 8, 8))
        with pytest.raises(
            OutOfMemoryError,
            match=r"not enough memory for .* of unet: 0 MB are needed, 0 MB of 1 MB",
        ):
            session.run(feeds(8, 32, 32))
        run_and_compare(session, feeds(1, 8, 8))
    gc.collect()
    assert machine.cuda.left_over() == []


@pytest.mark.parametrize("method", ["create_execution_context", "execute_async_v3"])
@pytest.mark.parametrize(
    ("reason", "short"),
    [
        ("[defaultAllocator.cpp::allocate::19] Error Code 1: Cuda Runtime (out of memory)", True),
        ("[executionContext.cpp::470] Error Code 2: OutOfMemory (no further information)", True),
        ("[executionContext.cpp::470] Error Code 4: Internal Error (an assertion)", False),
    ],
)
def test_a_refusal_for_want_of_memory_is_told_from_others(
    bundle: Bundle, machine: StandInMachine, method: str, reason: str, short: bool
) -> None:
    """What TensorRT 8 logged in https://github.com/NVIDIA/TensorRT/issues/3017, and another."""
    with open_unet(machine, bundle) as session:
        refusals = machine.modules["tensorrt"].refusals
        refusals[method] = reason
        with pytest.raises(BackendError, match=re.escape(reason)) as refusal:
            session.run(feeds(1, 8, 8))
        assert isinstance(refusal.value, OutOfMemoryError) is short
        refusals.clear()
        run_and_compare(session, feeds(1, 8, 8))


def test_pinned_memory_can_be_short(bundle: Bundle, machine: StandInMachine) -> None:
    with open_unet(machine, bundle) as session:
        machine.cuda.fail["cudaMallocHost"] = Status.cudaErrorMemoryAllocation
        refused = "host memory that can be pinned for sample of unet"
        with pytest.raises(OutOfMemoryError, match=refused):
            session.run(feeds(1, 8, 8))


def test_sessions_share_stream_and_working_memory(bundle: Bundle, machine: StandInMachine) -> None:
    add_plans(bundle, "tensorrt")
    backend = machine.backend("tensorrt")
    small = backend.open_session(bundle, layout.UNET)
    large = backend.open_session(bundle, layout.UNET)
    inputs = feeds(1, 8, 8), feeds(8, 32, 32)
    for _ in range(3):
        run_and_compare(small, inputs[0])
        run_and_compare(large, inputs[1])
    assert machine.cuda.counts["cudaStreamCreateWithFlags"] == 1
    free, total = machine.cuda.cudaMemGetInfo()[1:]
    tensors = sum(each.nbytes for feed in inputs for each in (*feed.values(), feed["sample"]))
    working = working_size([each.shape for each in inputs[1].values()])
    engines = 2 << 20
    assert total - free == tensors + working + engines
    large.close()
    large.close()
    run_and_compare(small, feeds(1, 8, 8, seed=5))
    small.close()
    gc.collect()
    assert machine.cuda.left_over() == []
    with backend.open_session(bundle, layout.UNET) as again:
        run_and_compare(again, feeds(1, 8, 8))


def _slow(cuda: StandInCuda) -> Callable[[Any], tuple[Any, ...]]:
    synchronise = cuda.cudaStreamSynchronize

    def slow(stream: Any) -> tuple[Any, ...]:
        time.sleep(0.001)
        return synchronise(stream)

    return slow


def test_sessions_of_two_threads_take_turns(
    bundle: Bundle, machine: StandInMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_plans(bundle, "tensorrt")
    backend = machine.backend("tensorrt")
    faults = []
    both_open = threading.Barrier(2)
    monkeypatch.setattr(machine.cuda, "cudaStreamSynchronize", _slow(machine.cuda))

    def work(shape: tuple[int, int, int]) -> None:
        try:
            with backend.open_session(bundle, layout.UNET) as session:
                both_open.wait(PATIENCE)
                for seed in range(30):
                    run_and_compare(session, feeds(*shape, seed=seed))
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(shape,)) for shape in ((1, 8, 8), (4, 32, 32))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    gc.collect()
    assert machine.cuda.left_over() == []


def test_nothing_runs_after_close(bundle: Bundle, machine: StandInMachine) -> None:
    session = open_unet(machine, bundle)
    run_and_compare(session, feeds(1, 8, 8))
    session.close()
    with pytest.raises(InternalError, match="after its release"):
        session.run(feeds(1, 8, 8))
    assert machine.cuda.left_over() == []
