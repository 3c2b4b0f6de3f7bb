"""The checks for GPUs pass on the CPU, and find mistakes that a GPU backend could make."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu import ours
from benchmarks.gpu.contestants import WITHOUT_GRAPHS
from benchmarks.gpu.protocol import Case, Job
from engines import layout
from engines.axes import Limits
from engines.backend import Backend, choose_backend
from engines.backends import ort, ort_device
from engines.backends.cuda import PROVIDER, CudaBackend
from engines.bundle import Bundle, open_bundle
from engines.plans import TENSORRT
from engines.session import Array, Session
from tests.engines.backends.gpu_stand_in import StandInRuntime
from tests.engines.backends.stand_in_plans import ANY_SIZE, StandInMachine, add_plans
from tests.gpu import checks


@pytest.fixture
def cpu(demo_bundle: Path) -> Backend:
    return choose_backend("cpu", open_bundle(demo_bundle)).backend


@pytest.mark.parametrize("component", layout.COMPONENTS)
def test_components(
    component: str, demo_bundle: Path, demo_bundle_fp32: Path, cpu: Backend
) -> None:
    checks.check_component(open_bundle(demo_bundle), open_bundle(demo_bundle_fp32), cpu, component)


def test_the_rest(demo_bundle: Path, demo_bundle_fp32: Path, cpu: Backend) -> None:
    checks.check_bound_inputs(open_bundle(demo_bundle), cpu)
    checks.check_picture(demo_bundle, demo_bundle_fp32, cpu)
    checks.check_batch_invariance(demo_bundle, cpu)


@pytest.fixture(scope="module")
def planned(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo bundle with plans for the stand-in of TensorRT."""
    path = tmp_path_factory.mktemp("planned") / "demo"
    shutil.copytree(demo_bundle, path)
    add_plans(open_bundle(path), TENSORRT, ANY_SIZE)
    return path


@pytest.mark.usefixtures("cache")
def test_on_plans_with_graphs(planned: Path, demo_bundle_fp32: Path) -> None:
    """The TensorRT sessions on their stand-in, CUDA graphs included."""
    machine = StandInMachine()
    backend = machine.backend(TENSORRT)
    bundle, exact = open_bundle(planned), open_bundle(demo_bundle_fp32)
    for component in (layout.UNET, layout.VAE_DECODER):
        checks.check_component(bundle, exact, backend, component)
    checks.check_bound_inputs(bundle, backend)
    assert machine.cuda.counts["cudaGraphLaunch"] > 0


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("kind", [TENSORRT, f"{TENSORRT}{WITHOUT_GRAPHS}"])
def test_the_benchmark_on_plans(
    kind: str, planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This package's contestant measures plans with CUDA graphs and without."""
    machine = StandInMachine()
    monkeypatch.setattr("engines.backends.tensorrt.BACKEND", machine.backend(TENSORRT))
    monkeypatch.setattr(
        ours, "TensorRtBackend", lambda name, _, graphs: machine.backend(name, graphs=graphs)
    )
    results = tmp_path / "results.jsonl"
    cases = (Case(64, 1, 3), Case(64, 2, 2))
    job = Job(kind, str(planned), "", "cuda", cases, 1, 0.0, str(results), str(tmp_path))
    assert ours.probe(job)["ready"]
    ours.run(job)
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert [line.get("error") for line in lines] == [None] * 3
    assert [len(line["stages"]["unet"]) for line in lines[1:]] == [3, 2]
    assert (machine.cuda.counts["cudaGraphLaunch"] > 0) == (kind == TENSORRT)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRACTURE_SD_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("graph", [False, True])
def test_on_the_cuda_provider(
    demo_bundle: Path, monkeypatch: pytest.MonkeyPatch, *, graph: bool
) -> None:
    """ONNX Runtime's GPU sessions on their stand-in, recorded graphs included."""
    runtime = StandInRuntime(PROVIDER)
    monkeypatch.setattr(ort, "onnxruntime", runtime)
    monkeypatch.setattr(ort_device, "onnxruntime", runtime)
    checks.check_bound_inputs(open_bundle(demo_bundle), CudaBackend(graph=graph))
    assert bool(runtime.replayed) is graph


class _Faulty(Session):
    """A session that makes one of the mistakes that device memory invites."""

    def __init__(self, bundle: Bundle, session: Session, fault: str) -> None:
        super().__init__(bundle.component(layout.UNET))
        self._session = session
        self._fault = fault
        self._texts: dict[tuple[int, ...], Array] = {}

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        if self._fault == "stale input" and layout.ENCODER_HIDDEN_STATES in feeds:
            text = feeds[layout.ENCODER_HIDDEN_STATES]
            first = self._texts.setdefault(text.shape, text)
            feeds = {**feeds, layout.ENCODER_HIDDEN_STATES: first}
        out = dict(self._session.run(feeds))
        if self._fault == "half a batch":
            array = out[layout.OUT_SAMPLE].copy()
            array[len(array) // 2 :] = array[: len(array) - len(array) // 2]
            out[layout.OUT_SAMPLE] = array
        if self._fault == "a channel":
            out[layout.OUT_SAMPLE] = np.roll(out[layout.OUT_SAMPLE], 1, axis=1)
        return out

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        return self._session.run(feeds)

    def close(self) -> None:
        self._session.close()


class _FaultyBackend:
    name = "faulty"
    device = "none"
    max_batch = 8

    def __init__(self, backend: Backend, fault: str) -> None:
        self._backend = backend
        self._fault = fault

    def unavailable(self, bundle: Bundle) -> str | None:
        return None

    def limits(self, bundle: Bundle) -> Limits:
        return self._backend.limits(bundle)

    def open_session(self, bundle: Bundle, component: str) -> Session:
        session = self._backend.open_session(bundle, component)
        return _Faulty(bundle, session, self._fault) if component == layout.UNET else session


@pytest.mark.parametrize("fault", ["half a batch", "a channel"])
def test_wrong_outputs_are_found(
    fault: str, demo_bundle: Path, demo_bundle_fp32: Path, cpu: Backend
) -> None:
    backend = _FaultyBackend(cpu, fault)
    with pytest.raises(AssertionError, match="batch"):
        checks.check_component(
            open_bundle(demo_bundle), open_bundle(demo_bundle_fp32), backend, layout.UNET
        )


def test_an_input_that_does_not_arrive_is_found(
    demo_bundle: Path, demo_bundle_fp32: Path, cpu: Backend
) -> None:
    backend = _FaultyBackend(cpu, "stale input")
    with pytest.raises(AssertionError):
        checks.check_component(
            open_bundle(demo_bundle), open_bundle(demo_bundle_fp32), backend, layout.UNET
        )


def test_pictures_that_depend_on_their_neighbours_are_found(
    demo_bundle: Path, cpu: Backend
) -> None:
    with pytest.raises(AssertionError):
        checks.check_batch_invariance(demo_bundle, _FaultyBackend(cpu, "half a batch"))
