"""Planning a build of plans: everything checked and identified before TensorRT works."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from convert.hashing import find_changed
from convert.plans.library import MODULES, open_library
from convert.plans.options import (
    AMPERE,
    AMPERE_PLUS,
    BuildOptions,
    check_rtx_options,
    check_single_range,
)
from convert.plans.ranges import Ranges, make_profiles
from convert.plans.targets import RTX_TARGETS, check_rtx_targets
from engines import __version__, layout
from engines.bundle import Bundle
from engines.cuda_driver import no_gpu_reason, probe_driver
from engines.errors import BackendError, BundleError, SettingError
from engines.identity import identity_of
from engines.manifest import FileEntry
from engines.plans import (
    TENSORRT,
    TENSORRT_RTX,
    Plan,
    PlanSet,
    Profile,
    graph_identity,
    read_plans,
    system_name,
    target_name,
)


@dataclass(frozen=True)
class BuildJob:
    """A build that can be run.

    `module` is the name of TensorRT's module, `profiles` has each component's, and `content` is
    what plans.json will say but for the plans themselves.
    """

    bundle: Bundle
    module: str
    options: BuildOptions
    profiles: dict[str, tuple[Profile, ...]]
    content: PlanSet

    @property
    def directory(self) -> Path:
        """Where the plans will be."""
        name = layout.engine_directory(self.content.backend, self.content.targets)
        return self.bundle.path / name

    @property
    def rtx_targets(self) -> tuple[str, ...]:
        """The architectures that TensorRT is told to build for; none where it takes the GPU's."""
        return self.content.targets if self.content.backend == TENSORRT_RTX else ()

    @property
    def timing_cache(self) -> Path | None:
        """The file beside the bundle that keeps TensorRT's timings; None where there are none."""
        if self.content.backend != TENSORRT:
            return None
        content = self.content
        name = f"{self.bundle.path.resolve().name}.{'-'.join([TENSORRT, *content.targets])}.timings"
        return self.bundle.path.resolve().with_name(name)

    def find_fulfilled(self, *, progress: bool = False) -> PlanSet | None:
        """The bundle's plans where they are those of this very job, byte for byte."""
        try:
            plans = read_plans(self.directory / layout.PLANS_FILE)
        except BundleError:
            return None
        if plans.identity != self.content.identity:
            return None
        if plans.components.keys() != self.profiles.keys():
            return None
        return None if find_changed_plans(self.directory, plans, progress=progress) else plans


def plan_build(
    bundle: Bundle,
    backend: str,
    targets: Sequence[str],
    ranges: Ranges,
    options: BuildOptions,
    arguments: Sequence[str],
    *,
    module: str = "",
) -> BuildJob:
    """Check everything that can be checked before TensorRT works, and identify the build.

    Args:
        bundle: what to build plans of.
        backend: one of `PLAN_BACKENDS`.
        targets: architectures; none for all that TensorRT for RTX builds for, or for the GPU here.
        ranges: the sizes that are built for.
        options: how.
        arguments: those of the command line after the bundle, to be quoted where plans are stale.
        module: TensorRT's module, where it is not the backend's own.

    Raises:
        SettingError: a target, range or option is not possible.
        MissingExtraError: TensorRT is not installed.
        BackendError: it cannot be loaded, or there is no GPU and it needs one.
    """
    check_single_range(options, len(ranges.sizes))
    settled, gpu = settle_targets(backend, targets, options)
    profiles = {name: make_profiles(bundle.manifest, name, ranges) for name in _graphs(bundle)}
    library = open_library(module or MODULES[backend], backend)
    content = PlanSet(
        backend=backend,
        targets=settled,
        library_version=library.__version__,
        system=system_name(),
        gpu=gpu,
        hardware_compatibility=options.hardware_compatibility,
        identity="",
        options={
            **asdict(options),
            "sizes": [str(size) for size in ranges.sizes],
            "batch": str(ranges.batch),
            "chunks": str(ranges.chunks),
        },
        arguments=tuple(arguments),
        components={},
    )
    content = replace(content, identity=_identity(bundle, content, profiles))
    return BuildJob(bundle, module or MODULES[backend], options, profiles, content)


