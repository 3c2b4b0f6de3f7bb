"""What the webui's requests mean here.

What has no effect here and is off is taken; what would change the picture and is not here is
refused.
"""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

from engines.errors import SettingError
from engines.manifest import Manifest
from runtime.hires import WEBUI_UPSCALERS, HiresSettings
from runtime.init_settings import CONTENTS, InitSettings, MaskSettings
from runtime.request import NO_PRESET, Request
from runtime.resize import RESIZE_MODES
from runtime.samplers.catalogue import AUTOMATIC
from runtime.samplers.lookup import resolve
from runtime.samplers.stochasticity import Stochasticity
from runtime.seeds import CPU, NV, NoiseSettings
from runtime.server.a1111_bodies import CommonBody, Img2ImgBody, Overrides, Txt2ImgBody
from runtime.server.given_pictures import as_large_as, read_mask, read_picture

_Value = TypeVar("_Value")

_AUTOMATIC_VAE = frozenset({"Automatic", "None", ""})
_SAME = frozenset({None, "", "Use same checkpoint", "Use same sampler", "Use same scheduler"})
_SOURCES = {"cpu": CPU, "nv": NV, "gpu": NV}
_NOT_HERE = (
    "restore_faces",
    "tiling",
    "s_min_uncond",
    "refiner_checkpoint",
    "infotext",
    "script_name",
    "firstphase_width",
    "firstphase_height",
    "latent_mask",
)
_NO_EFFECT = frozenset({"samples_format", "return_grid", "do_not_show_images"})


def model_title(manifest: Manifest) -> str:
    """The bundle as the webui shows a checkpoint: its name and a short hash."""
    return f"{manifest.name} [{manifest.identity[:10]}]"


def check_model(name: str | None, manifest: Manifest) -> None:
    """Refuse another model than the one that is served.

    Raises:
        SettingError: the name is none of the bundle's.
    """
    names = (None, "", manifest.name, model_title(manifest), manifest.identity)
    if name not in names:
        raise SettingError(
            f"The model {name!r} is not here; this server has {model_title(manifest)} only."
        )


def read_txt2img(body: Txt2ImgBody, manifest: Manifest) -> Request:
    """What a request for pictures from nothing means.

    Raises:
        SettingError: it asks for something that is not here.
    """
    request = _read_common(body, manifest)
    if not body.enable_hr:
        return request
    other = [
        name
        for name in ("sampler_name", "scheduler", "prompt", "negative_prompt", "checkpoint_name")
        if getattr(body, f"hr_{name}") not in (*_SAME, getattr(body, name, None))
    ]
    if other:
        raise SettingError(
            f"hr_{', hr_'.join(other)}: the second pass has what the first one has; leave it out."
        )
    upscaler = body.hr_upscaler or HiresSettings.upscaler
    hires = HiresSettings(
        scale=body.hr_scale,
        width=body.hr_resize_x,
        height=body.hr_resize_y,
        upscaler=WEBUI_UPSCALERS.get(upscaler, upscaler),
        steps=body.hr_second_pass_steps,
        strength=_or(body.denoising_strength, HiresSettings.strength),
    )
    return dataclasses.replace(request, hires=hires)


def read_img2img(body: Img2ImgBody, manifest: Manifest, max_pixels: int) -> Request:
    """What a request for pictures from a picture means; decodes it.

    Raises:
        SettingError: it asks for something that is not here.
        InputError: a picture cannot be read or is too large.
    """
    request = _read_common(body, manifest)
    if len(body.init_images) != 1:
        raise SettingError(f"init_images: {len(body.init_images)} pictures; give one.")
    if body.include_init_images:
        raise SettingError("include_init_images is not supported; you have them.")
    if body.initial_noise_multiplier not in (None, 1):
        raise SettingError("initial_noise_multiplier is not supported; leave it at 1.")
    picture = read_picture(body.init_images[0], "init_images", max_pixels)
    init = InitSettings(
        picture=picture,
        strength=body.denoising_strength,
        resize=_nth(body.resize_mode, RESIZE_MODES, "resize_mode"),
    )
    if body.mask is not None:
        if body.mask_blur is None and body.mask_blur_x != body.mask_blur_y:
            raise SettingError("mask_blur_x and mask_blur_y: choose one blur for both.")
        mask = MaskSettings(
            picture=as_large_as(read_mask(body.mask, "mask", max_pixels), picture),
            blur=_or(body.mask_blur, body.mask_blur_x),
            invert=bool(body.inpainting_mask_invert),
            content=_nth(body.inpainting_fill, CONTENTS, "inpainting_fill"),
            only_masked=body.inpaint_full_res,
            padding=body.inpaint_full_res_padding,
            soft=not body.mask_round,
        )
        init = dataclasses.replace(init, mask=mask)
    return dataclasses.replace(request, init=init)


