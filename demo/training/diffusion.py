"""The noise schedule and the training loss, shared by the UNet and the LoRAs."""

from collections.abc import Callable

import torch
from diffusers import DDPMScheduler
from torch import Tensor

STEPS = 1000
SCHEDULE = {
    "num_train_timesteps": STEPS,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
SNR_CAP = 5.0
WEIGHT_FLOOR = 0.15

Predict = Callable[[Tensor, Tensor], Tensor]


def signal_shares() -> Tensor:
    """The cumulative product of 1 - beta for every timestep, float32 [1000]."""
    shares: Tensor = DDPMScheduler(**SCHEDULE).alphas_cumprod
    return shares


def stratified_timesteps(count: int) -> Tensor:
    """One timestep from each of `count` equal parts of the range, shuffled, int64 [count]."""
    return ((torch.randperm(count) + torch.rand(count)) / count * STEPS).long()


def noise_loss(predict: Predict, latents: Tensor, shares: Tensor, offset: float = 0.0) -> Tensor:
    """Weighted error of the predicted noise on latents [B,4,16,16].

    Weights follow min-SNR-gamma (Hang et al. 2023, arXiv:2303.09556) with gamma 5, with a floor;
    `offset` adds noise that is constant over a channel (Guttenberg 2023, "Diffusion with offset
    noise"). `predict(noisy, timesteps)` returns the predicted noise.
    """
    count = len(latents)
    timesteps = stratified_timesteps(count)
    noise = torch.randn_like(latents)
    if offset:
        noise = noise + offset * torch.randn(count, latents.shape[1], 1, 1)
    share = shares[timesteps].view(-1, 1, 1, 1)
    noisy = share.sqrt() * latents + (1 - share).sqrt() * noise
    error = (predict(noisy, timesteps) - noise).square().mean((1, 2, 3))
    ratio = (share / (1 - share)).flatten()
    weight = (ratio.clamp(max=SNR_CAP) / ratio).clamp(min=WEIGHT_FLOOR)
    return (weight * error).mean()
