"""The page on stand-in engines: keys, progress, refusals, foreign text, and who can use it."""

import io
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.browser.page import Page, at_a_desk
from tests.runtime.server.stub import Stub
from tests.waiting import PATIENCE

NAME_OF_FOCUS = """
const focused = document.activeElement;
return focused.id || focused.querySelector("[id]").id;
"""
MARKUP = "<img src=x onerror=\"document.title='taken'\"> & <b>cat</b>"


def test_progress_a_preview_and_giving_up(page: Page, stub: Stub, served: str) -> None:
    shown = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(shown, "JPEG")
    with stub.backend.held() as waiting:
        page.generate()
        assert waiting.wait(PATIENCE)
        (job,) = stub.service.jobs.unfinished()
        job.add_rows(2, shown.getvalue())
        page.wait(lambda: "Step 2 of 4" in page.find(".state").text)
        page.wait(lambda: page.script("return arguments[0].naturalWidth", page.find(".stage img")))
        assert page.find("progress").get_attribute("value") == "2"
        assert "Step 2 of 4" in page.find("#spoken").get_property("textContent")
        page.press("Cancel")
        page.wait(lambda: page.find("#gallery .state").text == "Cancelled")
        assert stub.service.jobs.unfinished() == []
    page.press("Dismiss")
    assert page.all("#gallery li") == []
    assert page.find("#empty").is_displayed()


@at_a_desk
def test_a_reloaded_page_has_its_pictures_and_makes_them_again(page: Page, served: str) -> None:
    page.generate(Preset="glowing", Seed="5", Pictures="2", Width="72", Steps="3")
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
    page.wait(lambda: page.value("Seed") == "5")
    assert page.value("Width") == "72"
    assert page.value("Prompt") == "a cat"
    assert page.value("Preset") == "glowing"


@at_a_desk
def test_text_is_never_markup(page: Page, stub: Stub, served: str) -> None:
    page.generate(MARKUP)
    page.wait(lambda: page.cards() == 1)
    assert page.find("#gallery .prompt").text == MARKUP
    assert page.find("#gallery img").get_attribute("alt") == MARKUP
    page.press("Everything about it", within="#gallery")
    assert page.find("#gallery pre").text.startswith(MARKUP)
    assert page.all("#gallery b") == []
    assert page.driver.title == "fracture-sd"


def test_it_fits_and_everybody_can_use_it(page: Page, served: str, tmp_path: Path) -> None:
    """Nothing to scroll sideways, and axe finds nothing (WCAG 2.1 A and AA), light and dark."""
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "picture.png")
    page.find("#picture").send_keys(str(tmp_path / "picture.png"))
    page.generate("a-very-long-word-" * 12)
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
    page.find("#prompt").click()
    order = []
    for _ in range(15):
        order.append(page.script(NAME_OF_FOCUS))
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
    assert order == [
        *("prompt", "preset", "tags", "tags-hint", "negative", "width", "height", "steps", "cfg"),
        *("sampler", "schedule", "seed", "count", "hires-shown", "picture"),
    ]
