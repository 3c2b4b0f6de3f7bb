"""uvicorn's HTTP protocol, with answers that go out at once and a limit on the time of a head.

uvicorn limits how long a connection may be silent after an answer, not how slowly a head may be
sent: clients that send a byte now and then would keep their connections for good. The time that a
body takes is `middleware.BodyLimit`'s; what is left of a body that was refused is this one's.
"""

import asyncio
import socket

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def limited_protocol(seconds: float) -> type[H11Protocol]:
    """The protocol, over TCP; it closes connections whose head is not complete within `seconds`."""

    class LimitedProtocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            # asyncio does so only for sockets that were made with the protocol's number; without
            # it, an answer's body waits 40 ms for the client's acknowledgement of its head
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._limit()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._limit()

        def connection_lost(self, exc: Exception | None) -> None:
            self._cancel()
            super().connection_lost(exc)

        def _limit(self) -> None:
            if self._answering or self.transport.is_closing():
                self._cancel()
            elif self._timer is None:
                self._timer = self.loop.call_later(seconds, self._give_up)

        def _cancel(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        @property
        def _answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _give_up(self) -> None:
            self._timer = None
            if self._answering or self.transport.is_closing():
                return
            begun, _ = self.conn.trailing_data
            if begun and self.conn.our_state is h11.IDLE:
                headers = [("Connection", "close"), ("Content-Length", "0")]
                answer = h11.Response(status_code=408, headers=headers, reason=b"Request Timeout")
                self.transport.write(self.conn.send(answer) or b"")
            self.transport.close()

    return LimitedProtocol
