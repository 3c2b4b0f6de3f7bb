"""A user with the demo model: a picture, the same again, and a part of it painted anew."""

from pathlib import Path

import numpy as np
import pytest

from tests.browser.page import Page

FACE = "portrait of a woman, light skin, orange background, blue hair"
WATCH = """
new MutationObserver(() => {
  const image = document.querySelector('img[alt="The picture in progress"]');
  // One that the next takes the place of is never decoded.
  image?.decode().then(() => { window.previewed = true; }, () => {});
}).observe(document.getElementById("gallery"), { attributes: true, subtree: true });
"""


@pytest.fixture
def shots(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where pictures of the window go: `--shots DIR`, or nowhere that stays."""
    path: Path = request.config.getoption("--shots") or tmp_path
    path.mkdir(parents=True, exist_ok=True)
    return path


def test_from_a_prompt_to_a_mask(page: Page, screen: str, demo_address: str, shots: Path) -> None:
    page.open(f"{demo_address}/")
    page.wait(lambda: page.find("#request").is_displayed())
    page.fill("Prompt", FACE)
    page.fill("Preset", "cracked")
    page.fill("Seed", "11")
    page.script(WATCH)
    page.press("Generate")
    page.wait(lambda: page.cards() == 1)
    assert page.script("return window.previewed") is True
    first = page.newest()
    assert first.size == (128, 128)
    assert "Seed: 11" in first.info["parameters"]
    assert f"cracked skin, {FACE}" in first.info["parameters"]
    page.save(shots / f"{screen}-picture.png")

    page.press("Make it again", within="#gallery")
    page.wait(lambda: page.cards() == 2)
    np.testing.assert_array_equal(np.asarray(page.newest()), np.asarray(first))

    page.press("Change it", within="#gallery")
    page.wait(lambda: page.find("#editor").is_displayed())
    page.fill("Prompt", "portrait of a woman, glowing cracked skin, orange glow")
    page.stroke((0.3, 0.45), (0.7, 0.45))
    page.stroke((0.05, 0.9), (0.95, 0.9))
    page.press("Undo")
    page.save(shots / f"{screen}-mask.png")
    page.press("Generate")
    page.wait(lambda: page.cards() == 3)
    painted = page.newest()
    page.save(shots / f"{screen}-painted.png")

    changed = (np.asarray(painted) != np.asarray(first)).any(axis=2)
    assert changed[50:66, 45:83].mean() > 0.9
    assert not changed[:24].any()
    assert not changed[96:].any(), "the stroke that was undone was painted"
    assert "Mask blur" in painted.info["parameters"]

    assert page.messages() == []
    requested = page.requested()
    assert f"{demo_address}/page/app.js" in requested
    assert all(address.startswith((f"{demo_address}/", "blob:")) for address in requested)
