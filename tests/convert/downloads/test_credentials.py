"""The token: where it comes from, whom it reaches, and that nobody else ever sees it."""

import logging
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from convert.downloads.address import parse_address
from convert.downloads.credentials import KEYRING_SERVICE, SITES, find_token, site_of, split_token
from engines.errors import InputError, SettingError
from tests.convert.downloads.conftest import SITE, Fetch
from tests.convert.downloads.server import Exchange, Served, Server

LORA = "/lora.safetensors"
TOKEN = "abcdef0123456789"  # noqa: S105
CIVITAI = parse_address("https://civitai.com/api/download/models/43695")


def _authorizations(server: Server) -> list[str | None]:
    return [exchange.headers.get("Authorization") for exchange in server.seen]


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    """The user's token, in the environment."""
    monkeypatch.setenv(SITE.variable, TOKEN)
    return TOKEN


def test_it_goes_to_its_site_in_a_header(
    server: Server, get: Fetch, weights: bytes, token: str
) -> None:
    server.routes[LORA] = Served(weights)
    get()
    assert _authorizations(server) == [f"Bearer {token}"]


def test_it_follows_redirects_on_the_same_host_only(
    server: Server, get: Fetch, weights: bytes, token: str
) -> None:
    server.redirect("/download", "/signed")
    server.redirect("/signed", server.url("/store?signature=1", host="localhost"))
    server.redirect("/store", server.url("/file.safetensors"))
    server.routes["/file.safetensors"] = Served(weights)
    get("/download")
    bearer = f"Bearer {token}"
    assert _authorizations(server) == [bearer, bearer, None, bearer]
    assert all(token not in exchange.path for exchange in server.seen)


def test_it_does_not_reach_another_port(
    server: Server, get: Fetch, weights: bytes, token: str
) -> None:
    with Server() as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        other.routes["/file"] = Served(weights)
        server.redirect(LORA, other.url("/file"))
        get()
        other.shutdown()
        thread.join()
        assert _authorizations(server) == [f"Bearer {token}"]
        assert _authorizations(other) == [None]


def test_a_site_without_an_account_gets_nothing(
    server: Server, get: Fetch, weights: bytes, token: str
) -> None:
    server.routes[LORA] = Served(weights)
    get(server.url(LORA, host="localhost"))
    assert _authorizations(server) == [None]


