"""The whole chain: every stage in turn, but those whose output is there and has not to change.

A stage's own module, and torch with it, is imported only when the stage has to run.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from convert.export_options import ExportOptions, parse_dtypes
from convert.export_plan import plan_export
from convert.fuse_plan import KEEP_DTYPE, plan_fuse
from convert.imports import importing_torch
from convert.measure import Measurement, measured
from convert.model import TEXT_ENCODER, UNET
from convert.parity import is_verified
from convert.picture_cases import PICTURES
from convert.recipe import Recipe
from engines import layout
from engines.bundle import open_bundle
from engines.manifest import Manifest
from engines.publish import check_replaceable, exclusive

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageReport:
    """One stage: whether it was skipped, and what it cost, planning included."""

    name: str
    skipped: bool
    cost: Measurement


def run_stages(
    recipe: Recipe,
    out: Path,
    fused: Path,
    *,
    weights: Sequence[float] | None = None,
    text_encoder_weights: Sequence[float] | None = None,
    pictures: int = PICTURES,
    allow_unmatched: bool = False,
    progress: bool = True,
) -> tuple[Manifest, list[StageReport]]:
    """Fuse, export and verify; a stage whose recorded identity is the wanted one is skipped.

    Another process that makes the same bundle is waited for.

    Args:
        recipe: what to fuse, and how to export it.
        out: the bundle.
        fused: the fused model, which is kept so that it can be skipped and verified against.
        weights: one for each LoRA, instead of the recipe's own.
        text_encoder_weights: the same for the text encoder; by default as for the UNet.
        pictures: how many whole pictures are compared when verifying.
        allow_unmatched: whether keys of a LoRA that match nothing in the base are left out.
        progress: whether to show progress bars on stderr.

    Returns:
        The bundle's manifest with its parity figures, and a report of every stage.

    Raises:
        UserError: as the stages do. An output that is not one of ours is never replaced.
    """
    check_replaceable(fused, force=True, marker=layout.FUSE_FILE)
    check_replaceable(out, force=True, marker=layout.BUNDLE_FILE)
    reports: list[StageReport] = []
    with exclusive(out), exclusive(fused):
        with measured() as cost:
            fuse = plan_fuse(
                recipe,
                weights,
                text_encoder_weights,
                dtype=_fuse_dtype(recipe.export),
                allow_unmatched=allow_unmatched,
                progress=progress,
            )
            skipped = fuse.is_fulfilled_by(fused, progress=progress)
            if not skipped:
                with importing_torch():
                    from convert.fuse import run_fuse

                run_fuse(fuse, fused, force=True, progress=progress)
        reports.append(_report("fuse", skipped, cost))

        with measured() as cost:
            plan = plan_export(
                fused,
                **asdict(recipe.export),
                embeddings=recipe.embeddings,
                progress=progress,
            )
            skipped = plan.is_fulfilled_by(out, progress=progress)
            if not skipped:
                from convert.export import run_export

                run_export(plan, out, force=True, progress=progress)
        reports.append(_report("export", skipped, cost))

        # Held here too, so that what a killed verification left in the bundle is removed.
        with exclusive(out / layout.BUNDLE_FILE), measured() as cost:
            bundle = open_bundle(out)
            manifest = bundle.manifest
            skipped = is_verified(manifest, pictures)
            if not skipped:
                from convert.verify import run_verify

                manifest, _ = run_verify(bundle, fused, pictures, progress=progress)
        reports.append(_report("verify", skipped, cost))
    return manifest, reports


def _fuse_dtype(export: ExportOptions) -> str:
    """Kept in the base's dtype, weights that are exported in float32 would be rounded first."""
    dtypes = parse_dtypes(export.dtype)
    return "fp32" if "fp32" in (dtypes[TEXT_ENCODER], dtypes[UNET]) else KEEP_DTYPE


def _report(name: str, skipped: bool, cost: Measurement) -> StageReport:
    _log.info("%s: %s", name, "up to date" if skipped else cost)
    return StageReport(name, skipped, cost)
