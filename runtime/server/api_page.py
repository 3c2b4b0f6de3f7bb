"""The page at `/`: files that are read once, with a policy that lets them load nothing foreign."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

PREFIX = "/page/"
"""Where the page's files are; like the page itself, they need no key."""

_FILES = Path(__file__).parent / "page"
_INDEX = "index.html"
_MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Cache-Control": "no-cache",
    # Pictures that the page has fetched with its key, or that its user chose, are blobs.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class _File:
    content: bytes
    media_type: str
    tag: str

    @classmethod
    def read(cls, path: Path) -> "_File":
        content = path.read_bytes()
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        return cls(content, _MEDIA_TYPES[path.suffix], tag)


def page_router() -> APIRouter:
    """The routes of the page."""
    files = {path.name: _File.read(path) for path in _FILES.iterdir() if path.is_file()}
    index = files.pop(_INDEX)
    router = APIRouter()

    async def page(http: Request) -> Response:
        return _answer(http, index)

    async def file(http: Request) -> Response:
        found = files.get(http.path_params["name"])
        if found is None:
            raise HTTPException(404, "the page has no such file")
        return _answer(http, found)

    router.add_route("/", page, include_in_schema=False)
    router.add_route(PREFIX + "{name}", file, include_in_schema=False)
    return router


def _answer(http: Request, file: _File) -> Response:
    headers = {**_HEADERS, "ETag": file.tag}
    if http.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
