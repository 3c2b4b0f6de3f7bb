"""How far a graph's outputs may be from torch's, and how far they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from engines import __version__, layout
from engines.identity import tool_versions
from engines.manifest import Manifest, Parity
from engines.session import Array

_TOOLS: Final = ("diffusers", "numpy", "onnxruntime", "torch", "transformers")


@dataclass(frozen=True)
class Tolerance:
    """What passes: the largest error as a part of the output's largest magnitude, and a cosine."""

    error: float
    cosine: float


TOLERANCES: Final = {"float32": Tolerance(1e-4, 0.999999), "float16": Tolerance(1e-2, 0.9999)}
"""For each dtype of weights. Rounding costs the demo model 1e-6 and 2e-3; a fault costs about 1."""


def verification_tools() -> dict[str, str]:
    """The versions of what verifying depends on."""
    return {"fracture-sd": __version__, **tool_versions(_TOOLS)}


def is_verified(manifest: Manifest, pictures: int = 0) -> bool:
    """Whether the bundle has passed, that many pictures too, with the tools of now."""
    return (
        has_passed(manifest)
        and len(manifest.pictures) >= pictures
        and manifest.verified_with == verification_tools()
    )


def has_passed(manifest: Manifest) -> bool:
    """Whether every component was verified, and every output and picture is near enough."""
    outputs = [figures.passed for outputs in manifest.parity.values() for figures in outputs]
    pictures = [picture.passed for picture in manifest.pictures]
    return manifest.parity.keys() == layout.COMPONENTS.keys() and all([*outputs, *pictures])


def compare(name: str, references: Sequence[Array], found: Sequence[Array], dtype: str) -> Parity:
    """How far the arrays of one output are from their references, over all inputs.

    Args:
        name: the output.
        references: for each input, what torch computes in float32.
        found: for each input, what the graph computes.
        dtype: numpy's name for the dtype of the graph's weights.
    """
    limits = TOLERANCES[dtype]
    errors = [
        np.abs(a.astype(np.float64) - b.astype(np.float64))
        for a, b in zip(references, found, strict=True)
    ]
    cosine = min(_cosine(a, b) for a, b in zip(references, found, strict=True))
    largest = max(float(error.max()) for error in errors)
    tolerance = limits.error * max(float(np.abs(reference).max()) for reference in references)
    return Parity(
        output=name,
        max_error=largest,
        mean_error=float(sum(e.sum() for e in errors) / sum(e.size for e in errors)),
        cosine=cosine,
        tolerance=tolerance,
        passed=largest <= tolerance and cosine >= limits.cosine,
    )


def _cosine(first: Array, second: Array) -> float:
    a, b = first.astype(np.float64).ravel(), second.astype(np.float64).ravel()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
