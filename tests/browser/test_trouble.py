"""What the page says when the server refuses, is full, is gone, or wants a key."""

import asyncio
import base64

import pytest
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from engines.bundle import Bundle
from tests.browser.conftest import listening
from tests.browser.page import Page, at_a_desk
from tests.runtime.server.stub import Stub, live
from tests.waiting import PATIENCE

KEY = "wonderland"
FULL = "1 pictures are waiting and 1 is the most"

pytestmark = at_a_desk


class BasicGate:
    """A proxy in front that lets in who has its password."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = b"Basic " + base64.b64encode(f"alice:{KEY}".encode())
        if scope["type"] == "http" and (b"authorization", wanted) not in scope["headers"]:
            challenge = {"WWW-Authenticate": 'Basic realm="gate"'}
            await Response(status_code=401, headers=challenge)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class Line:
    """A connection to the server that can be cut."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._answers: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = asyncio.ensure_future(self._app(scope, receive, send))
        if scope["type"] == "http":
            self._answers.add(answer)
        try:
            await asyncio.wait({answer})
        finally:
            self._answers.discard(answer)
        if answer.cancelled():
            raise ConnectionAbortedError
        answer.result()

    def cut(self) -> None:
        """Break off every answer on its way."""
        for answer in list(self._answers):
            answer.get_loop().call_soon_threadsafe(answer.cancel)


def alert(page: Page) -> str:
    """What is told of the whole form."""
    return str(page.find("[role=alert]").text)


def test_a_key_is_asked_for_and_kept_for_the_tab(page: Page, stand_in_bundle: Bundle) -> None:
    with live(Stub(stand_in_bundle, keys={"alice": KEY})) as address:
        page.open(f"{address}/")
        page.wait(lambda: page.find("#key-form").is_displayed())
        assert not page.find("#work").is_displayed()
        page.press("Use it")
        assert page.faults() == {"key": "This is missing."}
        page.fill("Key", "looking-glass")
        page.press("Use it")
        page.wait(lambda: page.faults() == {"key": "The key was refused."})
        page.fill("Key", KEY)
        page.press("Use it")
        page.wait(lambda: page.find("#request").is_displayed())
        page.generate()
        page.wait(lambda: page.cards() == 1)
        page.driver.refresh()
        page.wait(lambda: page.cards() == 1)
        page.press("Forget the key")
        page.wait(lambda: page.find("#key-form").is_displayed())
        assert page.script("return localStorage.length + sessionStorage.length") == 0


def test_a_key_may_be_in_the_address_or_asked_for_by_a_proxy(
    page: Page, stand_in_bundle: Bundle
) -> None:
    """A browser that has a password for the page sends it for what the page fetches."""
    stub = Stub(stand_in_bundle, keys={"alice": KEY})
    with listening(BasicGate(stub.app), stub.service) as address:
        page.open(f"{address.replace('//', f'//alice:{KEY}@')}/")
        page.wait(lambda: page.find("#request").is_displayed())
        page.generate()
        page.wait(lambda: page.cards() == 1)
        assert page.script("return sessionStorage.getItem('fracture-key')") is None


def test_refusals_of_the_server_are_shown(page: Page, stub: Stub, served: str) -> None:
    page.generate("[a|b:3]")
    page.wait(lambda: "prompt editing" in alert(page))
    assert page.all("#gallery li") == []
    stub.backend.fail("unet", RuntimeError("a mistake"))
    page.generate("a cat")
    page.wait(lambda: page.all("#gallery .state.fault"))
    assert alert(page) == ""
    assert "mistake" in page.find("#gallery .state").text


def test_a_full_queue_says_when_to_come_back(page: Page, stand_in_bundle: Bundle) -> None:
    stub = Stub(stand_in_bundle, slots=1, queue=1)
    with live(stub) as address:
        page.open(f"{address}/")
        page.wait(lambda: page.find("#request").is_displayed())
        with stub.backend.held() as waiting:
            page.generate()
            assert waiting.wait(PATIENCE)
            page.press("Generate")
            page.wait(lambda: len(page.all("#gallery li")) == 2)
            page.press("Generate")
            page.wait(lambda: FULL in alert(page))
            assert "There may be room in" in alert(page)
        page.wait(lambda: page.cards() == 2)
        page.press("Generate")
        page.wait(lambda: page.cards() == 3)
        assert alert(page) == ""


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_server_that_is_gone_is_waited_for(page: Page, stub: Stub, *, forgotten: bool) -> None:
    line = Line(stub.app)
    with listening(line, stub.service) as address:
        page.open(f"{address}/")
        page.wait(lambda: page.find("#request").is_displayed())
        with stub.backend.held() as waiting:
            page.generate()
            assert waiting.wait(PATIENCE)
            page.set_online(online=False)
            try:
                line.cut()
                page.wait(lambda: "Trying again" in page.find("#gallery .state").text)
                assert page.find("#gallery .cancel").is_enabled()
                page.press("Generate")
                page.wait(lambda: "cannot be reached" in alert(page))
                if forgotten:
                    (job,) = stub.service.jobs.unfinished()
                    stub.service.jobs.forget(job)
            finally:
                page.set_online(online=True)
            if forgotten:
                page.wait(lambda: "no longer has" in page.find("#gallery .state").text)
        if not forgotten:
            page.wait(lambda: page.cards() == 1)
