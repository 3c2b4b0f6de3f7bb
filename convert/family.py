"""Which family of models a configuration or a LoRA belongs to, and which are refused."""

from collections.abc import Mapping
from typing import Any, Final

from engines.errors import InputError

FAMILY: Final = "Stable Diffusion 1.x"
SD2: Final = "Stable Diffusion 2.x"
SDXL: Final = "SDXL"

WIDTHS: Final = {768: FAMILY, 1024: SD2, 2048: SDXL}
"""The width of the text embeddings that the UNet attends to, in each family."""

COMPONENTS: Final = {
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
}
"""The components that the converter reads, and the classes that they may have."""

IGNORED: Final = ("safety_checker", "feature_extractor", "image_encoder")
"""Components that a base may have and a fused model has not."""

_FOREIGN_CONDITIONS: Final = (
    "addition_embed_type",
    "class_embed_type",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "num_class_embeds",
    "time_cond_proj_dim",
)


def check_index(where: str, index: Mapping[str, Any]) -> None:
    """Refuse a model_index.json of another family, by its pipeline and components.

    Raises:
        InputError: the pipeline is not one of the Stable Diffusion 1.x family, or a component is
            missing, of another class, or one too many.
    """
    pipeline = str(index.get("_class_name", ""))
    components = {
        name: value[1]
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and value[1] is not None
    }
    if "StableDiffusionXL" in pipeline or "text_encoder_2" in components:
        raise _refusal(where, f"an {SDXL} model")
    if not pipeline.startswith("StableDiffusion") or pipeline.startswith("StableDiffusion3"):
        raise _refusal(where, f"made for {pipeline or 'no pipeline'}")
    faults = []
    for name, classes in COMPONENTS.items():
        if name not in components:
            faults.append(f"it has no {name}")
        elif components[name] not in classes:
            faults.append(f"its {name} is a {components[name]}, not a {classes[0]}")
    known = {*COMPONENTS, *IGNORED, "scheduler"}
    faults += [f"it has a {name}" for name in sorted(components.keys() - known)]
    if "scheduler" not in components:
        faults.append("it has no scheduler")
    if faults:
        raise _refusal(where, "not of that family: " + "; ".join(faults))


def check_configurations(where: str, configurations: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a model of another family by its components' configurations.

    Args:
        where: what to call the model in an error.
        configurations: by component: unet, text_encoder, vae and scheduler.

    Raises:
        InputError: it is SDXL, Stable Diffusion 2.x, predicts velocities, or its parts do not fit
            one another.
    """
    unet, text_encoder = configurations["unet"], configurations["text_encoder"]
    width = unet.get("cross_attention_dim")
    if unet.get("addition_embed_type") == "text_time" or width == 2048:
        raise _refusal(where, f"an {SDXL} model")
    if width == 1024:
        raise _refusal(where, f"a {SD2} model")
    prediction = configurations["scheduler"].get("prediction_type", "epsilon")
    if prediction != "epsilon":
        kind = "v-prediction" if prediction == "v_prediction" else f"{prediction} prediction"
        raise _refusal(where, f"a {kind} model")
    faults = []
    hidden = text_encoder.get("hidden_size")
    if width != hidden:
        faults.append(f"the UNet attends to {width} features and the text encoder makes {hidden}")
    channels, latents = unet.get("in_channels"), configurations["vae"].get("latent_channels")
    if channels not in (4, 9):
        faults.append(f"the UNet has {channels} input channels instead of 4, or 9 for inpainting")
    if (latents, unet.get("out_channels")) != (4, 4):
        faults.append(f"the VAE has {latents} latent channels instead of 4")
    faults += [
        f"the UNet has {name}={unet[name]!r}" for name in _FOREIGN_CONDITIONS if unet.get(name)
    ]
    if faults:
        raise _refusal(where, "not of that family: " + "; ".join(faults))


def _refusal(where: str, kind: str) -> InputError:
    return InputError(f"{where} is {kind}; only the {FAMILY} family can be converted.")
