"""A bundle that is foreign, of another revision or damaged does not open."""

from dataclasses import replace
from pathlib import Path

import pytest

from engines import layout
from engines.bundle import open_bundle, verify_hashes
from engines.errors import BundleError
from engines.identity import sha256_file
from engines.manifest import (
    ComponentSpec,
    FileEntry,
    Latents,
    Manifest,
    read_manifest,
    write_manifest,
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A directory with two files and the manifest that lists them."""
    files = {}
    for name, content in {"unet/model.onnx": b"graph", "tokenizer/tokenizer.json": b"{}"}.items():
        path = tmp_path / name
        path.parent.mkdir()
        path.write_bytes(content)
        files[name] = FileEntry(len(content), sha256_file(path))
    unet = ComponentSpec("unet/model.onnx", "float16", inputs=(), outputs=())
    manifest = Manifest(
        "tiny", "0" * 64, {}, Latents(4, 8, 0.18215), components={"unet": unet}, files=files
    )
    write_manifest(manifest, tmp_path / layout.BUNDLE_FILE)
    return tmp_path


def test_opens(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert opened.manifest.name == "tiny"
    assert opened.graph("unet") == bundle / "unet" / "model.onnx"
    verify_hashes(opened)
    with pytest.raises(BundleError, match="no component vae_decoder"):
        opened.component("vae_decoder")


def test_a_place_without_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="There is no bundle at"):
        open_bundle(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"holds no bundle\.json"):
        open_bundle(tmp_path)


def test_a_file_of_a_bundle(bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"bundle\.json is a file\. A bundle is a directory"):
        open_bundle(bundle / "bundle.json")


def test_every_missing_and_truncated_file_is_named(bundle: Path) -> None:
    (bundle / "unet" / "model.onnx").write_bytes(b"gra")
    (bundle / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(BundleError) as error:
        open_bundle(bundle)
    assert "unet/model.onnx has 3 bytes instead of 5" in str(error.value)
    assert "tokenizer/tokenizer.json is missing" in str(error.value)


def test_changed_content_is_found_by_its_hash(bundle: Path) -> None:
    (bundle / "unet" / "model.onnx").write_bytes(b"grapH")
    opened = open_bundle(bundle)
    with pytest.raises(BundleError, match=r"unet/model\.onnx has another content"):
        verify_hashes(opened)


@pytest.mark.parametrize("name", ["../other.onnx", "/etc/hostname", "unet/../../x"])
def test_a_name_that_leads_elsewhere_is_refused(bundle: Path, name: str) -> None:
    manifest = read_manifest(bundle / layout.BUNDLE_FILE)
    unet = replace(manifest.components["unet"], graph=name)
    write_manifest(replace(manifest, components={"unet": unet}), bundle / layout.BUNDLE_FILE)
    with pytest.raises(BundleError, match=f"{name} is not inside"):
        open_bundle(bundle)
    write_manifest(
        replace(manifest, files={name: FileEntry(1, "0" * 64)}), bundle / layout.BUNDLE_FILE
    )
    with pytest.raises(BundleError, match=f"{name} is not inside"):
        open_bundle(bundle)
