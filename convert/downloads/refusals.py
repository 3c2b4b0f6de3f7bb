"""The one-line errors for what a server answers instead of the file."""

import json

from convert.downloads.address import Address
from convert.downloads.content import Kind
from convert.downloads.credentials import Site
from engines.errors import InputError

_MAX_QUOTED = 200


def refused(
    status: int,
    asked: Address,
    answering: Address,
    site: Site | None,
    token: str | None,
    body: bytes,
) -> InputError:
    """The error for a status that no further attempt will change.

    Args:
        status: the HTTP status.
        asked: the address that the user gave.
        answering: the address that answered, after redirects.
        site: the known site of `asked`, or None.
        token: the token that was sent to `asked`, or None.
        body: the beginning of the answer, quoted if it is a JSON message.
    """
    says = _says(body, token)
    if status in (404, 410):
        return InputError(f"There is nothing at {asked.shown} (status {status}).{says} Check it.")
    if status not in (401, 403):
        return InputError(f"{answering.host} answered {asked.shown} with status {status}.{says}")
    if answering.origin != asked.origin:
        return InputError(
            f"{asked.host} sent the download on to {answering.host}, which refuses it (status "
            f"{status}).{says} A token is never sent on to another host: give the address at "
            f"{answering.host} itself, or download the file with a browser and give its path."
        )
    return InputError(
        f"{asked.shown} asks for a login (status {status}).{says} {_login(asked, site, token)}"
    )


def not_a_file(
    kind: Kind, asked: Address, site: Site | None, token: str | None, body: bytes
) -> InputError:
    """The error for a page, message or foreign data that came with status 200.

    Args:
        kind: what came.
        asked: for what.
        site: the known site of `asked`, or None.
        token: the token that was sent to `asked`, or None; the error never shows it.
        body: the beginning of what came, quoted if it is a JSON message.
    """
    if kind is Kind.UNKNOWN:
        fault = "data that is neither safetensors nor a checkpoint" if body else "nothing"
        return InputError(f"{asked.shown} delivers {fault}. Check the URL.")
    says = _says(body, token) if kind is Kind.JSON else ""
    return InputError(
        f"{asked.shown} answered with {kind.value} instead of the file, as sites do that want a "
        f"login or describe a model.{says} Give the address of the download itself. "
        f"{_login(asked, site, token)}"
    )


def _login(asked: Address, site: Site | None, token: str | None) -> str:
    """What to do where a login is asked for."""
    if site is None:
        return (
            f"No token is known for {asked.host}: download the file with a browser and give its "
            "path."
        )
    if token is None:
        return f"Make a token at {site.page}, set {site.variable} to it, and run the command again."
    return (
        f"The token that was sent may be wrong or expired, or may not open this file: make a new "
        f"one at {site.page} and set {site.variable} to it."
    )


def _says(body: bytes, token: str | None) -> str:
    """A JSON answer's message, quoted without control characters and without the token."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    message = answer.get("message") or answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(message, str):
        return ""
    if token:
        message = message.replace(token, "[token]")
    text = "".join(c if c.isprintable() else " " for c in message).strip()
    return f' It says: "{text[:_MAX_QUOTED]}".' if text else ""
