"""Pictures that start from pictures, in each protocol: masks as each defines them, hires fix."""

import base64
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import openai
import pytest
import webuiapi
from PIL import Image

from engines.bundle import Bundle
from runtime.arrays import Pixels
from runtime.hires import HiresSettings
from runtime.init_settings import InitSettings, MaskSettings
from runtime.request import Request
from runtime.resize import CROP
from runtime.source_picture import SourcePicture
from tests.runtime.server.jobs import alone, ended, pixels, record_of, submit
from tests.runtime.server.stub import Stub
from tests.waiting import PATIENCE

SIDE = 64
PICTURE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
PAINTED = np.zeros((SIDE, SIDE), np.uint8)
PAINTED[16:48, 8:40] = 255
WEBUI: dict[str, Any] = {
    "prompt": "a cat",
    "seed": 4,
    "cfg_scale": 4,
    "eta": 0,
    "width": SIDE,
    "height": SIDE,
}
REQUEST = Request(
    "a cat", negative="", seed=4, cfg=4, steps=6, sampler="DDIM", width=SIDE, height=SIDE
)
"""What `WEBUI` asks for through the fixture `webui`."""
SOURCE = SourcePicture.of(PICTURE)
MASK = SourcePicture.of(PAINTED)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def base64_of(array: Pixels) -> str:
    return base64.b64encode(png(Image.fromarray(array))).decode()


def transparent(alpha: Pixels, colours: Pixels = PICTURE) -> Image.Image:
    image = Image.fromarray(colours)
    image.putalpha(Image.fromarray(alpha))
    return image


@pytest.fixture
def webui(address: str) -> Any:
    return webuiapi.WebUIApi(baseurl=f"{address}/sdapi/v1", sampler="DDIM", steps=6)


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_webuiapi_changes_a_picture(webui: Any, stand_in_bundle: Bundle) -> None:
    made = webui.img2img([Image.fromarray(PICTURE)], denoising_strength=0.5, **WEBUI)
    wanted = replace(REQUEST, init=InitSettings(SOURCE, strength=0.5))
    np.testing.assert_array_equal(np.asarray(made.image), alone(stand_in_bundle, wanted))
    assert made.info["denoising_strength"] == 0.5
    assert "init_images" not in made.parameters


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_webuiapi_paints_where_the_mask_is_light(
    webui: Any, stand_in_bundle: Bundle, inverted: bool, full: bool
) -> None:
    made = webui.img2img(
        [Image.fromarray(PICTURE)],
        mask_image=Image.fromarray(255 - PAINTED if inverted else PAINTED),
        inpainting_mask_invert=int(inverted),
        inpainting_fill=1,
        inpaint_full_res=full,
        inpaint_full_res_padding=4,
        mask_blur=2,
        **WEBUI,
    )
    mask = MaskSettings(MASK, blur=2, only_masked=full, padding=4)
    wanted = replace(REQUEST, init=InitSettings(SOURCE, mask=mask))
    seen = np.asarray(made.image)
    np.testing.assert_array_equal(seen, alone(stand_in_bundle, wanted))
    np.testing.assert_array_equal(seen[:4], PICTURE[:4])
    assert (seen[24:40, 16:32] != PICTURE[24:40, 16:32]).any()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (webuiapi.HiResUpscaler.Latent, "latent"),
        (webuiapi.HiResUpscaler.none, "lanczos"),
        (webuiapi.HiResUpscaler.Nearest, "nearest"),
    ],
)
def test_webuiapi_makes_pictures_larger(
    webui: Any, stand_in_bundle: Bundle, theirs: webuiapi.HiResUpscaler, ours: str
) -> None:
    made = webui.txt2img(
        enable_hr=True,
        hr_scale=1.5,
        hr_upscaler=theirs,
        hr_second_pass_steps=3,
        denoising_strength=0.6,
        **WEBUI,
    )
    hires = HiresSettings(scale=1.5, upscaler=ours, steps=3, strength=0.6)
    wanted = replace(REQUEST, hires=hires)
    assert made.image.size == (96, 96)
    np.testing.assert_array_equal(np.asarray(made.image), alone(stand_in_bundle, wanted))


