"""How strongly a prompt steers a run, row by row: classifier-free guidance, arXiv:2207.12598."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runtime.arrays import Latents
from runtime.samplers.table import Table


@dataclass(frozen=True)
class GuidanceSettings:
    """What there is to guidance beside its scale.

    Attributes:
        rescale: from 0 to 1, how far the guided prediction is brought back to the contrast of
            the prompt's own: equation 16 of arXiv:2305.08891, diffusers' `guidance_rescale`.
        start: the share of a run's steps, 0 to 1, up to and with which there is no guidance yet:
            the webui's "Skip Early CFG". At 0 no step is skipped.
        end: the share of its steps from which there is none any more; 1 is to the end. A limited
            interval of guidance is from arXiv:2404.07724.
    """

    rescale: float = 0.0
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True)
class Guidance:
    """The guidance of one run.

    Attributes:
        scales: the guidance scale at each row of its table. At 1 a prompt's prediction is
            taken as it is, and the negative prompt costs no time; prompts joined by AND whose
            weights do not add up to 1 need it all the same.
        rescale: as in `GuidanceSettings`.
    """

    scales: Sequence[float]
    rescale: float = 0.0


def guidance_of(scale: float, settings: GuidanceSettings, table: Table) -> Guidance:
    """The guidance of a run: `scale` where the settings leave it on, 1 elsewhere.

    Args:
        scale: the guidance scale.
        settings: what there is beside it.
        table: the run's.
    """
    first, last = int(table.steps[0]), int(table.steps[-1])
    shares = (table.steps - first) / (last + 1 - first)
    on = (shares > settings.start) | (settings.start == 0)
    on &= shares < settings.end
    return Guidance(tuple(np.where(on, scale, 1.0).tolist()), settings.rescale)


def guidance_faults(settings: GuidanceSettings) -> list[str]:
    """What is wrong with the settings."""
    faults = []
    if not 0 <= settings.rescale <= 1:
        faults.append(f"guidance rescale {settings.rescale:g} is not possible: choose 0 to 1")
    if not 0 <= settings.start < settings.end <= 1:
        faults.append(
            f"guidance from {settings.start:g} to {settings.end:g} is not possible: "
            "choose shares of the steps from 0 to 1"
        )
    return faults


def rescale(guided: Latents, text: Latents, amount: float, scratch: Latents) -> None:
    """Bring a guided prediction back towards the standard deviation of the prompt's own.

    Equations 15 and 16 of Lin et al. 2023 (arXiv:2305.08891).

    Args:
        guided: [C, h, w], the prediction with guidance, changed in place.
        text: [C, h, w], the prediction for the prompt alone.
        amount: 0 to 1.
        scratch: [C, h, w], overwritten.
    """
    spread = _deviation(guided, scratch)
    if spread > 0 and math.isfinite(spread):
        ratio = _deviation(text, scratch) / spread
        guided *= np.float32(amount * ratio + 1 - amount)


def _deviation(values: Latents, scratch: Latents) -> float:
    """The standard deviation, without allocating as `values.std()` does."""
    np.subtract(values, values.mean(), out=scratch)
    np.square(scratch, out=scratch)
    return math.sqrt(scratch.mean())
