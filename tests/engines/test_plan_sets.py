"""Plans that are foreign, stale or damaged are refused with the way out."""

from dataclasses import replace
from typing import Any

import pytest

from engines import layout
from engines.bundle import Bundle, open_bundle
from engines.errors import BundleError
from engines.identity import sha256_file
from engines.manifest import FileEntry, write_manifest
from engines.plan_sets import find_plans, open_plans
from engines.plans import TENSORRT_RTX, build_command
from tests.engines.plan_files import ARGUMENTS, add_plan_set


def test_none_for_this_gpu(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="no plans of tensorrt-rtx for sm120; there: none at all"):
        open_plans(bundle, TENSORRT_RTX, "sm120")
    add_plan_set(bundle, "sm86", "sm89")
    command = f"convert build '{bundle.path}' --backend tensorrt-rtx --target sm120"
    with pytest.raises(BundleError, match="there: tensorrt-rtx-sm86-sm89") as error:
        open_plans(bundle, TENSORRT_RTX, "sm120")
    assert str(error.value).endswith(f"Run: {command}")
    with pytest.raises(BundleError, match="no plans of tensorrt for sm89"):
        open_plans(bundle, "tensorrt", "sm89")


def test_another_graph_makes_plans_stale(bundle: Bundle) -> None:
    content, directory = add_plan_set(bundle, "sm89")
    weights = bundle.path / "unet" / "model.onnx_data"
    weights.write_bytes(b"wEights")
    files = {**bundle.manifest.files, "unet/model.onnx_data": FileEntry(7, sha256_file(weights))}
    write_manifest(replace(bundle.manifest, files=files), bundle.path / layout.BUNDLE_FILE)
    changed = open_bundle(bundle.path)
    assert not find_plans(bundle)[0].fault
    with pytest.raises(BundleError, match="from another graph than the bundle's unet") as error:
        open_plans(changed, TENSORRT_RTX, "sm89")
    assert str(error.value).endswith(f"Run: {build_command(bundle.path, ARGUMENTS)}")
    (found,) = find_plans(changed)
    assert (found.path, found.content) == (directory, content)
    assert "another graph" in found.fault


def test_another_file_of_the_bundle_does_not(bundle: Bundle) -> None:
    add_plan_set(bundle, "sm89")
    files = {**bundle.manifest.files, "tokenizer/tokenizer.json": FileEntry(2, "0" * 64)}
    assert not find_plans(replace(bundle, manifest=replace(bundle.manifest, files=files)))[0].fault


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda path: path.unlink(), r"unet\.plan is missing"),
        (lambda path: path.write_bytes(b"plan"), r"unet\.plan has 4 bytes instead of 12"),
    ],
)
def test_damaged_plans(bundle: Bundle, damage: Any, fault: str) -> None:
    _, directory = add_plan_set(bundle, "sm89")
    damage(directory / "unet.plan")
    with pytest.raises(BundleError, match=fault):
        open_plans(bundle, TENSORRT_RTX, "sm89")


def test_a_component_without_a_plan(bundle: Bundle) -> None:
    add_plan_set(bundle, "sm89", components={})
    with pytest.raises(BundleError, match="there is no plan of unet"):
        open_plans(bundle, TENSORRT_RTX, "sm89")


def test_of_several_sets_a_usable_one_and_then_the_most_particular_is_taken(
    bundle: Bundle,
) -> None:
    _, wide = add_plan_set(bundle, "sm75", "sm86", "sm89")
    assert open_plans(bundle, TENSORRT_RTX, "sm89").path == wide
    _, narrow = add_plan_set(bundle, "sm89")
    assert open_plans(bundle, TENSORRT_RTX, "sm89").path == narrow
    (narrow / "unet.plan").unlink()
    assert open_plans(bundle, TENSORRT_RTX, "sm89").path == wide


def test_what_is_not_a_set_of_plans(bundle: Bundle) -> None:
    assert find_plans(bundle) == []
    engines = bundle.path / layout.ENGINES_DIRECTORY
    (engines / "notes").mkdir(parents=True)
    (engines / ".tensorrt-rtx-sm89.partial-0").mkdir()
    (engines / "readme.txt").write_text("")
    (found,) = find_plans(bundle)
    assert found.path.name == "notes"
    assert "is not a set of plans" in found.fault
