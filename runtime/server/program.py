"""The server as a program: uvicorn around the app, signals, and an end without lost jobs."""

import asyncio
import logging
import os
import resource
import socket
from types import FrameType

import uvicorn

from engines.errors import SettingError
from runtime.server.app import create_app
from runtime.server.connections import RESERVED
from runtime.server.protocol import limited_protocol
from runtime.server.service import JOIN_SECONDS, Service
from runtime.server.settings import ServerSettings

log = logging.getLogger(__name__)

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_BACKLOG = 2048
_FILES = 256  # that are open beside the connections: engines, libraries, pipes
_HEADER_BYTES = 32_768
_CLOSE_SECONDS = 5

STOP_SECONDS = _CLOSE_SECONDS + JOIN_SECONDS
"""How long the end takes at most, beside the drain."""


def run_server(service: Service) -> None:
    """Serve until a signal ends it: the first drains the jobs, the second stops at once.

    Raises:
        SettingError: the address cannot be listened on, or there may not be as many connections.
        UserError: the engines cannot be loaded.
    """
    settings = service.settings
    _allow_open_files(settings.max_connections)
    listener = _listen(settings)
    if not settings.keys and settings.host not in _LOOPBACK:
        log.warning(
            "listening on %s without keys: everyone who reaches the port can use the server "
            "(FRACTURE_KEYS)",
            settings.host,
        )
    server = _Server(server_config(service), service)
    host, port = listener.getsockname()[:2]
    log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    server.run(sockets=[listener])
    if service.worker.error is not None:
        raise service.worker.error


def server_config(service: Service) -> uvicorn.Config:
    """How uvicorn serves the app, with limits on heads, connections and the time of an end."""
    return uvicorn.Config(
        create_app(service),
        http=limited_protocol(service.settings.body_timeout, service.connections),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=service.settings.keep_alive,
        timeout_graceful_shutdown=_CLOSE_SECONDS,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        lifespan="on",
    )


class _Server(uvicorn.Server):
    """uvicorn's, but SIGTERM and SIGINT first drain, and it ends where the worker did."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._asked_to_end = False
        self._hurried = False
        self._draining: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: the first drains, the second ends at once."""
        self._hurried = self._asked_to_end
        self._asked_to_end = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to end."""
        if self._asked_to_end and self._draining is None:
            seconds = self._service.settings.drain
            log.info("stopping: no new jobs, %g seconds for those that there are", seconds)
            self._draining = asyncio.create_task(self._service.drain())
        if self._draining is not None and self._draining.done():
            self.should_exit = True
        if self._hurried:
            # not uvicorn's force_exit, which leaves the engines and whoever waits for an answer
            self._service.worker.stop(0)
            self.config.timeout_graceful_shutdown = 1
            self.should_exit = True
        if self._service.worker.error is not None:
            self.should_exit = True
        return await super().on_tick(counter)


def _allow_open_files(connections: int) -> None:
    """Without it, a connection too many would end in a listener that accepts none for a while."""
    needed = connections + RESERVED + _FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (OSError, ValueError) as error:
        raise SettingError(
            f"--max-connections {connections} needs {needed} open files, and the system allows "
            f"{hard}. Choose fewer, or raise the limit (ulimit -Hn, LimitNOFILE)."
        ) from error


def _listen(settings: ServerSettings) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        raise SettingError(
            f"Cannot listen on {settings.host} port {settings.port}: {_why(error)}. "
            "Choose another --host or --port."
        ) from error


def _why(error: OSError | UnicodeError) -> str:
    match error:
        case UnicodeError():  # of names with an empty label
            return "no such name is possible"
        case socket.gaierror():
            return str(error.strerror)
        case _:  # `create_server` adds the address to its own text
            return os.strerror(error.errno or 0)
