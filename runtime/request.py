"""What is asked for, and the settings of each picture that follow from it and the bundle."""

import dataclasses
import logging
import math
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field

from engines import layout
from engines.axes import fixed_sizes
from engines.errors import SettingError
from engines.manifest import Manifest, Preset
from runtime.canvas import check_mask, unet_sees_mask
from runtime.extra_networks import baked_loras, strip_extra_networks
from runtime.guidance import GuidanceSettings, guidance_faults
from runtime.hires import HiresSettings, hires_faults, settle_hires
from runtime.init_settings import InitSettings, init_faults, settle_init
from runtime.plain_values import plain
from runtime.prompt_plan import read_prompts
from runtime.prompt_schedule import has_and, split_last_weight
from runtime.resize import EXTEND, STRETCH
from runtime.samplers.catalogue import AUTOMATIC, Sampler
from runtime.samplers.lookup import resolve, stochasticity_faults
from runtime.samplers.stochasticity import Stochasticity
from runtime.seeds import MAX_SIDE, NoiseSettings, noise_faults
from runtime.settled import unsettled_faults
from runtime.text import CLIP_SKIPS
from runtime.tiles import AUTO, TILINGS
from runtime.trained_tags import add_tags, trained_tags

log = logging.getLogger(__name__)

NO_PRESET = "none"
"""The preset's name that means none, where the bundle has a default one."""

SIDES = (64, MAX_SIDE)
MAX_STEPS = 1000
MAX_CFG = 100.0
MAX_COUNT = 1000
MAX_CHARACTERS = 10_000
_RANDOM_SEEDS = 2**32
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Request:
    """What a user asks for. What is None is the bundle's default, or chance for the seed.

    Attributes:
        prompt: text in the grammar of `runtime.prompt`.
        negative: takes the place of the bundle's negative prompt; a preset's comes before it.
        preset: one of the bundle's presets, or "none".
        seed: of the first picture; the next ones have the next seeds, or with a subseed the same
            seed and the next subseeds.
        steps: how many steps the sampler takes.
        cfg: the guidance scale; 1 leaves the negative prompt out.
        sampler: a name that `runtime.samplers.lookup` knows.
        schedule: likewise; by default the one that belongs to the sampler asked for.
        width: in pixels.
        height: in pixels.
        clip_skip: 1 for the text encoder's last layer, 2 for the last but one.
        count: how many pictures.
        noise: how the seed becomes noise; a strength without a subseed takes one by chance.
        guidance: what there is to guidance beside its scale.
        stochasticity: how much noise the sampler brings in.
        init: the picture to start from; its size, rounded down, is the default then, unless only
            what is masked is worked on. With a mask nothing is resized where no size is asked for:
            the picture is extended to multiples, and the result is as large as it. A padding
            has no effect on the whole picture, nor a way of resizing on the masked part alone: both
            are taken here, and refused by the command line, which knows what was given.
        hires: the second pass at another size; None for no such pass.
        vae_tiling: one of `runtime.tiles.TILINGS`.
        tags: how many of the look's trained tags go into the prompt: "all", "none", or a number
            of the most frequent; by default as many as the preset says.
    """

    prompt: str
    negative: str | None = None
    preset: str | None = None
    seed: int | None = None
    steps: int | None = None
    cfg: float | None = None
    sampler: str | None = None
    schedule: str | None = None
    width: int | None = None
    height: int | None = None
    clip_skip: int = 1
    count: int = 1
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    guidance: GuidanceSettings = field(default_factory=GuidanceSettings)
    stochasticity: Stochasticity = field(default_factory=Stochasticity)
    init: InitSettings | None = None
    hires: HiresSettings | None = None
    vae_tiling: str = AUTO
    tags: str | None = None


