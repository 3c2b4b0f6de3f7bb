"""The linear map from latents to colours that previews are made with, fitted to a VAE.

A VAE's latents are nearly linear in the colours of the pixels that they stand for. The fit is by
least squares over smooth pictures of all colours, through the exported encoder.
"""

from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
import torch

from engines import layout
from engines.axes import fixed_axes
from engines.manifest import ComponentSpec, Latents
from engines.session import Array

_SEED: Final = 3
_SIDE: Final = 16
_PICTURES: Final = 12
_GRAINS: Final = (1, 2, 4, 8)
"""Over how many random colours a side each picture runs smoothly."""
_DIGITS: Final = 5


def fit_preview(path: Path, spec: ComponentSpec, latents: Latents) -> tuple[tuple[float, ...], ...]:
    """Fit the factors of `Latents.preview`.

    Args:
        path: the VAE encoder's graph, with its weights beside it.
        spec: its entry in the manifest.
        latents: how its latents relate to pictures.

    Returns:
        [C + 1, 3]: for each channel of the latents, and last for none, the red, green and blue
        in -1 to 1 that it adds.
    """
    fixed = fixed_axes(layout.VAE_ENCODER, spec)
    height, width = fixed.get("height", _SIDE), fixed.get("width", _SIDE)
    pictures = _pictures(height * latents.downscale, width * latents.downscale)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    (sample,), size = spec.inputs, fixed.get("batch", 1)
    moments = [
        session.run(None, {sample.name: np.repeat(each[None], size, 0).astype(sample.dtype)})[0][0]
        for each in pictures
    ]
    means = np.stack(moments)[:, : latents.channels].astype(np.float64) * latents.scaling_factor
    inputs = np.concatenate([means, np.ones_like(means[:, :1])], axis=1)
    shape = (len(pictures), 3, height, latents.downscale, width, latents.downscale)
    colours = pictures.astype(np.float64).reshape(shape).mean(axis=(3, 5))
    factors, *_ = np.linalg.lstsq(_as_rows(inputs), _as_rows(colours), rcond=None)
    return tuple(tuple(round(float(value), _DIGITS) for value in row) for row in factors)


def _as_rows(values: Array) -> Array:
    """[N, C, h, w] to [N h w, C]."""
    rows: Array = np.moveaxis(values, 1, -1).reshape(-1, values.shape[1])
    return rows


def _pictures(height: int, width: int) -> Array:
    """Smooth pictures [N, 3, H, W] of random colours in -1 to 1."""
    generator = torch.Generator().manual_seed(_SEED)
    pictures = []
    for index in range(_PICTURES):
        grain = _GRAINS[index % len(_GRAINS)]
        colours = torch.rand((1, 3, grain, grain), generator=generator) * 2 - 1
        smooth = torch.nn.functional.interpolate(
            colours, (height, width), mode="bilinear", align_corners=grain > 1
        )
        pictures.append(smooth[0].numpy())
    stacked: Array = np.stack(pictures)
    return stacked