def settle_targets(
    backend: str, targets: Sequence[str], options: BuildOptions
) -> tuple[tuple[str, ...], str]:
    """The architectures to build for, and the name of the GPU here where it is built on one.

    Args:
        backend: one of `PLAN_BACKENDS`.
        targets: what is asked for; none for all that there are, as `plan_build` has it.
        options: how plans are built.

    Raises:
        SettingError: a target or option is not possible.
        BackendError: there is no GPU here, and it needs one.
    """
    if backend == TENSORRT_RTX:
        settled = tuple(targets) or RTX_TARGETS
        check_rtx_targets(settled)
        check_rtx_options(options, gpu=no_gpu_reason() is None)
        return settled, ""
    gpu, target = _own_gpu(targets, options)
    return (target,), gpu


def check_buildable(backend: str, targets: Sequence[str]) -> None:
    """Say before any bundle is there whether plans can be built, by default options.

    Raises:
        UserError: as `plan_build` does for backend and targets.
    """
    settle_targets(backend, targets, BuildOptions())
    open_library(MODULES[backend], backend)


def find_changed_plans(directory: Path, plans: PlanSet, *, progress: bool) -> dict[str, str]:
    """What is wrong with the files of a set of plans, by their names."""
    files = {plan.file: FileEntry(plan.size, plan.sha256) for plan in plans.components.values()}
    return find_changed(directory, files, progress=progress)


def describe_plan(job: BuildJob, component: str, file: Path, sha256: str) -> Plan:
    """What plans.json says of a plan that was built.

    Args:
        job: which it belongs to.
        component: whose plan it is.
        file: where it was written.
        sha256: of its bytes.
    """
    return Plan(
        file=file.name,
        size=file.stat().st_size,
        sha256=sha256,
        graph_identity=graph_identity(job.bundle.manifest, component),
        stripped=job.options.strip,
        profiles=job.profiles[component],
    )


def _graphs(bundle: Bundle) -> list[str]:
    """The bundle's components, in the layout's order."""
    return [name for name in layout.COMPONENTS if name in bundle.manifest.components]


def _own_gpu(targets: Sequence[str], options: BuildOptions) -> tuple[str, str]:
    """The name and architecture of the GPU here, which has to be the one that is asked for."""
    try:
        gpu = probe_driver().gpus[0]
    except BackendError as error:
        raise BackendError(
            f"--backend {TENSORRT} builds on the GPU that the plans are for, but {error}. Run it "
            f"on such a machine. For RTX cards, --backend {TENSORRT_RTX} builds on any machine."
        ) from None
    target = target_name(*gpu.capability)
    if targets and list(targets) != [target]:
        raise SettingError(
            f"--backend {TENSORRT} builds for the GPU of this machine, {gpu.name} ({target}), "
            f"and not for {', '.join(targets)}. Leave --target out, or run it where that GPU is."
        )
    if options.hardware_compatibility == AMPERE_PLUS and gpu.capability < AMPERE:
        raise SettingError(
            f"--hardware-compatibility {AMPERE_PLUS} needs an Ampere GPU or a newer one to build "
            f"on, and {gpu.name} is {target}. Leave it out."
        )
    return gpu.name, target


def _identity(bundle: Bundle, content: PlanSet, profiles: dict[str, tuple[Profile, ...]]) -> str:
    """The hash of everything that the plans depend on."""
    return identity_of(
        {
            "revision": content.revision,
            "fracture-sd": __version__,
            "backend": content.backend,
            "library": content.library_version,
            "system": content.system,
            "gpu": content.gpu,
            "targets": list(content.targets),
            "options": content.options,
            "profiles": {
                name: [{key: asdict(value) for key, value in each.items()} for each in all_of_one]
                for name, all_of_one in profiles.items()
            },
            "graphs": {name: graph_identity(bundle.manifest, name) for name in profiles},
        }
    )
