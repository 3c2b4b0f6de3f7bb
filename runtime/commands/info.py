"""`runtime info`: what a bundle is, and what can run it here."""

import argparse
import dataclasses
from typing import TYPE_CHECKING

from engines.console import Result, add_common_arguments
from runtime.commands.bundle_option import add_bundle_argument, find_bundle

if TYPE_CHECKING:
    from engines.bundle import Bundle
    from engines.identity import Json
    from engines.manifest import ComponentSpec, Manifest
    from engines.plan_sets import FoundPlans

_NOT_VERIFIED = "  not verified; run: convert verify"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = commands.add_parser(
        "info",
        help="what a bundle is, and what can run it here",
        description="Show what a bundle is made of and which backends can run it on this machine.",
    )
    add_bundle_argument(parser)
    parser.add_argument("--check", action="store_true", help="read every file and compare its hash")
    add_common_arguments(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> Result:
    """Open the bundle and ask every backend whether it works; no graph is loaded."""
    from engines.axes import fixed_sizes
    from engines.backend import choose_backend, survey
    from engines.bundle import open_bundle
    from engines.errors import BackendError
    from engines.plan_sets import find_plans
    from runtime.samplers.catalogue import SAMPLERS

    bundle = open_bundle(find_bundle(options.bundle))
    manifest, checked = bundle.manifest, bool(options.check)
    if checked:
        _check(bundle, quiet=options.quiet)
    backends = survey(bundle)
    try:
        choice = choose_backend("auto", bundle)
        automatic = f"{choice.backend.name}: {choice.reason}"
    except BackendError as error:
        automatic = str(error)
    samplers = {sampler.name: sampler.schedules for sampler in SAMPLERS}
    plans = find_plans(bundle)
    sizes = {name: bundle.weights_size(name) for name in manifest.components}
    lines = [
        f"{manifest.name} ({bundle.path}, {_megabytes(sum(sizes.values()))})",
        f"identity  {manifest.identity}",
        *([f"checked  {len(manifest.files)} files, every hash is as exported"] if checked else []),
        *_look(manifest),
        "components",
        *[
            f"  {name}  {spec.dtype}{_because(spec)}, {_megabytes(sizes[name])}"
            for name, spec in manifest.components.items()
        ],
        *_fixed(manifest),
        *_plans(plans),
        "parity with torch",
        *_parity(manifest),
        "pictures against diffusers",
        *_pictures(manifest),
        "backends",
        *[f"  {name}  {state}" for name, state in backends.items()],
        f"  auto  takes {automatic}",
        "samplers",
        *[f"  {name}  {', '.join(schedules)}" for name, schedules in samplers.items()],
    ]
    return Result(
        text="\n".join(lines),
        value={
            "bundle": str(bundle.path),
            "name": manifest.name,
            "identity": manifest.identity,
            "checked": checked,
            "components": {
                name: {
                    "dtype": spec.dtype,
                    "dtype_reason": spec.dtype_reason,
                    "bytes": sizes[name],
                }
                for name, spec in manifest.components.items()
            },
            "parity": {
                name: [dataclasses.asdict(figure) for figure in figures]
                for name, figures in manifest.parity.items()
            },
            "pictures": [dataclasses.asdict(picture) for picture in manifest.pictures],
            "fixed": dict(fixed_sizes(manifest)),
            "plans": [_plans_value(found) for found in plans],
            "presets": list(manifest.presets),
            "defaults": dataclasses.asdict(manifest.defaults),
            "embeddings": {
                name: dataclasses.asdict(spec) for name, spec in manifest.embeddings.items()
            },
            "trained_tags": {name: dict(tags) for name, tags in manifest.trained_tags.items()},
            "backends": dict(backends),
            "auto": automatic,
            "samplers": {name: list(schedules) for name, schedules in samplers.items()},
        },
    )


def _check(bundle: "Bundle", *, quiet: bool) -> None:
    from tqdm import tqdm

    from engines.bundle import verify_hashes

    with tqdm(total=len(bundle.manifest.files), unit="file", disable=quiet) as bar:
        verify_hashes(bundle, lambda name: bar.update())


def _look(manifest: "Manifest") -> list[str]:
    defaults = manifest.defaults
    lines = [
        f"defaults  {defaults.sampler} {defaults.schedule}, {defaults.steps} steps, "
        f"CFG {defaults.cfg:g}, {defaults.width}x{defaults.height}"
    ]
    if manifest.presets:
        lines.append(f"presets  {', '.join(manifest.presets)}")
    lines += [
        f"embedding  {name}, {spec.vectors} tokens" for name, spec in manifest.embeddings.items()
    ]
    lines += [
        f"trained tags of {name}  {', '.join(tags)}" for name, tags in manifest.trained_tags.items()
    ]
    return lines


def _parity(manifest: "Manifest") -> list[str]:
    lines = [
        f"  {name}  {figure.output}: at most {figure.max_error:.2g} off "
        f"(tolerance {figure.tolerance:.2g}), cosine {figure.cosine:.7f}"
        f"{'' if figure.passed else ', FAILED'}"
        for name, figures in manifest.parity.items()
        for figure in figures
    ]
    return lines or [_NOT_VERIFIED]


def _pictures(manifest: "Manifest") -> list[str]:
    lines = [
        f"  seed {picture.seed}, {picture.steps} steps, {picture.width}x{picture.height}  "
        f"PSNR {picture.psnr:.1f} dB (least {picture.least_psnr:g}), "
        f"SSIM {picture.ssim:.5f} (least {picture.least_ssim:g})"
        f"{'' if picture.passed else ', FAILED'}"
        for picture in manifest.pictures
    ]
    return lines or [_NOT_VERIFIED]


def _because(spec: "ComponentSpec") -> str:
    return f" ({spec.dtype_reason})" if spec.dtype_reason else ""


def _fixed(manifest: "Manifest") -> list[str]:
    from engines.axes import fixed_sizes

    sizes = [f"{axis} {size}" for axis, size in fixed_sizes(manifest).items()]
    return [f"fixed  {', '.join(sizes)}"] if sizes else []


def _plans(plans: "list[FoundPlans]") -> list[str]:
    """A line for each set of TensorRT plans: which GPUs it is for, and whether it can be used."""
    lines = []
    for found in plans:
        line = f"  {found.path.name}  "
        if found.content:
            size = sum(plan.size for plan in found.content.components.values())
            line += f"{', '.join(found.content.targets)} on {found.content.system}, "
            line += f"{_megabytes(size)}, "
        lines.append(line + (f"cannot be used: {found.fault}" if found.fault else "fresh"))
    return ["TensorRT plans", *lines] if lines else []


def _plans_value(found: "FoundPlans") -> "dict[str, Json]":
    content = found.content
    return {
        "name": found.path.name,
        "fault": found.fault,
        "backend": content.backend if content else None,
        "targets": list(content.targets) if content else [],
        "library_version": content.library_version if content else None,
        "system": content.system if content else None,
        "gpu": content.gpu if content else None,
    }


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
