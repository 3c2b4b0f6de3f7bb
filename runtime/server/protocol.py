"""uvicorn's HTTP protocol, with answers that go out at once and limits on what a client holds.

uvicorn limits how long a connection may be silent after an answer, but neither how slowly a head
may be sent nor how slowly an answer may be read: such clients would keep their connections for
good. The time that a body takes is `middleware.BodyLimit`'s; what is left of a refused body is this
one's.
"""

import asyncio
import socket
from collections.abc import Callable

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from runtime.server.connections import Connections
from runtime.server.metrics import Closed


def limited_protocol(seconds: float, connections: Connections) -> type[H11Protocol]:
    """The protocol, over TCP.

    Args:
        seconds: a connection is closed whose head takes longer, or whose client takes nothing of
            its answer for as long.
        connections: are counted, and limited, there.
    """

    class LimitedProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._head_timer = _Timer(self.loop, seconds)
            self._answer_timer = _Timer(self.loop, seconds)
            # asyncio does so only for sockets that were made with the protocol's number; without
            # it, an answer's body waits 40 ms for the client's acknowledgement of its head
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport.set_write_buffer_limits(0)  # to know of every byte that is not taken
            if connections.admit(self):
                self._limit_head()
            else:
                self.abort()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._limit_head()

        def on_response_complete(self) -> None:
            connections.mark_used(self)
            super().on_response_complete()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._limit_answer()

        def resume_writing(self) -> None:
            self._answer_timer.stop()
            super().resume_writing()

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_timer.stop()
            self._answer_timer.stop()
            connections.remove(self)
            super().connection_lost(exc)

        @property
        def busy(self) -> bool:
            return self._answering or self.transport.get_write_buffer_size() > 0

        def abort(self) -> None:
            self.transport.abort()

        @property
        def _answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _limit_head(self) -> None:
            if self._answering or self.transport.is_closing():
                self._head_timer.stop()
            elif not self._head_timer.runs:
                self._head_timer.start(self._give_head_up)

        def _give_head_up(self) -> None:
            if self._answering or self.transport.is_closing():
                return
            begun, _ = self.conn.trailing_data
            if begun and self.conn.our_state is h11.IDLE:
                headers = [("Connection", "close"), ("Content-Length", "0")]
                answer = h11.Response(status_code=408, headers=headers, reason=b"Request Timeout")
                self.transport.write(self.conn.send(answer) or b"")
            connections.count_closed(Closed.SLOW_HEAD)
            self.transport.close()

        def _limit_answer(self) -> None:
            left = self.transport.get_write_buffer_size()

            def give_up() -> None:
                if self.transport.get_write_buffer_size() < left:
                    self._limit_answer()
                else:
                    connections.count_closed(Closed.SLOW_READER)
                    self.abort()

            self._answer_timer.start(give_up)

    return LimitedProtocol


class _Timer:
    """Calls something once after some seconds, unless it is stopped before."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._handle: asyncio.TimerHandle | None = None

    @property
    def runs(self) -> bool:
        return self._handle is not None

    def start(self, callback: Callable[[], None]) -> None:
        def call() -> None:
            self._handle = None
            callback()

        self._handle = self._loop.call_later(self._seconds, call)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
