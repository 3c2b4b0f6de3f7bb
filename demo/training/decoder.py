"""Further training of the decoder alone: the latent space, and what was trained on it, stays."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from demo.training.dataset import load_set
from demo.training.loop import Plan, fit
from demo.training.vae import SCALING, SHARES, Crops, reconstruction_loss
from engines.publish import publish_directory

CELL = 8
WINDOW = 10
LATENT_NOISE = 0.04


def tune_decoder(work: Path, out: Path, plan: Plan, checkpoint: Path) -> None:
    """Train on windows of the encoded latents with a little noise, as the UNet's have errors.

    A window is 10x10 latents, 80x80 pixels; the outer 8 pixels, which lack context, do not count.
    """
    torch.manual_seed(4)
    vae = AutoencoderKL.from_pretrained(work / "vae")
    sets = {kind: load_set(work / "data", kind) for kind in SHARES}
    latents = [torch.from_numpy(np.load(work / "latents" / f"{kind}.npy")) for kind in SHARES]
    crops = Crops(sets, WINDOW * CELL, grid=CELL)
    inner = slice(CELL, -CELL)

    def loss_at(progress: float) -> Tensor:
        places = [crops.place() for _ in range(plan.batch)]
        pairs = [crops.cut(*place) for place in places]
        wanted, weight = (torch.stack(part)[..., inner, inner] for part in zip(*pairs, strict=True))
        windows = [
            latents[chosen][
                index, :, top // CELL : top // CELL + WINDOW, left // CELL : left // CELL + WINDOW
            ]
            for chosen, index, top, left in places
        ]
        coded = torch.stack(windows)
        coded = (coded + LATENT_NOISE * torch.randn_like(coded)) / SCALING
        with torch.autocast("cpu", torch.bfloat16):
            made = vae.decode(coded).sample
        return reconstruction_loss(made.float()[..., inner, inner], wanted, weight, 0.7)

    trained = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    fit(trained, loss_at, plan, checkpoint)
    with publish_directory(out, force=True, marker="config.json") as folder:
        vae.save_pretrained(folder)
