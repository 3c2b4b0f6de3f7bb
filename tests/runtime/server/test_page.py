"""The page's files: what they may load, who may fetch them, and what they must not do."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from engines.bundle import Bundle
from runtime.hires import UPSCALERS, HiresSettings
from runtime.init_settings import CONTENTS, MAX_BLUR, MAX_PADDING, InitSettings, MaskSettings
from runtime.request import MAX_CFG, SIDES
from runtime.server.job_bodies import JobBody
from tests.runtime.server.stub import Stub

PAGE = Path(__file__).parents[3] / "runtime" / "server" / "page"
FILES = sorted(path.name for path in PAGE.iterdir() if path.name != "index.html")
SCRIPTS = [path for path in sorted(PAGE.iterdir()) if path.suffix == ".js"]
INDEX = (PAGE / "index.html").read_text()
CONTROLS = ("input", "select", "textarea")


class Elements(HTMLParser):
    """Every element of a document with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.in_labels: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag == "label":
            self.open.append(tag)
        elif self.open and tag in CONTROLS:
            self.in_labels.append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        if tag == "label":
            self.open.pop()


ELEMENTS = Elements(INDEX)
CONTROLS_BY_NAME = {
    str(attributes["name"]): attributes
    for tag, attributes in ELEMENTS.found
    if tag in CONTROLS and "name" in attributes
}
OPTIONS = {
    name: re.findall(r"<option(?: selected)?>(.*)</option>", select)
    for name, select in re.findall(r'<select [^>]*name="([^"]+)">(.*?)</select>', INDEX, re.DOTALL)
}
SELECTED = dict(
    re.findall(
        r'<select [^>]*name="([^"]+)">(?:(?!</select>).)*?<option selected>(.*?)<', INDEX, re.DOTALL
    )
)


def test_the_page_may_load_only_what_is_its_own(stub: Stub) -> None:
    with stub.client() as client:
        for path in ("/", *(f"/page/{name}" for name in FILES)):
            answer = client.get(path)
            assert answer.status_code == 200
            policy = dict(
                part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
            )
            assert policy["default-src"] == "'self'"
            assert policy["img-src"] == "'self' blob:"
            assert {policy[name] for name in ("object-src", "base-uri", "frame-ancestors")} == {
                "'none'"
            }
            assert "unsafe" not in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("app.js", "text/javascript; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)
def test_files_have_their_types_and_are_not_sent_twice(
    stub: Stub, name: str, media_type: str
) -> None:
    with stub.client() as client:
        answer = client.get(f"/page/{name}")
        assert answer.headers["content-type"] == media_type
        assert answer.content == (PAGE / name).read_bytes()
        again = client.get(f"/page/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert client.head("/").status_code == 200


@pytest.mark.parametrize("path", ["/page/", "/page/index.html", "/page/..%2fapp.py", "/page/x.js"])
def test_there_is_nothing_else(stub: Stub, path: str) -> None:
    with stub.client() as client:
        assert client.get(path).status_code == 404


def test_the_page_needs_no_key_and_the_rest_does(stand_in_bundle: Bundle) -> None:
    with Stub(stand_in_bundle, keys={"alice": "wonderland"}).client() as client:
        for path in ("/", "/page/app.js"):
            assert client.get(path).status_code == 200
        for path in ("/v1/info", "/metrics", "/docs", "/page", "/pages/x"):
            assert client.get(path).status_code == 401


def test_scripts_are_not_answered_with_the_browsers_dialog(stand_in_bundle: Bundle) -> None:
    with Stub(stand_in_bundle, keys={"alice": "wonderland"}).client() as client:
        asked = client.get("/v1/info")
        of_a_script = client.get("/v1/info", headers={"X-Requested-With": "fetch"})
    assert asked.headers["www-authenticate"].startswith("Basic")
    assert of_a_script.status_code == 401
    assert of_a_script.headers["www-authenticate"] == 'Bearer realm="fracture-sd"'


def test_the_page_is_no_part_of_the_api(stub: Stub) -> None:
    with stub.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    assert not {path for path in paths if path == "/" or path.startswith("/page")}


def test_everything_that_the_page_names_is_there_and_its_own() -> None:
    named = {
        attributes[name]
        for _, attributes in ELEMENTS.found
        for name in ("href", "src")
        if attributes.get(name) is not None
    }
    entries = ("app.js", "style.css", "form.css", "gallery.css", "icon.svg")
    assert {f"page/{name}" for name in entries} == named
    for script in SCRIPTS:
        for imported in re.findall(r'from "\./([\w.]+)"', script.read_text()):
            assert imported in FILES
    for name in FILES:
        text = (PAGE / name).read_text().replace("http://www.w3.org/2000/svg", "")
        addresses = re.findall(r"(?<!// )\b(?:https?:|url\()\S*", text)
        assert [address for address in addresses if "w3.org/TR" not in address] == []


def test_the_page_needs_nothing_that_its_policy_forbids() -> None:
    for tag, attributes in ELEMENTS.found:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        assert tag != "style"
        assert tag != "script" or attributes.get("src")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.name))
