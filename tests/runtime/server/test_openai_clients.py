"""OpenAI's protocol: the real package openai, and what Open WebUI sends."""

import base64
import io
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_type_hints

import httpx2
import numpy as np
import openai
import pytest
from openai.types import ImageCreateVariationParams, ImagesResponse
from openai.types.image_edit_params import ImageEditParamsStreaming
from openai.types.image_generate_params import ImageGenerateParamsStreaming
from PIL import Image
from pydantic import ValidationError

from engines.bundle import Bundle
from runtime.request import Request
from runtime.server.openai_bodies import ChangeBody, GenerationBody
from tests.runtime.server.jobs import alone, pixels, record_of
from tests.runtime.server.stub import Stub, live
from tests.waiting import PATIENCE, wait_until

KEYS = {"alice": "wonderland"}


@pytest.fixture
def keyed(stand_in_bundle: Bundle) -> Stub:
    return Stub(stand_in_bundle, keys=KEYS, queue=4)


@pytest.fixture
def address(keyed: Stub) -> Iterator[str]:
    with live(keyed) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{address}/v1", api_key="wonderland", max_retries=0, timeout=20
    ) as client:
        yield client


def test_openai_makes_the_pictures_that_the_pipeline_makes(
    client: openai.OpenAI, stand_in_bundle: Bundle
) -> None:
    made = client.images.generate(
        prompt="a cat",
        n=2,
        size="64x128",
        model="stand-in",
        extra_body={"seed": 5, "steps": 3, "cfg": 4, "sampler": "DDIM", "negative_prompt": "dog"},
    )
    assert made.created > 1_700_000_000
    assert (made.size, made.output_format, made.background) == ("64x128", "png", "opaque")
    request = Request(
        "a cat", negative="dog", seed=5, steps=3, cfg=4, sampler="DDIM", width=64, height=128
    )
    assert made.data is not None
    first, second = (base64.b64decode(item.b64_json or "") for item in made.data)
    np.testing.assert_array_equal(pixels(first), alone(stand_in_bundle, request))
    assert record_of(second)[0].seed == 6
    assert made.data[0].revised_prompt == "a cat"
    ImagesResponse.model_validate(made.to_dict(), strict=True)


def test_each_parameter_of_the_package_is_known_or_refused_by_its_name(
    client: openai.OpenAI,
) -> None:
    """Animations, drawings and marks are for other models."""
    files = {"image", "mask"}
    refused = {"svg", "frame_count", "frame_duration_ms"}
    generation, change = set(GenerationBody.model_fields), set(ChangeBody.model_fields)
    assert set(get_type_hints(ImageGenerateParamsStreaming)) - generation == refused
    assert set(get_type_hints(ImageEditParamsStreaming)) - change - files == refused | {"markup"}
    assert set(get_type_hints(ImageCreateVariationParams)) - change == {"image"}
    for name, value in (("svg", {"model": "a"}), ("frame_count", 4), ("frame_duration_ms", 9)):
        with pytest.raises(openai.BadRequestError, match=name):
            client.images.generate(prompt="a cat", **{name: value})  # type: ignore[call-overload]


def test_each_value_that_the_package_names_is_taken_or_refused_with_what_there_is() -> None:
    hints = get_type_hints(ImageGenerateParamsStreaming)
    for name in ("quality", "style", "moderation", "background", "complexity", "response_format"):
        (values,) = (get_args(arg) for arg in get_args(hints[name]) if get_args(arg))
        for value in values:
            GenerationBody.model_validate({"prompt": "a cat", name: value})
    with pytest.raises(ValidationError, match="'png', 'jpeg' or 'webp'"):
        GenerationBody.model_validate({"prompt": "a cat", "output_format": "gif"})


def test_parameters_of_openais_own_models_are_taken(client: openai.OpenAI) -> None:
    made = client.images.generate(
        prompt="a cat",
        size="auto",
        quality="high",
        style="vivid",
        background="opaque",
        moderation="low",
        user="me",
        output_format="webp",
        output_compression=80,
    )
    assert made.data is not None
    with Image.open(io.BytesIO(base64.b64decode(made.data[0].b64_json or ""))) as picture:
        assert (picture.format, picture.size) == ("WEBP", (64, 64))


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_compression_is_quality(client: openai.OpenAI, kind: Literal["jpeg", "webp"]) -> None:
    sizes = []
    for percent in (100, 50, 0):
        made = client.images.generate(
            prompt="a cat", output_format=kind, output_compression=percent, extra_body={"seed": 1}
        )
        assert made.data is not None
        sizes.append(len(made.data[0].b64_json or ""))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 2


