"""What a file of tensors is, by the names and shapes of its tensors."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from convert.family import FAMILY, SD2, SDXL, WIDTHS
from convert.ldm import INPUT_CONVOLUTION, PREFIXES
from convert.lora_keys import looks_like_lora
from convert.model import UNET
from convert.tensors import TensorFile


@dataclass(frozen=True)
class Kind:
    """What a file is, in words with an article, and what to do with it where it is no base."""

    what: str
    advice: str = ""


CHECKPOINT: Final = Kind(f"a {FAMILY} checkpoint")
INPAINTING: Final = Kind(f"a {FAMILY} inpainting checkpoint")
LDM_VAE: Final = Kind("a VAE in LDM layout", "Give it with --vae.")
DIFFUSERS_VAE: Final = Kind("a VAE in diffusers layout", "Give it with --vae.")
EMBEDDING: Final = Kind("a textual inversion embedding", "Give it with --embedding.")
LORA: Final = Kind("a LoRA", "Give it with --lora.")
UNKNOWN: Final = Kind("of an unknown kind")

_MARKS: Final = (
    (Kind("an SDXL refiner checkpoint"), ("conditioner.embedders.0.model.",)),
    (Kind(f"an {SDXL} checkpoint"), ("conditioner.embedders.",)),
    (
        Kind("a Stable Diffusion 3 checkpoint"),
        ("model.diffusion_model.joint_blocks.", "joint_blocks."),
    ),
    (Kind("a Flux checkpoint"), ("model.diffusion_model.double_blocks.", "double_blocks.")),
    (Kind(f"a {SD2} checkpoint"), ("cond_stage_model.model.",)),
    (
        Kind("a ControlNet"),
        ("control_model.", "controlnet_", "input_hint_block.", "zero_convs."),
    ),
    (Kind("an IP-Adapter"), ("image_proj.", "ip_adapter.")),
    (
        Kind("an upscaler"),
        ("conv_first.", "model.1.sub.", "params.conv_first.", "params_ema.conv_first."),
    ),
    (EMBEDDING, ("emb_params", "string_to_param.")),
)
"""What the start of one name gives away."""

_CHANNELS: Final = {
    4: CHECKPOINT,
    5: Kind("a depth-to-image checkpoint"),
    7: Kind("an x4 upscaler checkpoint"),
    8: Kind("an InstructPix2Pix checkpoint"),
    9: INPAINTING,
}
"""What the UNet's input channels say."""

_PARTS: Final = (
    (
        Kind("a bare UNet", "Give the checkpoint or the diffusers directory that it is part of."),
        ("input_blocks.", "diffusion_model.input_blocks.", "down_blocks.", "up_blocks."),
    ),
    (LDM_VAE, ("decoder.up.", "first_stage_model.decoder.up.")),
    (DIFFUSERS_VAE, ("decoder.up_blocks.",)),
    (
        Kind(
            "a bare text encoder",
            "Give the checkpoint or the diffusers directory that it is part of.",
        ),
        ("text_model.", "transformer.text_model.", "encoder.layers.", "cond_stage_model."),
    ),
)
"""Parts of a model, by the start of one name; tried after whole models."""


def recognise(file: TensorFile) -> Kind:
    """What a file is; `UNKNOWN` where nothing gives it away."""
    names = file.tensors
    if looks_like_lora(names):
        return LORA
    if any(".motion_modules." in name for name in names):
        return Kind("an AnimateDiff motion module")
    for kind, starts in _MARKS:
        if _any_starts(names, starts):
            return kind
    if _any_starts(names, (f"{PREFIXES[UNET]}input_blocks.",)):
        return _recognise_unet(file)
    if _any_starts(names, (PREFIXES[UNET],)):
        return Kind("a checkpoint of another family")
    for kind, starts in _PARTS:
        if _any_starts(names, starts):
            return kind
    return UNKNOWN


def _recognise_unet(file: TensorFile) -> Kind:
    """A checkpoint in LDM layout, by the shapes in its UNet and what its author says of it."""
    for name, tensor in file.tensors.items():
        if name.startswith(PREFIXES[UNET]) and name.endswith("attn2.to_k.weight"):
            width = tensor.shape[-1] if tensor.shape else 0
            if WIDTHS.get(width, FAMILY) != FAMILY:
                article = "an" if WIDTHS[width] == SDXL else "a"
                return Kind(f"{article} {WIDTHS[width]} checkpoint")
    prediction = file.metadata.get("modelspec.prediction_type", "").lower()
    if "v_pred" in file.tensors or prediction.startswith("v"):
        return Kind("a v-prediction checkpoint")
    shape = file.tensors[INPUT_CONVOLUTION].shape if INPUT_CONVOLUTION in file.tensors else ()
    if len(shape) != 4:
        return Kind("a damaged checkpoint")
    return _CHANNELS.get(shape[1], Kind(f"a checkpoint with {shape[1]} input channels"))


def _any_starts(names: Iterable[str], starts: tuple[str, ...]) -> bool:
    return any(name.startswith(starts) for name in names)
