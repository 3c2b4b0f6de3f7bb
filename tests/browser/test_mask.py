"""Painting a mask: with a mouse, a finger, two fingers and the keyboard; and taking it back."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.keys import Keys

from tests.browser.page import Page
from tests.runtime.server.stub import Stub

PAINTED = """
const mask = document.getElementById("mask");
const { data } = mask.getContext("2d").getImageData(0, 0, mask.width, mask.height);
const rows = new Set();
let count = 0;
for (let i = 3; i < data.length; i += 4) {
  if (data[i] < 128) continue;
  count += 1;
  rows.add(Math.floor(i / 4 / mask.width));
}
return [count, rows.size];
"""


@pytest.fixture
def opened(page: Page, served: str, tmp_path: Path) -> Page:
    """The page with a grey picture of 200 x 200 pixels."""
    Image.new("RGB", (200, 200), "grey").save(tmp_path / "grey.png")
    page.find("#picture").send_keys(str(tmp_path / "grey.png"))
    page.wait(lambda: page.find("#editor").is_displayed())
    page.script("document.getElementById('easel').scrollIntoView({ block: 'center' })")
    return page


def painted(page: Page) -> int:
    """How many pixels of the mask are."""
    count, _ = page.script(PAINTED)
    return int(count)


def test_a_chosen_picture_is_masked_by_keyboard(
    page: Page, stub: Stub, served: str, tmp_path: Path
) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    page.find("#picture").send_keys(str(tmp_path / "notes.png"))
    page.wait(lambda: "notes.png cannot be read" in page.faults().get("picture", ""))
    Image.new("RGB", (1500, 1000), "teal").save(tmp_path / "wide.jpg")
    page.find("#picture").send_keys(str(tmp_path / "wide.jpg"))
    page.wait(lambda: page.find("#editor").is_displayed())
    sides = [page.value(name) for name in ("Width", "Height")]
    assert sides == ["80", "64"]
    mask = page.find("#mask")
    mask.send_keys(Keys.ARROW_UP, Keys.ARROW_UP, " ")
    assert page.find("#brush-ring").is_displayed()
    page.generate()
    page.wait(lambda: page.cards() == 1)
    (job,) = stub.service.jobs.ended()
    init = job.settings[0].init
    assert init is not None
    assert init.mask is not None
    given, painted = init.picture.loaded("x"), init.mask.picture.loaded("x")
    assert given.shape == (624, 936, 3)
    assert given.shape[0] * given.shape[1] <= stub.service.settings.max_pixels
    np.testing.assert_allclose(given[0, 0], (0, 128, 128), atol=3)
    rows, columns = np.nonzero(painted > 127)
    brush = 0.12 * 624
    assert abs(rows.mean() - (312 - brush)) < 2
    assert abs(columns.mean() - 468) < 2
    assert abs(np.ptp(rows) - brush) < 3


def test_strokes_are_taken_back_one_by_one(opened: Page) -> None:
    page = opened
    assert not page.find("#undo").is_enabled()
    counts = [0]
    for y in (0.2, 0.5, 0.8):
        page.stroke((0.2, y), (0.8, y))
        counts.append(painted(page))
    assert counts == sorted(set(counts))
    page.press("Erase")
    page.stroke((0.5, 0.1), (0.5, 0.9))
    assert painted(page) < counts[3]
    page.press("Undo")
    assert painted(page) == counts[3]
    page.press("Clear")
    assert painted(page) == 0
    assert not page.find("#clear").is_enabled()
    page.press("Undo")
    assert painted(page) == counts[3], "clearing is taken back as well"
    for count in counts[2::-1]:
        page.press("Undo")
        assert painted(page) == count
    assert not page.find("#undo").is_enabled()


def test_the_brush_is_as_wide_as_it_says(opened: Page) -> None:
    page = opened
    heights = []
    for percent in (6, 30):
        page.script(
            "const brush = document.getElementById('brush'); brush.value = arguments[0];"
            "brush.dispatchEvent(new Event('input', { bubbles: true }));",
            percent,
        )
        page.stroke((0.3, 0.5), (0.7, 0.5))
        heights.append(page.script(PAINTED)[1])
        page.press("Undo")
    np.testing.assert_allclose(heights, [12, 60], atol=2)


@pytest.mark.parametrize("screen", ["phone"], indirect=True)
def test_a_finger_draws_and_two_do_not(opened: Page) -> None:
    page = opened
    before = page.script("return scrollY")
    page.touch("touchStart", (0.3, 0.2))
    for y in (0.3, 0.5, 0.7, 0.8):
        page.touch("touchMove", (0.3, y))
    page.touch("touchEnd")
    count, rows = page.script(PAINTED)
    assert abs(rows - (0.6 * 200 + 24)) < 4
    assert abs(count - 0.6 * 200 * 24 - np.pi * 12**2) < 300
    assert page.script("return scrollY") == before, "the finger moved the page as well"

    page.touch("touchStart", (0.6, 0.5))
    page.touch("touchMove", (0.62, 0.5))
    page.touch("touchCancel")
    assert painted(page) == count
    page.touch("touchStart", (0.7, 0.5))
    page.touch("touchEnd")
    assert painted(page) > count
    page.press("Undo")
    assert painted(page) == count


@pytest.mark.parametrize("screen", ["desk"], indirect=True)
def test_what_is_erased_again_is_no_mask(opened: Page, stub: Stub) -> None:
    page = opened
    mask = page.find("#mask")
    mask.send_keys(" ")
    assert painted(page) > 0
    mask.send_keys(Keys.CONTROL, "z")
    assert painted(page) == 0
    mask.send_keys(" ")
    page.press("Erase")
    mask.send_keys(" ")
    page.generate()
    page.wait(lambda: page.cards() == 1)
    (job,) = stub.service.jobs.ended()
    init = job.settings[0].init
    assert init is not None
    assert init.mask is None
