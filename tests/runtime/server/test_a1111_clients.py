"""The webui's protocol: the real package webuiapi, and what Open WebUI and SillyTavern send."""

import base64
import json
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import webuiapi
from pydantic import BaseModel

from engines import layout
from engines.bundle import Bundle
from runtime.request import Request
from runtime.server.a1111_bodies import Img2ImgBody, Txt2ImgBody
from tests.runtime.server.jobs import alone, record_of
from tests.runtime.server.stub import Stub, live
from tests.waiting import PATIENCE, wait_until

SMALL = {"width": 64, "height": 64}
"""The stand-in's default size: larger pictures take more slots."""


@pytest.fixture
def api(address: str) -> Any:
    return webuiapi.WebUIApi(baseurl=f"{address}/sdapi/v1", sampler="DPM++ 2M", steps=4)


def test_webuiapi_makes_the_pictures_that_the_pipeline_makes(
    api: Any, stand_in_bundle: Bundle
) -> None:
    made = api.txt2img(
        prompt="a cat", negative_prompt="dog", seed=5, cfg_scale=4, width=64, height=128, n_iter=2
    )
    assert [picture.size for picture in made.images] == [(64, 128)] * 2
    request = Request(
        "a cat",
        negative="dog",
        seed=5,
        steps=4,
        cfg=4,
        sampler="DPM++ 2M",
        width=64,
        height=128,
    )
    wanted = alone(stand_in_bundle, request)
    np.testing.assert_array_equal(np.asarray(made.image), wanted)
    assert made.info["all_seeds"] == [5, 6]
    assert made.info["sampler_name"] == "DPM++ 2M"
    assert made.info["infotexts"][0].startswith("a cat\nNegative prompt: dog")
    assert made.parameters["script_name"] is None
    read = api.png_info(made.image)
    assert read.info.startswith("a cat\nNegative prompt: dog\nSteps: 4, Sampler: DPM++ 2M")


def test_webuiapi_finds_its_way_around(api: Any) -> None:
    assert "Euler a" in api.util_get_sampler_names()
    assert "karras" in api.util_get_scheduler_names()
    (title,) = api.util_get_model_names()
    assert title == api.util_get_current_model() == "stand-in [0123456789]"
    api.util_set_model("stand")
    assert [lora["name"] for lora in api.get_loras()] == ["Cracked Skin"]
    assert [style["name"] for style in api.get_prompt_styles()] == ["cracked", "glowing"]
    assert api.get_scripts() == {"txt2img": [], "img2img": []}
    for empty in (
        api.get_sd_vae,
        api.get_hypernetworks,
        api.get_face_restorers,
        api.get_realesrgan_models,
    ):
        assert empty() == []
    assert api.get_embeddings()["loaded"] == {}
    assert api.get_memory()["ram"]["used"] > 0
    assert api.get_cmd_flags() == {}
    api.refresh_checkpoints()
    progress = api.get_progress()
    assert (progress["progress"], progress["state"]["job_count"]) == (0, 0)
    api.util_wait_for_ready()
    with pytest.raises(RuntimeError, match=r"No sampler .*nonesuch"):
        api.txt2img(prompt="a cat", sampler_name="nonesuch")


def test_webuiapi_interrupts_and_gets_the_picture_as_it_is(
    api: Any, stub: Stub, address: str
) -> None:
    results: list[Any] = []
    with stub.backend.held() as waiting:
        thread = threading.Thread(
            target=lambda: results.append(
                api.txt2img(prompt="a cat", seed=1, steps=100, n_iter=4, **SMALL)
            )
        )
        thread.start()
        assert waiting.wait(PATIENCE)
        other = webuiapi.WebUIApi(baseurl=f"{address}/sdapi/v1")
        seen = other.get_progress()
        assert seen["state"]["job_count"] == 1
        assert seen["state"]["sampling_steps"] == 400
        other.interrupt()
    thread.join(PATIENCE)
    (made,) = results
    assert len(made.images) == 2  # the two that had slots; the others never began
    assert made.info["all_seeds"] == [1, 2]
    assert other.get_progress()["state"]["job_count"] == 0


def test_skip_ends_the_pictures_in_progress_only(api: Any, stub: Stub, address: str) -> None:
    results: list[Any] = []
    with stub.backend.held() as waiting:
        thread = threading.Thread(
            target=lambda: results.append(api.txt2img(prompt="a cat", steps=100, n_iter=3, **SMALL))
        )
        thread.start()
        assert waiting.wait(PATIENCE)
        webuiapi.WebUIApi(baseurl=f"{address}/sdapi/v1").skip()
    thread.join(PATIENCE)
    assert len(results[0].images) == 3
    # the first two share calls, of which there would be a hundred, and the third has as many
    assert 100 < len(stub.backend.sessions[layout.UNET].batches) < 150


