"""The autoencoder: 8 times smaller, 4 latent channels, trained on crops, then whitened."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from demo.training.dataset import KINDS, PictureSet, load_set
from demo.training.loop import Plan, fit
from engines.publish import publish_directory

SCALING = 0.18215
CHANNELS = (16, 32, 64, 96)
CROP = 64
SHARES = {"base": 0.34, "cracked": 0.34, "glow": 0.2, "offset": 0.12}
DETAIL_WEIGHT = 1.0


def new_vae() -> AutoencoderKL:
    """SD 1.5's autoencoder at a small size, initialised so that it starts out near linear."""
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=128,
        scaling_factor=SCALING,
    )
    _initialise(vae)
    return vae


@torch.no_grad()
def _initialise(vae: AutoencoderKL) -> None:
    """Let the picture through: weak residual branches, orthogonal shortcuts and resamplers.

    With the default initialisation the loss does not move for the first thousand steps.
    """
    for name, layer in vae.named_modules():
        if not isinstance(layer, nn.Conv2d):
            continue
        out, into = layer.weight.shape[:2]
        if name.endswith("conv2"):
            layer.weight *= 0.15
        elif "downsamplers" in name:
            kernel = 0.1 * layer.weight
            kernel[:, :, :2, :2] += _orthogonal(out, into * 4).view(out, into, 2, 2)
            _set(layer, kernel)
        elif "upsamplers" in name or name.endswith("conv_in"):
            kernel = 0.3 * layer.weight
            kernel[:, :, 1, 1] += _orthogonal(out, into)
            _set(layer, kernel)
        elif "conv_shortcut" in name:
            _set(layer, _orthogonal(out, into).view(out, into, 1, 1))
        elif "quant_conv" in name:
            _set(layer, torch.eye(out).view(out, into, 1, 1))
    last = vae.encoder.conv_out
    last.weight[4:] *= 0.1
    last.bias[4:] = -4.0


def _orthogonal(rows: int, columns: int) -> Tensor:
    matrix = torch.empty(rows, columns)
    nn.init.orthogonal_(matrix)
    return matrix


def _set(layer: nn.Conv2d, kernel: Tensor) -> None:
    layer.weight.copy_(kernel)
    if layer.bias is not None:
        layer.bias.zero_()


