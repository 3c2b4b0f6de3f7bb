"""Building one plan, in this process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from convert.plans.api import (
    Builder,
    IBuilderConfig,
    RtxIBuilderConfig,
    RtxTensorRt,
    TensorRt,
)
from convert.plans.library import make_logger, plain
from convert.plans.monitor import PlanFile, Progress, make_monitor, make_writer
from convert.plans.network import parse_graph
from convert.plans.options import AMPERE_PLUS, SAME_CAPABILITY, BuildOptions
from convert.plans.ranges import describe_profile
from convert.plans.timing_cache import TimingCache
from engines.errors import BackendError
from engines.plans import Profile

_MEMORY: Final = (
    "std::bad_alloc",
    "OutOfMemory",
    "out of memory",
    "Out of memory",
    "Resource temporarily unavailable",
)
_PROFILE: Final = ("profile", "Profile")


@dataclass(frozen=True)
class PlanTask:
    """One plan to be built.

    `module` is the name of TensorRT's module. `rtx_targets` are the architectures to build for,
    empty where they are those of the GPU here. `timing_cache` is a file, made where it is not
    there; None to do without one.
    """

    module: str
    backend: str
    component: str
    graph: Path
    out: Path
    profiles: tuple[Profile, ...]
    options: BuildOptions
    rtx_targets: tuple[str, ...] = ()
    timing_cache: Path | None = None


def build_engine(
    library: TensorRt,
    task: PlanTask,
    on_progress: Callable[[float, str], None],
    warn: Callable[[str], None],
) -> None:
    """Build, and write the plan to `task.out`.

    Args:
        library: TensorRT's module.
        task: what to build.
        on_progress: called with the part that is done, 0 to 1, and the name of the phase.
        warn: called with each warning of TensorRT's.

    Raises:
        BackendError: TensorRT cannot take the graph, or fails; the error says where and why.
        MemoryError: this machine's memory, or the GPU's, did not suffice.
        OSError: the plan cannot be written.
    """
    logger, errors = make_logger(library, warn)
    builder = library.Builder(logger)
    network = parse_graph(library, builder, logger, task.graph, task.component)
    config = builder.create_builder_config()
    set_options(library, config, task.options)
    if task.rtx_targets:
        set_targets(cast(RtxTensorRt, library), cast(RtxIBuilderConfig, config), task.rtx_targets)
    add_profiles(builder, config, task.profiles, task.component, errors)
    config.progress_monitor = make_monitor(library, Progress(on_progress))
    cache = TimingCache(config, task.timing_cache, warn) if task.timing_cache else None
    errors.clear()
    with task.out.open("wb") as file:
        plan = PlanFile(file)
        built = builder.build_serialized_network_to_stream(
            network, config, make_writer(library, plan)
        )
    if plan.error is not None:
        raise plan.error
    if not built:
        _raise_failure(task, [plain(error) for error in errors])
    if cache is not None:
        cache.save()


def set_options(library: TensorRt, config: IBuilderConfig, options: BuildOptions) -> None:
    """Tell TensorRT everything that is not its default already."""
    flags = library.BuilderFlag
    wanted = {
        flags.DISTRIBUTIVE_INDEPENDENCE: options.batch_invariant,
        flags.VERSION_COMPATIBLE: options.version_compatible,
        flags.WEIGHT_STREAMING: options.weight_streaming,
        flags.STRIP_PLAN: options.strip,
        flags.REFIT_IDENTICAL: options.strip,
    }
    for flag, on in wanted.items():
        if on:
            config.set_flag(flag)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.workspace is not None:
        config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, options.workspace)
    levels = library.HardwareCompatibilityLevel
    if options.hardware_compatibility == AMPERE_PLUS:
        config.hardware_compatibility_level = levels.AMPERE_PLUS
    elif options.hardware_compatibility == SAME_CAPABILITY:
        config.hardware_compatibility_level = levels.SAME_COMPUTE_CAPABILITY


def set_targets(library: RtxTensorRt, config: RtxIBuilderConfig, targets: Sequence[str]) -> None:
    """Build for these architectures, whatever GPU is here.

    Raises:
        BackendError: this version of TensorRT for RTX does not know one.
    """
    config.num_compute_capabilities = len(targets)
    for i, target in enumerate(targets):
        known = getattr(library.ComputeCapability, target.upper(), None)
        if known is None or not config.set_compute_capability(known, i):
            raise BackendError(
                f"TensorRT for RTX {library.__version__} does not build for {target}. "
                "Leave it out of --target."
            )


def add_profiles(
    builder: Builder,
    config: IBuilderConfig,
    profiles: Sequence[Profile],
    component: str,
    errors: Sequence[str],
) -> None:
    """Add every profile.

    Args:
        builder: makes TensorRT's own.
        config: what they are added to.
        profiles: the ranges.
        component: whose, for the error.
        errors: what TensorRT has logged by then.

    Raises:
        BackendError: TensorRT refuses one; the error has its ranges.
    """
    for wanted in profiles:
        profile = builder.create_optimization_profile()
        for name, shapes in wanted.items():
            profile.set_shape(name, shapes.min, shapes.opt, shapes.max)
        if not profile or config.add_optimization_profile(profile) < 0:
            raise BackendError(_profile_failure(component, wanted, errors))


def _profile_failure(component: str, profile: Profile, errors: Sequence[str]) -> str:
    reason = plain(errors[0]) if errors else "no reason is given"
    return (
        f"TensorRT refuses the ranges of the {component}, {describe_profile(profile)}: {reason}. "
        "Change --size, --batch or --chunks."
    )


def _raise_failure(task: PlanTask, errors: Sequence[str]) -> None:
    reason = errors[0] if errors else "it gives no reason"
    if any(mark in error for error in errors for mark in _MEMORY):
        raise MemoryError
    ranges = "; ".join(describe_profile(profile) for profile in task.profiles)
    if any(mark in reason for mark in _PROFILE):
        raise BackendError(
            f"TensorRT refuses the ranges of the {task.component}, {ranges}: {reason}. "
            "Change --size, --batch or --chunks."
        )
    raise BackendError(
        f"TensorRT cannot build the {task.component} for {ranges}: {reason}. "
        "Try narrower ranges, or export the bundle again with the default --opset."
    )
