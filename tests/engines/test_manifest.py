"""bundle.json is read strictly: what is not understood is an error that names the field."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engines.errors import BundleError
from engines.manifest import (
    ComponentSpec,
    Defaults,
    FileEntry,
    Latents,
    Manifest,
    Parity,
    PictureParity,
    Preset,
    TensorSpec,
    read_manifest,
    write_manifest,
)

MANIFEST = Manifest(
    name="demo",
    identity="ab" * 32,
    tools={"torch": "2.13.0"},
    latents=Latents(channels=4, downscale=8, scaling_factor=0.18215),
    components={
        "unet": ComponentSpec(
            graph="unet/model.onnx",
            dtype="float16",
            inputs=(TensorSpec("sample", "float16", ("batch", 4, "height", "width")),),
            outputs=(TensorSpec("out_sample", "float16", ("batch", 4, "height", "width")),),
            dtype_reason="in fp16 it overflows",
        )
    },
    files={"unet/model.onnx": FileEntry(size=12, sha256="cd" * 32)},
    defaults=Defaults(steps=30),
    presets={"cracked": Preset(before="cracked skin, ")},
    trained_tags={"cracked": {"cracked skin": 1843}},
    provenance={"loras": [{"weight": 0.6, "alpha": None}], "identity": "ef"},
    parity={"unet": (Parity("out_sample", 1e-3, 1e-4, 0.99999, 1e-2, passed=True),)},
    pictures=(PictureParity("a", 1, 8, 7.0, 64, 48, 91.2, 0.999, 60.0, 0.99, passed=True),),
)


def _content(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    path = tmp_path / "bundle.json"
    write_manifest(MANIFEST, path)
    return path, json.loads(path.read_text())


def test_round_trip(tmp_path: Path) -> None:
    path, _ = _content(tmp_path)
    assert read_manifest(path) == MANIFEST


def test_text_is_utf8_wherever_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("io.text_encoding", lambda encoding, *_: encoding or "latin-1")
    manifest = replace(MANIFEST, trained_tags={"ひび": {"割れた肌": 1}})
    path = tmp_path / "bundle.json"
    write_manifest(manifest, path)
    assert "割れた肌" in path.read_bytes().decode()
    assert read_manifest(path) == manifest


def test_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a bundle"):
        read_manifest(tmp_path / "bundle.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"bundle"', "\x00", "[" * 100_000])
def test_not_a_manifest(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bundle.json"
    path.write_text(text)
    with pytest.raises(BundleError):
        read_manifest(path)


def test_another_revision_is_refused_by_name(tmp_path: Path) -> None:
    path, content = _content(tmp_path)
    content["revision"] = 99
    content["something_new"] = True
    path.write_text(json.dumps(content))
    with pytest.raises(BundleError, match="revision 99"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda c: c.pop("identity"), "identity is missing"),
        (lambda c: c.update(extra=1), "extra is unknown"),
        (lambda c: c["latents"].update(channels="four"), r"latents\.channels has .*'four'"),
        (lambda c: c["latents"].update(channels=True), r"latents\.channels has .*True"),
        (lambda c: c["components"]["unet"].update(inputs={}), r"unet\.inputs is not a list"),
        (
            lambda c: c["components"]["unet"]["inputs"][0].update(shape=[None]),
            r"inputs\[0\]\.shape\[0\]",
        ),
        (lambda c: c["files"].update({"a": 3}), r"files\.a is not an object"),
        (lambda c: c.pop("pictures"), "pictures is missing"),
        (lambda c: c["pictures"][0].update(psnr="high"), r"pictures\[0\]\.psnr has"),
        (lambda c: c["latents"].update(scaling_factor=10**400), r"scaling_factor is too large"),
        (lambda c: c["latents"].update(downscale=0), r"latents\.downscale has .*value 0\. Export"),
        (lambda c: c["latents"].update(downscale=-8), r"latents\.downscale has .* -8"),
        (lambda c: c["latents"].update(channels=0), r"latents\.channels has .* 0"),
        (
            lambda c: c["latents"].update(channels=5),
            r"latents\.channels is 5, but unet's out_sample has the shape \['batch', 4, ",
        ),
        (lambda c: c["latents"].update(channels=10**400), r"latents\.channels is 1000.*, but"),
        (lambda c: c["latents"].update(scaling_factor=0), r"latents\.scaling_factor has .* 0\.0"),
        (lambda c: c["latents"].update(scaling_factor=float("nan")), r"scaling_factor has .* nan"),
        (lambda c: c["latents"].update(preview=[[0, 0, 0]] * 4), r"latents\.preview is no table"),
        (lambda c: c["latents"].update(preview=[[0, 0]] * 5), r"latents\.preview is no table"),
        (lambda c: c.update(name="\ud800"), "half of a surrogate pair"),
        (lambda c: c.update(revision=["x"] * 9999), r"of revision \[.{1,60}\];"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, change: Any, fault: str) -> None:
    path, content = _content(tmp_path)
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(BundleError, match=fault):
        read_manifest(path)
