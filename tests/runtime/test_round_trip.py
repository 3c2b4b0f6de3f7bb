"""Any request becomes a picture file, and the file asks for the same picture again."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engines.errors import SettingError
from runtime.again import Recorded, UnnamedInit, recorded_in, recorded_in_parameters
from runtime.guidance import GuidanceSettings
from runtime.hires import UPSCALERS, HiresSettings
from runtime.init_settings import CONTENT_ORIGINAL, CONTENTS, InitSettings, MaskSettings
from runtime.metadata import format_parameters, parse_parameters
from runtime.picture_file import FORMATS, encode
from runtime.png import Picture
from runtime.request import Request, Settings, settle
from runtime.resize import MODES
from runtime.samplers.catalogue import SAMPLERS
from runtime.samplers.stochasticity import Stochasticity
from runtime.seeds import MAX_SEED, SOURCES, NoiseSettings
from runtime.source_picture import SourcePicture
from runtime.tiles import TILINGS
from tests.runtime.examples import ORIGIN
from tests.runtime.stand_ins import MANIFEST

PICTURE = SourcePicture.of(np.zeros((64, 72, 3), np.uint8))
MASK = SourcePicture.of(np.full((64, 72), 255, np.uint8))


def _between(least: float, most: float) -> st.SearchStrategy[float]:
    return st.floats(least, most, allow_nan=False)


_SEEDS = st.integers(0, MAX_SEED)
_TEXTS = st.text(st.characters() | st.sampled_from('()[]:|\\,\n"'), max_size=40)
_MASKS = st.builds(
    MaskSettings,
    st.just(MASK),
    _between(0, 64),
    st.just(False),
    st.sampled_from(CONTENTS),
    st.booleans(),
    st.integers(0, 2048),
    st.booleans(),
)
_INITS = st.builds(
    InitSettings,
    st.just(PICTURE),
    _between(0.05, 1),
    st.sampled_from(MODES),
    st.none() | _MASKS,
)
_HIRES = st.builds(
    HiresSettings,
    _between(1, 2),
    st.sampled_from((0, 640)),
    st.sampled_from((0, 512)),
    st.sampled_from(UPSCALERS),
    st.integers(0, 20),
    _between(0.1, 1),
)


@st.composite
def settings_of_any_request(draw: st.DrawFn) -> Settings:
    """What follows from a request that says everything, each thing by chance."""
    sampler = draw(st.sampled_from(SAMPLERS))
    from_width, from_height = draw(st.sampled_from([(0, 0), (64, 128)]))
    request = Request(
        prompt=draw(_TEXTS),
        negative=draw(st.none() | _TEXTS),
        preset=draw(st.sampled_from([None, "none", "cracked", "glowing"])),
        seed=draw(_SEEDS),
        steps=draw(st.integers(1, 50)),
        cfg=draw(_between(1, 100)),
        sampler=sampler.name,
        schedule=draw(st.sampled_from(sampler.schedules)),
        width=draw(st.integers(8, 256)) * 8,
        height=draw(st.integers(8, 256)) * 8,
        clip_skip=draw(st.sampled_from([1, 2])),
        noise=NoiseSettings(
            draw(st.sampled_from(sorted(SOURCES))),
            draw(st.none() | _SEEDS),
            draw(_between(0, 1)),
            from_width,
            from_height,
            draw(st.sampled_from([0, 31337])),
        ),
        guidance=GuidanceSettings(
            draw(_between(0, 1)), draw(_between(0, 0.4)), draw(_between(0.5, 1))
        ),
        stochasticity=Stochasticity(
            draw(st.none() | _between(0, 1)) if sampler.eta is not None else None,
            draw(_between(0, 100)) if sampler.churns else 0.0,
            s_noise=draw(_between(0.1, 2)) if sampler.noisy else 1.0,
        ),
        init=draw(st.none() | _INITS),
        vae_tiling=draw(st.sampled_from(TILINGS)),
    )
    if request.init is None:
        request = dataclasses.replace(request, hires=draw(st.none() | _HIRES))
    try:
        (settings,) = settle(request, MANIFEST)
    except SettingError:
        reject()
    return settings


@pytest.mark.parametrize("kind", FORMATS)
@given(settings=settings_of_any_request())
@hypothesis_settings(max_examples=60, deadline=None, derandomize=True)
def test_a_file_asks_for_the_same_picture(settings: Settings, kind: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "a"
        file.write_bytes(encode(Picture(np.zeros((8, 8, 3), np.uint8), settings, ORIGIN), kind))
        recorded = recorded_in(file)
    request = recorded.request
    assert recorded == Recorded(request, ORIGIN)
    if settings.init is not None:
        assert request.init == settings.init
        request = dataclasses.replace(request, init=settings.init)  # with its pixels
    assert settle(request, MANIFEST) == (settings,)


@given(settings=settings_of_any_request())
@hypothesis_settings(max_examples=150, deadline=None, derandomize=True)
def test_so_does_the_webuis_text_as_far_as_it_can(settings: Settings) -> None:
    """Its numbers have six digits, and it knows no tiling and no picture that was given."""
    parameters = parse_parameters(format_parameters(settings, ORIGIN))
    recorded = recorded_in_parameters(parameters, "a")
    (again,) = settle(recorded.request, MANIFEST)
    assert _as_far(again) == _as_far(settings)
    assert recorded.init == _unnamed(settings.init)


def _unnamed(init: InitSettings | None) -> UnnamedInit | None:
    """What is left of a picture and mask in the webui's text; padding only where it counts."""
    if init is None:
        return None
    strength, mask = float(f"{init.strength:.6g}"), init.mask
    if mask is None:
        return UnnamedInit(strength, {})
    said: dict[str, object] = {"blur": float(f"{mask.blur:.6g}")}
    if mask.invert:
        said["invert"] = True
    if mask.content != CONTENT_ORIGINAL:
        said["content"] = mask.content
    if mask.only_masked:
        said |= {"only_masked": True, "padding": mask.padding}
    return UnnamedInit(strength, {} if said == {"blur": 0.0} else said)


def _as_far(settings: Settings) -> Any:
    known = dataclasses.replace(
        settings,
        prompt=settings.prompt.strip(),
        negative=settings.negative.strip(),
        init=None,
        vae_tiling="auto",
    )
    return _six_digits(known)


def _six_digits(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if not dataclasses.is_dataclass(value):
        return value
    return {
        field.name: _six_digits(getattr(value, field.name)) for field in dataclasses.fields(value)
    }
