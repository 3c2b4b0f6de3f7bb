"""What is fetched is what the server has; a second run needs no server; names are the server's."""

import hashlib
import logging
import shutil
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from convert.downloads.address import parse_address
from convert.downloads.limits import Limits
from convert.downloads.transfer import redirect_target
from engines.errors import InputError, OutputError
from tests.convert.downloads.conftest import QUICK, Fetch
from tests.convert.downloads.server import Exchange, Served, Server

LORA = "/lora.safetensors"
Usage = namedtuple("Usage", "total used free")


def _files(cache: Path) -> list[str]:
    """The finished files and whatever of a part is left, by name."""
    return sorted(p.name for p in cache.rglob("*") if p.is_file() and p.name not in ("lock",))


def test_fetches_once_and_then_needs_no_server(
    server: Server, get: Fetch, weights: bytes, cache: Path
) -> None:
    server.routes[LORA] = Served(weights)
    path = get()
    assert path.read_bytes() == weights
    assert path.name == "lora.safetensors"
    assert path.is_relative_to(cache)
    assert _files(cache) == ["lora.safetensors", "record.json"]
    server.routes.clear()
    assert get() == path
    assert len(server.seen) == 1


def test_addresses_do_not_share_a_place(server: Server, get: Fetch, weights: bytes) -> None:
    server.routes["/one"] = Served(weights, disposition='attachment; filename="same.safetensors"')
    server.routes["/two"] = Served(
        weights[:-1] + b"\0", disposition='attachment; filename="same.safetensors"'
    )
    one, two, query = get("/one"), get("/two"), get("/two?fp=fp16")
    assert one.name == two.name == query.name == "same.safetensors"
    assert len({one, two, query}) == 3
    assert one.read_bytes() != two.read_bytes()


def test_a_fragment_makes_no_other_address(server: Server, get: Fetch, weights: bytes) -> None:
    server.routes[LORA] = Served(weights)
    assert get(LORA) == get(f"{LORA}#part")


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "record", "foreign record"])
def test_a_damaged_cached_file_is_fetched_again(
    server: Server, get: Fetch, weights: bytes, damage: str
) -> None:
    server.routes[LORA] = Served(weights)
    path = get()
    record = path.parent.parent / "record.json"
    if damage == "flip":
        content = bytearray(weights)
        content[-5] ^= 1
        path.write_bytes(content)
    elif damage == "truncate":
        path.write_bytes(weights[:-1])
    elif damage == "remove":
        path.unlink()
    elif damage == "record":
        record.write_text("{")
    else:
        record.write_text('{"revision": 99}')
    assert get() == path
    assert path.read_bytes() == weights
    assert len(server.seen) == 2


def test_the_expected_hash_is_checked(server: Server, get: Fetch, weights: bytes) -> None:
    server.routes[LORA] = Served(weights)
    right = hashlib.sha256(weights).hexdigest()
    assert get(sha256=right).read_bytes() == weights


def test_another_hash_is_refused_and_nothing_kept(
    server: Server, get: Fetch, weights: bytes, cache: Path
) -> None:
    server.routes[LORA] = Served(weights)
    with pytest.raises(InputError, match=rf"{hashlib.sha256(weights).hexdigest()}.*{'0' * 64}"):
        get(sha256="0" * 64)
    assert _files(cache) == []


def test_a_cached_file_that_is_not_the_expected_one_is_replaced(
    server: Server, get: Fetch, weights: bytes, cache: Path
) -> None:
    newer = weights[:-1] + b"\0"
    server.routes[LORA] = Served(weights)
    get()
    server.routes[LORA] = Served(newer, disposition="attachment; filename=newer.safetensors")
    assert get(sha256=hashlib.sha256(newer).hexdigest()).read_bytes() == newer
    assert _files(cache) == ["newer.safetensors", "record.json"]


