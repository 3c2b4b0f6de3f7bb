"""Verifying, on the smallest model: a sound bundle passes, and every kind of fault is found."""

import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from convert.parity import has_passed, verification_tools
from convert.verify import run_verify
from engines import layout
from engines.bundle import Bundle, open_bundle, verify_hashes
from engines.errors import BundleError, InputError
from engines.manifest import read_manifest, write_manifest
from tests.convert.synthetic import copy_base
from tests.convert.tiny_model import write_tiny_model


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    return open_bundle(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def test_sound_bundle_passes_and_says_so(bundle: Bundle, tiny_model: Path) -> None:
    assert not has_passed(bundle.manifest)
    manifest, costs = run_verify(bundle, tiny_model, 1, progress=False)
    written = open_bundle(bundle.path)
    verify_hashes(written)
    assert written.manifest == manifest
    assert manifest == replace(
        bundle.manifest,
        parity=manifest.parity,
        pictures=manifest.pictures,
        verified_with=verification_tools(),
    )
    assert manifest.verified_with.keys() >= {"fracture-sd", "onnxruntime", "torch"}
    assert has_passed(manifest)
    assert costs.keys() == {*layout.COMPONENTS, "pictures"}
    outputs = {name: [f.output for f in parity] for name, parity in manifest.parity.items()}
    twice = {layout.UNET: ["out_sample", "out_sample of openvino.onnx"]}
    assert outputs == {name: list(c.outputs) for name, c in layout.COMPONENTS.items()} | twice
    for parity in manifest.parity.values():
        for figures in parity:
            assert 0 < figures.mean_error <= figures.max_error < figures.tolerance / 2
            assert figures.cosine > 0.999999
    (picture,) = manifest.pictures
    assert (picture.width, picture.height, picture.seed) == (16, 16, 1)
    assert picture.psnr > 80
    assert picture.ssim > 0.99999


@pytest.mark.parametrize("component", list(layout.COMPONENTS))
def test_one_wrong_weight_fails_its_component_alone(
    bundle: Bundle, tiny_model: Path, component: str
) -> None:
    path = bundle.graph(component)
    weights = onnx.load(path, load_external_data=False).graph.initializer
    places = [{entry.key: entry.value for entry in weight.external_data} for weight in weights]
    largest = max(places, key=lambda place: int(place.get("length", 0)))
    with path.with_name(largest["location"]).open("r+b") as data:
        data.seek(int(largest["offset"]))
        data.write(bytes(int(largest["length"])))
    manifest, _ = run_verify(bundle, tiny_model, 0, progress=False)
    failed = {name for name, parity in manifest.parity.items() if not all(f.passed for f in parity)}
    assert failed == {component}
    assert not has_passed(manifest)
    assert read_manifest(bundle.path / layout.BUNDLE_FILE) == manifest


def test_other_weights_fail(bundle: Bundle, demo_base: Path, tmp_path: Path) -> None:
    other = write_tiny_model(demo_base, tmp_path / "other", seed=1)
    manifest, _ = run_verify(bundle, other, 0, progress=False)
    assert not any(f.passed for parity in manifest.parity.values() for f in parity)


def test_other_fused_model_is_refused(demo_bundle: Path, fused_demo: Path, tmp_path: Path) -> None:
    copy = copy_base(fused_demo, tmp_path / "other")
    record = copy / layout.FUSE_FILE
    text = record.read_text()
    identity = open_bundle(demo_bundle).manifest.provenance["identity"]
    assert isinstance(identity, str)
    record.unlink()
    record.write_text(text.replace(identity, "0" * 64))
    with pytest.raises(InputError, match="is not the fused model that"):
        run_verify(open_bundle(demo_bundle), copy, 0, progress=False)


def test_bundle_that_was_replaced_meanwhile_is_not_written_to(
    bundle: Bundle, tiny_model: Path
) -> None:
    """The figures of one bundle and the list of files of another would look whole."""
    other = replace(bundle.manifest, identity="1" * 64)
    write_manifest(other, bundle.path / layout.BUNDLE_FILE)
    with pytest.raises(BundleError, match="was replaced meanwhile"):
        run_verify(bundle, tiny_model, 0, progress=False)
    assert open_bundle(bundle.path).manifest == other