@pytest.mark.parametrize("kind", ["a mask", "the picture's own transparency"])
def test_openai_paints_where_it_is_transparent(
    client: openai.OpenAI, stand_in_bundle: Bundle, kind: str
) -> None:
    cut_out = png(transparent(255 - PAINTED))
    with_mask = kind == "a mask"
    made = client.images.edit(
        image=("a.png", png(Image.fromarray(PICTURE)) if with_mask else cut_out, "image/png"),
        mask=("m.png", cut_out, "image/png") if with_mask else openai.omit,
        prompt="a cat",
        n=2,
        extra_body={"seed": 4, "steps": 6},
    )
    assert made.data is not None
    first, second = (base64.b64decode(item.b64_json or "") for item in made.data)
    init = InitSettings(SOURCE, strength=1.0, resize=CROP, mask=MaskSettings(MASK))
    wanted = alone(stand_in_bundle, Request("a cat", seed=4, steps=6, init=init))
    np.testing.assert_array_equal(pixels(first), wanted)
    assert record_of(second)[0].seed == 5
    far = np.s_[:, 56:]
    np.testing.assert_array_equal(pixels(first)[far], PICTURE[far])


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # openai has marked it so
def test_openai_varies_a_picture(client: openai.OpenAI, stand_in_bundle: Bundle) -> None:
    made = client.images.create_variation(
        image=("a.png", png(Image.fromarray(PICTURE)), "image/png"),
        extra_body={"seed": 4, "strength": 0.5},
    )
    assert made.data is not None
    init = InitSettings(SOURCE, strength=0.5, resize=CROP)
    wanted = alone(stand_in_bundle, Request("", seed=4, init=init))
    seen = pixels(base64.b64decode(made.data[0].b64_json or ""))
    np.testing.assert_array_equal(seen, wanted)


def test_openai_edits_as_a_stream(client: openai.OpenAI) -> None:
    stream = client.images.edit(
        image=("a.png", png(Image.fromarray(PICTURE)), "image/png"), prompt="a cat", stream=True
    )
    events = list(stream)
    assert [event.type for event in events][-1] == "image_edit.completed"
    for event in events:
        type(event).model_validate(event.to_dict(), strict=True)


def test_open_webui_edits(stub: Stub) -> None:
    """It sends the fields as texts and several pictures under the name with brackets."""
    file = ("a.png", png(Image.fromarray(PICTURE)), "image/png")
    fields = {"model": "stand-in", "prompt": "a cat", "n": "1", "size": "64x64"}
    with stub.client() as client:
        for name in ("image", "image[]"):
            answer = client.post("/v1/images/edits", data=fields, files={name: file})
            assert answer.status_code == 200, answer.text
        for files, message in (
            ([("image[]", file), ("image[]", file)], "2 pictures"),
            ([("image", file), ("mask", file)], "nothing in it is transparent"),
            ([("image", ("a.png", b"GIF89a", "image/png"))], "image is no PNG, JPEG or WEBP"),
            ([("mask", file)], "0 pictures"),
        ):
            answer = client.post("/v1/images/edits", data=fields, files=files)
            assert answer.status_code == 400
            assert message in answer.json()["error"]["message"]
        for change in ({"n": "many"}, {"nonesuch": "1"}, {"image": "text"}):
            answer = client.post(
                "/v1/images/edits", data={**fields, **change}, files={"mask": file}
            )
            assert answer.status_code == 400