def test_a_failed_replacement_leaves_the_cached_file(
    server: Server, get: Fetch, weights: bytes
) -> None:
    server.routes[LORA] = Served(weights)
    path = get()
    with pytest.raises(InputError, match="is expected"):
        get(sha256="0" * 64)
    server.routes.clear()
    assert get() == path
    assert path.read_bytes() == weights


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="Cracked Skin.safetensors"', "Cracked Skin.safetensors"),
        ('attachment; filename="../../../etc/passwd"', "passwd.safetensors"),
        ("attachment; filename*=UTF-8''..%2F..%2Fevil.safetensors", "evil.safetensors"),
        ('attachment; filename="..\\\\..\\\\boot.safetensors"', "boot.safetensors"),
        ('attachment; filename=".."', "model.safetensors"),
        ('attachment; filename=""', "model.safetensors"),
        (f'attachment; filename="{"x" * 4000}.safetensors"', "x" * 138 + ".safetensors"),
    ],
)
def test_hostile_names_stay_in_their_place(
    server: Server, get: Fetch, weights: bytes, cache: Path, disposition: str, name: str
) -> None:
    server.routes["/model"] = Served(weights, disposition=disposition)
    path = get("/model")
    assert path.name == name
    assert path.parent.parent.parent == cache / "downloads"
    assert path.read_bytes() == weights


def test_the_callers_name_comes_first(server: Server, get: Fetch, weights: bytes) -> None:
    server.routes[LORA] = Served(weights, disposition='attachment; filename="theirs.safetensors"')
    assert get(name="ours.safetensors").name == "ours.safetensors"


def test_a_checkpoint_is_named_as_one(server: Server, get: Fetch, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02}.")
    server.routes["/download/12"] = Served(archive.read_bytes())
    path = get("/download/12")
    assert path.name == "12.ckpt"
    assert path.read_bytes() == archive.read_bytes()


def test_a_truncated_checkpoint_is_refused(server: Server, get: Fetch, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", bytes(2000))
    server.routes["/m.ckpt"] = Served(archive.read_bytes()[:1500])
    with pytest.raises(InputError, match="damaged or incomplete"):
        get("/m.ckpt")


@pytest.mark.parametrize("content", [b"", b"GGUF\x03\0\0\0" + bytes(600), bytes(2000)])
def test_what_is_no_weights_is_refused(server: Server, get: Fetch, content: bytes) -> None:
    server.routes[LORA] = Served(content)
    with pytest.raises(InputError, match="Check the URL"):
        get()


def test_too_small_a_disk_is_noticed_before_anything_is_written(
    server: Server, get: Fetch, weights: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.routes[LORA] = Served(weights)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, (256 << 20) + 1000))
    with pytest.raises(OutputError, match=r"too little space.*FRACTURE_SD_CACHE"):
        get()
    assert sum(p.stat().st_size for p in cache.rglob("partial")) == 0


def test_a_stream_of_unknown_length_stops_before_the_disk_is_full(
    server: Server, get: Fetch, weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.routes[LORA] = Served(weights, sized=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 256 << 20))
    with pytest.raises(OutputError, match="too little space"):
        get()


def test_a_cache_that_cannot_be_written(
    server: Server, get: Fetch, weights: bytes, cache: Path
) -> None:
    server.routes[LORA] = Served(weights)
    cache.write_text("a file")
    with pytest.raises(OutputError, match=r"cache .* cannot be used.*FRACTURE_SD_CACHE"):
        get()


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("ftp://127.0.0.1/x", "only http and https"),
        ("file:///etc/passwd", "only http and https"),
        ("lora.safetensors", "only http and https"),
        ("http://", "malformed"),
        ("http://[::1/x", "malformed"),
        ("http://127.0.0.1:99999/x", "malformed"),
        ("http://127.0.0.1/\u202ex", "malformed"),
        ("http://ann:secret@127.0.0.1/x", "user name or password"),
    ],
)
def test_wrong_addresses(get: Fetch, url: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault) as raised:
        get(url)
    assert "secret" not in str(raised.value)


def test_nobody_listens(get: Fetch, server: Server) -> None:
    url = server.url(LORA)
    server.server_close()
    with pytest.raises(InputError, match=r"in 3 attempts: 127\.0\.0\.1 cannot be reached"):
        get(url)


def test_an_unknown_host(get: Fetch) -> None:
    with pytest.raises(InputError, match=r"cannot be resolved \(is there a network"):
        get("http://nowhere.invalid/x", limits=Limits(attempts=1))


