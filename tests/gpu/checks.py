"""What must hold on every backend: the CPU's numbers and pictures, no memory of other calls."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from convert.parity import compare
from engines import layout
from engines.any_batch import open_to_any_batch
from engines.backend import Backend, Choice, choose_backend
from engines.bundle import Bundle, open_bundle
from engines.session import Array, Session
from runtime.pipeline import Pipeline
from runtime.png import Picture
from runtime.request import Request

BATCHES = (1, 2, 4, 2)
"""Grows and shrinks, so that buffers and recorded graphs of another shape would show."""

PICTURE_DB = 35.0
"""Half precision on another device costs the demo's pictures no more than this."""

ALONE_DB = 40.0
"""A batch of another size takes other kernels, which round otherwise."""

REQUEST = Request("cracked skin, portrait of a woman", "beard", preset="none", seed=3, steps=8)


def random_feeds(session: Session, bundle: Bundle, batch: int, seed: int) -> dict[str, Array]:
    """Inputs of the size of the bundle's default picture, in the dtypes that the session has."""
    defaults, latents = bundle.manifest.defaults, bundle.manifest.latents
    axes = {
        "batch": batch,
        "height": defaults.height // latents.downscale,
        "width": defaults.width // latents.downscale,
        "picture_height": defaults.height,
        "picture_width": defaults.width,
        "tokens": layout.CHUNK_TOKENS,
    }
    random = np.random.default_rng(seed)
    config = json.loads((bundle.path / layout.TEXT_ENCODER / "config.json").read_text())
    feeds: dict[str, Array] = {}
    for tensor in session.inputs:
        shape = tuple(axes[axis] if isinstance(axis, str) else axis for axis in tensor.shape)
        if tensor.name == layout.INPUT_IDS:
            feeds[tensor.name] = random.integers(0, config["vocab_size"], shape, np.int64)
        elif tensor.name == layout.TIMESTEP:
            feeds[tensor.name] = random.uniform(1, 999, shape).astype(tensor.dtype)
        else:
            feeds[tensor.name] = random.standard_normal(shape).astype(tensor.dtype)
    return feeds


def check_component(bundle: Bundle, reference: Bundle, backend: Backend, component: str) -> None:
    """A component gives what ONNX Runtime's CPU provider gives, at batches that change.

    Args:
        bundle: what the backend runs.
        reference: the same model in float32.
        backend: the backend to try.
        component: one of the layout's.
    """
    cpu = choose_backend("cpu", reference).backend
    with (
        _open(bundle, backend, component) as session,
        cpu.open_session(reference, component) as exact,
    ):
        for seed, batch in enumerate(BATCHES):
            feeds = random_feeds(session, bundle, batch, seed)
            wanted = _run(exact, feeds)
            found = _run(session, feeds)
            for name, array in wanted.items():
                figures = compare(name, [array], [found[name]], "float16")
                assert figures.passed, f"{component}, batch {batch}: {figures}"


def check_bound_inputs(bundle: Bundle, backend: Backend) -> None:
    """An input that is not fed again keeps its value, and one that is fed again loses its old."""
    with backend.open_session(bundle, layout.UNET) as session:
        first, second = (random_feeds(session, bundle, 2, seed) for seed in (1, 2))
        kept = _run(session, first)[layout.OUT_SAMPLE]
        changed = {layout.SAMPLE: second[layout.SAMPLE]}
        mixed = session.run(changed)[layout.OUT_SAMPLE].copy()
        whole = _run(session, {**first, **changed})[layout.OUT_SAMPLE]
        np.testing.assert_array_equal(mixed, whole)
        assert not np.array_equal(mixed, kept)
        back = _run(session, first)[layout.OUT_SAMPLE]
        np.testing.assert_array_equal(back, kept)


def check_picture(path: Path, reference: Path, backend: Backend) -> None:
    """A whole picture is the CPU's."""
    (found,) = pictures(path, backend)
    (wanted,) = pictures(reference, choose_backend("cpu", open_bundle(reference)).backend)
    assert psnr(found, wanted) >= PICTURE_DB


def check_batch_invariance(path: Path, backend: Backend) -> None:
    """Pictures made together are those made alone."""
    together = pictures(path, backend, count=3)
    for place, picture in enumerate(together):
        assert REQUEST.seed is not None
        (alone,) = pictures(path, backend, seed=REQUEST.seed + place)
        assert psnr(picture, alone) >= ALONE_DB


def pictures(
    path: Path, backend: Backend, count: int = 1, seed: int | None = None
) -> list[Picture]:
    """The pictures of `REQUEST`, in one call of the UNet a step."""
    request = Request(
        REQUEST.prompt,
        REQUEST.negative,
        preset=REQUEST.preset,
        seed=REQUEST.seed if seed is None else seed,
        steps=REQUEST.steps,
        count=count,
    )
    with Pipeline(open_bundle(path), Choice(backend, "asked for"), max_batch=2 * count) as pipeline:
        made = list(pipeline.generate(pipeline.settle([request])))
    return sorted(made, key=lambda picture: picture.settings.seed)


def psnr(first: Picture, second: Picture) -> float:
    """Decibels; infinite where the pictures are equal."""
    error = float(((first.pixels.astype(np.float64) - second.pixels) ** 2).mean())
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def _open(bundle: Bundle, backend: Backend, component: str) -> Session:
    """A component as the pipeline opens it: plans may take fewer entries a call than are fed."""
    session = backend.open_session(bundle, component)
    most = backend.limits(bundle).most(component, "batch")
    return open_to_any_batch(session, component, bundle.component(component), most)


def _run(session: Session, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Feed what a session takes, in its dtypes, and copy what it returns."""
    dtypes = {tensor.name: tensor.dtype for tensor in session.inputs}
    cast = {name: array.astype(dtypes[name]) for name, array in feeds.items()}
    return {name: array.copy() for name, array in session.run(cast).items()}
