"""Where runs start, with the noise that torch's generator gives, in diffusers' order."""

import numpy as np
import pytest
import torch

from engines import layout
from runtime.calls import complete
from runtime.canvas import prepare_canvas
from runtime.init_settings import CONTENTS, InitSettings, MaskSettings
from runtime.noise_schedule import NoiseSchedule
from runtime.philox import PhiloxNoise
from runtime.samplers.lookup import make_table
from runtime.seeds import NoiseSettings, SeedNoise
from runtime.source_picture import SourcePicture
from runtime.start import Starter
from runtime.vae_encoder import PictureEncoder, to_sample
from tests.runtime.samplers.reference import SD15
from tests.runtime.stand_ins import MANIFEST, StandInSession

SHAPE = (4, 8, 16)
PHOTO = np.random.default_rng(0).integers(0, 256, (64, 128, 3)).astype(np.uint8)
MASK = np.zeros((64, 128), np.uint8)
MASK[:, 64:] = 255
TABLE = make_table("Euler", "karras", 6, NoiseSchedule.from_config(SD15), 2)


def _encoder() -> PictureEncoder:
    return PictureEncoder(StandInSession(layout.VAE_ENCODER), 0.18215, 8)


def test_latents_are_sampled_with_the_deviation() -> None:
    """The stand-in's log-variance is its mean less 3; diffusers' own class is the reference."""
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    sample = to_sample(PHOTO)
    parameters = StandInSession(layout.VAE_ENCODER).run({layout.SAMPLE: sample[None]})
    posterior = DiagonalGaussianDistribution(torch.from_numpy(parameters[layout.LATENT_PARAMETERS]))
    wanted = 0.18215 * posterior.sample(torch.Generator().manual_seed(3))[0].numpy()
    noise = SeedNoise(3, NoiseSettings(), 8)
    latents = complete(_encoder().encode(sample, noise.draw, "off"))
    np.testing.assert_allclose(latents, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_what_the_webui_starts_from(masked: bool) -> None:
    """The encoder's sample takes nothing from the stream: the first noise is the start's."""
    mask = MaskSettings(SourcePicture.of(MASK), blur=0.0) if masked else None
    init = InitSettings(SourcePicture.of(PHOTO), 0.7, mask=mask)
    noise = SeedNoise(3, NoiseSettings("nv"), 8)
    made = complete(
        Starter(_encoder, MANIFEST.latents, sees_mask=False).from_canvas(
            TABLE, noise, prepare_canvas(init, 128, 64), init, "off"
        )
    )
    posterior = SeedNoise(3, NoiseSettings("nv"), 8).posterior
    known = complete(_encoder().encode(to_sample(PHOTO), posterior, "off"))
    stream = PhiloxNoise(3)
    wanted = known + TABLE.start[0, 1] * stream.draw(SHAPE)
    np.testing.assert_allclose(made.latents, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(noise.draw(SHAPE), stream.draw(SHAPE))


@pytest.mark.parametrize("content", CONTENTS)
def test_the_order_of_draws_and_the_masked_content(content: str) -> None:
    generator = torch.Generator().manual_seed(3)
    posterior, start, _, after = (torch.randn(SHAPE, generator=generator).numpy() for _ in "1234")
    mask = MaskSettings(SourcePicture.of(MASK), blur=0.0, content=content)
    init = InitSettings(SourcePicture.of(PHOTO), 0.7, mask=mask)
    canvas, noise = prepare_canvas(init, 128, 64), SeedNoise(3, NoiseSettings(), 8)
    starter = Starter(_encoder, MANIFEST.latents, sees_mask=False)
    made = complete(starter.from_canvas(TABLE, noise, canvas, init, "off"))
    known = complete(_encoder().encode(to_sample(canvas.pixels), lambda _: posterior, "off"))
    if content == "latent noise":
        known[..., 8:] = posterior[..., 8:]
    elif content == "latent nothing":
        known[..., 8:] = 0
    sigma = TABLE.start[0, 1]
    np.testing.assert_allclose(made.latents, known + sigma * start, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(noise.draw(SHAPE), after, atol=1e-6)