def test_redirects_end(server: Server, get: Fetch) -> None:
    server.redirect("/loop", "/loop")
    with pytest.raises(InputError, match="more than 3 times"):
        get("/loop", limits=Limits(redirects=3))
    assert len(server.seen) == 4


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "http://[", "http://a:b@127.0.0.1/", "\xff"]
)
def test_redirects_to_nowhere(server: Server, get: Fetch, target: str) -> None:
    server.redirect(LORA, target)
    with pytest.raises(InputError):
        get()


def test_a_redirect_does_not_leave_encryption() -> None:
    secure = parse_address("https://civitai.com/api/download/models/1")
    assert redirect_target(secure, "/login").url == "https://civitai.com/login"
    assert redirect_target(secure, "//store.example/x").scheme == "https"
    with pytest.raises(InputError, match=r"unencrypted address at store\.example"):
        redirect_target(secure, "http://store.example/x")
    assert redirect_target(parse_address("http://a.example/"), "https://b.example/").port == 443


def test_the_body_of_a_redirect_is_not_read(server: Server, get: Fetch, weights: bytes) -> None:
    def endless(exchange: Exchange) -> None:
        exchange.begin(307, {"Location": "/file.safetensors"})
        server.released.wait(20)

    server.routes[LORA] = endless
    server.routes["/file.safetensors"] = Served(weights)
    assert get().read_bytes() == weights


def test_messages_are_one_line_without_the_query(
    server: Server, get: Fetch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server.routes[LORA] = Served(b"", fails=[500, 500, 500])
    with pytest.raises(InputError) as raised:
        get(f"{LORA}?X-Amz-Signature=secret")
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value) + caplog.text


def test_a_compressed_answer_is_refused(server: Server, get: Fetch, weights: bytes) -> None:
    server.routes[LORA] = Served(weights, headers={"Content-Encoding": "gzip"})
    with pytest.raises(InputError, match="compressed"):
        get()


def test_progress_shows_name_and_size(
    server: Server, get: Fetch, weights: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    server.routes[LORA] = Served(weights)
    get(progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "lora.safetensors: 100%" in shown.err
    assert "1.14M/1.14M" in shown.err


def test_each_status_has_its_word(server: Server, get: Fetch) -> None:
    def teapot(exchange: Exchange) -> None:
        exchange.reply(418, {}, b'{"message": "I am a\\nteapot"}')

    server.routes["/teapot"] = teapot
    with pytest.raises(InputError, match=r"There is nothing at .*status 404"):
        get("/missing")
    with pytest.raises(InputError, match=r'status 418\. It says: "I am a teapot"'):
        get("/teapot")
    assert len(server.seen) == 2


def test_a_passing_failure_passes(server: Server, get: Fetch, weights: bytes) -> None:
    server.routes[LORA] = Served(weights, fails=[503, 429], headers={"Retry-After": "86400"})
    assert get().read_bytes() == weights
    assert len(server.seen) == 3


def test_pauses_double_and_heed_the_server(
    server: Server, get: Fetch, weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("convert.downloads.fetch.time.sleep", pauses.append)
    patient = Limits(attempts=9, backoff_s=1.0, longest_pause_s=60.0)
    server.routes[LORA] = Served(weights, fails=[500, 502, 504])
    get(limits=patient)
    assert pauses == [1, 2, 4]
    pauses.clear()
    asked = iter(["7", "86400", "Wed, 21 Oct 2015 07:28:00 GMT"])

    def busy(exchange: Exchange) -> None:
        if wait := next(asked, None):
            exchange.reply(503, {"Retry-After": wait})
        else:
            Served(weights).answer(exchange)

    server.routes["/busy"] = busy
    get("/busy", limits=patient)
    assert pauses == [7, 60, 4]


def test_a_lasting_failure_ends_after_the_attempts(server: Server, get: Fetch) -> None:
    server.routes[LORA] = Served(b"", fails=[500] * 9)
    with pytest.raises(InputError, match=rf"in {QUICK.attempts} attempts: .*status 500"):
        get()
    assert len(server.seen) == QUICK.attempts
