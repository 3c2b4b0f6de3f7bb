"""OpenAI's multipart forms: a picture, perhaps a mask, and fields as texts."""

import re
import sys
from contextlib import aclosing
from typing import Any

from fastapi.exceptions import RequestValidationError
from PIL import Image
from pydantic import ValidationError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from engines.errors import SettingError
from runtime.server.faults import Fault, FaultError, Kind
from runtime.server.given_pictures import open_picture
from runtime.server.openai_bodies import ChangeBody

_MOST_FILES = 4
_MOST_FIELDS = 40
_IMAGE_NAMES = ("image", "image[]")
_FILE_NAMES = (*_IMAGE_NAMES, "mask")
_BOUNDARY = re.compile(rb"[\w'()+,./:=? -]{1,70}", re.ASCII)
"""As RFC 2046 (section 5.1.1) has it."""


class _FormParser(MultiPartParser):
    """Keeps files in memory: where this is deployed, there is nowhere to write."""

    spool_max_size = sys.maxsize


async def read_form(
    http: Request, max_pixels: int
) -> tuple[ChangeBody, Image.Image, Image.Image | None]:
    """The fields, the picture and the mask of a form.

    Raises:
        FaultError: the client went away.
        RequestValidationError: a field has no possible value.
        SettingError: it is no form, there is not one picture, a text where a file should be, or a
            field more than once.
        InputError: a picture cannot be read or is too large.
    """
    form = await _parse(http)
    try:
        images = [file for name in _IMAGE_NAMES for file in form.getlist(name)]
        masks = form.getlist("mask")
        given = [(name, text) for name, text in form.multi_items() if name not in _FILE_NAMES]
        fields = dict(given)
        if len(fields) < len(given):
            raise SettingError("The form has a field more than once.")
        try:
            body = ChangeBody.model_validate(fields)
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from error
        if len(images) != 1 or len(masks) > 1:
            raise SettingError(
                f"image: {len(images)} pictures and {len(masks)} masks; give one picture, and one "
                "mask at most."
            )
        image = await _open("image", images[0], max_pixels)
        mask = await _open("mask", masks[0], max_pixels) if masks else None
    finally:
        await form.close()
    return body, image, mask


def form_schema(*files: str) -> dict[str, Any]:
    """What OpenAPI is told of such a form."""
    schema = ChangeBody.model_json_schema()
    schema["properties"] |= {name: {"type": "string", "format": "binary"} for name in files}
    schema["required"] = [*schema.get("required", ()), "image"]
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


async def _parse(http: Request) -> FormData:
    """The form, as UTF-8 whatever charset it says: some of Python's are slow on purpose."""
    kind, options = parse_options_header(http.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not _BOUNDARY.fullmatch(boundary):
        raise SettingError("The request is no multipart/form-data: send the picture in a form.")
    headers = Headers({"content-type": f'multipart/form-data; boundary="{boundary.decode()}"'})
    try:
        async with aclosing(http.stream()) as stream:
            parser = _FormParser(headers, stream, max_files=_MOST_FILES, max_fields=_MOST_FIELDS)
            return await parser.parse()
    except MultiPartException as error:
        raise SettingError(f"The form cannot be read: {error.message}") from error
    except ClientDisconnect as error:
        raise FaultError(Fault(Kind.CANCELLED, "The client went away.")) from error


async def _open(name: str, file: UploadFile | str, max_pixels: int) -> Image.Image:
    if isinstance(file, str):
        raise SettingError(f"{name}: this is a text; send the picture as a file.")
    content = await file.read()
    return await run_in_threadpool(open_picture, content, name, max_pixels)