def test_scripts_never_make_elements_of_text(script: Path) -> None:
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
    assert re.findall(forbidden, script.read_text()) == []


def test_every_control_has_a_label() -> None:
    labelled = {attributes.get("for") for tag, attributes in ELEMENTS.found if tag == "label"}
    controls = [
        attributes
        for tag, attributes in ELEMENTS.found
        if tag in CONTROLS and "hidden" not in attributes
    ]
    assert len(controls) > 10
    for control in controls:
        assert control["id"] in labelled or control in ELEMENTS.in_labels


def test_scripts_find_every_element_that_they_name() -> None:
    ids = [attributes["id"] for _, attributes in ELEMENTS.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    for script in SCRIPTS:
        named = re.findall(r'(?:element|getElementById|clone)\("([\w-]+)"\)', script.read_text())
        assert set(named) <= set(ids), script.name


def test_the_form_begins_with_the_runtimes_defaults() -> None:
    """What it leaves as it is is what a request means that leaves it out."""
    hires = HiresSettings()
    begins = {
        "hires.scale": hires.scale,
        "hires.strength": hires.strength,
        "init.strength": _default(InitSettings, "strength"),
        "init.mask.blur": _default(MaskSettings, "blur"),
        "init.mask.padding": _default(MaskSettings, "padding"),
    }
    assert {name: float(CONTROLS_BY_NAME[name]["value"] or "") for name in begins} == begins
    assert "checked" not in CONTROLS_BY_NAME["init.mask.only_masked"]
    assert OPTIONS["hires.upscaler"][0] == hires.upscaler
    assert SELECTED["init.mask.content"] == _default(MaskSettings, "content")


def test_the_form_offers_what_the_runtime_takes() -> None:
    assert OPTIONS["hires.upscaler"] == list(UPSCALERS)
    assert OPTIONS["init.mask.content"] == list(CONTENTS)
    bounds = {
        "width": SIDES,
        "height": SIDES,
        "cfg": (1, MAX_CFG),
        "hires.scale": (1, 8),
        "init.mask.blur": (0, MAX_BLUR),
        "init.mask.padding": (0, MAX_PADDING),
    }
    for name, (least, most) in bounds.items():
        control = CONTROLS_BY_NAME[name]
        assert (float(control["min"] or ""), float(control["max"] or "")) == (least, most), name


def test_every_control_stands_for_a_field_of_a_job() -> None:
    """The names of controls are paths in a job's body: one that nobody knows is refused."""
    known = JobBody.model_json_schema()
    for name in CONTROLS_BY_NAME:
        schema = known
        for part in name.split("."):
            schema = _inner(known, schema)["properties"][part]


def _inner(whole: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The object that a field holds, which may be null."""
    for choice in schema.get("anyOf", []):
        if "$ref" in choice:
            inner: dict[str, Any] = whole["$defs"][choice["$ref"].rpartition("/")[2]]
            return inner
    return schema


def _default(kind: type[Any], name: str) -> object:
    return next(field.default for field in dataclasses.fields(kind) if field.name == name)
