"""Pictures that clients send: what is read, and what is refused before it costs anything."""

import base64
import io
import struct
import time
import zlib
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from starlette.testclient import TestClient

from engines.errors import InputError
from runtime.exif import pack_exif
from runtime.server.given_pictures import open_picture
from tests.runtime.server.stub import Stub

MOST = 2048 * 2048
MOST_SECONDS = 4.0
"""Of processors, a hundred times what a refusal takes: decoding a bomb would take as many again."""
TOLD = "a cat\nNegative prompt: dog\nSteps: 4, Seed: 7"


def png(width: int, height: int, text: str = "") -> str:
    file, texts = io.BytesIO(), PngInfo()
    texts.add_text("parameters", text)
    Image.new("L", (width, height)).save(file, "PNG", pnginfo=texts)
    return base64.b64encode(file.getvalue()).decode()


def bomb(side: int) -> str:
    """A small file that says that it is large: to decode it would take the memory it asks for."""
    content = bytearray(base64.b64decode(png(8, 8)))
    content[16:24] = struct.pack(">II", side, side)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return base64.b64encode(content).decode()


def file_of(kind: str, **options: Any) -> bytes:
    """A grey picture, 24 wide and 16 high."""
    file = io.BytesIO()
    Image.new("RGB", (24, 16), "grey").save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">L", len(content))
        + kind
        + content
        + struct.pack(">L", zlib.crc32(kind + content))
    )


def with_chunk(kind: bytes, content: bytes) -> str:
    """A PNG file with one more chunk behind its header."""
    picture = file_of("PNG")
    return base64.b64encode(picture[:33] + chunk(kind, content) + picture[33:]).decode()


def scans(count: int) -> bytes:
    """A progressive JPEG file of 4 million pixels whose last scan, of 16 bytes, is there often."""
    file = io.BytesIO()
    Image.new("L", (2048, 2048)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    last = content[content.rindex(b"\xff\xda") : -2]
    assert len(last) < 20
    return content[:-2] + last * (count - content.count(b"\xff\xda")) + content[-2:]


def sideways(*, damaged: bool) -> bytes:
    """A picture that was taken sideways; damaged, its EXIF has a text where numbers belong."""
    entries = struct.pack(">HHLHH", 0x0112, 3, 1, 6, 0)
    if damaged:
        entries += struct.pack(">HHL4s", 0x011F, 2, 4, b"abc\0")
    exif = b"Exif\0\0MM\0*" + struct.pack(">LH", 8, 1 + damaged) + entries + bytes(4)
    return file_of("PNG", exif=exif)


ZEROS = zlib.compress(bytes(2**26))
"""64 MB in 64 kB."""


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (bomb(20_000), "too many pixels"),
        (bomb(5_000), "5000x5000 pixels"),
        (png(2049, 2048), "2049x2048 pixels"),
        (with_chunk(b"iTXt", b"parameters\0\1\0\0\0" + ZEROS), "too large"),
        (with_chunk(b"zTXt", b"parameters\0\0" + ZEROS), "too large"),
        (with_chunk(b"iCCP", b"icc\0\0" + ZEROS), "too large"),
        (base64.b64encode(scans(20_000)).decode(), "more than 100 scans"),
        ("%%%", "no base64"),
        ("/etc/passwd", "no base64"),
        ("file:///etc/passwd", "no base64"),
        ("http://127.0.0.1/a.png", "no base64"),
        (base64.b64encode(file_of("GIF")).decode(), "is no PNG, JPEG or WEBP file."),
        (base64.b64encode(file_of("TIFF")).decode(), "is no PNG, JPEG or WEBP file."),
        (base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'/>").decode(), "is no PNG"),
        (png(64, 64)[:80], "is no PNG, JPEG or WEBP file."),
        (png(64, 64)[:96], "cannot be read as PNG, JPEG or WEBP: "),
        ("data:image/png;base64,", "is no PNG, JPEG or WEBP file."),
    ],
)
def test_pictures_that_are_bombs_or_none(stub: Stub, image: str, message: str) -> None:
    """In every field that takes a picture, at once, and without a word about the server."""
    with stub.client() as client:
        for path, body, field in (
            ("/sdapi/v1/png-info", {"image": image}, "image"),
            ("/sdapi/v1/img2img", {"init_images": [image]}, "init_images"),
            ("/sdapi/v1/img2img", {"init_images": [png(8, 8)], "mask": image}, "mask"),
            ("/v1/jobs", {"prompt": "", "init": {"picture": image}}, "init.picture"),
        ):
            began = time.process_time()
            answer = client.post(path, json=body)
            assert time.process_time() - began < MOST_SECONDS
            assert answer.status_code == 400
            assert message in answer.text
            assert field in answer.text
            assert " at 0x" not in answer.text


def test_usual_progressive_files_are_read() -> None:
    assert open_picture(scans(100), "image", MOST).size == (2048, 2048)
    with pytest.raises(InputError, match="more than 100 scans"):
        open_picture(scans(101), "image", MOST)


def test_pictures_are_turned_as_their_camera_says() -> None:
    assert open_picture(sideways(damaged=False), "image", MOST).size == (16, 24)
    with pytest.raises(InputError, match="image cannot be read as PNG"):
        open_picture(sideways(damaged=True), "image", MOST)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_pictures_that_move_are_refused(kind: str) -> None:
    moving = file_of(kind, save_all=True, append_images=[Image.new("RGB", (24, 16), "red")])
    with pytest.raises(InputError, match=r"image cannot be read as .* it is animated"):
        open_picture(moving, "image", MOST)


def test_png_info_of_pictures_with_text_and_without(stub: Stub) -> None:
    """The webui reads the EXIF of JPEG and WebP files too."""
    with stub.client() as client:
        lossy = [file_of(kind, exif=pack_exif(TOLD)) for kind in ("JPEG", "WEBP")]
        for image in (png(8, 8, TOLD), *(base64.b64encode(each).decode() for each in lossy)):
            answer = read_info(client, f"data:image/png;base64,{image}")
            assert answer["info"] == TOLD
            assert answer["parameters"]["Negative prompt"] == "dog"
            assert answer["parameters"]["Seed"] == "7"
        for image in (png(8, 8), base64.b64encode(file_of("JPEG")).decode()):
            assert read_info(client, image) == {"info": "", "items": {}, "parameters": {}}


def read_info(client: TestClient, image: str) -> dict[str, Any]:
    answer = client.post("/sdapi/v1/png-info", json={"image": image})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())