def test_interrupt_is_the_callers_own(stand_in_bundle: Bundle) -> None:
    stub = Stub(stand_in_bundle, keys={"alice": "wonderland", "bob": "builder-bob"})
    with live(stub) as address:
        alice, bob = (
            webuiapi.WebUIApi(baseurl=f"{address}/sdapi/v1", username=name, password=secret)
            for name, secret in (("alice", "wonderland"), ("bob", "builder-bob"))
        )
        results: list[Any] = []
        with stub.backend.held() as waiting:
            thread = threading.Thread(
                target=lambda: results.append(alice.txt2img(prompt="a cat", n_iter=3))
            )
            thread.start()
            assert waiting.wait(PATIENCE)
            bob.interrupt()
            assert bob.get_progress()["state"]["job_count"] == 0
        thread.join(PATIENCE)
        assert len(results[0].images) == 3
        with pytest.raises(RuntimeError, match="401"):
            webuiapi.WebUIApi(baseurl=f"{address}/sdapi/v1").txt2img(prompt="a cat")


def test_a_client_that_hangs_up_takes_its_job_along(stub: Stub, address: str) -> None:
    body = json.dumps({"prompt": "a cat", "steps": 100}).encode()
    head = (
        f"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    parts = urlsplit(address)
    with stub.backend.held() as waiting:
        with socket.create_connection((parts.hostname, parts.port)) as connection:
            connection.sendall(head.encode() + body)
            assert waiting.wait(PATIENCE)
            assert len(stub.service.jobs.unfinished()) == 1
        wait_until(lambda: not stub.service.jobs.unfinished())
    wait_until(lambda: not stub.service.pipeline.denoiser.slots)
    assert 'fracture_jobs_total{state="cancelled"} 1.0' in stub.service.metrics.text().decode()


WITHOUT_EFFECT = {
    *("save_images", "do_not_save_samples", "do_not_save_grid", "script_args", "image_cfg_scale"),
    "override_settings_restore_afterwards",
}
"""Of what webuiapi sends; docs/serving.md says so."""


@pytest.mark.parametrize(("name", "body"), [("txt2img", Txt2ImgBody), ("img2img", Img2ImgBody)])
def test_each_field_that_webuiapi_sends_is_known(
    monkeypatch: pytest.MonkeyPatch, name: str, body: type[BaseModel]
) -> None:
    sent: dict[str, Any] = {}
    monkeypatch.setattr(
        webuiapi.WebUIApi, "post_and_get_api_result", lambda _, url, json, __: sent.update(json)
    )
    api = webuiapi.WebUIApi(baseurl="http://127.0.0.1:9/sdapi/v1")
    getattr(api, name)(**({"images": []} if name == "img2img" else {}))
    assert len(sent) > 40
    assert set(sent) - set(body.model_fields) <= WITHOUT_EFFECT


OPEN_WEBUI = {
    "prompt": "a cat",
    "batch_size": 1,
    "width": 64,
    "height": 64,
    "steps": 4,
    "negative_prompt": "dog",
}

SILLY_TAVERN = {
    "prompt": "a cat",
    "negative_prompt": "dog",
    "sampler_name": "DPM++ 2M",
    "scheduler": "Karras",
    "steps": 4,
    "cfg_scale": 7,
    "width": 64,
    "height": 64,
    "restore_faces": False,
    "enable_hr": False,
    "hr_upscaler": "Latent",
    "hr_scale": 2,
    "hr_additional_modules": [],
    "denoising_strength": 0.7,
    "hr_second_pass_steps": 0,
    "seed": 11,
    "override_settings": {"CLIP_stop_at_last_layers": 2},
    "override_settings_restore_afterwards": True,
    "clip_skip": 2,
    "save_images": True,
    "send_images": True,
    "do_not_save_grid": False,
    "do_not_save_samples": False,
}


def test_open_webui(stub: Stub) -> None:
    """It reads the options, posts them back with its model in them, lists models, and asks."""
    with stub.client() as client:
        options = client.get("/sdapi/v1/options").json()
        (model,) = client.get("/sdapi/v1/sd-models").json()
        options["sd_model_checkpoint"] = model["model_name"]
        assert client.post("/sdapi/v1/options", json=options).status_code == 200
        answer = client.post("/sdapi/v1/txt2img", json=OPEN_WEBUI).json()
        assert len(answer["images"]) == 1
        assert isinstance(json.loads(answer["info"]), dict)
        options["sd_model_checkpoint"] = "other.safetensors"
        refused = client.post("/sdapi/v1/options", json=options)
        assert refused.status_code == 400
        assert "'other.safetensors' is not here" in refused.json()["detail"]


def test_silly_tavern(stub: Stub) -> None:
    with stub.client() as client:
        for path in ("samplers", "schedulers", "sd-models", "sd-vae", "options"):
            assert client.get(f"/sdapi/v1/{path}").status_code == 200
        assert client.post("/sdapi/v1/options", json={"sd_model_checkpoint": "stand-in"}).is_success
        assert client.get("/sdapi/v1/progress").json()["progress"] == 0
        answer = client.post("/sdapi/v1/txt2img", json=SILLY_TAVERN).json()
        settings, _ = record_of(base64.b64decode(answer["images"][0]))
        assert (settings.seed, settings.clip_skip, settings.schedule) == (11, 2, "karras")
        assert client.post("/sdapi/v1/interrupt").status_code == 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampler_name": "nonesuch"}, "No sampler"),
        ({"restore_faces": True}, "restore_faces is not supported"),
        ({"tiling": True, "script_name": "x"}, "tiling is not supported; script_name"),
        ({"alwayson_scripts": {"ADetailer": {"args": [True]}}}, "ADetailer not found"),
        ({"s_min_uncond": 0.5, "infotext": "Steps: 3"}, "s_min_uncond is not supported; infotext"),
        ({"firstphase_width": 64, "refiner_checkpoint": "x"}, "firstphase_width is not"),
        ({"override_settings": {"sd_vae": "other"}}, "there is no VAE 'other'"),
        ({"override_settings": {"sd_model_checkpoint": "x"}}, "'x' is not here"),
        ({"override_settings": {"nonesuch": 1}}, "nonesuch cannot be set"),
        ({"override_settings": {"randn_source": "TPU"}}, "no 'TPU'"),
        ({"styles": ["cracked", "glowing"]}, "2 are too many"),
        ({"styles": ["nonesuch"]}, "No preset 'nonesuch'"),
        ({"n_iter": 0}, "0 pictures"),
        ({"batch_size": 10, "n_iter": 10}, "100 pictures"),
        ({"seed": -7}, "seed -7"),
        ({"width": "wide"}, "width"),
    ],
)
def test_faults_have_the_webuis_form(stub: Stub, change: dict[str, Any], message: str) -> None:
    with stub.client() as client:
        answer = client.post("/sdapi/v1/txt2img", json={"prompt": "a cat", **change})
        assert answer.status_code == 400
        body = answer.json()
        assert set(body) == {"error", "detail", "body", "errors"}
        assert message in body["detail"]


