"""Servers on stand-in engines."""

import pytest

from engines.bundle import Bundle
from tests.runtime.server.stub import Stub
from tests.runtime.stand_ins import open_stand_in


@pytest.fixture(scope="session")
def stand_in_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_stand_in(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def stub(stand_in_bundle: Bundle) -> Stub:
    return Stub(stand_in_bundle)
