"""The TensorRT backends: whether a bundle's plans can run here, and sessions of them.

TensorRT (`tensorrt`) and TensorRT for RTX (`tensorrt_rtx`) are one code with another module. It is
not imported before the driver has shown a GPU: without one, TensorRT may crash.
"""

import importlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from engines.axes import Limits, input_ranges
from engines.backends.cuda_api import CudaRuntime, check_driver, load_cuda
from engines.backends.trt_api import TensorRt
from engines.backends.trt_engine import Engine, PlanSource
from engines.backends.trt_machine import Library, Machine
from engines.backends.trt_session import TrtSession
from engines.bundle import Bundle
from engines.cuda_driver import Driver, Gpu, probe_driver
from engines.errors import BackendError, UserError
from engines.plan_sets import OpenPlans, open_plans
from engines.plans import build_command, system_name, target_name
from engines.session import Session

WEIGHT_STREAMING: Final = "weight_streaming"
"""The build option with which a plan may be larger than the GPU's memory."""

VERSION_COMPATIBLE: Final = "version_compatible"
"""The build option with which a plan runs on later versions of the same major one."""


@dataclass(frozen=True)
class _Ready:
    """All that a session needs, and that fits together."""

    driver: Driver
    plans: OpenPlans
    cuda: CudaRuntime
    library: Library


