"""Open a bundle with optimum's ONNX pipeline and compare its picture with another one.

optimum-onnx pins older releases of transformers and diffusers than the converter uses, so this
script runs in an environment of its own and imports nothing of this package:

    python -m venv optimum-venv
    optimum-venv/bin/pip install optimum-onnx==0.1.0 "transformers<5" diffusers==0.39.0 onnxruntime
    optimum-venv/bin/python benchmarks/optimum_opens_bundle.py bundles/demo --out optimum.png

With `--against` it prints the PSNR of its picture against a PNG that was made with the same prompt,
seed and settings, for example:

    python -m runtime generate "portrait of a woman" --bundle bundles/demo --seed 1 --out ours.png
    optimum-venv/bin/python benchmarks/optimum_opens_bundle.py bundles/demo \
        --prompt "portrait of a woman" --seed 1 --against ours.png --out optimum.png
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from optimum.onnxruntime import ORTStableDiffusionPipeline
from PIL import Image


def main() -> int:
    """Make the picture; exit status 1 when it is not close enough to the other one."""
    options = _parse()
    defaults = json.loads((options.bundle / "bundle.json").read_text())["defaults"]
    pipeline = ORTStableDiffusionPipeline.from_pretrained(options.bundle)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
        pipeline.scheduler.config, use_karras_sigmas=True
    )
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline(
        options.prompt,
        negative_prompt=options.negative,
        width=defaults["width"],
        height=defaults["height"],
        num_inference_steps=defaults["steps"],
        guidance_scale=defaults["cfg"],
        generator=torch.Generator("cpu").manual_seed(options.seed),
    ).images[0]
    picture.save(options.out)
    print(f"{options.out}: {picture.width}x{picture.height}")
    if options.against is None:
        return 0
    figure = _psnr(picture, Image.open(options.against))
    print(f"PSNR against {options.against}: {figure:.1f} dB")
    return 0 if figure >= options.least else 1


def _psnr(first: Image.Image, second: Image.Image) -> float:
    a, b = (np.asarray(picture.convert("RGB"), np.float64) for picture in (first, second))
    error = float(((a - b) ** 2).mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Open a bundle with optimum's ONNX pipeline.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--prompt", default="portrait of a woman")
    parser.add_argument("--negative", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("optimum.png"))
    parser.add_argument("--against", type=Path, help="a PNG with the same prompt and seed")
    parser.add_argument("--least", type=float, default=40.0, help="PSNR in dB that is close enough")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