def test_our_own_protocol_takes_everything_that_a_request_has(
    stub: Stub, stand_in_bundle: Bundle
) -> None:
    body: dict[str, Any] = {
        "sampler": "Euler a",
        "steps": 6,
        "vae_tiling": "off",
        "noise": {"source": "nv", "subseed": 3, "subseed_strength": 0.25, "eta_seed_delta": 7},
        "guidance": {"rescale": 0.5, "end": 0.8},
        "stochasticity": {"eta": 0.5, "s_noise": 1.01},
        "hires": {"scale": 1.5, "steps": 2, "strength": 0.5, "upscaler": "lanczos"},
        "init": {
            "picture": f"data:image/png;base64,{base64_of(PICTURE)}",
            "strength": 0.6,
            "resize": CROP,
            "mask": {"picture": base64_of(PAINTED), "blur": 2, "content": "fill", "soft": True},
        },
    }
    init = body.pop("init")
    with stub.client() as client:
        made = []
        for extra in ({}, {"init": init}):
            given = {**body, **extra}
            if extra:
                del given["hires"]
            done = ended(client, submit(client, **given))
            assert done["state"] == "done", done
            made.append(client.get(done["pictures"][0]["url"]).content)
    large, _ = record_of(made[0])
    assert large.hires == HiresSettings(1.5, 96, 96, "lanczos", 2, 0.5)
    assert (large.noise.source, large.noise.subseed) == ("nv", 3)
    assert (large.guidance.rescale, large.guidance.end) == (0.5, 0.8)
    assert (large.stochasticity.eta, large.stochasticity.s_noise) == (0.5, 1.01)
    assert large.vae_tiling == "off"
    changed, _ = record_of(made[1])
    assert changed.init == InitSettings(
        SOURCE, 0.6, CROP, MaskSettings(MASK, blur=2, content="fill", soft=True)
    )


def test_an_interrupted_picture_has_no_second_pass(stub: Stub) -> None:
    with stub.client() as client:
        with stub.backend.held() as waiting:
            job = submit(client, steps=50, hires={"scale": 2})
            assert waiting.wait(PATIENCE)
            (running,) = stub.service.jobs.unfinished()
            stub.service.worker.stop_early(running, only_current=False)
        done = ended(client, job)
        picture = client.get(done["pictures"][0]["url"]).content
    assert pixels(picture).shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"init_images": []}, "0 pictures; give one"),
        ({"init_images": ["%%%"]}, "init_images is no base64"),
        ({"resize_mode": 3}, "resize_mode 3 is not here"),
        ({"inpainting_fill": 9, "mask": base64_of(PAINTED)}, "inpainting_fill 9"),
        ({"mask": base64_of(PAINTED * 0)}, "leaves nothing to paint"),
        ({"denoising_strength": 0}, "strength 0"),
        ({"include_init_images": True}, "include_init_images"),
        ({"initial_noise_multiplier": 2}, "initial_noise_multiplier"),
    ],
)
def test_what_is_not_possible(stub: Stub, change: dict[str, Any], message: str) -> None:
    body = {"prompt": "a cat", "init_images": [base64_of(PICTURE)], **change}
    with stub.client() as client:
        answer = client.post("/sdapi/v1/img2img", json=body)
        assert answer.status_code == 400
        assert message in answer.json()["detail"]


def test_masks_of_another_size_and_of_grey_levels(stub: Stub) -> None:
    """As in the webui: stretched to the picture's size, and all or nothing unless told."""
    small = PAINTED[::2, ::2]
    with stub.client() as client:
        for rounded in (True, False):
            body = {
                "prompt": "a cat",
                "init_images": [base64_of(PICTURE)],
                "mask": base64_of(small),
                "mask_round": rounded,
            }
            answer = client.post("/sdapi/v1/img2img", json=body)
            assert answer.status_code == 200, answer.text
            settings, _ = record_of(base64.b64decode(answer.json()["images"][0]))
            assert settings.init is not None
            assert settings.init.mask is not None
            assert settings.init.mask.soft is not rounded
            mask = settings.init.mask.picture
            assert (mask.width, mask.height) == (SIDE, SIDE)


def test_a_second_pass_of_its_own_kind_is_refused(stub: Stub) -> None:
    body = {"prompt": "a cat", "enable_hr": True, "hr_prompt": "a dog", "hr_sampler_name": "DDIM"}
    with stub.client() as client:
        answer = client.post("/sdapi/v1/txt2img", json=body)
        assert "hr_sampler_name, hr_prompt" in answer.json()["detail"]
        huge = {"prompt": "", "enable_hr": True, "hr_scale": 4, "width": 512, "height": 512}
        refused = client.post("/sdapi/v1/txt2img", json=huge).json()
        assert "2048x2048 is too large" in refused["detail"]
