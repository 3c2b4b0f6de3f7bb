"""OpenAI's multipart forms: a picture, perhaps a mask, and fields as texts."""

from typing import Any

from fastapi.exceptions import RequestValidationError
from PIL import Image
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request

from engines.errors import SettingError
from runtime.server.given_pictures import open_picture
from runtime.server.openai_bodies import ChangeBody

_MOST_FILES = 4
_MOST_FIELDS = 40
_IMAGE_NAMES = ("image", "image[]")


async def read_form(
    http: Request, max_pixels: int
) -> tuple[ChangeBody, Image.Image, Image.Image | None]:
    """The fields, the picture and the mask of a form.

    Raises:
        RequestValidationError: a field has no possible value.
        SettingError: there is not one picture, or a file where a text should be.
        InputError: a picture cannot be read or is too large.
    """
    async with http.form(max_files=_MOST_FILES, max_fields=_MOST_FIELDS) as form:
        images = [file for name in _IMAGE_NAMES for file in form.getlist(name)]
        masks = form.getlist("mask")
        fields = {name: text for name, text in form.items() if name not in (*_IMAGE_NAMES, "mask")}
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
    return body, image, mask


def form_schema(*files: str) -> dict[str, Any]:
    """What OpenAPI is told of such a form."""
    schema = ChangeBody.model_json_schema()
    schema["properties"] |= {name: {"type": "string", "format": "binary"} for name in files}
    schema["required"] = [*schema.get("required", ()), "image"]
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


async def _open(name: str, file: UploadFile | str, max_pixels: int) -> Image.Image:
    if isinstance(file, str):
        raise SettingError(f"{name}: this is a text; send the picture as a file.")
    content = await file.read()
    return await run_in_threadpool(open_picture, content, name, max_pixels)
