"""What the form asks for: trained tags, hires fix, the mask's settings; and all of it once more."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.hires import HiresSettings
from runtime.request import Settings
from tests.browser.page import Page, at_a_desk
from tests.runtime.server.stub import Stub

pytestmark = at_a_desk


def newest_settings(stub: Stub) -> Settings:
    """Of the job that ended last."""
    return stub.service.jobs.ended()[-1].settings[0]


@pytest.mark.parametrize(
    ("preset", "tags", "said", "prompt"),
    [
        ("none", "preset: none", "None of 3", "a cat"),
        ("none", "all", "All 3", "cracked skin, shattered skin, glass, a cat"),
        ("cracked", "preset: all", "All 3", "cracked skin, shattered skin, glass, a cat"),
        ("cracked", "none", "None of 3", "cracked skin, a cat"),
        ("none", "the most frequent", "2 of 3", "cracked skin, shattered skin, a cat"),
    ],
)
def test_trained_tags_go_into_the_prompt(
    page: Page, stub: Stub, served: str, preset: str, tags: str, said: str, prompt: str
) -> None:
    page.fill("Preset", preset)
    page.fill("Trained tags", tags)
    if tags == "the most frequent":
        page.fill("How many of them", "2")
    assert page.find("#tags-hint").text.startswith(said)
    page.generate(Steps="1")
    page.wait(lambda: page.cards() == 1)
    assert newest_settings(stub).prompt == prompt
    page.driver.refresh()
    page.wait(lambda: page.cards() == 1)
    page.press("Use its settings", within="#gallery")
    page.wait(lambda: page.find("#tags-hint").text.startswith(said))
    page.press("Generate")
    page.wait(lambda: page.cards() == 2)
    assert newest_settings(stub).prompt == prompt


def test_hires_fix_is_asked_for_and_made_again(page: Page, stub: Stub, served: str) -> None:
    page.press("Hires fix: off")
    page.press("Make it larger")
    page.fill("Scale", "1.5")
    page.fill("Upscaler", "lanczos")
    page.fill("Second steps", "3")
    page.fill("Second strength", "0.5")
    assert page.find("#hires-shown").text == "96 \u00d7 96"
    page.generate(Seed="4")
    page.wait(lambda: page.cards() == 1)
    wanted = HiresSettings(1.5, 96, 96, "lanczos", 3, 0.5)
    assert newest_settings(stub).hires == wanted
    first = page.newest()
    assert first.size == (96, 96)
    page.press("Hires fix: 96 \u00d7 96")
    page.driver.refresh()
    page.wait(lambda: page.cards() == 1)
    page.press("Make it again", within="#gallery")
    page.wait(lambda: page.cards() == 2)
    np.testing.assert_array_equal(np.asarray(page.newest()), np.asarray(first))
    assert page.find("#hires-shown").get_property("textContent") == "off"
    page.press("Use its settings", within="#gallery")
    page.wait(lambda: page.find("#hires-shown").get_property("textContent") == "96 \u00d7 96")
    page.press("Generate")
    page.wait(lambda: page.cards() == 3)
    assert newest_settings(stub).hires == wanted


def test_settings_of_a_mask_are_asked_for_and_made_again(
    page: Page, stub: Stub, served: str, tmp_path: Path
) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    Image.fromarray(colours).save(tmp_path / "given.png")
    page.press("Hires fix: off")
    page.press("Make it larger")
    page.find("#picture").send_keys(str(tmp_path / "given.png"))
    page.wait(lambda: page.find("#editor").is_displayed())
    assert page.find("#hires-shown").text == "off"
    page.stroke((0.4, 0.5), (0.6, 0.5))
    page.press("How the painted part is made")
    page.fill("Masked content", "latent noise")
    page.fill("Mask blur", "1.5")
    assert not page.field("Padding").is_enabled()
    page.press("Only masked: the painted part alone, enlarged")
    page.fill("Padding", "8")
    page.generate(Seed="4")
    page.wait(lambda: page.cards() == 1)
    settings = newest_settings(stub)
    assert settings.hires is None
    assert settings.init is not None
    assert settings.init.mask is not None
    mask = settings.init.mask
    asked = (mask.content, mask.blur, mask.only_masked, mask.padding)
    assert asked == ("latent noise", 1.5, True, 8)
    first = page.newest()

    page.press("Remove the picture")
    assert page.find("#hires-shown").text == "160 \u00d7 128", "it is on again"
    page.press("Make it again", within="#gallery")
    page.wait(lambda: page.cards() == 2)
    np.testing.assert_array_equal(np.asarray(page.newest()), np.asarray(first))
    page.press("Use its settings", within="#gallery")
    page.wait(lambda: page.find("#editor").is_displayed())
    page.press("Generate")
    page.wait(lambda: page.cards() == 3)
    assert newest_settings(stub) == settings
    assert page.newest().info["parameters"] == first.info["parameters"]

    page.driver.refresh()
    page.wait(lambda: page.cards() == 3)
    assert page.find("#gallery .lost").is_displayed()
    assert page.all("#gallery .again") == []


def test_what_is_wrong_is_told_beside_it(page: Page, stub: Stub, served: str) -> None:
    page.press("Hires fix: off")
    page.press("Make it larger")
    page.fill("Scale", "1.05")
    page.press("Hires fix: 64 \u00d7 64")
    page.script("document.getElementById('prompt').value = '\\u{1f408}'.repeat(4001)")
    for label, text in {"Width": "65", "Steps": "0", "Guidance": "", "Seed": "1.5"}.items():
        page.fill(label, text)
    page.press("Generate")
    assert page.faults() == {
        "prompt": "4001 characters: this server takes 4000.",
        "width": "65 is no multiple of 8: choose 64 or 72.",
        "steps": "Choose 1 to 150, not 0.",
        "cfg": "This is missing.",
        "seed": "1.5 is no whole number: choose 1 or 2.",
    }
    assert page.script("return document.activeElement.id") == "prompt"
    described = page.field("Width").get_attribute("aria-describedby")
    assert page.find(f"#{described}").text.startswith("65 is no multiple")
    page.fill("Prompt", "a cat")
    for label, text in {"Width": "64", "Steps": "2", "Guidance": "3", "Seed": "1"}.items():
        page.fill(label, text)
    assert page.faults() == {}

    page.press("Generate")
    (fault,) = page.faults().values()
    assert fault == "The size stays 64 \u00d7 64: choose a larger scale."
    assert page.field("Scale").is_displayed(), "what is wrong is in a closed part"
    assert page.script("return document.activeElement.id") == "hires-scale"
    page.fill("Width", "2048")
    page.fill("Height", "2048")
    page.fill("Scale", "1.5")
    page.press("Generate")
    pixels = stub.service.settings.max_pixels
    assert page.faults()["width"] == f"2048 \u00d7 2048 is more than {pixels} pixels."
    assert stub.service.jobs.unfinished() == []
    assert stub.service.jobs.ended() == []
