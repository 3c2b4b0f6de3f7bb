"""The whole chain: every stage in turn, but those whose output is there and has not to change.

A stage's own module, and torch with it, is imported only when the stage has to run.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convert.export_plan import plan_export
from convert.fuse_plan import KEEP_DTYPE, plan_fuse
from convert.measure import Measurement, measured
from convert.parity import is_verified
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
    dtype: str | None = None,
    allow_unmatched: bool = False,
    progress: bool = True,
) -> tuple[Manifest, list[StageReport]]:
    """Fuse, export and verify; a stage whose recorded identity is the wanted one is skipped.

    Another process that makes the same bundle is waited for.

    Args:
        recipe: what to fuse.
        out: the bundle.
        fused: the fused model, which is kept so that it can be skipped and verified against.
        weights: one for each LoRA, instead of the recipe's own.
        text_encoder_weights: the same for the text encoder; by default as for the UNet.
        dtype: `fp16` or `fp32`, of the graphs; by default the recipe's.
        allow_unmatched: whether keys of a LoRA that match nothing in the base are left out.
        progress: whether to show progress bars on stderr.

    Returns:
        The bundle's manifest with its parity figures, and a report of every stage.

    Raises:
        UserError: as the stages do. An output that is not one of ours is never replaced.
    """
    dtype = dtype or recipe.export.dtype
    check_replaceable(fused, force=True, marker=layout.FUSE_FILE)
    check_replaceable(out, force=True, marker=layout.BUNDLE_FILE)
    reports: list[StageReport] = []
    with exclusive(out), exclusive(fused):
        with measured() as cost:
            # Kept in the base's dtype, weights that are exported in float32 would be rounded first.
            fuse_dtype = "fp32" if dtype == "fp32" else KEEP_DTYPE
            fuse = plan_fuse(
                recipe,
                weights,
                text_encoder_weights,
                dtype=fuse_dtype,
                allow_unmatched=allow_unmatched,
                progress=progress,
            )
            skipped = fuse.is_fulfilled_by(fused, progress=progress)
            if not skipped:
                from convert.fuse import run_fuse

                run_fuse(fuse, fused, force=True, progress=progress)
        reports.append(_report("fuse", skipped, cost))

        with measured() as cost:
            export = plan_export(fused, dtype=dtype, progress=progress)
            skipped = export.is_fulfilled_by(out, progress=progress)
            if not skipped:
                from convert.export import run_export

                run_export(export, out, force=True, progress=progress)
        reports.append(_report("export", skipped, cost))

        # Held here too, so that what a killed verification left in the bundle is removed.
        with exclusive(out / layout.BUNDLE_FILE), measured() as cost:
            bundle = open_bundle(out)
            manifest = bundle.manifest
            skipped = is_verified(manifest)
            if not skipped:
                from convert.verify import run_verify

                manifest, _ = run_verify(bundle, fused, progress=progress)
        reports.append(_report("verify", skipped, cost))
    return manifest, reports


def _report(name: str, skipped: bool, cost: Measurement) -> StageReport:
    _log.info("%s: %s", name, "up to date" if skipped else cost)
    return StageReport(name, skipped, cost)
