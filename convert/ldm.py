"""The original (LDM) layout of a Stable Diffusion 1.x checkpoint, and diffusers' names for it.

CompVis' latent-diffusion numbers the UNet's blocks in one row (`openaimodel.py`), diffusers by
level and kind; both are counted here from one configuration. A table names modules: what follows a
module's name (`.weight`, or the inside of an attention block) is the same in both layouts.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from convert.model import TEXT_ENCODER, UNET, VAE

PREFIXES: Final = {
    UNET: "model.diffusion_model.",
    VAE: "first_stage_model.",
    TEXT_ENCODER: "cond_stage_model.transformer.",
}
"""What the names of each component start with."""

INPUT_CONVOLUTION: Final = "model.diffusion_model.input_blocks.0.0.weight"
"""The UNet's first weight: its second axis tells 4 channels from an inpainting model's 9."""

IGNORED: Final[dict[str, tuple[str, ...]]] = {
    "ema": ("model_ema.", "first_stage_model.model_ema."),
    "loss": ("loss.", "first_stage_model.loss."),
    "clip_heads": (
        "cond_stage_model.logit_scale",
        "cond_stage_model.text_projection",
        "cond_stage_model.transformer.logit_scale",
        "cond_stage_model.transformer.text_projection",
        "cond_stage_model.transformer.vision_model.",
        "cond_stage_model.transformer.visual_projection.",
    ),
    "noise_schedule": (
        "alphas_cumprod",
        "betas",
        "log_one_minus_alphas_cumprod",
        "logvar",
        "lvlb_weights",
        "posterior_",
        "scale_factor",
        "sqrt_",
    ),
}
"""What a checkpoint has that is no part of the three networks, by the start of its names."""

_UNET_ENDS: Final = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_UNET_RESNET: Final = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_VAE_ENDS: Final = {
    **{
        f"{half}.{name}": f"{half}.{name}"
        for half in ("encoder", "decoder")
        for name in ("conv_in", "conv_out")
    },
    "encoder.norm_out": "encoder.conv_norm_out",
    "decoder.norm_out": "decoder.conv_norm_out",
    "quant_conv": "quant_conv",
    "post_quant_conv": "post_quant_conv",
}
_VAE_RESNET: Final = {
    "norm1": "norm1",
    "conv1": "conv1",
    "norm2": "norm2",
    "conv2": "conv2",
    "nin_shortcut": "conv_shortcut",
}
_VAE_ATTENTION: Final = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}


def unet_modules(config: Mapping[str, Any]) -> dict[str, str]:
    """For each module of the UNet in the original layout, without the prefix, its diffusers name.

    Args:
        config: the UNet's configuration, as diffusers has it.
    """
    return dict(_unet_modules(config))


def vae_modules(config: Mapping[str, Any]) -> dict[str, str]:
    """The same for the VAE.

    Args:
        config: the VAE's configuration, as diffusers has it.
    """
    return dict(_vae_modules(config))


def rename(name: str, modules: Mapping[str, str]) -> str | None:
    """A tensor's name in diffusers' layout; None where no module of the table holds it."""
    module, dot, _ = name.rpartition(".")
    while dot:
        if module in modules:
            return modules[module] + name[len(module) :]
        module, dot, _ = module.rpartition(".")
    return None


def _unet_modules(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _UNET_ENDS.items()
    layers, downs, ups = (
        config[key] for key in ("layers_per_block", "down_block_types", "up_block_types")
    )
    number = 1
    for level, kind in enumerate(downs):
        for layer in range(layers):
            block, down = f"input_blocks.{number}", f"down_blocks.{level}"
            yield from _inside(_UNET_RESNET, f"{block}.0", f"{down}.resnets.{layer}")
            if _attends(kind):
                yield f"{block}.1", f"{down}.attentions.{layer}"
            number += 1
        if level < len(downs) - 1:
            yield f"input_blocks.{number}.0.op", f"down_blocks.{level}.downsamplers.0.conv"
            number += 1
    yield from _inside(_UNET_RESNET, "middle_block.0", "mid_block.resnets.0")
    yield "middle_block.1", "mid_block.attentions.0"
    yield from _inside(_UNET_RESNET, "middle_block.2", "mid_block.resnets.1")
    number = 0
    for level, kind in enumerate(ups):
        for layer in range(layers + 1):
            block, up = f"output_blocks.{number}", f"up_blocks.{level}"
            yield from _inside(_UNET_RESNET, f"{block}.0", f"{up}.resnets.{layer}")
            if _attends(kind):
                yield f"{block}.1", f"{up}.attentions.{layer}"
            if layer == layers and level < len(ups) - 1:
                place = 2 if _attends(kind) else 1
                yield f"{block}.{place}.conv", f"{up}.upsamplers.0.conv"
            number += 1


def _vae_modules(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _VAE_ENDS.items()
    layers, levels = config["layers_per_block"], len(config["block_out_channels"])
    for half in ("encoder", "decoder"):
        mid, named = f"{half}.mid", f"{half}.mid_block"
        yield from _inside(_VAE_RESNET, f"{mid}.block_1", f"{named}.resnets.0")
        yield from _inside(_VAE_ATTENTION, f"{mid}.attn_1", f"{named}.attentions.0")
        yield from _inside(_VAE_RESNET, f"{mid}.block_2", f"{named}.resnets.1")
    for level in range(levels):
        # The original numbers the decoder's levels by their resolution, diffusers in their order.
        down, named_down = f"encoder.down.{level}", f"encoder.down_blocks.{level}"
        up, named_up = f"decoder.up.{levels - 1 - level}", f"decoder.up_blocks.{level}"
        for layer in range(layers):
            yield from _inside(
                _VAE_RESNET, f"{down}.block.{layer}", f"{named_down}.resnets.{layer}"
            )
        for layer in range(layers + 1):
            yield from _inside(_VAE_RESNET, f"{up}.block.{layer}", f"{named_up}.resnets.{layer}")
        if level < levels - 1:
            yield f"{down}.downsample.conv", f"{named_down}.downsamplers.0.conv"
            yield f"{up}.upsample.conv", f"{named_up}.upsamplers.0.conv"


def _inside(layers: Mapping[str, str], original: str, named: str) -> Iterator[tuple[str, str]]:
    """The layers of one block, by their names in both layouts."""
    for layer, name in layers.items():
        yield f"{original}.{layer}", f"{named}.{name}"


def _attends(kind: str) -> bool:
    return "CrossAttn" in kind
