"""The requests of AUTOMATIC1111's webui, and what they mean here.

Clients send some fifty fields always, most of them at the webui's defaults: what has no effect
here and is off is taken, what would change the picture and is not here is refused. Unknown fields
are ignored, as the webui does.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from engines.errors import SettingError
from engines.manifest import Manifest
from runtime.request import NO_PRESET, Request
from runtime.seeds import CPU, NV, NoiseSettings

AUTOMATIC_VAE = frozenset({"Automatic", "None", ""})

_SOURCES = {"cpu": CPU, "nv": NV, "gpu": NV}
_MODEL = "sd_model_checkpoint"
_CLIP_SKIP = "CLIP_stop_at_last_layers"
_NOT_HERE = ("restore_faces", "tiling", "refiner_checkpoint", "script_name", "enable_hr")
_NO_EFFECT = frozenset({"samples_format", "return_grid", "do_not_show_images"})


class Overrides(BaseModel):
    """`override_settings`: the options that a request may set for itself."""

    model_config = ConfigDict(extra="allow")

    sd_model_checkpoint: str | None = None
    sd_vae: str | None = None
    CLIP_stop_at_last_layers: int | None = None
    randn_source: str | None = None
    eta_noise_seed_delta: int | None = None


class Txt2ImgBody(BaseModel):
    """`POST /sdapi/v1/txt2img`. What is left out or null is the bundle's default."""

    prompt: str = ""
    negative_prompt: str | None = None
    styles: list[str] | None = Field(None, description="one of the bundle's presets at most")
    seed: int | None = -1
    subseed: int | None = -1
    subseed_strength: float | None = 0
    seed_resize_from_w: int | None = -1
    seed_resize_from_h: int | None = -1
    sampler_name: str | None = None
    sampler_index: str | None = Field(None, description="an older name of sampler_name")
    scheduler: str | None = None
    batch_size: int | None = 1
    n_iter: int | None = 1
    steps: int | None = None
    cfg_scale: float | None = None
    width: int | None = None
    height: int | None = None
    restore_faces: bool | None = False
    tiling: bool | None = False
    refiner_checkpoint: str | None = None
    override_settings: Overrides | None = None
    script_name: str | None = None
    alwayson_scripts: dict[str, Any] | None = None
    send_images: bool = True
    enable_hr: bool = False


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
    """What a request means here.

    Raises:
        SettingError: it asks for something that would change the picture and is not here.
    """
    overrides = body.override_settings or Overrides()
    check_model(overrides.sd_model_checkpoint, manifest)
    faults = _faults(body, overrides)
    if faults:
        raise SettingError("; ".join(faults) + ".")
    return Request(
        prompt=body.prompt,
        negative=body.negative_prompt,
        preset=_preset(body.styles, manifest),
        seed=_chosen(body.seed),
        steps=body.steps,
        cfg=body.cfg_scale,
        sampler=body.sampler_name or body.sampler_index,
        schedule=body.scheduler or None,
        width=body.width,
        height=body.height,
        clip_skip=overrides.CLIP_stop_at_last_layers or 1,
        count=_given(body.batch_size) * _given(body.n_iter),
        noise=NoiseSettings(
            source=_source(overrides.randn_source),
            subseed=_chosen(body.subseed) if body.subseed_strength else None,
            subseed_strength=body.subseed_strength or 0.0,
            from_width=max(body.seed_resize_from_w or 0, 0),
            from_height=max(body.seed_resize_from_h or 0, 0),
            eta_seed_delta=overrides.eta_noise_seed_delta or 0,
        ),
    )


def _faults(body: Txt2ImgBody, overrides: Overrides) -> list[str]:
    faults = [f"{name} is not supported" for name in _NOT_HERE if getattr(body, name)]
    scripts = [name for name, script in (body.alwayson_scripts or {}).items() if _is_on(script)]
    if scripts:
        faults.append(f"alwayson_scripts: {', '.join(scripts)} not found")
    if (overrides.sd_vae or "") not in AUTOMATIC_VAE:
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


def _given(count: int | None) -> int:
    return 1 if count is None else count


def _source(name: str | None) -> str:
    source = _SOURCES.get((name or CPU).casefold())
    if source is None:
        raise SettingError(f"randn_source: no {name!r}; choose CPU, NV or GPU (which is NV).")
    return source
