"""Decoding: the VAE's scale, and diffusers' rounding."""

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor

from engines import layout
from engines.errors import BackendError
from runtime.calls import complete
from runtime.vae_decoder import PictureDecoder, to_pixels
from tests.runtime.stand_ins import StandInSession


def test_rounding_is_that_of_diffusers() -> None:
    sample = np.random.default_rng(0).normal(0, 0.8, (3, 64, 48)).astype(np.float32)
    sample[0, 0] = np.linspace(-1.2, 1.2, 48)
    ties = (np.arange(48, dtype=np.float32) + np.float32(0.5)) / np.float32(127.5) - 1
    sample[1, 0] = ties
    (wanted,) = VaeImageProcessor().postprocess(torch.from_numpy(sample)[None], "pil")
    np.testing.assert_array_equal(to_pixels(sample), np.asarray(wanted))


def test_latents_are_divided_by_the_scaling_factor() -> None:
    session = StandInSession(layout.VAE_DECODER)
    latents = np.random.default_rng(1).standard_normal((4, 8, 6)).astype(np.float32)
    pixels = complete(PictureDecoder(session, 0.5).decode(latents))
    assert pixels.shape == (64, 48, 3)
    wanted = (np.tanh(latents[:3] * 2 / 5) / 2 + 0.5) * 255
    np.testing.assert_allclose(pixels[::8, ::8].transpose(2, 0, 1), wanted, atol=0.51)


def test_a_picture_without_numbers_is_an_error() -> None:
    decoder = PictureDecoder(StandInSession(layout.VAE_DECODER), 1.0)
    with pytest.raises(BackendError, match=r"no numbers.*float32"):
        complete(decoder.decode(np.full((4, 8, 8), np.nan, np.float32)))
