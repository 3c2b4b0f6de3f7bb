"""The demo's VAE in tiles: as close to the whole as diffusers' tiles are, and without seams."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ImageFilter

from engines import layout
from engines.backend import choose_backend
from engines.bundle import open_bundle
from engines.session import Session
from runtime.arrays import Float32Array
from runtime.vae_encoder import to_sample
from tests.runtime.drawings import photo_of
from tests.runtime.tiled import tiled

TILE, OVERLAP = 16, 4
"""In latents: the demo's tiles in diffusers, a quarter of which overlaps."""

SEAM = 0.025
"""A jump between two lines of a picture in -1..1 that could be seen."""

SAMPLE = to_sample(np.asarray(photo_of(448, 384)))


@dataclass(frozen=True)
class Vae:
    """The graphs, and what diffusers makes in tiles of `SAMPLE` and of its own latents."""

    encoder: Session
    decoder: Session
    theirs_encoded: Float32Array
    theirs_decoded: Float32Array

    def encode(self, sample: Float32Array) -> Float32Array:
        parameters = self.encoder.run({layout.SAMPLE: sample[None]})[layout.LATENT_PARAMETERS]
        return np.array(parameters[0, :4])

    def decode(self, latents: Float32Array) -> Float32Array:
        return np.array(self.decoder.run({layout.LATENT_SAMPLE: latents[None]})[layout.SAMPLE][0])


@pytest.fixture(scope="module")
def vae(fused_demo: Path, demo_bundle_fp32: Path) -> Iterator[Vae]:
    from diffusers import AutoencoderKL

    bundle = open_bundle(demo_bundle_fp32)
    backend = choose_backend("cpu", bundle).backend
    theirs = AutoencoderKL.from_pretrained(fused_demo, subfolder="vae", dtype=torch.float32)
    with (
        backend.open_session(bundle, layout.VAE_ENCODER) as encoder,
        backend.open_session(bundle, layout.VAE_DECODER) as decoder,
        torch.no_grad(),
    ):
        ours = Vae(encoder, decoder, SAMPLE, SAMPLE)
        latents = ours.encode(SAMPLE)
        theirs.enable_tiling()
        assert (theirs.tile_latent_min_size, theirs.tile_overlap_factor) == (TILE, OVERLAP / TILE)
        encoded = theirs.encode(torch.from_numpy(SAMPLE)[None]).latent_dist.mean[0].numpy()
        decoded = theirs.decode(torch.from_numpy(latents)[None]).sample[0].numpy()
        yield dataclasses.replace(ours, theirs_encoded=encoded, theirs_decoded=decoded)


def _error(result: Float32Array, whole: Float32Array) -> float:
    return float(np.sqrt(np.mean((result - whole) ** 2)))


def test_tiles_are_as_close_to_the_whole_as_those_of_diffusers(vae: Vae) -> None:
    """Tiles differ because the VAE normalises over what it sees; ours fade over all they share."""
    whole = vae.encode(SAMPLE)
    by_tiles = tiled(vae.encode, SAMPLE, (8, 1), TILE, OVERLAP)
    assert 0 < _error(by_tiles, whole) < 1.05 * _error(vae.theirs_encoded, whole)
    picture = vae.decode(whole)
    by_tiles = tiled(vae.decode, whole, (1, 8), TILE, OVERLAP)
    assert 0 < _error(by_tiles, picture) < 1.05 * _error(vae.theirs_decoded, picture)
    assert _error(by_tiles, picture) < 0.05


def test_tiles_leave_no_seam(vae: Vae) -> None:
    """On a smooth picture, what tiling changes does not jump from a line to the next."""
    smooth = to_sample(np.asarray(photo_of(448, 384).filter(ImageFilter.GaussianBlur(25))))
    latents = vae.encode(smooth)
    whole = vae.decode(latents)
    blended = tiled(vae.decode, latents, (1, 8), TILE, OVERLAP)
    abrupt = tiled(vae.decode, latents, (1, 8), TILE, 0)
    for axis in (1, 2):
        jumps, abrupt_jumps = (
            np.abs(np.diff((result - whole).mean(axis=3 - axis), axis=1)).max()
            for result in (blended, abrupt)
        )
        assert abrupt_jumps > SEAM
        assert jumps < SEAM
