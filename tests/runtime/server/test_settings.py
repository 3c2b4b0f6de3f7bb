"""One schema, three sources: which wins, what is refused, what is never shown."""

import argparse
from pathlib import Path

import pytest

from engines.cache import VARIABLE
from engines.errors import InputError, SettingError
from runtime.server.settings import (
    ServerSettings,
    add_server_arguments,
    describe_sources,
    read_settings,
)


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('port = 1\nqueue = 2\nmax_steps = 3\ncors = ["http://a", "http://b"]\n')
    settings = read_settings(
        {"config": file, "port": "10", "queue": None},
        {"FRACTURE_PORT": "20", "FRACTURE_QUEUE": "30", "HOME": "/"},
    )
    assert (settings.port, settings.queue, settings.max_steps) == (10, 30, 3)
    assert settings.cors == ("http://a", "http://b")
    assert settings.keep == ServerSettings().keep
    by_name = read_settings({}, {"FRACTURE_CONFIG": str(file)})
    assert by_name.port == 1


def test_every_fault_is_named_by_where_it_came_from(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text("queue = true\nmax_pixel = 3\n")
    with pytest.raises(SettingError) as caught:
        read_settings(
            {"config": file, "port": "http"},
            {"FRACTURE_KEEP": "-1", "FRACTURE_MAX_STEP": "1", "FRACTURE_LOG_FORMAT": "xml"},
        )
    message = str(caught.value)
    for part in (
        "--port must be a whole number from 0 to 65535, not http",
        f"queue in {file} must be a whole number",
        f"max_pixel in {file} is no option",
        "FRACTURE_KEEP must be seconds",
        "FRACTURE_MAX_STEP is no option",
        "FRACTURE_LOG_FORMAT must be text or json, not xml",
    ):
        assert part in message


@pytest.mark.parametrize("content", [b"port 3", b"\xff\xfe"])
def test_a_file_that_is_no_toml(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "serve.toml"
    with pytest.raises(InputError, match=r"serve\.toml cannot be read"):
        read_settings({"config": file}, {})
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"serve\.toml cannot be read"):
        read_settings({"config": file}, {})


def test_keys_from_both_forms(tmp_path: Path) -> None:
    keys = {"alice": "wonderland", "bob": "builder:with:colons"}
    text = ", ".join(f"{name}:{secret}" for name, secret in keys.items())
    assert read_settings({}, {"FRACTURE_KEYS": text}).keys == keys
    file = tmp_path / "serve.toml"
    file.write_text('[keys]\nalice = "wonderland"\nbob = "builder:with:colons"\n')
    assert read_settings({"config": file}, {}).keys == keys


@pytest.mark.parametrize("keys", ["alice:short", "wonderland", "a:same-secret,b:same-secret"])
def test_secrets_are_strong_enough_and_never_shown(keys: str) -> None:
    with pytest.raises(SettingError) as caught:
        read_settings({}, {"FRACTURE_KEYS": keys})
    for secret in ("short", "wonderland", "same-secret"):
        assert secret not in str(caught.value)
    assert "wonderland" not in repr(ServerSettings(keys={"alice": "wonderland"}))


@pytest.mark.parametrize("keys", ["", " ", ",", "alice:wonderland,", "a:secret-1,a:secret-2"])
def test_keys_that_are_empty_do_not_open_the_server(keys: str) -> None:
    with pytest.raises(SettingError, match="FRACTURE_KEYS must"):
        read_settings({}, {"FRACTURE_KEYS": keys})


def test_an_empty_table_of_keys_does_not_either(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text("[keys]\n")
    with pytest.raises(SettingError, match=r"keys in .* must be NAME:SECRET"):
        read_settings({"config": file}, {})


def test_an_empty_name_of_the_file_is_not_passed_over() -> None:
    with pytest.raises(SettingError, match="FRACTURE_CONFIG is empty"):
        read_settings({}, {"FRACTURE_CONFIG": ""})


def test_every_option_but_secrets_has_a_flag() -> None:
    parser = argparse.ArgumentParser()
    add_server_arguments(parser)
    text = parser.format_help()
    for name in vars(ServerSettings()):
        assert (f"--{name.replace('_', '-')} " in text) == (name != "keys")
    assert "FRACTURE_KEYS" in describe_sources()


def test_the_caches_variable_is_no_option_of_the_server() -> None:
    assert read_settings({}, {VARIABLE: "/var/cache/fracture-sd"}) == ServerSettings()
