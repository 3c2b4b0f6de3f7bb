"""What the webui's API lists: samplers, schedulers, the model, its LoRAs and styles, options."""

import resource

from engines.identity import Json
from engines.manifest import Manifest
from runtime.extra_networks import baked_loras
from runtime.hires import LATENT_UPSCALERS
from runtime.resize import FILTERS
from runtime.samplers.catalogue import AUTOMATIC, SAMPLERS
from runtime.server.a1111_requests import model_title

Items = list[dict[str, Json]]

EMPTY = ("sd-vae", "hypernetworks", "face-restorers", "realesrgan-models", "sd-modules")
"""What there is none of: the model is fixed, and nothing is added to it."""


def samplers() -> Items:
    """Every sampler."""
    return [
        {"name": sampler.name, "aliases": list(sampler.aliases), "options": {}}
        for sampler in SAMPLERS
    ]


def schedulers() -> Items:
    """Every schedule that any sampler has."""
    names = dict.fromkeys(name for sampler in SAMPLERS for name in sampler.schedules)
    return [
        {
            "name": name,
            "label": name.title(),
            "aliases": None,
            "default_rho": -1.0,
            "need_inner_model": False,
        }
        for name in (AUTOMATIC, *names)
    ]


def upscalers() -> Items:
    """What a second pass enlarges pictures with."""
    return [
        {
            "name": name.title(),
            "model_name": None,
            "model_path": None,
            "model_url": None,
            "scale": 4,
        }
        for name in FILTERS
    ]


def latent_upscale_modes() -> Items:
    """What it enlarges latents with."""
    return [{"name": name.capitalize()} for name in LATENT_UPSCALERS]


def models(manifest: Manifest) -> Items:
    """The one model; it has no file's name, for paths are nobody's business."""
    return [
        {
            "title": model_title(manifest),
            "model_name": manifest.name,
            "hash": manifest.identity[:10],
            "sha256": manifest.identity,
            "filename": manifest.name,
            "config": None,
        }
    ]


def loras(manifest: Manifest) -> Items:
    """The LoRAs that are in the model already."""
    return [
        {
            "name": name,
            "alias": name,
            "path": name,
            "metadata": {"weight": weight, "tags": list(manifest.trained_tags.get(name, ()))},
        }
        for name, weight in baked_loras(manifest).items()
    ]


def styles(manifest: Manifest) -> Items:
    """The presets, as the webui writes styles: `{prompt}` is where the prompt goes."""
    return [
        {
            "name": name,
            "prompt": f"{preset.before}{{prompt}}{preset.after}",
            "negative_prompt": preset.negative,
        }
        for name, preset in manifest.presets.items()
    ]


def options(manifest: Manifest) -> dict[str, Json]:
    """The options that clients look at. None can be changed for everybody."""
    return {
        "sd_model_checkpoint": model_title(manifest),
        "sd_checkpoint_hash": manifest.identity,
        "sd_vae": "Automatic",
        "CLIP_stop_at_last_layers": 1,
        "randn_source": "CPU",
        "eta_noise_seed_delta": 0,
        "samples_format": "png",
    }


def memory() -> dict[str, Json]:
    """The process's largest memory so far, in bytes; of a GPU's nothing is known here."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"ram": {"used": used}, "cuda": {"error": "unavailable"}}
