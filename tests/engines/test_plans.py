"""Plans that are foreign, stale, damaged or of another revision are refused with the way out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engines import layout
from engines.bundle import Bundle, open_bundle
from engines.errors import BundleError
from engines.identity import sha256_file
from engines.manifest import ComponentSpec, FileEntry, Latents, Manifest, write_manifest
from engines.plans import (
    Plan,
    PlanSet,
    ShapeRange,
    build_command,
    capability,
    find_plans,
    graph_identity,
    open_plans,
    read_plans,
    target_name,
    write_plans,
)

RTX = "tensorrt-rtx"
ARGUMENTS = ("--backend", RTX, "--target", "sm86,sm89", "--size", "512x512:768x768")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle whose only component is a UNet of two files."""
    files = {}
    (tmp_path / "a bundle" / "unet").mkdir(parents=True)
    for name, content in {"unet/model.onnx": b"graph", "unet/model.onnx_data": b"weights"}.items():
        path = tmp_path / "a bundle" / name
        path.write_bytes(content)
        files[name] = FileEntry(len(content), sha256_file(path))
    unet = ComponentSpec("unet/model.onnx", "float16", inputs=(), outputs=())
    manifest = Manifest(
        "tiny", "0" * 64, {}, Latents(4, 8, 0.18215), components={"unet": unet}, files=files
    )
    write_manifest(manifest, tmp_path / "a bundle" / layout.BUNDLE_FILE)
    return open_bundle(tmp_path / "a bundle")


def _plans(bundle: Bundle, *targets: str, **changes: Any) -> tuple[PlanSet, Path]:
    """Write a set for `targets` and return it with its directory."""
    directory = bundle.path / layout.engine_directory(changes.get("backend", RTX), targets)
    directory.mkdir(parents=True)
    file = directory / layout.plan_file("unet")
    file.write_bytes(b"a plan")
    sample = ShapeRange((1, 4, 32, 32), (2, 4, 64, 64), (16, 4, 128, 128))
    plan = Plan(
        file=file.name,
        size=6,
        sha256=sha256_file(file),
        graph_identity=graph_identity(bundle.manifest, "unet"),
        stripped=False,
        profiles=({"sample": sample},),
    )
    content = PlanSet(
        backend=RTX,
        targets=targets,
        library_version="1.7.1.116",
        system="linux-x86_64",
        gpu="",
        hardware_compatibility="none",
        identity="ab" * 32,
        options={"batch": [1, 2, 16]},
        arguments=ARGUMENTS,
        components={"unet": plan},
    )
    content = replace(content, **changes)
    write_plans(content, directory / layout.PLANS_FILE)
    return content, directory


def test_round_trip(bundle: Bundle) -> None:
    content, directory = _plans(bundle, "sm86", "sm89")
    assert directory.name == "tensorrt-rtx-sm86-sm89"
    assert read_plans(directory / layout.PLANS_FILE) == content
    opened = open_plans(bundle, RTX, "sm89")
    assert opened.content == content
    assert opened.file("unet") == directory / "unet.plan"
    with pytest.raises(BundleError, match="no plan of vae_decoder"):
        opened.file("vae_decoder")


def test_none_for_this_gpu(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="no plans of tensorrt-rtx for sm120; there: none at all"):
        open_plans(bundle, RTX, "sm120")
    _plans(bundle, "sm86", "sm89")
    command = f"convert build '{bundle.path}' --backend tensorrt-rtx --target sm120"
    with pytest.raises(BundleError, match="there: tensorrt-rtx-sm86-sm89") as error:
        open_plans(bundle, RTX, "sm120")
    assert str(error.value).endswith(f"Run: {command}")
    with pytest.raises(BundleError, match="no plans of tensorrt for sm89"):
        open_plans(bundle, "tensorrt", "sm89")


def test_another_graph_makes_plans_stale(bundle: Bundle) -> None:
    content, directory = _plans(bundle, "sm89")
    weights = bundle.path / "unet" / "model.onnx_data"
    weights.write_bytes(b"wEights")
    files = {**bundle.manifest.files, "unet/model.onnx_data": FileEntry(7, sha256_file(weights))}
    write_manifest(replace(bundle.manifest, files=files), bundle.path / layout.BUNDLE_FILE)
    changed = open_bundle(bundle.path)
    assert not find_plans(bundle)[0].fault
    with pytest.raises(BundleError, match="from another graph than the bundle's unet") as error:
        open_plans(changed, RTX, "sm89")
    assert str(error.value).endswith(f"Run: {build_command(bundle.path, ARGUMENTS)}")
    (found,) = find_plans(changed)
    assert (found.path, found.content) == (directory, content)
    assert "another graph" in found.fault


