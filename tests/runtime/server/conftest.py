"""Servers on stand-in engines."""

import dataclasses
import time
from collections.abc import Iterator

import pytest

from engines import layout
from engines.bundle import Bundle
from runtime.server import progress
from tests.runtime.server.stub import Stub, live
from tests.runtime.stand_ins import open_stand_in


@pytest.fixture(scope="session")
def stand_in_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_stand_in(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def stub(stand_in_bundle: Bundle) -> Stub:
    return Stub(stand_in_bundle)


@pytest.fixture
def address(stub: Stub) -> Iterator[str]:
    """Where `stub` listens."""
    with live(stub) as address:
        yield address


@pytest.fixture
def seeing(stand_in_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """A server whose bundle has a map for previews, of which each row makes one."""
    monkeypatch.setattr(progress, "PREVIEW_SECONDS", 0.0)
    factors = ((0.3, 0.0, 0.1), (0.0, 0.3, 0.1), (0.1, 0.0, 0.3), (0.1, 0.1, 0.1), (0.0, 0.0, 0.0))
    manifest = stand_in_bundle.manifest
    latents = dataclasses.replace(manifest.latents, preview=factors)
    bundle = dataclasses.replace(
        stand_in_bundle, manifest=dataclasses.replace(manifest, latents=latents)
    )
    stub = Stub(bundle)
    stub.backend.on_call[layout.UNET] = lambda batch: time.sleep(0.006)
    return stub
