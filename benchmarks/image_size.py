"""What the images of deploy/ hold, summed from what is installed here: an estimate, no measurement.

    python -m benchmarks.image_size

Walks the requirements of `fracture-sd[BACKEND,serve]` through the distributions of this
environment and adds up their files, compiled bytecode included. The base image's size is not
measured: it is what is published of python:3.11-slim-bookworm for amd64, rounded up.
"""

import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.measure import save
from engines.identity import Json

ROOT = Path(__file__).parent.parent
BASE_MEGABYTES = 150
IMAGES = {"cpu": ("cpu", "serve"), "nvidia": ("tensorrt-rtx", "serve")}
OWN = ("convert", "engines", "runtime")


def main() -> None:
    """Add up the images and save the figures."""
    figures: dict[str, Json] = {}
    for image, extras in IMAGES.items():
        sizes = {name: _megabytes(found) for name, found in sorted(contents(extras).items())}
        sizes["fracture-sd"] = _own_megabytes()
        total = round(sum(sizes.values()))
        figures[image] = {
            "installed": total,
            "base_published": BASE_MEGABYTES,
            "image_estimated": total + BASE_MEGABYTES,
            "largest": dict(sorted(sizes.items(), key=lambda item: -item[1])[:8]),
        }
    print(save("image_size", "python -m benchmarks.image_size", {"megabytes": figures}, {}))


def contents(extras: tuple[str, ...]) -> dict[str, Distribution]:
    """The distributions that this project needs with `extras`, and what they need, by name.

    Raises:
        PackageNotFoundError: one of them is not installed here.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"]]
    for extra in extras:
        texts += project["optional-dependencies"][extra]
    waiting = [Requirement(text) for text in texts]
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = name, frozenset(requirement.extras)
        if key in seen or not _applies(requirement, frozenset()):
            continue
        seen.add(key)
        found[name] = distribution(name)
        waiting += _needs(found[name], key[1])
    return found


def _needs(found: Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    for text in found.requires or ():
        requirement = Requirement(text)
        if _applies(requirement, extras):
            requirement.marker = None
            yield requirement


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def _megabytes(found: Distribution) -> float:
    if found.files is None:
        raise PackageNotFoundError(found.name)
    paths = [Path(str(found.locate_file(file))) for file in found.files]
    return round(sum(path.stat().st_size for path in paths if path.is_file()) / 1e6, 1)


def _own_megabytes() -> float:
    """This project's packages as a wheel has them, without compiled bytecode."""
    files = (path for package in OWN for path in (ROOT / package).rglob("*") if path.is_file())
    return round(sum(path.stat().st_size for path in files if path.suffix != ".pyc") / 1e6, 1)


if __name__ == "__main__":
    main()