def test_passwords_of_netrc_are_not_sent(
    server: Server, get: Fetch, weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ann password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server.routes[LORA] = Served(weights)
    get()
    assert _authorizations(server) == [None]


def test_a_token_in_the_address_moves_into_the_header(
    server: Server, get: Fetch, weights: bytes, cache: Path
) -> None:
    server.routes[LORA] = Served(weights)
    path = get(f"{LORA}?type=Model&token={TOKEN}&format=SafeTensor")
    (exchange,) = server.seen
    assert exchange.path == f"{LORA}?type=Model&format=SafeTensor"
    assert exchange.headers["Authorization"] == f"Bearer {TOKEN}"
    assert path == get(f"{LORA}?type=Model&format=SafeTensor")
    kept = [p for p in cache.rglob("*") if p.is_file()]
    assert all(TOKEN.encode() not in p.read_bytes() for p in kept)


@pytest.mark.parametrize("status", [401, 403, 404, 418, 500])
def test_no_error_and_no_log_holds_it(
    server: Server, get: Fetch, token: str, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    body = f'{{"message": "your token {token} is bad"}}'.encode()
    server.routes[LORA] = lambda exchange: exchange.reply(status, {}, body)
    with pytest.raises(InputError) as raised:
        get()
    assert token not in str(raised.value) + caplog.text
    if status != 500:
        assert "your token [token] is bad" in str(raised.value)


@pytest.mark.parametrize("status", [401, 403])
def test_without_a_token_the_error_says_how_to_set_it(
    server: Server, get: Fetch, status: int
) -> None:
    server.routes[LORA] = lambda exchange: exchange.reply(
        status, {}, b'{"error":"Unauthorized","message":"The creator requires you to be logged in"}'
    )
    with pytest.raises(InputError) as raised:
        get()
    text = str(raised.value)
    assert f"status {status}" in text
    assert "The creator requires you to be logged in" in text
    assert f"Make a token at {SITE.page}, set {SITE.variable} to it" in text


def test_a_refused_token_is_said_to_be_refused(server: Server, get: Fetch, token: str) -> None:
    server.routes[LORA] = lambda exchange: exchange.reply(401)
    with pytest.raises(InputError, match=r"may be wrong or expired.*make a new one at"):
        get()


def test_a_site_without_tokens_sends_to_the_browser(server: Server, get: Fetch) -> None:
    server.routes[LORA] = lambda exchange: exchange.reply(403)
    with pytest.raises(InputError, match=r"No token is known for localhost.*browser"):
        get(server.url(LORA, host="localhost"))


def test_a_refusal_after_a_redirect_names_who_refused(
    server: Server, get: Fetch, token: str
) -> None:
    server.redirect("/download", server.url(LORA, host="localhost"))
    server.routes[LORA] = lambda exchange: exchange.reply(401)
    with pytest.raises(InputError, match="sent the download on to localhost, which refuses"):
        get("/download")


def test_a_login_page_with_status_200_is_refused(
    server: Server, get: Fetch, weights: bytes, cache: Path
) -> None:
    def login(exchange: Exchange) -> None:
        page = b"\xef\xbb\xbf\n <!DOCTYPE html><html>Sign in" + b" " * 2000
        exchange.reply(200, {"Content-Disposition": 'attachment; filename="a.safetensors"'}, page)

    server.redirect(LORA, "/login?returnUrl=x", status=302)
    server.routes["/login"] = login
    with pytest.raises(InputError, match=rf"web page instead .* set {SITE.variable} to it"):
        get()
    assert list(cache.rglob("*.safetensors")) == []
    assert list(cache.rglob("partial")) == []
    server.routes[LORA] = Served(weights)
    assert get().read_bytes() == weights


def test_a_json_message_with_status_200_is_quoted(server: Server, get: Fetch) -> None:
    server.routes[LORA] = lambda exchange: exchange.reply(200, {}, b'{"error": "early access"}')
    with pytest.raises(InputError, match=r'a JSON message instead .* It says: "early access"'):
        get()


@pytest.mark.parametrize("bad", ["two words", "line\nbreak", "caf\u00e9"])
def test_a_malformed_token_is_not_sent_nor_shown(
    server: Server, get: Fetch, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    monkeypatch.setenv(SITE.variable, bad)
    with pytest.raises(SettingError, match=SITE.variable) as raised:
        get()
    assert bad not in str(raised.value)
    assert server.seen == []


def test_blanks_around_a_token_do_not_matter(
    server: Server, get: Fetch, weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SITE.variable, f" {TOKEN}\n")
    server.routes[LORA] = Served(weights)
    get()
    assert _authorizations(server) == [f"Bearer {TOKEN}"]


def test_it_never_travels_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_of(CIVITAI)
    assert site is not None
    monkeypatch.setenv(site.variable, TOKEN)
    assert find_token(site, CIVITAI) == TOKEN
    with pytest.raises(InputError, match="unencrypted"):
        find_token(site, parse_address("http://civitai.com/api/download/models/1"))


def test_sites_are_known_by_their_whole_host() -> None:
    assert site_of(CIVITAI) is SITES[0]
    assert site_of(parse_address("https://CIVITAI.com/x")) is SITES[0]
    assert site_of(parse_address("https://evilcivitai.com/x")) is None
    assert site_of(parse_address("https://civitai.com.evil.org/x")) is None


def test_splitting_keeps_the_rest_of_the_address() -> None:
    address, token = split_token(parse_address("https://civitai.com/x?a=1&token=t%2Bt&b=%20"))
    assert address.url == "https://civitai.com/x?a=1&b=%20"
    assert token == "t+t"  # noqa: S105
    assert split_token(CIVITAI) == (CIVITAI, None)
    assert split_token(parse_address("https://civitai.com/x?token=t"))[0].url.endswith("/x")


class _KeyringError(Exception):
    pass


def _install_keyring(monkeypatch: pytest.MonkeyPatch, *, locked: bool) -> None:
    """A stand-in with keyring's interface: `get_password`, and errors of one family."""

    def get_password(service: str, name: str) -> str | None:
        if locked:
            raise _KeyringError(f"locked: {TOKEN}")
        return TOKEN if (service, name) == (KEYRING_SERVICE, SITE.variable) else None

    keyring, errors = ModuleType("keyring"), ModuleType("keyring.errors")
    keyring.get_password = get_password  # type: ignore[attr-defined]
    errors.KeyringError = _KeyringError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)


def test_the_keyring_is_asked_after_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _install_keyring(monkeypatch, locked=False)
    address = parse_address("http://127.0.0.1/x")
    assert find_token(SITE, address) == TOKEN
    monkeypatch.setenv(SITE.variable, "from-the-environment")
    assert find_token(SITE, address) == "from-the-environment"
    assert find_token(SITE, address, "from-the-address") == "from-the-address"
    monkeypatch.delenv(SITE.variable)
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert find_token(SITE, address) is None


def test_a_locked_keyring_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _install_keyring(monkeypatch, locked=True)
    assert find_token(SITE, parse_address("http://127.0.0.1/x")) is None
    assert SITE.variable in caplog.text
    assert TOKEN not in caplog.text
