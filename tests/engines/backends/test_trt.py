"""Whether the TensorRT backends can be used: each obstacle has its own message."""

import gc
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engines import backend as backends
from engines import layout
from engines.backends.trt import TensorRtBackend
from engines.backends.trt_engine import HEADROOM, Engine, PlanSource
from engines.backends.trt_machine import Library, Machine
from engines.bundle import Bundle
from engines.cuda_driver import Driver, Gpu
from engines.errors import BackendError, OutOfMemoryError
from engines.plan_sets import open_plans
from engines.plans import PLAN_BACKENDS, system_name
from tests.engines.backends.stand_in_cuda import Status
from tests.engines.backends.stand_in_plans import ANY_SIZE, DRIVER, StandInMachine, add_plans
from tests.engines.backends.stand_in_tensorrt import working_size
from tests.engines.backends.tiny_bundle import SPEC, expected, feeds, tiny_bundle


def _reason(machine: StandInMachine, bundle: Bundle, name: str = "tensorrt") -> str:
    reason = machine.backend(name).unavailable(bundle)
    assert reason is not None
    assert "\n" not in reason
    with pytest.raises(BackendError, match=re.escape(f"{name} cannot be used: {reason}")):
        machine.backend(name).open_session(bundle, layout.UNET)
    assert machine.cuda.left_over() == []
    return reason


@pytest.mark.parametrize("name", PLAN_BACKENDS)
def test_nothing_is_in_the_way(machine: StandInMachine, bundle: Bundle, name: str) -> None:
    add_plans(bundle, name)
    backend = machine.backend(name)
    assert backend.unavailable(bundle) is None
    assert "NVIDIA Stand-in 4090" in backend.device
    assert machine.cuda.left_over() == [], "asking takes no memory"


def test_without_a_driver_nothing_is_loaded(bundle: Bundle) -> None:
    """TensorRT and even CUDA's package may crash there."""

    def no_driver() -> Driver:
        raise BackendError("libcuda.so.1 does not load: no NVIDIA driver")

    def load(*_: object) -> Any:
        raise AssertionError("something was loaded")

    add_plans(bundle, "tensorrt")
    backend = TensorRtBackend("tensorrt", "tensorrt", driver=no_driver, cuda=load, library=load)
    assert backend.unavailable(bundle) == "libcuda.so.1 does not load: no NVIDIA driver"


def test_the_driver_is_too_old(machine: StandInMachine, bundle: Bundle) -> None:
    add_plans(bundle, "tensorrt")
    machine.driver = Driver((12, 2), DRIVER.gpus)
    machine.cuda.fail["cudaGetDeviceCount"] = Status.cudaErrorInsufficientDriver
    assert (
        _reason(machine, bundle) == "the NVIDIA driver runs CUDA up to 12.2, and these "
        "cuda-bindings need 13.5; update the driver"
    )


def test_cuda_does_not_start(machine: StandInMachine, bundle: Bundle) -> None:
    add_plans(bundle, "tensorrt")
    machine.cuda.fail["cudaGetDeviceCount"] = Status.cudaErrorNoDevice
    assert "CUDA failed counting GPUs" in _reason(machine, bundle)


@pytest.mark.parametrize("name", PLAN_BACKENDS)
def test_packages_are_missing(bundle: Bundle, name: str) -> None:
    def missing(*_: object) -> Any:
        raise ModuleNotFoundError("No module named x")

    add_plans(bundle, name)
    machine = StandInMachine()
    module = name.replace("-", "_")
    without_cuda = TensorRtBackend(name, module, driver=lambda: DRIVER, cuda=missing)
    assert without_cuda.unavailable(bundle) == (
        f"the package cuda-bindings is not installed; run: pip install 'fracture-sd[{name}]'"
    )
    without_library = TensorRtBackend(
        name, module, driver=lambda: DRIVER, cuda=lambda: machine.cuda, library=missing
    )
    assert f"{module} is not installed; run: pip install 'fracture-sd[{name}]'" in str(
        without_library.unavailable(bundle)
    )


