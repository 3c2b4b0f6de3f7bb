"""Every GPU backend against ONNX Runtime's CPU provider, on the GPU that is here."""

from collections.abc import Callable
from pathlib import Path

import pytest

from engines import layout
from engines.backend import Backend, choose_backend
from engines.backends.trt import TensorRtBackend
from engines.bundle import open_bundle
from engines.plans import TENSORRT, TENSORRT_RTX
from tests.gpu import checks
from tests.gpu.conftest import Planned

pytestmark = pytest.mark.gpu

BACKENDS = (TENSORRT, TENSORRT_RTX, "cuda", "cuda-graph", "ort-tensorrt-rtx")

Usable = Callable[[str, Path], Backend]


@pytest.fixture(params=BACKENDS)
def ready(request: pytest.FixtureRequest, planned: Planned, usable: Usable) -> tuple[Path, Backend]:
    """Each backend that can be used here, with a bundle for it."""
    path = planned(request.param)
    return path, usable(request.param, path)


@pytest.mark.parametrize("component", layout.COMPONENTS)
def test_component(component: str, ready: tuple[Path, Backend], demo_bundle_fp32: Path) -> None:
    path, backend = ready
    checks.check_component(open_bundle(path), open_bundle(demo_bundle_fp32), backend, component)


def test_bound_inputs(ready: tuple[Path, Backend]) -> None:
    path, backend = ready
    checks.check_bound_inputs(open_bundle(path), backend)


def test_picture(ready: tuple[Path, Backend], demo_bundle_fp32: Path) -> None:
    path, backend = ready
    checks.check_picture(path, demo_bundle_fp32, backend)


def test_batch_invariance(ready: tuple[Path, Backend]) -> None:
    path, backend = ready
    checks.check_batch_invariance(path, backend)


@pytest.mark.parametrize("backend", [TENSORRT, TENSORRT_RTX])
def test_a_stripped_plan_is_refitted(
    backend: str, planned: Planned, usable: Usable, demo_bundle_fp32: Path
) -> None:
    """Without weights a plan is a fraction of its size, and with the bundle's it gives the same."""
    whole, stripped = planned(backend), planned(backend, "--strip")
    sizes = [
        next(path.glob(f"{layout.ENGINES_DIRECTORY}/*/{layout.UNET}.plan")).stat().st_size
        for path in (whole, stripped)
    ]
    assert sizes[1] < 0.5 * sizes[0]
    engine = usable(backend, stripped)
    for component in layout.COMPONENTS:
        checks.check_component(
            open_bundle(stripped), open_bundle(demo_bundle_fp32), engine, component
        )
    checks.check_picture(stripped, demo_bundle_fp32, engine)


@pytest.mark.parametrize("backend", [TENSORRT, TENSORRT_RTX])
def test_recorded_graphs_change_no_picture(backend: str, planned: Planned, usable: Usable) -> None:
    """TensorRT's CUDA graphs replay the kernels that ran before, to the bit."""
    path = planned(backend)
    (recorded,) = checks.pictures(path, usable(backend, path))
    plain = TensorRtBackend(backend, backend.replace("-", "_"), graphs=False)
    (expected,) = checks.pictures(path, plain)
    assert (recorded.pixels == expected.pixels).all()


def test_graphs_of_the_cuda_provider_change_no_picture(demo_bundle: Path, usable: Usable) -> None:
    (plain,) = checks.pictures(demo_bundle, usable("cuda", demo_bundle))
    (recorded,) = checks.pictures(demo_bundle, usable("cuda-graph", demo_bundle))
    assert checks.psnr(plain, recorded) >= checks.ALONE_DB


def test_auto_takes_a_gpu(demo_bundle: Path, usable: Usable) -> None:
    usable("cuda", demo_bundle)
    name = choose_backend("auto", open_bundle(demo_bundle)).backend.name
    assert name in (TENSORRT_RTX, TENSORRT, "cuda")
