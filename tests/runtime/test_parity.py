"""The same prompt, seed and settings give the same picture here and in diffusers.

The second half of the file makes mistakes on purpose and sees that each one fails the first half.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.conditioning import Conditioning
from runtime.noise import TorchCpuNoise
from runtime.pipeline import Pipeline
from runtime.png import Picture
from runtime.request import Request
from runtime.text import PromptEncoder
from runtime.tokenizer import ClipTokenizer
from runtime.vae_decoder import PictureDecoder
from tests.runtime.against_diffusers import EXACT_DB, Reference, psnr

PROMPT = "glowing cracked skin, cyan glow, portrait of a woman, blue skin, long blonde hair"
NEGATIVE = "beard, red background, smooth skin"
REQUEST = Request(PROMPT, NEGATIVE, seed=10, steps=15, cfg=4.0, width=168, height=120)
FAR_SEED = 2**33 + 7
SAMPLERS = ("DPM++ 2M Karras", "DDIM")

# torch's tensors meet numpy 2 inside diffusers' scheduler.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BFLOAT16_DB = 30.0
"""Half precision changes no more than this; what it can hide, the exact comparison shows."""


def _make(pipeline: Pipeline, *requests: Request) -> list[Picture]:
    pictures = list(pipeline.generate(pipeline.settle(requests)))
    return sorted(pictures, key=lambda picture: picture.settings.seed)


def _compare(pipeline: Pipeline, reference: Reference, request: Request) -> float:
    (picture,) = _make(pipeline, request)
    return psnr(picture.pixels, reference.picture(request))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("seed", [REQUEST.seed, FAR_SEED])
def test_float32_on_the_cpu(exact: Pipeline, reference: Reference, sampler: str, seed: int) -> None:
    request = dataclasses.replace(REQUEST, sampler=sampler, seed=seed)
    assert _compare(exact, reference, request) >= EXACT_DB


@pytest.mark.parametrize("bundle", ["demo_bundle_fp32", "demo_bundle"])
def test_bfloat16_in_openvino(
    bundle: str, reference: Reference, request: pytest.FixtureRequest
) -> None:
    pytest.importorskip("engines.backends.openvino_session", reason="installed on x86-64 alone")
    with Pipeline.open(request.getfixturevalue(bundle), "openvino") as pipeline:
        for sampler in SAMPLERS:
            asked = dataclasses.replace(REQUEST, sampler=sampler)
            assert _compare(pipeline, reference, asked) >= BFLOAT16_DB


@pytest.mark.parametrize(("width", "height"), [(128, 128), (REQUEST.width, REQUEST.height)])
def test_float32_in_openvino(
    demo_bundle_fp32: Path,
    reference: Reference,
    monkeypatch: pytest.MonkeyPatch,
    width: int,
    height: int,
) -> None:
    """What is computed otherwise there is the same, at sizes that can be halved evenly or not."""
    session = pytest.importorskip(
        "engines.backends.openvino_session", reason="installed on x86-64 alone"
    )
    monkeypatch.setitem(session._OPTIONS, "INFERENCE_PRECISION_HINT", "f32")
    with Pipeline.open(demo_bundle_fp32, "openvino") as pipeline:
        request = dataclasses.replace(REQUEST, width=width, height=height, sampler=SAMPLERS[0])
        assert _compare(pipeline, reference, request) >= EXACT_DB


def test_float16_on_the_cpu(demo_bundle: Path, reference: Reference) -> None:
    with Pipeline.open(demo_bundle, "cpu") as pipeline:
        request = dataclasses.replace(REQUEST, sampler="DPM++ 2M Karras")
        assert _compare(pipeline, reference, request) >= BFLOAT16_DB


def test_company_does_not_change_a_picture(exact: Pipeline) -> None:
    alone = _make(exact, REQUEST)
    long = dataclasses.replace(REQUEST, prompt="face, " * 60, seed=50, steps=7)
    together = _make(exact, dataclasses.replace(REQUEST, count=3), long)
    assert [picture.settings.seed for picture in together] == [10, 11, 12, 50]
    assert psnr(alone[0].pixels, together[0].pixels) > 70
    assert psnr(together[0].pixels, together[1].pixels) < 30


Mistake = Callable[[pytest.MonkeyPatch], Request | None]
"""Breaks the runtime, or asks for something else than the reference was asked for."""


def _other(**fields: Any) -> Mistake:
    return lambda patch: dataclasses.replace(REQUEST, **fields)


def _tokenizer(spoil: Callable[[ClipTokenizer], None]) -> Mistake:
    """Special tokens with other ids."""
    read = ClipTokenizer.open

    def read_wrongly(path: Path) -> ClipTokenizer:
        tokenizer = read(path)
        spoil(tokenizer)
        return tokenizer

    return lambda patch: patch.setattr(ClipTokenizer, "open", read_wrongly)


def _tokens(change: Callable[[list[int]], list[int]]) -> Mistake:
    encode = ClipTokenizer.encode
    return lambda patch: patch.setattr(
        ClipTokenizer, "encode", lambda self, text: change(encode(self, text))
    )


def _embeddings_exchanged(patch: pytest.MonkeyPatch) -> None:
    encode = PromptEncoder.encode

    def exchange(self: PromptEncoder, *plans: Any) -> Any:
        text = yield from encode(self, *plans)
        negative = [wanted for (wanted,) in text.prompts]
        return Conditioning(text.weights, [(each,) for each in text.negative or ()], negative)

    patch.setattr(PromptEncoder, "encode", exchange)


def _vae_scale(factor: float) -> Mistake:
    return lambda patch: patch.setattr(
        "runtime.models.PictureDecoder",
        lambda session, _, downscale: PictureDecoder(session, factor, downscale),
    )


def _noise(change: Callable[[Any], Any]) -> Mistake:
    draw = TorchCpuNoise.draw
    return lambda patch: patch.setattr(
        TorchCpuNoise, "draw", lambda self, shape: change(draw(self, shape))
    )


MISTAKES: dict[str, Mistake] = {
    "padding with another token": _tokenizer(lambda it: setattr(it, "padding", 0)),
    "chunks that begin with the end token": _tokenizer(lambda it: setattr(it, "start", it.end)),
    "ids that are one too high": _tokens(lambda ids: [token + 1 for token in ids]),
    "the last token lost": _tokens(lambda ids: ids[:-1]),
    "the text encoder's last but one layer": _other(clip_skip=2),
    "prompt and negative prompt exchanged": _embeddings_exchanged,
    "no negative prompt": _other(negative=""),
    "emphasis on one word": _other(prompt=PROMPT.replace("cyan", "(cyan)")),
    "another sampler": _other(sampler="DDIM"),
    "another schedule": _other(sampler="DPM++ 2M", schedule="model"),
    "a step too few": _other(steps=14),
    "guidance one too high": _other(cfg=5.0),
    "guidance one too low": _other(cfg=3.0),
    "a rounded VAE scale": _vae_scale(0.18),
    "no VAE scale": _vae_scale(1.0),
    "the next seed": _other(seed=11),
    "noise in channels-last order": _noise(
        lambda noise: noise.reshape(*noise.shape[1:], noise.shape[0]).transpose(2, 0, 1)
    ),
    "noise of another deviation": _noise(lambda noise: noise * np.float32(1.01)),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_shows(
    name: str,
    demo_bundle_fp32: Path,
    reference: Reference,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without this, the threshold could be so low that it says nothing."""
    wanted = dataclasses.replace(REQUEST, sampler="DPM++ 2M Karras")
    asked = MISTAKES[name](monkeypatch) or wanted
    if asked.sampler is None:
        asked = dataclasses.replace(asked, sampler=wanted.sampler)
    with contextlib.closing(Pipeline.open(demo_bundle_fp32, "cpu")) as pipeline:
        (picture,) = _make(pipeline, asked)
    assert psnr(picture.pixels, reference.picture(wanted)) < EXACT_DB
