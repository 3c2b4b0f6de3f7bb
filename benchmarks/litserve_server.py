"""LitServe around the same engines: python -m benchmarks.litserve_server PORT BUNDLE.

It runs in an environment of its own, with litserve and what the runtime needs (numpy, pillow,
tokenizers, tqdm). The class is the module's, for LitServe pickles it.
"""

import argparse
import base64
import sys
from pathlib import Path
from typing import Any

import litserve

from benchmarks.stub_server import make_picture, stub_pipeline


class PictureApi(litserve.LitAPI):  # type: ignore[misc]
    """One picture at a time, as base64 of its PNG file."""

    def __init__(self, bundle: Path) -> None:
        super().__init__()
        self._bundle = bundle

    def setup(self, device: str) -> None:
        """In LitServe's worker: open the pipeline."""
        self._pipeline = stub_pipeline(self._bundle)

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        """The body, as it is."""
        return request

    def predict(self, body: dict[str, Any]) -> bytes:
        """The PNG file."""
        return make_picture(self._pipeline, body)

    def encode_response(self, output: bytes) -> dict[str, list[str]]:
        """As the webui answers."""
        return {"images": [base64.b64encode(output).decode()]}


def main() -> int:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("bundle", type=Path)
    options = parser.parse_args()
    server = litserve.LitServer(PictureApi(options.bundle), accelerator="cpu", timeout=False)
    server.run(host="127.0.0.1", port=options.port, generate_client_file=False, log_level="warning")
    return 0


if __name__ == "__main__":
    sys.exit(main())
