"""Where files come from: paths, hub ids, URLs; and what is said when they do not."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from convert import sources
from convert.sources import find_base, find_file, place_base, place_lora
from engines.errors import InputError

WEIGHTS = (
    "text_encoder/model",
    "unet/diffusion_pytorch_model",
    "vae/diffusion_pytorch_model",
)


def _hub(monkeypatch: pytest.MonkeyPatch, root: Path, files: list[str]) -> list[list[str]]:
    """A hub whose one repository has these files; returns the patterns that were asked for."""
    asked: list[list[str]] = []

    def snapshot_download(repository: str, allow_patterns: list[str]) -> str:
        assert repository == "owner/name"
        asked.append(allow_patterns)
        for name in files:
            if name in allow_patterns:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text("")
        return str(root)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def test_a_hub_id_fetches_only_what_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = _hub(monkeypatch, tmp_path, [f"{name}.safetensors" for name in WEIGHTS])
    assert find_base("owner/name") == tmp_path
    assert len(asked) == 1
    assert not any(
        "safety_checker" in pattern or "*.safetensors" in pattern for pattern in asked[0]
    )


def test_half_precision_files_are_fetched_where_there_are_no_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = _hub(
        monkeypatch,
        tmp_path,
        [
            f"{WEIGHTS[0]}.safetensors",
            f"{WEIGHTS[1]}.fp16.safetensors",
            f"{WEIGHTS[2]}.safetensors",
        ],
    )
    find_base("owner/name")
    assert asked[1] == [f"{WEIGHTS[1]}.fp16.safetensors"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (LocalEntryNotFoundError("offline"), "hub cannot be reached.* --base PATH"),
        (OSError("disk full\nmore"), "owner/name cannot be downloaded: disk full$"),
    ],
)
def test_what_the_hub_says_becomes_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(InputError, match=message):
        find_base("owner/name")


def test_a_directory_comes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_base("owner/name") == Path("owner/name")
    assert place_base("owner/name", tmp_path) == str(tmp_path / "owner" / "name")
    assert place_base("owner/other", tmp_path) == "owner/other"


def test_a_lora_s_path_is_no_hub_id(tmp_path: Path) -> None:
    assert place_base("https://x/1", tmp_path) == "https://x/1"
    assert place_lora("loras/one.safetensors", tmp_path) == f"{tmp_path}/loras/one.safetensors"
    assert place_lora("https://x/1", tmp_path) == "https://x/1"


def test_missing_paths_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no LoRA file at .*gone.*Check the path"):
        find_file(str(tmp_path / "gone.safetensors"), "")
    with pytest.raises(InputError, match=r"no base model at .*gone.*Check the path"):
        find_base(str(tmp_path / "gone"))
    with pytest.raises(InputError, match="is a directory; give the LoRA's file in it"):
        find_file(str(tmp_path), "")


def test_the_demo_of_an_installed_package_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_PACKAGE", tmp_path / "convert")
    missing = tmp_path / "convert" / "recipes" / ".." / ".." / "demo" / "base"
    with pytest.raises(InputError, match=rf"at {tmp_path}/demo/base\. .*part of the project's"):
        find_base(str(missing))
