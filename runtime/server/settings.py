"""The server's configuration: one schema for the flags, the environment and a TOML file.

A flag wins over the environment, the environment over the file, the file over the default. The
option `max_steps` is the flag `--max-steps`, the variable `FRACTURE_MAX_STEPS` and the key
`max_steps`. Secrets have no flag, for a process's arguments can be read by everyone.
"""

import argparse
import dataclasses
import tomllib
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from engines.backend import AUTO
from engines.cache import VARIABLE as CACHE
from engines.errors import InputError, SettingError

PREFIX = "FRACTURE_"
CONFIG = "config"
_MIN_SECRET = 8


@dataclass(frozen=True)
class Option:
    """One option: how its value is read from a text or from TOML, and what `--help` says."""

    parse: Callable[[Any], Any]
    help: str
    metavar: str
    secret: bool = False


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        try:
            number = int(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if type(number) is not int or not least <= number <= most:
            raise SettingError(f"must be a whole number from {least} to {most}")
        return number

    return parse


def _seconds(least: float, most: float) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        try:
            number = float(value) if isinstance(value, str | int | float) else -1.0
        except ValueError:
            number = -1.0
        if isinstance(value, bool) or not least <= number <= most:
            raise SettingError(f"must be seconds from {least:g} to {most:g}")
        return number

    return parse


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise SettingError("must be a text that is not empty")
    return value


def _path(value: Any) -> Path:
    return Path(_text(value))


def _choice(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in choices:
            raise SettingError(f"must be {' or '.join(choices)}")
        return str(value)

    return parse


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list) or not all(isinstance(part, str) and part for part in value):
        raise SettingError("must be texts, in a list or with commas between them")
    return tuple(value)


def _keys(value: Any) -> dict[str, str]:
    """`name:secret,name:secret`, or a table in TOML."""
    if isinstance(value, str):
        pairs = [pair.partition(":") for pair in value.split(",")]
        value = {name.strip(): secret.strip() for name, _, secret in pairs}
        if len(value) < len(pairs):
            raise SettingError("must give each name one secret")
    if not (isinstance(value, dict) and value) or not all(
        name and isinstance(secret, str) and len(secret) >= _MIN_SECRET and secret.isascii()
        for name, secret in value.items()
    ):
        raise SettingError(
            f"must be NAME:SECRET, with commas between several, of at least {_MIN_SECRET} ASCII "
            "characters a secret (in the file a table NAME = SECRET)"
        )
    if len(set(value.values())) < len(value):
        raise SettingError("must give each name its own secret")
    return value


@dataclass(frozen=True)
class ServerSettings:
    """What the server is told at its start; checked, and the same until it ends."""

    bundle: Annotated[
        Path | None, Option(_path, "the bundle (default: the only one in ./bundles)", "DIR")
    ] = None
    backend: Annotated[str, Option(_text, "what runs the graphs", "NAME")] = AUTO
    host: Annotated[str, Option(_text, "the address to listen on", "ADDRESS")] = "127.0.0.1"
    port: Annotated[
        int, Option(_whole(0, 65535), "the port to listen on, 0 for any that is free", "N")
    ] = 7860
    keys: Annotated[
        dict[str, str],
        Option(
            _keys, "NAME:SECRET of each client; without any, everyone may call", "", secret=True
        ),
    ] = dataclasses.field(default_factory=dict, repr=False)
    slots: Annotated[
        int, Option(_whole(0, 64), "pictures denoised at once, 0 to measure it", "N")
    ] = 0
    queue: Annotated[int, Option(_whole(1, 10_000), "pictures that may wait for a slot", "N")] = 64
    max_pictures: Annotated[int, Option(_whole(1, 1000), "pictures of one request", "N")] = 16
    max_steps: Annotated[int, Option(_whole(1, 1000), "steps of one picture", "N")] = 150
    max_pixels: Annotated[
        int, Option(_whole(64 * 64, 2048 * 2048), "pixels of one picture that is made", "N")
    ] = 768 * 768
    max_given_pixels: Annotated[
        int, Option(_whole(64 * 64, 2**26), "pixels of one picture that is given", "N")
    ] = 2048 * 2048
    max_prompt: Annotated[
        int, Option(_whole(1, 10_000), "characters of one prompt; also its tokens", "N")
    ] = 4000
    max_body: Annotated[int, Option(_whole(1000, 1_000_000_000), "bytes of one request", "N")] = (
        32_000_000
    )
    body_timeout: Annotated[
        float, Option(_seconds(0.1, 3600), "seconds within which a request has to be here", "S")
    ] = 30.0
    keep_alive: Annotated[
        int, Option(_whole(1, 3600), "seconds for which a connection may wait for a request", "S")
    ] = 75
    max_connections: Annotated[
        int, Option(_whole(1, 65_536), "open connections; silent ones make room for new ones", "N")
    ] = 512
    deadline: Annotated[
        float,
        Option(
            _seconds(0.1, 86_400), "seconds after which a job is given up; it may ask less", "S"
        ),
    ] = 600.0
    keep: Annotated[
        float, Option(_seconds(0, 604_800), "seconds for which results wait to be fetched", "S")
    ] = 3600.0
    keep_bytes: Annotated[
        int,
        Option(
            _whole(0, 1_000_000_000_000),
            "bytes of all kept results and what they were made from",
            "N",
        ),
    ] = 1_000_000_000
    stall: Annotated[
        float,
        Option(_seconds(0.1, 86_400), "seconds after which an engine's call counts as stuck", "S"),
    ] = 180.0
    drain: Annotated[
        float, Option(_seconds(0, 86_400), "seconds that jobs get to end after SIGTERM", "S")
    ] = 60.0
    cors: Annotated[
        tuple[str, ...],
        Option(_texts, "origins whose pages may call from a browser, comma-separated", "ORIGIN"),
    ] = ()
    log_format: Annotated[
        str, Option(_choice("text", "json"), "text, or json for machines", "FORMAT")
    ] = "text"


def _options() -> dict[str, Option]:
    hints = typing.get_type_hints(ServerSettings, include_extras=True)
    return {name: typing.get_args(hint)[1] for name, hint in hints.items()}


_OPTIONS = _options()
_DEFAULTS = ServerSettings()


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare a flag for every option that is no secret."""
    parser.add_argument(
        f"--{CONFIG}", type=Path, metavar="FILE", help="a TOML file with the options below"
    )
    for name, option in _OPTIONS.items():
        if option.secret:
            continue
        default = getattr(_DEFAULTS, name)
        shown = "" if default in (None, ()) else f" (default {_show(default)})"
        parser.add_argument(
            f"--{name.replace('_', '-')}", metavar=option.metavar, help=f"{option.help}{shown}"
        )


def describe_sources() -> str:
    """For `--help`: where else options come from, and the secrets, which have no flag."""
    secrets = [
        f"{PREFIX}{name.upper()} ({option.help})"
        for name, option in _OPTIONS.items()
        if option.secret
    ]
    return (
        f"Every option may also come from the environment, as {PREFIX}MAX_STEPS for --max-steps, "
        "or from the file, as max_steps. A flag wins over the environment, the environment over "
        f"the file. Without a flag: {', '.join(secrets)}."
    )


def read_settings(flags: Mapping[str, Any], environment: Mapping[str, str]) -> ServerSettings:
    """Put the sources together and check every value.

    Args:
        flags: by option name, texts; None where a flag was not given.
        environment: the process's.

    Raises:
        InputError: the file cannot be read.
        SettingError: values that are not possible; the message names all of them.
    """
    file = flags.get(CONFIG) or environment.get(PREFIX + CONFIG.upper())
    if file == "":
        raise SettingError(f"{PREFIX}{CONFIG.upper()} is empty: name a file, or unset it.")
    sources: list[tuple[str, Mapping[str, Any]]] = [
        ("--{}", {name: value for name, value in flags.items() if value is not None}),
        (
            f"{PREFIX}{{}}",
            {
                name.removeprefix(PREFIX).lower(): value
                for name, value in environment.items()
                if name.startswith(PREFIX) and name != CACHE
            },
        ),
        (f"{{}} in {file}", _read_file(Path(file)) if file else {}),
    ]
    faults = [
        f"{_name(source, name)} is no option"
        for source, values in sources[1:]
        for name in values
        if name not in _OPTIONS and name != CONFIG
    ]
    taken = {}
    for name, option in _OPTIONS.items():
        for source, values in sources:
            if name in values:
                try:
                    taken[name] = option.parse(values[name])
                except SettingError as error:
                    shown = "" if option.secret else f", not {_show(values[name])}"
                    faults.append(f"{_name(source, name)} {error}{shown}")
                break
    if faults:
        raise SettingError("; ".join(faults) + ".")
    return ServerSettings(**taken)


def _name(source: str, name: str) -> str:
    if source.startswith("--"):
        return source.format(name.replace("_", "-"))
    return source.format(name.upper() if source.startswith(PREFIX) else name)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"The configuration {path} cannot be read: {error}.") from error


def _show(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