def _read_common(body: CommonBody, manifest: Manifest) -> Request:
    overrides = body.override_settings or Overrides()
    check_model(overrides.sd_model_checkpoint, manifest)
    faults = _faults(body, overrides)
    if faults:
        raise SettingError("; ".join(faults) + ".")
    sampler = body.sampler_name or body.sampler_index or None
    return Request(
        prompt=body.prompt,
        negative=body.negative_prompt,
        preset=_preset(body.styles, manifest),
        seed=_chosen(body.seed),
        steps=body.steps,
        cfg=body.cfg_scale,
        sampler=sampler,
        schedule=body.scheduler or None,
        width=body.width,
        height=body.height,
        clip_skip=_or(overrides.CLIP_stop_at_last_layers, 1),
        count=_or(body.batch_size, 1) * _or(body.n_iter, 1),
        noise=NoiseSettings(
            source=_source(overrides.randn_source),
            subseed=_chosen(body.subseed) if body.subseed_strength else None,
            subseed_strength=body.subseed_strength or 0.0,
            from_width=max(body.seed_resize_from_w or 0, 0),
            from_height=max(body.seed_resize_from_h or 0, 0),
            eta_seed_delta=overrides.eta_noise_seed_delta or 0,
        ),
        stochasticity=_stochasticity(body, sampler or manifest.defaults.sampler),
    )


def _stochasticity(body: CommonBody, sampler: str) -> Stochasticity:
    """The webui hands each sampler what it takes, and clients send all of it always."""
    entry, _ = resolve(sampler, AUTOMATIC)
    churn = body.s_churn or 0.0 if entry.churns else 0.0
    return Stochasticity(
        eta=None if entry.eta is None else body.eta,
        s_churn=churn,
        s_tmin=body.s_tmin or 0.0 if churn else 0.0,
        s_tmax=body.s_tmax or None if churn else None,
        s_noise=_or(body.s_noise, 1.0) if entry.noisy else 1.0,
    )


def _faults(body: CommonBody, overrides: Overrides) -> list[str]:
    faults = [f"{name} is not supported" for name in _NOT_HERE if getattr(body, name, None)]
    scripts = [name for name, script in (body.alwayson_scripts or {}).items() if _is_on(script)]
    if scripts:
        faults.append(f"alwayson_scripts: {', '.join(scripts)} not found")
    if (overrides.sd_vae or "") not in _AUTOMATIC_VAE:
        faults.append(f"sd_vae: there is no VAE {overrides.sd_vae!r}, only the bundle's own")
    unknown = sorted(set(overrides.model_extra or ()) - _NO_EFFECT)
    if unknown:
        faults.append(
            f"override_settings: {', '.join(unknown)} cannot be set; "
            f"choose from {', '.join(sorted(Overrides.model_fields))}"
        )
    return faults


def _is_on(script: object) -> bool:
    """Clients send scripts that are switched off too: no arguments, or false as the first."""
    arguments = script.get("args") if isinstance(script, dict) else script
    if isinstance(arguments, list):
        return bool(arguments) and arguments[0] is not False
    return bool(arguments)


def _preset(styles: list[str] | None, manifest: Manifest) -> str | None:
    if not styles:
        return None
    known = ", ".join([NO_PRESET, *manifest.presets])
    if len(styles) > 1:
        raise SettingError(f"styles: {len(styles)} are too many; choose one of {known}.")
    return styles[0]


def _chosen(seed: int | None) -> int | None:
    """The webui's -1 is chance."""
    return None if seed == -1 else seed


def _or(value: _Value | None, default: _Value) -> _Value:
    return default if value is None else value


def _nth(number: int, names: Sequence[str], field: str) -> str:
    if not 0 <= number < len(names):
        choices = ", ".join(f"{i} ({name})" for i, name in enumerate(names))
        raise SettingError(f"{field} {number} is not here; choose {choices}.")
    return names[number]


def _source(name: str | None) -> str:
    source = _SOURCES.get((name or CPU).casefold())
    if source is None:
        raise SettingError(f"randn_source: no {name!r}; choose CPU, NV or GPU (which is NV).")
    return source