@dataclass(frozen=True)
class Settings:
    """Everything that decides one picture of a bundle; the prompts are whole, preset included."""

    prompt: str
    negative: str
    seed: int
    steps: int
    cfg: float
    sampler: str
    schedule: str
    width: int
    height: int
    clip_skip: int
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    guidance: GuidanceSettings = field(default_factory=GuidanceSettings)
    stochasticity: Stochasticity = field(default_factory=Stochasticity)
    init: InitSettings | None = None
    hires: HiresSettings | None = None
    vae_tiling: str = AUTO


def settle(request: Request, manifest: Manifest) -> tuple[Settings, ...]:
    """Fill a request with the bundle's defaults and check it: the settings of each picture.

    Raises:
        SettingError: a name that is not known, a prompt that is not supported, or numbers that
            are not possible; the message names every such number.
    """
    defaults = manifest.defaults
    request = plain(request)
    if request.init is not None:
        request = dataclasses.replace(request, init=settle_init(request.init))
    of_picture = _sides_of_picture(request, manifest)
    request = _keep_size(request, manifest)
    preset = _preset(request, manifest)
    baked = baked_loras(manifest)
    tags = trained_tags(manifest, request.tags, preset.tags)
    prompt = _put_together(preset, tags, strip_extra_networks(request.prompt, baked))
    negative = defaults.negative if request.negative is None else request.negative
    negative = _join(preset.negative, negative)
    sampler, schedule = resolve(*_sampler_names(request, manifest))
    steps = defaults.steps if request.steps is None else request.steps
    width, height = _size(request, manifest)
    settings = Settings(
        prompt=strip_extra_networks(prompt, baked).strip(),
        negative=strip_extra_networks(negative, baked).strip(),
        seed=random_seed() if request.seed is None else request.seed,
        steps=steps,
        cfg=float(defaults.cfg if request.cfg is None else request.cfg),
        sampler=sampler.name,
        schedule=schedule,
        width=width,
        height=height,
        clip_skip=request.clip_skip,
        noise=_noise(request.noise),
        guidance=request.guidance,
        stochasticity=request.stochasticity,
        init=request.init,
        hires=request.hires
        and settle_hires(request.hires, width, height, steps, manifest.latents.downscale),
        vae_tiling=request.vae_tiling,
    )
    _check(settings, sampler, request.count, manifest, of_picture)
    if has_and(settings.negative):
        log.warning("AND is a word like others in a negative prompt, as in the webui")
    return tuple(_nth(settings, index) for index in range(request.count))


def check_settings(settings: Settings, manifest: Manifest) -> Settings:
    """Hold settings that need not come from `settle` to what it holds its own to.

    Returns:
        The very settings, unless numbers were of other types than their fields, such as numpy's,
        or names in another spelling than the webui's.

    Raises:
        SettingError: as `settle`, or `settle` would have made other settings of it.
    """
    settings = plain(settings)
    if settings.init is not None:
        init = settle_init(settings.init)
        settings = settings if init is settings.init else dataclasses.replace(settings, init=init)
    sampler, schedule = resolve(settings.sampler, settings.schedule)
    if (settings.sampler, settings.schedule) != (sampler.name, schedule):
        settings = dataclasses.replace(settings, sampler=sampler.name, schedule=schedule)
    _check(settings, sampler, 1, manifest)
    if faults := unsettled_faults(settings, manifest.latents.downscale):
        raise SettingError(f"{'; '.join(faults)}: change a Request, and `settle` it.")
    return settings


def _check(
    settings: Settings,
    sampler: Sampler,
    count: int,
    manifest: Manifest,
    of_picture: Collection[str] = (),
) -> None:
    faults = _faults(settings, count, manifest, of_picture)
    faults += guidance_faults(settings.guidance)
    faults += stochasticity_faults(sampler, settings.stochasticity)
    if faults:
        raise SettingError("; ".join(faults) + ".")
    if settings.init is not None:
        sees_mask = unet_sees_mask(manifest.components[layout.UNET], manifest.latents)
        size = settings.width, settings.height
        check_mask(settings.init, *size, manifest.latents.downscale, sees_mask=sees_mask)
    texts = settings.prompt, settings.negative
    read_prompts(*texts, settings.steps, settings.cfg)
    if settings.hires is not None:
        read_prompts(*texts, settings.hires.steps, settings.cfg, settings.steps)


