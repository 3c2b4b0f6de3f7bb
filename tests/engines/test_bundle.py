"""A bundle that is foreign, of another revision or damaged does not open."""

import errno
import os
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from engines import bundle as bundles
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


def test_files_that_may_not_be_read(bundle: Path) -> None:
    """In a process without root's rights, for which pytest's own directories are closed."""
    program = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from engines.bundle import open_bundle, verify_hashes
        from engines.errors import BundleError
        path = Path("bundle")
        os.chdir(sys.argv[1])
        opened = open_bundle(path)
        (path / "engines").mkdir()
        if os.geteuid() == 0:
            for place in (Path("."), path, *path.rglob("*")):
                os.chown(place, 65534, 65534)
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        for name in ("", "bundle.json", "unet", "unet/model.onnx", "engines"):
            mode = (path / name).stat().st_mode
            (path / name).chmod(0)
            for work in (lambda: open_bundle(path), lambda: verify_hashes(opened)):
                try:
                    work()
                    print("read")
                except BundleError as error:
                    print(error)
            (path / name).chmod(mode)
        """
    )
    with tempfile.TemporaryDirectory() as place:
        bundle.rename(Path(place) / "bundle")
        told = subprocess.run(
            [sys.executable, "-c", program, place], check=True, capture_output=True, text=True
        ).stdout.splitlines()
    opening = "Files of the bundle bundle may not be read: {}. Change their permissions and those"
    names = ("bundle.json", "bundle.json", "unet/model.onnx", "unet/model.onnx", "engines")
    for line, name in zip(told[::2], names, strict=True):
        assert line.startswith(opening.format(name))
    graph = "bundle/unet/model.onnx may not be read. Change its permissions."
    assert told[1::2] == [graph, "read", graph, graph, "read"]


def test_a_disk_that_fails(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_bundle(bundle)

    def fail(path: Path) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(bundles, "sha256_file", fail)
    with pytest.raises(BundleError, match=r"cannot be read: Input/output error\. Check the disk"):
        verify_hashes(opened)


def test_a_name_that_is_too_long(bundle: Path) -> None:
    with pytest.raises(BundleError, match="is no bundle: the name is longer"):
        open_bundle(bundle / ("x" * 256))


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(BundleError, match="There is no bundle at"):
        open_bundle(tmp_path / "loop")
