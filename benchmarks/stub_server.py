"""Our server on engines that cost nothing: python -m benchmarks.stub_server PORT BUNDLE."""

import argparse
import sys
from pathlib import Path
from typing import Any

from engines.backend import Choice
from engines.bundle import open_bundle
from runtime.pipeline import Pipeline
from runtime.request import Request
from tests.runtime.stand_ins import StandInBackend


def stub_pipeline(bundle: Path) -> Pipeline:
    """A pipeline on engines that compute next to nothing."""
    return Pipeline(open_bundle(bundle), Choice(StandInBackend(), "asked for"))


def make_picture(pipeline: Pipeline, body: dict[str, Any]) -> bytes:
    """The PNG file of one request, as both servers make it."""
    request = Request(body["prompt"], seed=body["seed"], steps=body["steps"])
    (picture,) = pipeline.generate(pipeline.settle([request]))
    return picture.png()


def main() -> int:
    """Serve as `runtime serve` does, one picture at a time, until a signal."""
    from runtime.server.program import run_server  # LitServe's environment has no need of it
    from runtime.server.service import Service
    from runtime.server.settings import ServerSettings

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("bundle", type=Path)
    options = parser.parse_args()
    settings = ServerSettings(port=options.port, slots=1, queue=10_000)
    run_server(Service(settings, stub_pipeline(options.bundle)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
