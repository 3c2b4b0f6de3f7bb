"""The page on stand-in engines: keys, progress, refusals, foreign text, and who can use it."""

import io
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from engines.bundle import Bundle
from tests.browser.page import Page
from tests.runtime.server.stub import Stub, live

KEY = "wonderland"
MARKUP = "<img src=x onerror=\"document.title='taken'\"> & <b>cat</b>"

at_a_desk = pytest.mark.parametrize("screen", ["desk"], indirect=True)
"""For what does not depend on the size."""


@pytest.fixture
def served(stub: Stub) -> Iterator[str]:
    with live(stub) as address:
        yield f"{address}/"


def generate(page: Page, prompt: str = "a cat", **fields: str) -> None:
    page.fill("Prompt", prompt)
    for label, text in fields.items():
        page.fill(label.replace("_", " "), text)
    page.press("Generate")


def test_progress_a_preview_and_giving_up(page: Page, stub: Stub, served: str) -> None:
    page.open(served)
    page.wait(lambda: page.find("#request").is_displayed())
    shown = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(shown, "JPEG")
    with stub.backend.held() as waiting:
        generate(page)
        assert waiting.wait(5)
        (job,) = stub.service.jobs.unfinished()
        job.add_rows(2, shown.getvalue())
        page.wait(lambda: "Step 2 of 4" in page.find(".state").text)
        page.wait(lambda: page.script("return arguments[0].naturalWidth", page.find(".stage img")))
        assert page.find("progress").get_attribute("value") == "2"
        assert "Step 2 of 4" in page.find("[role=status]").text
        page.press("Cancel")
        page.wait(lambda: page.find("#gallery .state").text == "Cancelled")
        assert stub.service.jobs.unfinished() == []
    page.press("Dismiss")
    assert page.all("#gallery li") == []
    assert page.find("#empty").is_displayed()


@at_a_desk
def test_a_key_is_asked_for_and_kept_for_the_tab(page: Page, stand_in_bundle: Bundle) -> None:
    with live(Stub(stand_in_bundle, keys={"alice": KEY})) as address:
        page.open(f"{address}/")
        page.wait(lambda: page.find("#key-form").is_displayed())
        assert not page.find("#work").is_displayed()
        page.fill("Key", "looking-glass")
        page.press("Use it")
        page.wait(lambda: page.find("#notice").text == "The key was refused.")
        page.fill("Key", KEY)
        page.press("Use it")
        page.wait(lambda: page.find("#request").is_displayed())
        generate(page)
        page.wait(lambda: page.cards() == 1)
        page.driver.refresh()
        page.wait(lambda: page.cards() == 1)
        page.press("Forget the key")
        page.wait(lambda: page.find("#key-form").is_displayed())
        assert page.script("return localStorage.length") == 0
        assert KEY not in page.script("return JSON.stringify(sessionStorage)")


@at_a_desk
def test_a_reloaded_page_has_its_pictures_and_makes_them_again(page: Page, served: str) -> None:
    page.open(served)
    page.wait(lambda: page.find("#request").is_displayed())
    generate(page, Preset="glowing", Seed="5", Pictures="2", Width="72", Steps="3")
    page.wait(lambda: page.cards() == 2)
    page.driver.refresh()
    page.wait(lambda: page.cards() == 2)
    before = page.newest()
    page.press("Make it again", within="#gallery")
    page.wait(lambda: page.cards() == 3)
    again = page.newest()
    np.testing.assert_array_equal(np.asarray(again), np.asarray(before))
    assert again.info["parameters"] == before.info["parameters"]
    page.press("Use its settings", within="#gallery")
    page.wait(lambda: page.field("Seed").get_attribute("value") == "5")
    assert page.field("Width").get_attribute("value") == "72"
    assert page.field("Prompt").get_attribute("value") == "glowing, a cat, (dark skin:1.2)"