def test_there_are_no_plans(machine: StandInMachine, bundle: Bundle) -> None:
    assert (
        _reason(machine, bundle, "tensorrt-rtx")
        == f"{bundle.path} has no plans of tensorrt-rtx for sm89; there: none at all. "
        f"Run: convert build {bundle.path} --backend tensorrt-rtx --target sm89"
    )


def test_the_plans_are_for_another_gpu(machine: StandInMachine, bundle: Bundle) -> None:
    add_plans(bundle, "tensorrt", changes={"targets": ("sm120",)})
    assert "no plans of tensorrt for sm89; there: tensorrt-sm89" in _reason(machine, bundle)


def test_plans_for_ampere_and_later_serve_later_ones(
    machine: StandInMachine, bundle: Bundle
) -> None:
    compatible = {"targets": ("sm80",), "hardware_compatibility": "ampere-plus"}
    add_plans(bundle, "tensorrt", changes=compatible)
    assert machine.backend("tensorrt").unavailable(bundle) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"library_version": "11.3.0"}, "built with tensorrt 11.3.0 and 11.4.0 is installed"),
        ({"system": "windows-amd64"}, f"built on windows-amd64 and this is {system_name()}"),
    ],
)
def test_the_plans_are_of_another_place(
    machine: StandInMachine, bundle: Bundle, changes: Mapping[str, Any], reason: str
) -> None:
    add_plans(bundle, "tensorrt", changes=changes)
    message = _reason(machine, bundle)
    assert reason in message
    assert message.endswith(f"run: convert build {bundle.path} --backend tensorrt --target sm89")


@pytest.mark.parametrize(
    ("built", "runs"), [("11.3.9", True), ("11.4.1", False), ("10.16.2", False), ("11.4.0", True)]
)
def test_version_compatible_plans_run_on_later_versions(
    machine: StandInMachine, bundle: Bundle, built: str, runs: bool
) -> None:
    options = {"version_compatible": True}
    add_plans(
        bundle, "tensorrt", options=options, changes={"library_version": built}, host_code=True
    )
    assert (machine.backend("tensorrt").unavailable(bundle) is None) == runs
    if runs:
        machine.backend("tensorrt").open_session(bundle, layout.UNET).close()


def test_code_in_other_plans_is_not_run(machine: StandInMachine, bundle: Bundle) -> None:
    add_plans(bundle, "tensorrt", host_code=True)
    with pytest.raises(BackendError, match="has code in it, which is not allowed"):
        machine.backend("tensorrt").open_session(bundle, layout.UNET)


def test_the_plans_are_stale(machine: StandInMachine, bundle: Bundle) -> None:
    path = add_plans(bundle, "tensorrt")
    bundle.manifest.files.clear()
    assert "was built from another graph" in _reason(machine, bundle)
    (path / layout.plan_file(layout.UNET)).unlink()
    assert "unet.plan is missing" in _reason(machine, bundle)


def test_the_gpu_is_too_small(machine: StandInMachine, bundle: Bundle) -> None:
    add_plans(bundle, "tensorrt")
    machine.driver = Driver((13, 0), (Gpu("Tiny", (8, 9), 100),))
    assert "take 0.0 GB and the Tiny has 0.0 GB of memory" in _reason(machine, bundle)
    add_plans(bundle, "tensorrt", options={"weight_streaming": True})
    assert machine.backend("tensorrt").unavailable(bundle) is None


def test_weights_of_a_stripped_plan_count(machine: StandInMachine, bundle: Bundle) -> None:
    add_plans(bundle, "tensorrt", stripped=True)
    name, entry = next(iter(bundle.manifest.files.items()))
    bundle.manifest.files[name] = replace(entry, size=30 << 30)
    assert "take 32.2 GB and the NVIDIA Stand-in 4090 has 25.8" in _reason(machine, bundle)


def test_memory_is_short_when_a_plan_is_loaded(bundle: Bundle) -> None:
    machine = StandInMachine(memory=1 << 19)
    add_plans(bundle, "tensorrt")
    with pytest.raises(
        OutOfMemoryError, match=r"cannot load .*unet\.plan: out of memory; 1 MB of 1 MB are free"
    ):
        machine.backend("tensorrt").open_session(bundle, layout.UNET)
    assert machine.cuda.left_over() == []


