"""One HTTP request for a file or its remainder, redirects followed, failures sorted.

The client is `requests`: it is there with diffusers, ships types, honours the environment's
proxies and certificates, and its `raw` gives bytes as they come, so that a stall is seen as one.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urljoin

import requests
import urllib3

from convert.downloads.address import Address, parse_address
from convert.downloads.limits import Limits
from engines import __version__
from engines.errors import InputError

_READ: Final = 1 << 20
_ERROR_BODY: Final = 4096
_TEMPORARY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", re.ASCII)
_UNSATISFIED: Final = re.compile(r"bytes \*/(\d{1,18})", re.ASCII)
_NUMBER: Final = re.compile(r"\d{1,18}", re.ASCII)


class InterruptedTransferError(Exception):
    """The transfer broke off in a way that another attempt may mend; the message says how."""

    def __init__(self, reason: str, pause_s: float = 0.0) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


class RangeRefusedError(Exception):
    """The server does not continue where it was asked to; `size` is the whole file's, if known."""

    def __init__(self, size: int | None) -> None:
        super().__init__("range refused")
        self.size = size


class RefusedError(Exception):
    """The server answered with a status that no further attempt will change."""

    def __init__(self, status: int, address: Address, body: bytes) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.address = address
        self.body = body


@dataclass(frozen=True)
class Request:
    """What is asked for: an address, the token for it, and for a remainder where it starts.

    `validator` is the ETag or Last-Modified of the part that is there already: the server sends
    the remainder only if it still has the same file.
    """

    address: Address
    token: str | None = field(default=None, repr=False)
    start: int = 0
    validator: str = ""


class Reply:
    """A file, or the remainder of one, on its way."""

    def __init__(self, response: requests.Response, address: Address, limits: Limits) -> None:
        headers = response.headers
        self.address = address
        self.start, self.size = 0, _number(headers.get("Content-Length"))
        if response.status_code == requests.codes.partial_content:
            self.start, self.size = _content_range(headers.get("Content-Range", ""))
        self.validator = _validator(headers)
        self.disposition = headers.get("Content-Disposition", "")
        self._raw = response.raw
        self._stall_s = limits.stall_s

    def read(self) -> bytes:
        """The next bytes, as many as came; none at the end.

        Raises:
            InterruptedTransferError: the line broke, or nothing came for `stall_s`.
        """
        return _read(self._raw, _READ, self._stall_s)


@contextlib.contextmanager
def open_reply(request: Request, limits: Limits) -> Iterator[Reply]:
    """Send a request and yield the answer once it is known to be the file.

    Raises:
        InterruptedTransferError: no connection, no answer, or a status that may pass.
        RangeRefusedError: a remainder was asked for, and something else would come.
        RefusedError: a status that stays.
        InputError: the redirects lead nowhere or somewhere unsafe, the server cannot be trusted,
            or the content is compressed.
    """
    with _Session() as session:
        response, address = _follow(session, request, limits)
        with response:
            _check_status(response, address, request, limits)
            reply = Reply(response, address, limits)
            if reply.start != request.start and reply.start != 0:
                raise RangeRefusedError(None)
            yield reply


def _follow(
    session: requests.Session, request: Request, limits: Limits
) -> tuple[requests.Response, Address]:
    """The first answer that is no redirect, and who gave it."""
    address = request.address
    for _ in range(limits.redirects + 1):
        response = _send(session, address, request, limits)
        if not response.is_redirect:
            return response, address
        response.close()
        address = redirect_target(address, response.headers["Location"])
    raise InputError(
        f"{request.address.shown} redirects more than {limits.redirects} times. Check the URL."
    )


def redirect_target(address: Address, location: str) -> Address:
    """Where a redirect from `address` leads, by its Location header as latin-1 text.

    Raises:
        InputError: to no address that can be asked, or from https to http.
    """
    try:
        target = parse_address(urljoin(address.url, location.encode("latin-1").decode()))
    except (ValueError, InputError):
        raise InputError(
            f"{address.host} redirects to something that is no http or https address, or holds a "
            "password. Download the file and give its path."
        ) from None
    if address.scheme == "https" and target.scheme == "http":
        raise InputError(
            f"{address.host} redirects to an unencrypted address at {target.host}, which is not "
            "followed. Download the file and give its path."
        )
    return target