@at_a_desk
def test_refusals_are_shown_where_they_belong(page: Page, stub: Stub, served: str) -> None:
    page.open(served)
    page.wait(lambda: page.find("#request").is_displayed())
    page.script("document.getElementById('width').max = 9999")
    generate(page, Width="4096")
    page.wait(lambda: "4096" in page.find("[role=alert]").text)
    assert page.all("#gallery li") == []
    page.fill("Width", "64")
    stub.backend.fail("unet", RuntimeError("a mistake"))
    page.press("Generate")
    page.wait(lambda: page.all("#gallery .state.fault"))
    assert page.find("[role=alert]").text == ""
    assert "mistake" in page.find("#gallery .state").text


@at_a_desk
def test_text_is_never_markup(page: Page, stub: Stub, served: str) -> None:
    page.open(served)
    page.wait(lambda: page.find("#request").is_displayed())
    generate(page, MARKUP)
    page.wait(lambda: page.cards() == 1)
    assert page.find("#gallery .prompt").text == MARKUP
    assert page.find("#gallery img").get_attribute("alt") == MARKUP
    page.press("Everything about it", within="#gallery")
    assert page.find("#gallery pre").text.startswith(MARKUP)
    assert page.all("#gallery b") == []
    assert page.driver.title == "fracture-sd"


def test_a_chosen_picture_is_masked_by_keyboard(
    page: Page, stub: Stub, served: str, tmp_path: Path
) -> None:
    page.open(served)
    page.wait(lambda: page.find("#request").is_displayed())
    (tmp_path / "notes.png").write_text("no picture")
    page.find("#picture").send_keys(str(tmp_path / "notes.png"))
    page.wait(lambda: "notes.png cannot be read" in page.find("[role=alert]").text)
    Image.new("RGB", (1500, 1000), "teal").save(tmp_path / "wide.jpg")
    page.find("#picture").send_keys(str(tmp_path / "wide.jpg"))
    page.wait(lambda: page.find("#editor").is_displayed())
    sides = [page.field(name).get_attribute("value") for name in ("Width", "Height")]
    assert sides == ["80", "64"]
    mask = page.find("#mask")
    mask.send_keys(Keys.ARROW_UP, Keys.ARROW_UP, " ")
    assert page.find("#brush-ring").is_displayed()
    generate(page)
    page.wait(lambda: page.cards() == 1)
    (job,) = stub.service.jobs.ended()
    init = job.settings[0].init
    assert init is not None
    assert init.mask is not None
    given, painted = init.picture.loaded("x"), init.mask.picture.loaded("x")
    assert given.shape == (832, 1248, 3)
    assert given.shape[0] * given.shape[1] <= stub.service.settings.max_pixels
    np.testing.assert_allclose(given[0, 0], (0, 128, 128), atol=3)
    rows, columns = np.nonzero(painted > 127)
    brush = 0.12 * 832
    assert abs(rows.mean() - (416 - brush)) < 2
    assert abs(columns.mean() - 624) < 2
    assert abs(np.ptp(rows) - brush) < 3


def test_it_fits_and_everybody_can_use_it(page: Page, served: str, tmp_path: Path) -> None:
    """Nothing to scroll sideways, and axe finds nothing (WCAG 2.1 A and AA), light and dark."""
    page.open(served)
    page.wait(lambda: page.find("#request").is_displayed())
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "picture.png")
    page.find("#picture").send_keys(str(tmp_path / "picture.png"))
    generate(page, "a-very-long-word-" * 12)
    page.wait(lambda: page.cards() == 1)
    wide, room = page.script("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide <= room
    page.script(files("axe_core_python").joinpath("axe.min.js").read_text())
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        result = page.driver.execute_async_script("axe.run().then(arguments[0])")
        faults = {
            fault["id"]: [node["html"] for node in fault["nodes"]] for fault in result["violations"]
        }
        assert faults == {}, scheme
        assert len(result["passes"]) > 20
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@at_a_desk
def test_the_keyboard_reaches_everything_in_order(page: Page, served: str) -> None:
    page.open(served)
    page.wait(lambda: page.find("#request").is_displayed())
    page.find("#prompt").click()
    order = []
    for _ in range(12):
        order.append(page.driver.switch_to.active_element.get_attribute("id"))
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
    assert order == [
        *("prompt", "preset", "negative", "width", "height", "steps", "cfg", "sampler"),
        *("schedule", "seed", "count", "picture"),
    ]
