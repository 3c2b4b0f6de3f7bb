"""Server-sent events, as the WHATWG HTML standard has them (section 9.2)."""

import asyncio
import json
from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse

from engines.identity import Json

KEEP_ALIVE_SECONDS = 15.0
"""How long a stream may be silent: proxies close what is silent for longer than a minute."""


def format_event(event: str, data: Json) -> bytes:
    """One event with JSON as its data."""
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()


def stream_events(events: AsyncIterator[bytes]) -> StreamingResponse:
    """Answer with events as they come, and with comments while there are none."""
    return StreamingResponse(
        _kept_alive(events),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _kept_alive(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    following = asyncio.ensure_future(anext(events))
    try:
        while True:
            done, _ = await asyncio.wait({following}, timeout=KEEP_ALIVE_SECONDS)
            if not done:
                yield b": still here\n\n"
                continue
            try:
                yield following.result()
            except StopAsyncIteration:
                return
            following = asyncio.ensure_future(anext(events))
    finally:
        following.cancel()
