"""What a user does on the page, by the words that are on it."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.interaction import POINTER_MOUSE, POINTER_TOUCH
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

PATIENCE = 30.0

at_a_desk = pytest.mark.parametrize("screen", ["desk"], indirect=True)
"""For what does not depend on the size."""


class Page:
    """The page in a browser."""

    def __init__(self, driver: WebDriver, downloads: Path, *, touch: bool) -> None:
        self.driver = driver
        self._downloads = downloads
        self._pointer = POINTER_TOUCH if touch else POINTER_MOUSE

    def open(self, address: str) -> None:
        """Load the page, with nothing left of what the logs said before."""
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        self.driver.get(address)

    def wait(self, condition: Callable[[], object]) -> None:
        WebDriverWait(self.driver, PATIENCE, 0.02).until(lambda _: condition())

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        found: list[WebElement] = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return found

    def field(self, label: str) -> WebElement:
        """The visible control that a label names."""
        path = f"//label[starts-with(normalize-space(), '{label}')]"
        named = self.driver.find_element(By.XPATH, path)
        target = named.get_dom_attribute("for")
        return self.find(f"#{target}") if target else named.find_element(By.TAG_NAME, "input")

    def fill(self, label: str, text: str) -> None:
        control = self.field(label)
        if control.tag_name == "select":
            Select(control).select_by_visible_text(text)
        else:
            control.clear()
            control.send_keys(text)

    def generate(self, prompt: str = "a cat", **fields: str) -> None:
        """Fill the form by its labels, and send it."""
        self.fill("Prompt", prompt)
        for label, text in fields.items():
            self.fill(label.replace("_", " "), text)
        self.press("Generate")

    def value(self, label: str) -> str | None:
        """What the control of a label says."""
        said: str | None = self.field(label).get_property("value")
        return said

    def faults(self) -> dict[str, str]:
        """What is told beside controls, by their ids."""
        shown = self.all("[id$='-fault']")
        return {fault.get_attribute("id").removesuffix("-fault"): fault.text for fault in shown}

    def press(self, name: str, *, within: str = "body") -> None:
        """Use the first button, link or checkbox of that name."""
        path = (
            f".//*[self::button or self::a or self::summary or self::label]"
            f"[normalize-space()='{name}']"
        )
        button = self.find(within).find_element(By.XPATH, path)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()

    def stroke(self, *points: tuple[float, float]) -> None:
        """Draw over the picture with the mouse or a finger; points from (0, 0) to (1, 1)."""
        mask = self.find("#mask")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", mask)
        width, height = mask.size["width"], mask.size["height"]
        actions = ActionBuilder(self.driver, mouse=PointerInput(self._pointer, "pointer"))
        for i, (x, y) in enumerate(points):
            place = round((x - 0.5) * width), round((y - 0.5) * height)
            actions.pointer_action.move_to(mask, *place)
            if i == 0:
                actions.pointer_action.pointer_down()
        actions.pointer_action.pointer_up()
        actions.perform()

    def cards(self) -> int:
        """How many finished pictures there are."""
        return len(self.all("#gallery .download"))

    def newest(self) -> Image.Image:
        """The file that the first card's Download saves."""
        before = set(self._downloads.iterdir())
        self.press("Download", within="#gallery")

        def saved() -> list[Path]:
            files = set(self._downloads.iterdir()) - before
            return [path for path in files if path.suffix == ".png"]

        self.wait(saved)
        (path,) = saved()
        with Image.open(path) as picture:
            picture.load()
            return picture

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """Send a touch event: where each finger is on the mask, from (0, 0) to (1, 1)."""
        box = self.script(
            "return arguments[0].getBoundingClientRect().toJSON()", self.find("#mask")
        )
        places = [
            {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"], "id": finger}
            for finger, (x, y) in enumerate(points)
        ]
        event = {"type": kind, "touchPoints": places}
        self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", event)

    def set_online(self, *, online: bool) -> None:
        """Let the browser reach anything, or nothing."""
        conditions = {"offline": not online, "latency": 0, "downloadThroughput": -1}
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd(
            "Network.emulateNetworkConditions", {**conditions, "uploadThroughput": -1}
        )

    def script(self, code: str, *arguments: object) -> Any:
        return self.driver.execute_script(code, *arguments)

    def messages(self) -> list[str]:
        """What the browser complained of since `open`."""
        entries = self.driver.get_log("browser")
        return [str(entry["message"]) for entry in entries]

    def requested(self) -> set[str]:
        """Every address that a page of a server has asked for since `open`."""
        events = [
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        ]
        return {
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
            and event["params"]["documentURL"].startswith("http:")
        }

    def save(self, path: Path) -> None:
        """A picture of the whole page, with what sticks to the window's edge in its own place."""
        place = "document.getElementById('send').style.position = arguments[0]"
        self.script(place, "static")
        whole = {"captureBeyondViewport": True}
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", whole)
        self.script(place, "")
        path.write_bytes(base64.b64decode(shot["data"]))