def test_a_picture_by_its_address(client: openai.OpenAI, keyed: Stub) -> None:
    """The address needs no key, and nothing but the address opens it."""
    made = client.images.generate(prompt="a cat", response_format="url", n=2)
    assert made.data is not None
    first, second = (item.url or "" for item in made.data)
    fetched = httpx2.get(first)
    assert fetched.headers["content-type"] == "image/png"
    assert record_of(fetched.content)[0].prompt == "a cat"
    for wrong in (first.partition("?")[0], first[:-1], second.replace("/1?", "/0?"), first + "é"):
        assert httpx2.get(wrong).status_code in (400, 404)


def test_pictures_come_as_a_stream(client: openai.OpenAI, keyed: Stub) -> None:
    stream = client.images.generate(prompt="a cat", stream=True, partial_images=2)
    events = list(stream)
    for event in events:
        type(event).model_validate(event.to_dict(), strict=True)
    assert events[-1].type == "image_generation.completed"
    assert record_of(base64.b64decode(events[-1].b64_json))[0].prompt == "a cat"
    partial = [event for event in events if event.type == "image_generation.partial_image"]
    assert len(partial) == len(events) - 1 <= 2
    assert keyed.service.jobs.ended() == []


def test_a_stream_that_is_left_takes_its_job_along(client: openai.OpenAI, keyed: Stub) -> None:
    with keyed.backend.held() as waiting:
        with client.images.generate(prompt="a cat", stream=True):
            assert waiting.wait(PATIENCE)
            assert len(keyed.service.jobs.unfinished()) == 1
        cancelled = 'fracture_jobs_total{state="cancelled"} 1.0'
        wait_until(lambda: cancelled in keyed.service.metrics.text().decode())
        assert not keyed.service.jobs.unfinished()


def test_models(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.object) == ("stand-in", "model")
    assert client.models.retrieve("stand-in").id == "stand-in"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("dall-e-3")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": "dall-e-3"}, openai.NotFoundError, "'dall-e-3' is not here"),
        ({"size": "huge"}, openai.BadRequestError, "'huge' is not a size"),
        ({"size": "4096x4096"}, openai.BadRequestError, "4096"),
        ({"n": 11}, openai.BadRequestError, "n: "),
        ({"n": 0}, openai.BadRequestError, "n: "),
        ({"background": "transparent"}, openai.BadRequestError, "opaque"),
        ({"output_compression": 3}, openai.BadRequestError, "only jpeg and webp"),
        ({"stream": True, "n": 2}, openai.BadRequestError, "one picture at a time"),
        ({"extra_body": {"nonesuch": 1}}, openai.BadRequestError, "nonesuch"),
        ({"extra_body": {"sampler": "nonesuch"}}, openai.BadRequestError, "No sampler"),
    ],
)
def test_faults_become_openais_exceptions(
    client: openai.OpenAI, options: dict[str, Any], error: type[openai.APIStatusError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        client.images.generate(prompt="a cat", **options)
    assert caught.value.request_id
    assert isinstance(caught.value.body, dict)
    assert {"message", "type", "param", "code"} == set(caught.value.body)


def test_a_wrong_key_and_a_full_queue(client: openai.OpenAI, keyed: Stub, address: str) -> None:
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wonder").images.generate(prompt="a cat")
    with pytest.raises(openai.RateLimitError) as caught:
        client.images.generate(prompt="a cat", n=5)
    assert int(caught.value.response.headers["retry-after"]) >= 1


def test_open_webui(address: str) -> None:
    body = {
        "model": "stand-in",
        "prompt": "a cat",
        "n": 1,
        "size": "64x64",
        "response_format": "b64_json",
    }
    answer = httpx2.post(
        f"{address}/v1/images/generations",
        json=body,
        headers={"Authorization": "Bearer wonderland"},
    )
    assert record_of(base64.b64decode(answer.json()["data"][0]["b64_json"]))[0].width == 64