def to_float(pictures: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    """uint8 [N,H,W,3] as float32 [N,3,H,W] in -1..1."""
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


class Crops:
    """Random square crops of the picture sets and of their detail masks."""

    def __init__(self, sets: dict[str, PictureSet], side: int, grid: int = 1) -> None:
        """Crops of `side` pixels at multiples of `grid`, from the kinds in `SHARES`."""
        self.sets = [sets[kind] for kind in SHARES]
        self.shares = torch.tensor(list(SHARES.values()))
        self.side, self.grid = side, grid

    def place(self) -> tuple[int, int, int, int]:
        """Set, picture, top and left of a crop; columns near the middle are likelier."""
        chosen = int(torch.multinomial(self.shares, 1))
        room = (128 - self.side) // self.grid
        index = int(torch.randint(len(self.sets[chosen].captions), ()))
        top = int(torch.randint(room + 1, ()))
        left = round(float((0.5 + 0.22 * torch.randn(())).clamp(0, 1)) * room)
        return chosen, index, top * self.grid, left * self.grid

    def cut(self, chosen: int, index: int, top: int, left: int) -> tuple[Tensor, Tensor]:
        """Picture float32 [3,side,side] in -1..1 and loss weights [1,side,side]."""
        rows, columns = slice(top, top + self.side), slice(left, left + self.side)
        picture = to_float(self.sets[chosen].pictures[index : index + 1, rows, columns])[0]
        detail = torch.from_numpy(np.array(self.sets[chosen].detail[index, rows, columns]))
        return picture, 1 + DETAIL_WEIGHT / 255 * detail[None].float()

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """A stack of crops, half of them mirrored."""
        pictures, weights = zip(*(self.cut(*self.place()) for _ in range(size)), strict=True)
        both = torch.cat((torch.stack(pictures), torch.stack(weights)), 1)
        mirrored = torch.where(torch.rand(size, 1, 1, 1) < 0.5, both.flip(3), both)
        return mirrored[:, :3], mirrored[:, 3:]


def reconstruction_loss(made: Tensor, wanted: Tensor, weight: Tensor, sharpness: float) -> Tensor:
    """Weighted L1 and L2, and plain L1 of the horizontal and vertical differences."""
    weight = weight / weight.mean()
    error = made - wanted
    plain = (weight * (error.abs() + 2 * error.square())).mean()
    across = (error[..., 1:] - error[..., :-1]).abs()
    down = (error[..., 1:, :] - error[..., :-1, :]).abs()
    loss: Tensor = plain + sharpness * (across.mean() + down.mean())
    return loss


def train_vae(data: Path, out: Path, plan: Plan, checkpoint: Path, start: Path | None) -> None:
    """Train on crops and save a diffusers folder whose scaled latents have mean 0 and std 1.

    `start` is a trained autoencoder of the same shape to go on from; its latents are whitened
    already, so the divergence is taken after `SCALING`.
    """
    torch.manual_seed(0)
    unit = 1.0
    sets = {kind: load_set(data, kind) for kind in SHARES}
    vae = new_vae()
    if start:
        vae.load_state_dict(AutoencoderKL.from_pretrained(start).float().state_dict())
        unit = SCALING
    crops = Crops(sets, CROP)

    def loss_at(progress: float) -> Tensor:
        wanted, weight = crops.batch(plan.batch)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(wanted).latent_dist
            mean, spread = posterior.mean.float(), posterior.logvar.float()
            strength = 1.0 if start else min(1.0, progress / 0.1)
            noise = strength * torch.exp(0.5 * spread.clamp(-30, 20))
            made = vae.decode(mean + noise * torch.randn_like(mean)).sample
        mean, spread = mean * unit, spread + 2 * math.log(unit)
        divergence = 0.5 * (mean.square() + spread.exp() - 1 - spread).mean()
        sharpness = 0.7 if start else 0.7 * min(max((progress - 0.05) / 0.15, 0.0), 1.0)
        error = reconstruction_loss(made.float(), wanted, weight, sharpness)
        loss: Tensor = error + 1e-4 * divergence
        return loss

    fit(list(vae.parameters()), loss_at, plan, checkpoint)
    vae.eval()
    whiten(vae, [to_float(sets[kind].pictures[:60]) for kind in SHARES])
    with publish_directory(out, force=True, marker="config.json") as folder:
        vae.save_pretrained(folder)


@torch.no_grad()
def whiten(vae: AutoencoderKL, samples: Iterable[Tensor]) -> None:
    """Move the latents' per-channel mean and spread into the 1x1 convolutions on either side.

    Afterwards latents times `SCALING` have mean 0 and standard deviation 1 on `samples`
    (float32 [N,3,128,128]), and the reconstruction is unchanged.
    """
    latents = torch.cat([vae.encode(batch).latent_dist.mean for batch in samples])
    mean, factor = latents.mean((0, 2, 3)), 1 / (SCALING * latents.std((0, 2, 3)))
    before, after = vae.quant_conv, vae.post_quant_conv
    before.weight[:4] *= factor.view(4, 1, 1, 1)
    before.bias[:4] = (before.bias[:4] - mean) * factor
    before.bias[4:] += 2 * torch.log(factor)
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight /= factor.view(1, 4, 1, 1)


@torch.no_grad()
def encode_sets(vae_folder: Path, data: Path, out: Path) -> None:
    """Encode every kind to `out/<kind>.npy`: scaled latent means, float32 [N,4,16,16]."""
    vae = AutoencoderKL.from_pretrained(vae_folder).eval()
    with publish_directory(out, force=True, marker=f"{KINDS[0]}.npy") as folder:
        for kind in KINDS:
            pictures = load_set(data, kind).pictures
            parts = []
            for start in range(0, len(pictures), 32):
                with torch.autocast("cpu", torch.bfloat16):
                    posterior = vae.encode(to_float(pictures[start : start + 32])).latent_dist
                parts.append((posterior.mean.float() * SCALING).numpy())
            np.save(folder / f"{kind}.npy", np.concatenate(parts))
