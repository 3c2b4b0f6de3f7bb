"""What a packed demo model is worth, in figures: `python -m demo.training.measure demo`."""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL

from demo.look import crack_density, feature_likeness, glow_share, luminance_range
from demo.training.dataset import draw
from demo.training.sheet import ROWS, draw_row, fused_pipeline
from demo.training.vae import SHARES, to_float

UNSEEN_SEED = 99
RECOGNISABLE = 0.5

Pictures = list[npt.NDArray[np.uint8]]


@torch.no_grad()
def reconstruction_psnr(vae: AutoencoderKL, kind: str, count: int = 32) -> float:
    """Mean PSNR in dB of encoded and decoded new pictures of a kind."""
    rng = np.random.default_rng(UNSEEN_SEED)
    wanted = to_float(np.stack([draw(rng, kind)[0] for _ in range(count)]))
    made = vae.decode(vae.encode(wanted).latent_dist.mode()).sample.clamp(-1, 1)
    error = ((made - wanted) / 2).square().mean((1, 2, 3))
    return float((-10 * error.log10()).mean())


def describe_row(pictures: Pictures, smooth: Pictures) -> str:
    """The measures of a row of the contact sheet, lowest, median and highest."""
    measures = {
        "cracks": [crack_density(p) for p in pictures],
        "glow": [glow_share(p) for p in pictures],
        "light": [luminance_range(p) for p in pictures],
    }
    parts = [f"{name} {min(v):.2f}/{np.median(v):.2f}/{max(v):.2f}" for name, v in measures.items()]
    pairs = zip(pictures, smooth, strict=True)
    faces = sum(feature_likeness(p, s) >= RECOGNISABLE for p, s in pairs)
    return ", ".join([*parts, f"faces {faces} of {len(pictures)}"])


def main() -> None:
    """Print reconstruction per kind of picture, then every row of the contact sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="folder with base/ and loras/")
    parser.add_argument("--seed", type=int, default=10, help="seed of the first prompt")
    options = parser.parse_args()
    vae = AutoencoderKL.from_pretrained(options.demo / "base" / "vae").float()
    for kind in SHARES:
        print(f"{kind}: PSNR {reconstruction_psnr(vae, kind):.1f} dB")
    smooth: Pictures = []
    for row in ROWS:
        pipeline = fused_pipeline(options.demo, row.cracked, row.offset)
        pictures = draw_row(pipeline, row.words, options.seed)
        smooth = smooth or pictures
        weights = f"{row.cracked:g}, {row.offset:g} {row.words.rstrip(', ')!r}"
        print(f"{weights}: {describe_row(pictures, smooth)}")


if __name__ == "__main__":
    main()
