"""Where the cache is."""

from pathlib import Path

import pytest

from engines.cache import cache_directory


def test_the_users_choice_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("FRACTURE_SD_CACHE", str(tmp_path / "own"))
    assert cache_directory() == tmp_path / "own"
    monkeypatch.delenv("FRACTURE_SD_CACHE")
    assert cache_directory() == tmp_path / "xdg" / "fracture-sd"


@pytest.mark.parametrize("xdg", [None, "", "not/absolute"])
def test_otherwise_it_is_below_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xdg: str | None
) -> None:
    monkeypatch.delenv("FRACTURE_SD_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    if xdg is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    assert cache_directory() == tmp_path / ".cache" / "fracture-sd"


def test_a_tilde_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FRACTURE_SD_CACHE", "~/models")
    assert cache_directory() == tmp_path / "models"