def _send(
    session: requests.Session, address: Address, request: Request, limits: Limits
) -> requests.Response:
    headers = {"User-Agent": f"fracture-sd/{__version__}", "Accept-Encoding": "identity"}
    if request.start:
        headers |= {"Range": f"bytes={request.start}-", "If-Range": request.validator}
    token = request.token if address.origin == request.address.origin else None
    host = address.host
    try:
        return session.get(
            address.url,
            headers=headers,
            auth=_Bearer(token),
            timeout=(limits.connect_s, limits.stall_s),
            allow_redirects=False,
            stream=True,
        )
    except requests.exceptions.SSLError as error:
        raise InputError(
            f"The certificate of {host} cannot be trusted ({_certificate_fault(error)}). Behind a "
            "proxy that has its own, set REQUESTS_CA_BUNDLE to its file."
        ) from None
    except requests.exceptions.ProxyError:
        raise InputError(
            f"The proxy that the environment names for {host} cannot be reached or refuses. "
            "Check http_proxy, https_proxy and no_proxy."
        ) from None
    except requests.exceptions.ConnectTimeout:
        raise InterruptedTransferError(
            f"no connection to {host} in {limits.connect_s:g} s"
        ) from None
    except requests.exceptions.ReadTimeout:
        raise InterruptedTransferError(f"no answer from {host} for {limits.stall_s:g} s") from None
    except requests.exceptions.ConnectionError as error:
        raise InterruptedTransferError(_connection_fault(error, host)) from None
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, UnicodeError):
        raise InputError(f"{address.shown} cannot be asked for. Check the URL.") from None


class _Session(requests.Session):
    """Follows no redirect: `requests` would read the body of each to its end, if it has one."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None, for every response."""


class _Bearer(requests.auth.AuthBase):
    """Sends the token, or nothing: without it, `requests` would send what ~/.netrc has."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            prepared.headers["Authorization"] = f"Bearer {self._token}"
        return prepared


def _check_status(
    response: requests.Response, address: Address, request: Request, limits: Limits
) -> None:
    status, headers = response.status_code, response.headers
    codes = requests.codes
    if status == codes.requested_range_not_satisfiable and request.start:
        match = _UNSATISFIED.fullmatch(headers.get("Content-Range", ""))
        raise RangeRefusedError(int(match[1]) if match else None)
    if status in _TEMPORARY:
        pause_s = _number(headers.get("Retry-After")) or 0
        raise InterruptedTransferError(f"{address.host} answered with status {status}", pause_s)
    if status != codes.ok and not (status == codes.partial_content and request.start):
        raise RefusedError(status, address, _error_body(response, limits))
    encoding = headers.get("Content-Encoding", "identity")
    if encoding.lower() not in ("", "identity"):
        raise InputError(
            f"{address.host} sends the file compressed ({encoding!r}) though it was asked not to. "
            "Download the file and give its path."
        )


def _error_body(response: requests.Response, limits: Limits) -> bytes:
    body = b""
    with contextlib.suppress(InterruptedTransferError):
        while len(body) < _ERROR_BODY and (
            part := _read(response.raw, _ERROR_BODY, limits.stall_s)
        ):
            body += part
    return body


def _read(raw: Any, count: int, stall_s: float) -> bytes:
    try:
        content: bytes = raw.read1(count, decode_content=False)
    except urllib3.exceptions.ReadTimeoutError:
        raise InterruptedTransferError(f"nothing came for {stall_s:g} s") from None
    except (urllib3.exceptions.HTTPError, OSError):
        raise InterruptedTransferError("the connection broke off") from None
    return content


def _content_range(header: str) -> tuple[int, int | None]:
    """Where a partial answer starts, and the whole file's size if it says so."""
    match = _CONTENT_RANGE.fullmatch(header)
    if match is None:
        raise RangeRefusedError(None)
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _validator(headers: requests.structures.CaseInsensitiveDict[str]) -> str:
    """What If-Range may carry: a strong ETag, or the date where there is no ETag at all."""
    tag = headers.get("ETag", "")
    if tag:
        return tag if tag.startswith('"') else ""
    return headers.get("Last-Modified", "")


def _number(header: str | None) -> int | None:
    return int(header) if header and _NUMBER.fullmatch(header) else None


def _connection_fault(error: requests.exceptions.ConnectionError, host: str) -> str:
    """Why there is no connection, in words; the library's own text holds the whole address."""
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    if isinstance(reason, urllib3.exceptions.NameResolutionError):
        return f"the name {host} cannot be resolved (is there a network?)"
    if isinstance(reason, urllib3.exceptions.NewConnectionError):
        return f"{host} cannot be reached"
    return f"{host} broke off the connection"


def _certificate_fault(error: requests.exceptions.SSLError) -> str:
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    cause = getattr(reason, "args", (None,))[0]
    return str(getattr(cause, "verify_message", "") or "the encrypted connection failed")