def test_a_damaged_plan(machine: StandInMachine, bundle: Bundle) -> None:
    path = add_plans(bundle, "tensorrt") / layout.plan_file(layout.UNET)
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(
        BackendError, match=r"cannot load .*unet\.plan: this is no engine file"
    ) as refusal:
        machine.backend("tensorrt").open_session(bundle, layout.UNET)
    assert not isinstance(refusal.value, OutOfMemoryError)
    gc.collect()
    assert machine.cuda.left_over() == []


def test_a_plan_with_other_tensors(machine: StandInMachine, bundle: Bundle) -> None:
    add_plans(bundle, "tensorrt")
    sample, timestep, text = SPEC.inputs
    halved = replace(SPEC, inputs=(sample, replace(timestep, dtype="float16"), text))
    other = replace(bundle, manifest=replace(bundle.manifest, components={layout.UNET: halved}))
    with pytest.raises(BackendError, match="does not fit the bundle: timestep differ"):
        machine.backend("tensorrt").open_session(other, layout.UNET)


def test_the_real_library_refuses_a_damaged_plan(machine: StandInMachine, bundle: Bundle) -> None:
    """As far as TensorRT for RTX goes without a GPU: its logger, its runtime, the plan's bytes."""
    real = pytest.importorskip("tensorrt_rtx")
    version = {"library_version": real.__version__}
    path = add_plans(bundle, "tensorrt-rtx", changes=version) / layout.plan_file(layout.UNET)
    path.write_bytes(b"x" * path.stat().st_size)
    backend = TensorRtBackend(
        "tensorrt-rtx", "tensorrt_rtx", driver=lambda: DRIVER, cuda=lambda: machine.cuda
    )
    assert backend.unavailable(bundle) is None
    with pytest.raises(BackendError, match=r"cannot load .*unet\.plan: .*incompatible serializ"):
        backend.open_session(bundle, layout.UNET)
    assert machine.cuda.left_over() == []


@pytest.mark.parametrize("name", PLAN_BACKENDS)
def test_stripped_plans_get_their_weights_from_the_bundle(
    machine: StandInMachine, bundle: Bundle, name: str
) -> None:
    add_plans(bundle, name, stripped=True)
    inputs = feeds(1, 8, 8)
    with machine.backend(name).open_session(bundle, layout.UNET) as session:
        assert abs(session.run(inputs)["out_sample"] - expected(inputs)).max() < 1e-5


def test_a_refit_that_fails_is_an_error(machine: StandInMachine, bundle: Bundle) -> None:
    add_plans(bundle, "tensorrt", stripped=True, missing=["val_12", "val_13"])
    with pytest.raises(
        BackendError, match=r"cannot be refitted from .*: 2 weights are missing: val_12, val_13\."
    ):
        machine.backend("tensorrt").open_session(bundle, layout.UNET)
    add_plans(bundle, "tensorrt", stripped=True)
    graph = bundle.graph(layout.UNET)
    graph.write_bytes(graph.read_bytes().replace(b"tiny", b"TINY"))
    with pytest.raises(
        BackendError, match=r"cannot be refitted from .* a weight has another shape"
    ):
        machine.backend("tensorrt").open_session(bundle, layout.UNET)
    gc.collect()
    assert machine.cuda.left_over() == []


