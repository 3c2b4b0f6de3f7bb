"""The requests of AUTOMATIC1111's webui, field by field.

Its clients send some fifty fields always, most of them at the webui's defaults. Unknown fields are
ignored, as the webui does.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from runtime.server.numbers import Whole


class Overrides(BaseModel):
    """`override_settings`: the options that a request may set for itself."""

    model_config = ConfigDict(extra="allow")

    sd_model_checkpoint: str | None = None
    sd_vae: str | None = None
    CLIP_stop_at_last_layers: Whole | None = None
    randn_source: str | None = None
    eta_noise_seed_delta: Whole | None = None


class CommonBody(BaseModel):
    """What both ways of making pictures have in common.

    What is left out or null is the bundle's default.
    """

    prompt: str = ""
    negative_prompt: str | None = None
    styles: list[str] | None = Field(None, description="one of the bundle's presets at most")
    seed: Whole | None = -1
    subseed: Whole | None = -1
    subseed_strength: float | None = 0
    seed_resize_from_w: Whole | None = -1
    seed_resize_from_h: Whole | None = -1
    sampler_name: str | None = None
    sampler_index: str | None = Field(None, description="an older name of sampler_name")
    scheduler: str | None = None
    batch_size: Whole | None = 1
    n_iter: Whole | None = 1
    steps: Whole | None = None
    cfg_scale: float | None = None
    width: Whole | None = None
    height: Whole | None = None
    restore_faces: bool | None = False
    tiling: bool | None = False
    eta: float | None = Field(None, description="of samplers that take one")
    s_churn: float | None = Field(None, description="likewise, as the next three")
    s_tmin: float | None = None
    s_tmax: float | None = None
    s_noise: float | None = None
    s_min_uncond: float | None = Field(None, description="not here: 0 or left out")
    refiner_checkpoint: str | None = None
    infotext: str | None = Field(None, description="not here, likewise")
    override_settings: Overrides | None = None
    script_name: str | None = None
    alwayson_scripts: dict[str, Any] | None = None
    send_images: bool = True


class Txt2ImgBody(CommonBody):
    """`POST /sdapi/v1/txt2img`."""

    enable_hr: bool = False
    hr_scale: float = 2.0
    hr_resize_x: Whole = 0
    hr_resize_y: Whole = 0
    hr_upscaler: str | None = None
    hr_second_pass_steps: Whole = 0
    hr_sampler_name: str | None = None
    hr_scheduler: str | None = None
    hr_prompt: str | None = None
    hr_negative_prompt: str | None = None
    hr_checkpoint_name: str | None = None
    firstphase_width: Whole = 0
    firstphase_height: Whole = 0
    denoising_strength: float | None = Field(None, description="of the second pass")


class Img2ImgBody(CommonBody):
    """`POST /sdapi/v1/img2img`."""

    init_images: list[str] = Field(description="one picture, as base64 or a data URL")
    denoising_strength: float = 0.75
    resize_mode: Whole = Field(0, description="0 just resize, 1 crop, 2 fill")
    mask: str | None = Field(None, description="light, or opaque, is painted")
    latent_mask: str | None = Field(None, description="not here: leave it out")
    mask_blur: float | None = None
    mask_blur_x: float = 4
    mask_blur_y: float = 4
    mask_round: bool = Field(True, description="whether grey is all or nothing")
    inpainting_fill: Whole = Field(
        0, description="0 fill, 1 original, 2 latent noise, 3 latent nothing"
    )
    inpaint_full_res: bool = Field(True, description="work on what is masked only")
    inpaint_full_res_padding: Whole = 0
    inpainting_mask_invert: Whole = 0
    initial_noise_multiplier: float | None = None
    include_init_images: bool = False
