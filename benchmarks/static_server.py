"""A server with static batches, to compare with: python -m benchmarks.static_server PORT BUNDLE.

What waits starts together, is denoised to the end together, and is answered together; what comes
meanwhile waits. Pictures of a batch have the same number of steps, as in the simulation and as
pipelines of whole batches need it; all else may differ. The engines, their calls, the address and
the form of the answers are those of `runtime serve`.
"""

import argparse
import asyncio
import base64
import contextlib
import sys
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runtime.pipeline import Pipeline
from runtime.png import Picture
from runtime.request import Request, Settings
from runtime.server.capacity import ENTRIES


@dataclass(frozen=True, eq=False)
class Waiting:
    """A picture that waits, and where it is wanted."""

    settings: Settings
    made: asyncio.Future[Picture]


def take_batch(waiting: deque[Waiting], size: int) -> list[Waiting]:
    """Take at most `size` with as many steps as the first, in the order in which they came."""
    steps = waiting[0].settings.steps
    batch = [each for each in waiting if each.settings.steps == steps][:size]
    for each in batch:
        waiting.remove(each)
    return batch


class StaticBatches:
    """Makes one batch after the other."""

    def __init__(self, pipeline: Pipeline, size: int) -> None:
        """Make at most `size` pictures at once; nobody else uses `pipeline`."""
        self._pipeline = pipeline
        self._size = size
        self._waiting: deque[Waiting] = deque()
        self._came = asyncio.Event()

    async def make(self, request: Request) -> Picture:
        """Wait for the one picture that is asked for."""
        (settings,) = self._pipeline.settle([request])
        made: asyncio.Future[Picture] = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(settings, made))
        self._came.set()
        return await made

    async def work(self) -> None:
        """Make what is asked for, until cancelled."""
        while True:
            self._came.clear()
            while self._waiting:
                batch = take_batch(self._waiting, self._size)
                try:
                    pictures = await asyncio.to_thread(
                        self._make, [each.settings for each in batch]
                    )
                except Exception as error:  # for those who wait for it
                    for each in batch:
                        each.made.set_exception(error)
                    continue
                for each, picture in zip(batch, pictures, strict=True):
                    each.made.set_result(picture)
            await self._came.wait()

    def warm_up(self) -> None:
        """Load the engines and make one full batch."""
        self._make(self._pipeline.settle([Request("", seed=0, steps=2, count=self._size)]))

    def _make(self, settings: list[Settings]) -> list[Picture]:
        return list(self._pipeline.generate(settings))


def create_static_app(batches: StaticBatches) -> Starlette:
    """The app, which is ready when it has started."""

    @contextlib.asynccontextmanager
    async def working(_: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(batches.warm_up)
        task = asyncio.create_task(batches.work())
        yield
        task.cancel()

    async def ready(_: HttpRequest) -> Response:
        return Response()

    async def txt2img(http: HttpRequest) -> JSONResponse:
        body = await http.json()
        picture = await batches.make(
            Request(
                body["prompt"],
                seed=body["seed"],
                steps=body["steps"],
                sampler=body["sampler_name"],
            )
        )
        png = await asyncio.to_thread(picture.png)
        return JSONResponse({"images": [base64.b64encode(png).decode()]})

    return Starlette(
        routes=[Route("/readyz", ready), Route("/sdapi/v1/txt2img", txt2img, methods=["POST"])],
        lifespan=working,
    )


def main() -> int:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--size", type=int, default=4, help="pictures of a batch at most")
    options = parser.parse_args()
    with Pipeline.open(options.bundle, options.backend, ENTRIES * options.size) as pipeline:
        app = create_static_app(StaticBatches(pipeline, options.size))
        uvicorn.run(app, host="127.0.0.1", port=options.port, log_config=None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
