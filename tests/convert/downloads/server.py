"""A web server on this machine that serves one file well, or badly in every way that is asked."""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LONGEST_STALL_S = 20.0


@dataclass
class Served:
    """A file on the server and the server's manners.

    `cut` ends the answer after so many bytes of a whole answer, `stall` stops sending there;
    `claims` is what Content-Length says instead of the truth.
    """

    content: bytes
    etag: str | None = '"one"'
    modified: str | None = None
    disposition: str | None = None
    ranges: bool = True
    heeds_if_range: bool = True
    cut: int | None = None
    stall: int | None = None
    claims: int | None = None
    sized: bool = True
    fails: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def answer(self, exchange: "Exchange") -> None:
        """Send the file, or the remainder that was asked for."""
        if self.fails:
            exchange.reply(self.fails.pop(0))
            return
        start = self._start(exchange)
        headers = dict(self.headers)
        if self.etag:
            headers["ETag"] = self.etag
        if self.modified:
            headers["Last-Modified"] = self.modified
        if self.disposition:
            headers["Content-Disposition"] = self.disposition
        size = len(self.content)
        if start and start >= size:
            exchange.reply(416, {"Content-Range": f"bytes */{size}"})
            return
        if start:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        if self.sized:
            headers["Content-Length"] = str((self.claims or size) - start)
        exchange.begin(206 if start else 200, headers)
        stop = min(cut for cut in (self.cut, self.stall, size) if cut is not None)
        exchange.write(self.content[start : max(start, stop)])
        if self.stall is not None:
            exchange.server.released.wait(LONGEST_STALL_S)

    def _start(self, exchange: "Exchange") -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", exchange.headers.get("Range", ""))
        if asked is None or not self.ranges:
            return 0
        wanted = exchange.headers.get("If-Range")
        if self.heeds_if_range and wanted not in (self.etag, self.modified):
            return 0
        return int(asked[1])


class Exchange(BaseHTTPRequestHandler):
    """One request and its answer; the connection ends with it."""

    server: "Server"

    def do_GET(self) -> None:
        """Find the path's answer."""
        path = self.path.partition("?")[0]
        self.server.seen.append(self)
        route = self.server.routes.get(path)
        if route is None:
            self.reply(404)
        elif isinstance(route, Served):
            route.answer(self)
        else:
            route(self)

    def begin(self, status: int, headers: dict[str, str]) -> None:
        """Send the status line and the headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def write(self, content: bytes) -> None:
        """Send a part of the body; a client that went away is none of the server's business."""
        try:
            self.wfile.write(content)
            self.wfile.flush()
        except OSError:
            self.close_connection = True

    def reply(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        """Send a whole answer."""
        self.begin(status, {"Content-Length": str(len(body)), **(headers or {})})
        self.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Say nothing."""


Route = Served | Callable[[Exchange], None]


class Server(ThreadingHTTPServer):
    """Serves `routes` on 127.0.0.1 and remembers every request in `seen`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.routes: dict[str, Route] = {}
        self.seen: list[Exchange] = []
        self.released = threading.Event()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """The address of a path, under one of this machine's names."""
        return f"http://{host}:{self.server_address[1]}{path}"

    def redirect(self, path: str, target: str, status: int = 307) -> None:
        """Send whoever asks for `path` on to `target`."""
        self.routes[path] = lambda exchange: exchange.reply(status, {"Location": target})
