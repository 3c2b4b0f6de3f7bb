"""Chromium without a screen, at a desk's and at a phone's size, and servers for it."""

import contextlib
import dataclasses
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.types import ASGIApp

from engines.bundle import Bundle
from runtime.pipeline import Pipeline
from runtime.server.app import create_app
from runtime.server.service import Service
from runtime.server.settings import ServerSettings
from tests.browser.page import Page
from tests.runtime.server.stub import Stub, live
from tests.runtime.stand_ins import open_stand_in
from tests.waiting import PATIENCE, wait_until

MISSING = (
    "needs Chromium: `apt-get install chromium chromium-driver`, or CHROMIUM and CHROMEDRIVER "
    "with their paths"
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
DESK = (1280, 900)
PHONE = (390, 844)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shots", type=Path, help="keep pictures of the browser's window here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


def _program(variable: str, name: str) -> str | None:
    return os.environ.get(variable) or shutil.which(name)


@pytest.fixture(scope="session", params=["desk", "phone"])
def screen(request: pytest.FixtureRequest) -> str:
    """Which of the two sizes; a phone's has a finger instead of a mouse."""
    return str(request.param)


@pytest.fixture(scope="session")
def page(screen: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A browser of that size."""
    chromium = _program("CHROMIUM", "chromium")
    chromedriver = _program("CHROMEDRIVER", "chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip(MISSING)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service as Driver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.add_argument(f"--window-size={DESK[0]},{DESK[1]}")
    downloads = tmp_path_factory.mktemp("downloads")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    if screen == "phone":
        metrics = {"width": PHONE[0], "height": PHONE[1], "pixelRatio": 1.0, "touch": True}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    driver = webdriver.Chrome(options=options, service=Driver(executable_path=chromedriver))
    try:
        yield Page(driver, downloads, touch=screen == "phone")
    finally:
        driver.quit()


@contextlib.contextmanager
def listening(app: ASGIApp, service: Service) -> Iterator[str]:
    """An app around a service, on a loopback port; gives its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until(lambda: service.worker.capacity is not None)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def stand_in_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Stand-ins of a look with trained tags, all of which one preset puts in."""
    bundle = open_stand_in(tmp_path_factory.mktemp("bundle"))
    presets = dict(bundle.manifest.presets)
    presets["cracked"] = dataclasses.replace(presets["cracked"], tags="all")
    tags = {"offset": {}, "look": {"cracked skin": 9, "shattered skin": 5, "glass": 2}}
    manifest = dataclasses.replace(bundle.manifest, presets=presets, trained_tags=tags)
    return dataclasses.replace(bundle, manifest=manifest)


@pytest.fixture
def stub(stand_in_bundle: Bundle) -> Stub:
    """Stand-in engines."""
    return Stub(stand_in_bundle)


@pytest.fixture
def served(stub: Stub, page: Page) -> Iterator[str]:
    """The address of their server, whose page is open in the browser."""
    with live(stub) as address:
        page.open(f"{address}/")
        page.wait(lambda: page.find("#request").is_displayed())
        yield f"{address}/"


@pytest.fixture(scope="session")
def demo_address(demo_bundle_fp32: Path) -> Iterator[str]:
    """A server of the demo model on ONNX Runtime's CPU provider."""
    service = Service(ServerSettings(slots=1), Pipeline.open(demo_bundle_fp32, "cpu"))
    with listening(create_app(service), service) as address:
        yield address