def _sides_of_picture(request: Request, manifest: Manifest) -> list[str]:
    """Which sides of the result are those of the picture that it starts from, unasked."""
    init = request.init
    if init is None or (init.mask is not None and init.mask.only_masked) or fixed_sizes(manifest):
        return []
    return [side for side in ("width", "height") if getattr(request, side) is None]


def _keep_size(request: Request, manifest: Manifest) -> Request:
    """Extend a masked picture whose sides are no multiples, so that nothing of it is resized.

    So it is where no size and no way of resizing was asked for; "extend" can be asked for as well,
    and without a mask.
    """
    init, downscale = request.init, manifest.latents.downscale
    if init is None or (init.mask is not None and init.mask.only_masked):
        return request
    picture = init.picture
    whole = picture.width % downscale == 0 and picture.height % downscale == 0
    by_default = init.mask is not None and init.resize == STRETCH and not whole
    sized = request.width is not None or request.height is not None or fixed_sizes(manifest)
    if sized or not (by_default or init.resize == EXTEND):
        return request
    return dataclasses.replace(
        request,
        width=-(-picture.width // downscale) * downscale,
        height=-(-picture.height // downscale) * downscale,
        init=dataclasses.replace(init, resize=EXTEND),
    )


def _size(request: Request, manifest: Manifest) -> tuple[int, int]:
    """The size of what is worked on: as asked for, or else as the picture has it, or the bundle."""
    defaults, init, downscale = manifest.defaults, request.init, manifest.latents.downscale
    width, height = defaults.width, defaults.height
    if init is not None and not (init.mask is not None and init.mask.only_masked):
        fixed = fixed_sizes(manifest)
        width = fixed.get("picture_width", init.picture.width // downscale * downscale)
        height = fixed.get("picture_height", init.picture.height // downscale * downscale)
    return (
        width if request.width is None else request.width,
        height if request.height is None else request.height,
    )


def random_seed() -> int:
    """A seed by chance, as long as the webui's are."""
    return secrets.randbelow(_RANDOM_SEEDS)


def _noise(asked: NoiseSettings) -> NoiseSettings:
    """A strength of 0 needs no subseed, any other one does."""
    subseed = asked.subseed
    if not asked.subseed_strength:
        subseed = None
    elif subseed is None:
        subseed = random_seed()
    return dataclasses.replace(asked, subseed=subseed)


def _nth(settings: Settings, index: int) -> Settings:
    """The settings of the picture `index` places after the first."""
    noise = settings.noise
    if noise.subseed is None:
        return dataclasses.replace(settings, seed=settings.seed + index)
    next_noise = dataclasses.replace(noise, subseed=noise.subseed + index)
    return dataclasses.replace(settings, noise=next_noise)


def _preset(request: Request, manifest: Manifest) -> Preset:
    name = manifest.defaults.preset if request.preset is None else request.preset
    if name in ("", NO_PRESET):
        return Preset()
    if name not in manifest.presets:
        known = ", ".join([NO_PRESET, *manifest.presets])
        raise SettingError(f"No preset {name!r} in {manifest.name}; choose one of {known}.")
    return manifest.presets[name]


def _sampler_names(request: Request, manifest: Manifest) -> tuple[str, str]:
    """A sampler that was asked for takes its own schedule, not that of the bundle's default."""
    if request.sampler is not None:
        return request.sampler, request.schedule or AUTOMATIC
    return manifest.defaults.sampler, request.schedule or manifest.defaults.schedule


def _put_together(preset: Preset, tags: list[str], asked: str) -> str:
    """A prompt with what a preset puts around it; a weight that ends the last prompt stays last."""
    tagged = add_tags(tags, preset.before, asked, preset.after)
    if not preset.after.strip() or has_and(preset.after):
        return _join(preset.before, tagged, asked, preset.after)
    text, weight = split_last_weight(asked)
    return _join(preset.before, tagged, text, preset.after) + weight


def _join(*texts: str) -> str:
    """Put texts together with commas; one alone stays as it is."""
    parts = [text.strip() for text in texts if text.strip()]
    if len(parts) < 2:
        return "".join(parts)
    return ", ".join(part.strip(" ,\n") for part in parts)


def _faults(
    settings: Settings, count: int, manifest: Manifest, of_picture: Collection[str]
) -> list[str]:
    downscale = manifest.latents.downscale
    faults = _size_faults(settings, downscale, of_picture)
    for name, text in (("prompt", settings.prompt), ("negative prompt", settings.negative)):
        if len(text) > MAX_CHARACTERS:
            faults.append(f"the {name} has {len(text)} characters: {MAX_CHARACTERS} is the most")
        if _SURROGATE.search(text):
            faults.append(f"the {name} has half of a character: it is no Unicode text")
    if not 1 <= settings.steps <= MAX_STEPS:
        faults.append(f"{settings.steps} steps are not possible: choose 1 to {MAX_STEPS}")
    if not (math.isfinite(settings.cfg) and 1 <= settings.cfg <= MAX_CFG):
        faults.append(
            f"the guidance scale {settings.cfg:g} is not possible: choose 1 to {MAX_CFG:g}"
        )
    if settings.clip_skip not in CLIP_SKIPS:
        choices = " or ".join(map(str, CLIP_SKIPS))
        faults.append(f"clip skip {settings.clip_skip} is not possible: choose {choices}")
    if not 1 <= count <= MAX_COUNT:
        faults.append(f"{count} pictures at once are not possible: choose 1 to {MAX_COUNT}")
        count = 1
    faults += noise_faults(settings.noise, settings.seed, count, downscale)
    if settings.vae_tiling not in TILINGS:
        choices = ", ".join(TILINGS)
        faults.append(f"no VAE tiling {settings.vae_tiling!r}: choose one of {choices}")
    if settings.init is not None:
        size = settings.width, settings.height
        faults += init_faults(settings.init, settings.steps, size, MAX_STEPS)
    if settings.hires is not None:
        faults += hires_faults(settings.hires, settings.width, settings.height, MAX_STEPS)
        if settings.init is not None:
            faults.append(
                "a picture that starts from another one has no hires pass: leave one out "
                "(--hires-scale 1 leaves out the pass)"
            )
    return faults


def _size_faults(settings: Settings, downscale: int, of_picture: Collection[str] = ()) -> list[str]:
    """What is wrong with the sides of the first pass, and of the second where there is one.

    Args:
        settings: the picture's.
        downscale: pixels per latent along one side.
        of_picture: the names of sides that are those of the picture to start from, unasked.
    """
    sides = [("width", settings.width), ("height", settings.height)]
    hires = settings.hires
    if hires is not None:
        both = ("hires width", hires.width), ("hires height", hires.height)
        sides += sorted(both, key=lambda each: each[1] == 0)
    least, most = SIDES
    faults: list[str] = []
    for name, side in sides:
        if side == 0 and faults and name.startswith("hires"):
            continue  # it would follow from a side that is not possible
        if not least <= side <= most and name in of_picture:
            masked = settings.init is not None and settings.init.mask is not None
            faults.append(
                f"the picture's {name} {side} is not possible: ask for a size of {least} to {most} "
                f"(--size){', or for the masked part alone (--only-masked)' if masked else ''}"
            )
        elif not least <= side <= most:
            faults.append(f"the {name} {side} is not possible: choose {least} to {most}")
        elif side % downscale:
            below = side - side % downscale
            faults.append(
                f"the {name} {side} is not a multiple of {downscale}: choose {below} "
                f"or {below + downscale}"
            )
    return faults
