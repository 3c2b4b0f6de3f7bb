"""Keys as Bearer tokens and Basic passwords."""

import base64
import contextlib
import hmac

import pytest

from runtime.server import auth
from runtime.server.auth import Authenticator
from runtime.server.faults import FaultError

KEYS = {"alice": "wonderland", "bob": "b:u:i:l:d"}


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("header", "client"),
    [
        ("Bearer wonderland", "alice"),
        ("bearer  b:u:i:l:d ", "bob"),
        (basic("alice:wonderland"), "alice"),
        (basic("bob:b:u:i:l:d"), "bob"),
    ],
)
def test_each_client_is_known_by_its_secret(header: str, client: str) -> None:
    assert Authenticator(KEYS).client(header, "10.0.0.1") == client


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer alice",
        "Bearer wonderlan",
        "Bearer wonderland2",
        "Token wonderland",
        "wonderland",
        basic("bob:wonderland"),
        basic("wonderland"),
        basic(":wonderland"),
        "Basic %%%",
        "Basic /w==",
        "Bearer \udcff",
    ],
)
def test_nobody_else_comes_in(header: str | None) -> None:
    with pytest.raises(FaultError) as caught:
        Authenticator(KEYS).client(header, "10.0.0.1")
    fault = caught.value.fault
    assert fault.status == 401
    assert fault.headers()["WWW-Authenticate"].startswith("Basic")
    assert "wonderland" not in fault.message


@pytest.mark.parametrize("header", ["Bearer wonderland", "Bearer nobody", basic("bob:wonder")])
def test_every_secret_is_compared_in_constant_time(
    header: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, whichever it is, as digests of one length, by what takes no shortcut."""
    authenticator = Authenticator(KEYS)
    compared = []

    def compare(first: bytes, second: bytes) -> bool:
        compared.append((len(first), len(second)))
        return hmac.compare_digest(first, second)

    monkeypatch.setattr(auth, "compare_digest", compare)
    with contextlib.suppress(FaultError):
        authenticator.client(header, "10.0.0.1")
    assert compared == [(32, 32)] * len(KEYS)


def test_without_keys_callers_are_known_by_their_address() -> None:
    assert Authenticator({}).client("Bearer anything", "10.0.0.1") == "10.0.0.1"
