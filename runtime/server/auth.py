"""Who is calling: a Bearer token or a Basic password, compared in constant time."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from hmac import compare_digest

from runtime.server.faults import Fault, FaultError, Kind


class Authenticator:
    """The keys of the clients; without any, every caller is known by its address."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        """Know each client by its secret.

        Args:
            keys: the secret of each client by its name.
        """
        self._digests = {name: _digest(secret) for name, secret in keys.items()}

    def client(self, authorization: str | None, address: str) -> str:
        """The caller's name.

        Args:
            authorization: the request's header of that name. A Bearer token is a secret; a Basic
                user is a name and the password its secret.
            address: the caller's, which is its name where there are no keys.

        Raises:
            FaultError: there are keys and the header holds none of them.
        """
        if not self._digests:
            return address
        scheme, _, value = (authorization or "").partition(" ")
        match scheme.casefold():
            case "bearer":
                name = self._find(value.strip(), None)
            case "basic":
                user, secret = _decode_basic(value.strip())
                name = self._find(secret, user)
            case _:
                name = None
        if name is None:
            raise FaultError(
                Fault(
                    Kind.UNAUTHORIZED,
                    "This server wants a key: send it as a Bearer token, or its name and the key "
                    "as Basic user and password.",
                )
            )
        return name

    def _find(self, secret: str, user: str | None) -> str | None:
        """Compare with every key, so that the time tells nothing of where a match is."""
        wanted = _digest(secret)
        found = None
        for name, digest in self._digests.items():
            if compare_digest(wanted, digest) and user in (None, name):
                found = name
        return found


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _decode_basic(value: str) -> tuple[str, str]:
    try:
        user, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return user, secret
