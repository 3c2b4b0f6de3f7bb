"""docs/python-api.md on the demo bundle, and previews beside what the VAE makes of the latents."""

import re
from pathlib import Path

import numpy as np
import pytest

from runtime.arrays import Pixels
from runtime.pipeline import Pipeline
from runtime.request import Request
from runtime.steps import Step

DOCS = Path(__file__).parents[2] / "docs" / "python-api.md"


def test_the_examples_run(
    demo_bundle_fp32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "demo").symlink_to(demo_bundle_fp32)
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    assert len(examples) >= 6
    names: dict[str, object] = {"__name__": "examples"}
    for number, example in enumerate(examples, 1):
        exec(compile(example, f"example {number}", "exec"), names)  # noqa: S102
    assert {file.name for file in tmp_path.iterdir()} == {
        "bundles",
        "woman.png",
        "man.webp",
        "preview.png",
    }


def correlation(one: Pixels, other: Pixels) -> float:
    return float(np.corrcoef(one.ravel().astype(float), other.ravel().astype(float))[0, 1])


def pooled(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[0] // 8, pixels.shape[1] // 8
    mean: Pixels = pixels.reshape(height, 8, width, 8, 3).mean(axis=(1, 3)).astype(np.uint8)
    return mean


def test_previews_show_what_comes(demo_bundle_fp32: Path) -> None:
    """The last one nearly all of it, the first ones less and less noise."""
    shown: list[Pixels] = []

    def keep(step: Step) -> None:
        if step.done:
            shown.append(step.preview())

    request = Request("portrait of a woman, orange background", seed=4, steps=8, sampler="Euler a")
    with Pipeline.open(demo_bundle_fp32, "cpu") as pipeline:
        (picture,) = pipeline.generate(request, keep, previews=True)
    wanted = pooled(picture.pixels)
    alike = [correlation(preview, wanted) for preview in shown]
    assert len(alike) == 8
    assert shown[-1].shape == wanted.shape
    assert alike[-1] > 0.9
    assert alike[0] > 0.5
    assert np.abs(shown[-1].astype(float) - wanted).mean() < 24
