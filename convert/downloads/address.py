"""A download's address: what is asked for, what of it may be shown, and whom a token may reach."""

import ipaddress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from engines.errors import InputError

_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Address:
    """An http or https address. Its query may hold a secret and is never shown or recorded."""

    url: str = field(repr=False)
    scheme: str
    host: str
    port: int
    path: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: a token goes to this triple and nowhere else."""
        return self.scheme, self.host, self.port

    @property
    def shown(self) -> str:
        """The address for messages and records: without its query."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"

    @property
    def is_private_channel(self) -> bool:
        """Whether nobody on the way can read what is sent: https, or this machine itself."""
        if self.scheme == "https" or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(url: str) -> Address:
    """Take an address apart; its fragment is dropped.

    Raises:
        InputError: it is no http or https address, or holds a user name or password.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InputError("A URL is malformed: its host or port cannot be read.") from None
    if parts.scheme not in _PORTS:
        raise InputError(
            f"A URL begins with {parts.scheme + ':' if parts.scheme else 'no scheme'}; "
            "only http and https are fetched. Download the file and give its path."
        )
    if not host or not url.isprintable():
        raise InputError("A URL is malformed: it has no host, or holds control characters.")
    if parts.username is not None or parts.password is not None:
        raise InputError(
            f"The URL at {host} holds a user name or password, which is not supported. "
            "Download the file and give its path."
        )
    return Address(
        url=urlunsplit(parts._replace(fragment="")),
        scheme=parts.scheme,
        host=host,
        port=_PORTS[parts.scheme] if port is None else port,
        path=parts.path or "/",
    )
