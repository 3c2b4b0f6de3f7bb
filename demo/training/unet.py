"""The base UNet, trained with the frozen text encoder; saved as a whole pipeline."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from demo.training.dataset import load_captions
from demo.training.diffusion import SCHEDULE, noise_loss, signal_shares
from demo.training.loop import Plan, fit
from demo.training.text import WIDTH, tokenize
from engines.publish import publish_directory

CHANNELS = (64, 96, 96, 96)
HEADS = 4
LINES_SHARE = 0.08
UNCAPTIONED = 0.1


def new_unet() -> UNet2DConditionModel:
    """SD 1.5's UNet at a small size; heads are 16 and 24 wide."""
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=CHANNELS,
        layers_per_block=2,
        cross_attention_dim=WIDTH,
        attention_head_dim=HEADS,
        norm_num_groups=8,
    )
    torch.nn.init.zeros_(unet.conv_out.weight)
    torch.nn.init.zeros_(unet.conv_out.bias)
    return unet


@torch.no_grad()
def embed(tokenizer: CLIPTokenizer, encoder: CLIPTextModel, captions: list[str]) -> Tensor:
    """The text encoder's output for every caption, float32 [N,77,96]."""
    ids = tokenize(tokenizer, captions)
    return torch.cat([encoder(part).last_hidden_state for part in torch.split(ids, 64)])


def train_unet(work: Path, out: Path, plan: Plan, checkpoint: Path, start: Path | None) -> None:
    """Train on the plain portraits and, at `LINES_SHARE`, those with lines in the background.

    `start` is a trained UNet of the same shape to go on from.
    """
    torch.manual_seed(1)
    encoder = CLIPTextModel.from_pretrained(work / "text" / "text_encoder").float().eval()
    tokenizer = CLIPTokenizer.from_pretrained(work / "text" / "tokenizer")
    plain, lines = (load_captions(work / "data", kind) for kind in ("base", "lines"))
    states = embed(tokenizer, encoder, plain + lines)
    empty = embed(tokenizer, encoder, [""])
    latents = torch.cat(
        [torch.from_numpy(np.load(work / "latents" / f"{kind}.npy")) for kind in ("base", "lines")]
    )
    unet = new_unet().to(memory_format=torch.channels_last).train()
    if start:
        unet.load_state_dict(UNet2DConditionModel.from_pretrained(start).float().state_dict())
    shares = signal_shares()

    def loss_at(progress: float) -> Tensor:
        index = torch.randint(len(plain), (plan.batch,))
        lined = len(plain) + torch.randint(len(lines), (plan.batch,))
        index = torch.where(torch.rand(plan.batch) < LINES_SHARE, lined, index)
        dropped = torch.rand(plan.batch, 1, 1) < UNCAPTIONED
        context = torch.where(dropped, empty, states[index])

        def predict(noisy: Tensor, timesteps: Tensor) -> Tensor:
            made: Tensor = unet(noisy, timesteps, context, return_dict=False)[0]
            return made

        return noise_loss(predict, latents[index], shares)

    fit(list(unet.parameters()), loss_at, plan, checkpoint)
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(work / "vae"),
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=PNDMScheduler(
            **SCHEDULE, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    with publish_directory(out, force=True, marker="model_index.json") as folder:
        pipeline.save_pretrained(folder)