def test_weights_are_streamed_only_where_they_do_not_fit(
    machine: StandInMachine, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    add_plans(bundle, "tensorrt", options={"weight_streaming": True}, streamable=3 << 30)
    machine.backend("tensorrt").open_session(bundle, layout.UNET).close()
    assert "streams" not in caplog.text
    small = StandInMachine(memory=3 << 30)
    small.backend("tensorrt").open_session(bundle, layout.UNET).close()
    assert "unet keeps 1611 of 3221 MB of its weights on the GPU and streams the" in caplog.text


@pytest.mark.parametrize(("reserved", "budget"), [(0, 1 << 30), (1, 1 << 29)])
def test_room_is_left_for_the_other_plans_and_intermediate_results(
    bundle: Bundle, reserved: int, budget: int
) -> None:
    """The plans of the text encoder and the VAE have to fit beside the UNet's."""
    add_plans(bundle, "tensorrt", streamable=1 << 30, memory=0)
    plans = open_plans(bundle, "tensorrt", "sm89")
    plan = plans.content.components[layout.UNET]
    working = working_size([each.max for each in plan.profiles[0].values()])
    machine = StandInMachine(memory=(1 << 30) + HEADROOM + working)
    library = Library(machine.modules["tensorrt"], for_rtx=False)
    gpu = Machine(machine.cuda, library, DRIVER, graphs=True)
    file, graph = plans.file(layout.UNET), bundle.graph(layout.UNET)
    source = PlanSource(layout.UNET, file, plan, graph, reserved, version_compatible=False)
    engine = Engine(gpu, source, bundle.component(layout.UNET))
    assert engine.resident_weights == budget


@pytest.mark.parametrize("open_before", [True, False])
def test_plans_that_are_loaded_need_no_more_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, open_before: bool
) -> None:
    bundle = tiny_bundle(tmp_path / "two", decoder=True)
    add_plans(bundle, "tensorrt", streamable=1 << 30, memory=0)
    plan = open_plans(bundle, "tensorrt", "sm89").content.components[layout.UNET]
    working = working_size([each.max for each in plan.profiles[0].values()])
    backend = StandInMachine(memory=(1 << 30) + HEADROOM + working).backend("tensorrt")
    if open_before:
        backend.open_session(bundle, layout.VAE_DECODER)
    backend.open_session(bundle, layout.UNET)
    assert ("unet keeps" in caplog.text) != open_before


def test_the_logger_stays_for_good(machine: StandInMachine, bundle: Bundle) -> None:
    """TensorRT keeps a pointer to the first logger of a process."""
    add_plans(bundle, "tensorrt")
    backend = machine.backend("tensorrt")
    for _ in range(2):
        backend.open_session(bundle, layout.UNET).close()
    gc.collect()
    assert len(machine.modules["tensorrt"].loggers) == 1


def test_a_reason_is_given_once(machine: StandInMachine, bundle: Bundle) -> None:
    path = add_plans(bundle, "tensorrt") / layout.plan_file(layout.UNET)
    content = path.read_bytes()
    backend = machine.backend("tensorrt")
    with backend.open_session(bundle, layout.UNET):
        path.write_bytes(b"x" * len(content))
        with pytest.raises(BackendError, match="this is no engine file"):
            backend.open_session(bundle, layout.UNET)
        path.write_bytes(content)
        machine.cuda.memory = 0
        with pytest.raises(BackendError, match=r"unet\.plan: out of memory;"):
            backend.open_session(bundle, layout.UNET)


def test_limits_are_the_profiles(machine: StandInMachine, bundle: Bundle) -> None:
    square = {**ANY_SIZE, "height": (16, 16, 16), "width": (16, 16, 16)}
    add_plans(bundle, "tensorrt", square, ANY_SIZE)
    limits = machine.backend("tensorrt").limits(bundle)
    assert limits.components == {
        layout.UNET: (
            {"batch": (1, 8), "height": (16, 16), "width": (16, 16), "tokens": (77, 308)},
            {"batch": (1, 8), "height": (8, 32), "width": (8, 32), "tokens": (77, 308)},
        )
    }


def test_auto_takes_plans_before_anything_else(
    machine: StandInMachine, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PLAN_BACKENDS:
        module = f"engines.backends.{name.replace('-', '_')}"
        monkeypatch.setattr(f"{module}.BACKEND", machine.backend(name))
    add_plans(bundle, "tensorrt-rtx")
    choice = backends.choose_backend("auto", bundle)
    assert choice.backend.name == "tensorrt-rtx"
    assert "not tensorrt: " in choice.reason
    add_plans(bundle, "tensorrt")
    assert backends.choose_backend("auto", bundle).backend.name == "tensorrt"


@pytest.mark.parametrize("name", PLAN_BACKENDS)
def test_the_registered_backends_are_here_without_their_libraries(name: str) -> None:
    """Importing them imports neither CUDA nor TensorRT."""
    assert name in backends.backend_names()
    assert "tensorrt" not in sys.modules