class TensorRtBackend:
    """Runs plans on the first GPU that CUDA shows. Its sessions share that GPU's memory."""

    max_batch = 8

    def __init__(
        self,
        name: str,
        module: str,
        *,
        graphs: bool = True,
        driver: Callable[[], Driver] = probe_driver,
        cuda: Callable[[], CudaRuntime] = load_cuda,
        library: Callable[[str], object] = importlib.import_module,
    ) -> None:
        """Declare a backend; nothing is imported yet.

        Args:
            name: one of `engines.plans.PLAN_BACKENDS`; the extra has the same name.
            module: the TensorRT module.
            graphs: whether CUDA graphs are used; without them, each kernel is launched by itself.
            driver: asks for the driver and its GPUs, or raises BackendError.
            cuda: returns the CUDA runtime, or raises ImportError.
            library: imports the module by its name.
        """
        self.name = name
        self._module = module
        self._graphs = graphs
        self._probe = driver
        self._load_cuda = cuda
        self._load_library = library
        self._lock = threading.Lock()
        self._loaded: Library | None = None
        self._machine: Machine | None = None
        self._open: list[str] = []

    @property
    def device(self) -> str:
        """The GPU's name."""
        return f"{self._probe().gpus[0].name}, {self._module}"

    def unavailable(self, bundle: Bundle) -> str | None:
        """GPU, plans and packages are looked at; TensorRT is loaded where the others are there."""
        try:
            self._prepare(bundle)
        except UserError as error:
            return str(error).rstrip(".")
        return None

    def limits(self, bundle: Bundle) -> Limits:
        """What the profiles of the bundle's plans take.

        Raises:
            BackendError: there is no GPU here.
            BundleError: there are no plans for it.
        """
        plans = self._plans(bundle, self._probe().gpus[0])
        return Limits(
            {
                component: tuple(
                    input_ranges(
                        component,
                        {name: (each.min, each.max) for name, each in profile.items()},
                    )
                    for profile in plan.profiles
                )
                for component, plan in plans.content.components.items()
            }
        )

    def open_session(self, bundle: Bundle, component: str) -> Session:
        """Load one component's plan.

        Raises:
            BackendError: the backend cannot be used here, the plan does not load, or memory is
                short.
        """
        spec = bundle.component(component)
        with self._lock:
            try:
                ready = self._prepare(bundle)
            except UserError as error:
                raise BackendError(f"The backend {self.name} cannot be used: {error}") from error
            source = self._source(bundle, ready.plans, component)
            if self._machine is None:
                self._machine = Machine(
                    ready.cuda, ready.library, ready.driver, graphs=self._graphs
                )
            machine = self._machine
            self._open.append(component)
            try:
                with machine.lock:
                    engine = Engine(machine, source, spec)
            except BaseException:
                self._give_back(component)
                raise
        return TrtSession(machine, engine, component, spec, lambda: self._closed(component))

    def _closed(self, component: str) -> None:
        with self._lock:
            self._give_back(component)

    def _give_back(self, component: str) -> None:
        """One session less; the last one releases the GPU."""
        self._open.remove(component)
        if not self._open and self._machine is not None:
            machine, self._machine = self._machine, None
            machine.release()

    def _prepare(self, bundle: Bundle) -> _Ready:
        """Driver and GPU first, then the plans, then the packages, which are large.

        Raises:
            UserError: something is missing or does not fit; it is no whole sentence.
        """
        driver = self._probe()
        plans = self._plans(bundle, driver.gpus[0])
        cuda = self._cuda()
        check_driver(cuda, driver)
        library = self._library()
        self._check_version(bundle, plans, library)
        return _Ready(driver, plans, cuda, library)

    def _source(self, bundle: Bundle, plans: OpenPlans, component: str) -> PlanSource:
        components = plans.content.components
        waiting = [each for each in components if each != component and each not in self._open]
        return PlanSource(
            component,
            plans.file(component),
            components[component],
            bundle.graph(component),
            sum(_size(bundle, plans, each) for each in waiting),
            _is_compatible(plans),
        )

    def _cuda(self) -> CudaRuntime:
        try:
            return self._load_cuda()
        except ImportError as error:
            raise BackendError(self._not_installed("cuda-bindings")) from error

    def _library(self) -> Library:
        if self._loaded is not None:
            return self._loaded
        try:
            module = self._load_library(self._module)
        except (ImportError, OSError) as error:
            raise BackendError(f"{self._not_installed(self._module)} ({error})") from error
        for_rtx = self._module == "tensorrt_rtx"
        self._loaded = Library(cast(TensorRt, module), for_rtx=for_rtx)
        return self._loaded

    def _not_installed(self, package: str) -> str:
        return (
            f"the package {package} is not installed; run: pip install 'fracture-sd[{self.name}]'"
        )

    def _plans(self, bundle: Bundle, gpu: Gpu) -> OpenPlans:
        """The plans for the GPU, once it is clear that they are for this system and fit it."""
        plans = open_plans(bundle, self.name, target_name(*gpu.capability))
        content = plans.content
        rebuild = f"run: {build_command(bundle.path, content.arguments)}"
        if content.system != system_name():
            raise BackendError(
                f"the plans {plans.path} were built on {content.system} and this is "
                f"{system_name()}; {rebuild}"
            )
        needed = sum(_size(bundle, plans, component) for component in content.components)
        if needed > gpu.memory and not content.options.get(WEIGHT_STREAMING):
            raise BackendError(
                f"the plans {plans.path} take {needed / 1e9:.1f} GB and the {gpu.name} has "
                f"{gpu.memory / 1e9:.1f} GB of memory; build them with weight streaming"
            )
        return plans

    def _check_version(self, bundle: Bundle, plans: OpenPlans, library: Library) -> None:
        """A plan runs on the very version that it was built with, unless it was built for more."""
        built, here = plans.content.library_version, library.module.__version__
        if built == here or (_is_compatible(plans) and _continues(built, here)):
            return
        raise BackendError(
            f"the plans {plans.path} were built with {self._module} {built} and {here} is "
            f"installed; install {built}, or run: "
            f"{build_command(bundle.path, plans.content.arguments)}"
        )


def _is_compatible(plans: OpenPlans) -> bool:
    return bool(plans.content.options.get(VERSION_COMPATIBLE))


def _continues(built: str, here: str) -> bool:
    """Whether one version is a later one of the same major version as another."""
    old, new = (
        tuple(int(part) for part in version.split(".") if part.isdecimal())
        for version in (built, here)
    )
    return old[:1] == new[:1] and new >= old


def _size(bundle: Bundle, plans: OpenPlans, component: str) -> int:
    """Bytes that a plan's weights take, whether they are in the plan or in the graph."""
    plan = plans.content.components[component]
    return plan.size + (bundle.weights_size(component) if plan.stripped else 0)
