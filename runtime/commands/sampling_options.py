"""Options of guidance and of samplers beside their names."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.guidance import GuidanceSettings
    from runtime.samplers.stochasticity import Stochasticity


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of guidance and of the noise that samplers bring in."""
    guidance = parser.add_argument_group("guidance")
    guidance.add_argument(
        "--cfg-rescale",
        type=float,
        default=0.0,
        metavar="X",
        help="bring the contrast of guided predictions back, 0 (default) to 1",
    )
    guidance.add_argument(
        "--cfg-start",
        type=float,
        default=0.0,
        metavar="X",
        help="no guidance in this share of the first steps, which halves their time "
        "(the webui's Skip Early CFG; default 0)",
    )
    guidance.add_argument(
        "--cfg-end",
        type=float,
        default=1.0,
        metavar="X",
        help="no guidance any more from this share of the steps on (default 1)",
    )
    noise = parser.add_argument_group("sampler noise", "see docs/samplers.md")
    noise.add_argument(
        "--eta", type=float, metavar="X", help="its share, 0 to 1 (default: the sampler's own)"
    )
    noise.add_argument(
        "--s-churn", type=float, default=0.0, metavar="X", help="churn of a run (default 0)"
    )
    noise.add_argument(
        "--s-tmin", type=float, default=0.0, metavar="X", help="its least sigma (default 0)"
    )
    noise.add_argument(
        "--s-tmax", type=float, metavar="X", help="its highest sigma (default: none)"
    )
    noise.add_argument(
        "--s-noise", type=float, default=1.0, metavar="X", help="what multiplies it (default 1)"
    )


def read_guidance_settings(options: argparse.Namespace) -> "GuidanceSettings":
    """What the options of guidance ask for; nothing is checked yet."""
    from runtime.guidance import GuidanceSettings

    return GuidanceSettings(options.cfg_rescale, options.cfg_start, options.cfg_end)


def read_stochasticity(options: argparse.Namespace) -> "Stochasticity":
    """What the options of sampler noise ask for; nothing is checked yet."""
    from runtime.samplers.stochasticity import Stochasticity

    return Stochasticity(
        options.eta, options.s_churn, options.s_tmin, options.s_tmax, options.s_noise
    )
