"""What tests of plans share."""

from pathlib import Path

import pytest

from engines import layout
from engines.bundle import Bundle, open_bundle
from engines.identity import sha256_file
from engines.manifest import (
    ComponentSpec,
    FileEntry,
    Latents,
    Manifest,
    TensorSpec,
    write_manifest,
)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle whose only component is a UNet of two files."""
    files = {}
    (tmp_path / "a bundle" / "unet").mkdir(parents=True)
    for name, content in {"unet/model.onnx": b"graph", "unet/model.onnx_data": b"weights"}.items():
        path = tmp_path / "a bundle" / name
        path.write_bytes(content)
        files[name] = FileEntry(len(content), sha256_file(path))
    sample = TensorSpec("sample", "float16", ("batch", 4, "height", "width"))
    unet = ComponentSpec("unet/model.onnx", "float16", inputs=(sample,), outputs=())
    manifest = Manifest(
        "tiny", "0" * 64, {}, Latents(4, 8, 0.18215), components={"unet": unet}, files=files
    )
    write_manifest(manifest, tmp_path / "a bundle" / layout.BUNDLE_FILE)
    return open_bundle(tmp_path / "a bundle")
