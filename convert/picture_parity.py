"""Whole pictures: diffusers' pipeline on torch's networks against the same on the graphs."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from convert.graph_pipeline import is_inpainting, open_graph_pipeline, open_torch_pipeline
from convert.model import BaseModel
from convert.picture_cases import STEPS, Case, picture_cases
from convert.similarity import Picture, psnr, ssim
from engines.bundle import Bundle
from engines.manifest import Manifest, PictureParity


@dataclass(frozen=True)
class Likeness:
    """The lowest figures that pass: PSNR in decibels, and SSIM."""

    psnr: float
    ssim: float


LEAST: Final = {"float32": Likeness(60.0, 0.999), "float16": Likeness(30.0, 0.95)}
"""For each dtype; that of a bundle is the least precise one of its graphs."""


def compare_pictures(
    bundle: Bundle, model: BaseModel, count: int, on_picture: Callable[[], object] = lambda: None
) -> tuple[PictureParity, ...]:
    """Make each of the first `count` cases twice, and see how alike the two pictures are.

    Args:
        bundle: what was exported; its pictures have the default size, guidance and negative prompt.
        model: the model that it was exported from.
        count: how many cases.
        on_picture: called after each picture, twice for each case.

    Raises:
        BackendError: a graph cannot be loaded or run.
    """
    cases = list(picture_cases(count))
    draw = partial(
        _draw,
        manifest=bundle.manifest,
        cases=cases,
        on_picture=on_picture,
        inpaints=is_inpainting(model),
    )
    references = draw(open_torch_pipeline(bundle, model))
    with open_graph_pipeline(bundle, model) as pipeline:
        found = draw(pipeline)
    dtypes = {spec.dtype for spec in bundle.manifest.components.values()}
    least = LEAST["float16" if "float16" in dtypes else "float32"]
    return tuple(
        _compare(case, bundle.manifest, reference, picture, least)
        for case, reference, picture in zip(cases, references, found, strict=True)
    )


def _draw(
    pipeline: Any,
    manifest: Manifest,
    cases: list[Case],
    on_picture: Callable[[], object],
    *,
    inpaints: bool,
) -> list[Picture]:
    """One picture [H, W, 3] in 0..1 of each case."""
    defaults = manifest.defaults
    inpainting = _inpainting_inputs(manifest) if inpaints else {}
    pictures = []
    for case in cases:
        with warnings.catch_warnings():
            # torch's tensors meet numpy 2 inside diffusers' scheduler.
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
            result = pipeline(
                case.prompt,
                **inpainting,
                negative_prompt=defaults.negative,
                num_inference_steps=STEPS,
                guidance_scale=defaults.cfg,
                width=defaults.width,
                height=defaults.height,
                generator=torch.Generator().manual_seed(case.seed),
                output_type="np",
            )
        pictures.append(result.images[0])
        on_picture()
    return pictures


def _inpainting_inputs(manifest: Manifest) -> dict[str, Any]:
    """A picture of two gradients, and a mask that has its middle painted anew."""
    height, width = manifest.defaults.height, manifest.defaults.width
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j].astype(np.float32)
    mask = np.zeros((height, width), np.float32)
    mask[height // 4 : -(height // 4), width // 4 : -(width // 4)] = 1
    return {"image": np.stack([rows, columns, 1 - rows], axis=-1), "mask_image": mask}


def _compare(
    case: Case, manifest: Manifest, reference: Picture, found: Picture, least: Likeness
) -> PictureParity:
    decibels, similarity = psnr(reference, found), ssim(reference, found)
    return PictureParity(
        prompt=case.prompt,
        seed=case.seed,
        steps=STEPS,
        cfg=manifest.defaults.cfg,
        width=manifest.defaults.width,
        height=manifest.defaults.height,
        psnr=decibels,
        ssim=similarity,
        least_psnr=least.psnr,
        least_ssim=least.ssim,
        passed=decibels >= least.psnr and similarity >= least.ssim,
    )