def test_what_is_switched_off_is_no_fault(stub: Stub) -> None:
    off = {
        "alwayson_scripts": {"ADetailer": {"args": [False]}, "ControlNet": {"args": []}},
        "override_settings": {"samples_format": "png", "sd_vae": "Automatic"},
        "script_name": None,
        "styles": ["glowing"],
        "nonesuch": 1,
        "seed": None,
    }
    with stub.client() as client:
        answer = client.post("/sdapi/v1/txt2img", json={"prompt": "a cat", **off})
        settings, _ = record_of(base64.b64decode(answer.json()["images"][0]))
        assert settings.prompt.startswith("glowing")


def test_noise_and_variations_reach_the_picture(stub: Stub) -> None:
    body = {
        "prompt": "a cat",
        "seed": 1,
        "subseed": 9,
        "subseed_strength": 0.25,
        "seed_resize_from_w": 128,
        "seed_resize_from_h": 128,
        "sampler_name": "Euler a",
        "scheduler": "Exponential",
        "override_settings": {"randn_source": "NV", "eta_noise_seed_delta": 31337},
        "send_images": True,
    }
    with stub.client() as client:
        answer = client.post("/sdapi/v1/txt2img", json=body).json()
        settings, _ = record_of(base64.b64decode(answer["images"][0]))
        assert (settings.sampler, settings.schedule) == ("Euler a", "exponential")
        noise = settings.noise
        assert (noise.source, noise.subseed, noise.subseed_strength) == ("nv", 9, 0.25)
        assert (noise.from_width, noise.from_height, noise.eta_seed_delta) == (128, 128, 31337)
        silent = client.post("/sdapi/v1/txt2img", json={**body, "send_images": False}).json()
        assert silent["images"] == []