def test_another_file_of_the_bundle_does_not(bundle: Bundle) -> None:
    _plans(bundle, "sm89")
    files = {**bundle.manifest.files, "tokenizer/tokenizer.json": FileEntry(2, "0" * 64)}
    assert not find_plans(replace(bundle, manifest=replace(bundle.manifest, files=files)))[0].fault


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda path: path.unlink(), r"unet\.plan is missing"),
        (lambda path: path.write_bytes(b"a pl"), r"unet\.plan has 4 bytes instead of 6"),
    ],
)
def test_damaged_plans(bundle: Bundle, damage: Any, fault: str) -> None:
    _, directory = _plans(bundle, "sm89")
    damage(directory / "unet.plan")
    with pytest.raises(BundleError, match=fault):
        open_plans(bundle, RTX, "sm89")


def test_a_component_without_a_plan(bundle: Bundle) -> None:
    _plans(bundle, "sm89", components={})
    with pytest.raises(BundleError, match="there is no plan of unet"):
        open_plans(bundle, RTX, "sm89")


def test_of_several_sets_a_usable_one_and_then_the_most_particular_is_taken(
    bundle: Bundle,
) -> None:
    _, wide = _plans(bundle, "sm75", "sm86", "sm89")
    assert open_plans(bundle, RTX, "sm89").path == wide
    _, narrow = _plans(bundle, "sm89")
    assert open_plans(bundle, RTX, "sm89").path == narrow
    (narrow / "unet.plan").unlink()
    assert open_plans(bundle, RTX, "sm89").path == wide


def test_hardware_compatibility(bundle: Bundle) -> None:
    none, _ = _plans(bundle, "sm80", backend="tensorrt")
    ampere = replace(none, hardware_compatibility="ampere-plus")
    same = replace(none, hardware_compatibility="same-compute-capability")
    targets = ("sm75", "sm80", "sm90", "sm120")
    assert [none.serves(target) for target in targets] == [False, True, False, False]
    assert [same.serves(target) for target in targets] == [False, True, False, False]
    assert [ampere.serves(target) for target in targets] == [False, True, True, True]


def test_names_of_architectures() -> None:
    assert capability("sm75") == (7, 5)
    assert capability("sm120") == (12, 0)
    assert target_name(12, 1) == "sm121"
    for text in ("", "sm", "sm9", "89", "sm8.9", "smab"):
        with pytest.raises(ValueError):
            capability(text)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda c: c.update(revision=9), "is of revision 9"),
        (lambda c: c.pop("gpu"), "gpu is missing"),
        (lambda c: c.update(extra=1), "extra is unknown"),
        (lambda c: c.update(targets=["89"]), r"targets\[0\] has the unexpected value '89'"),
        (lambda c: c["components"].update(x=c["components"]["unet"]), r"components\.x is unknown"),
        (
            lambda c: c["components"]["unet"].update(file="../unet.plan"),
            r"components\.unet\.file has .*'\.\./unet\.plan'",
        ),
        (
            lambda c: c["components"]["unet"]["profiles"][0]["sample"].update(min=["1"]),
            r"profiles\[0\]\.sample\.min\[0\]",
        ),
    ],
)
def test_a_wrong_field_is_named(bundle: Bundle, change: Any, fault: str) -> None:
    _, directory = _plans(bundle, "sm89")
    content = json.loads((directory / layout.PLANS_FILE).read_text())
    change(content)
    (directory / layout.PLANS_FILE).write_text(json.dumps(content))
    with pytest.raises(BundleError, match=fault):
        read_plans(directory / layout.PLANS_FILE)
    (found,) = find_plans(bundle)
    assert found.content is None
    with pytest.raises(BundleError, match="no plans of tensorrt-rtx for sm89"):
        open_plans(bundle, RTX, "sm89")


def test_a_range_of_shapes() -> None:
    shapes = ShapeRange((1, 4, 32, 32), (2, 4, 64, 64), (16, 4, 128, 128))
    assert shapes.holds((16, 4, 128, 32))
    assert not shapes.holds((17, 4, 64, 64))
    assert not shapes.holds((1, 4, 31, 64))
    assert not shapes.holds((1, 4, 64))


def test_what_is_not_a_set_of_plans(bundle: Bundle) -> None:
    assert find_plans(bundle) == []
    engines = bundle.path / layout.ENGINES_DIRECTORY
    (engines / "notes").mkdir(parents=True)
    (engines / ".tensorrt-rtx-sm89.partial-0").mkdir()
    (engines / "readme.txt").write_text("")
    (found,) = find_plans(bundle)
    assert found.path.name == "notes"
    assert "is not a set of plans" in found.fault
