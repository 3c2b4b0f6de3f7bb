"""Make the contact sheets of docs/contact-sheets.md with the demo bundle.

python -m scripts.sheets [--bundle bundles/demo] [--backend cpu]
"""

import argparse
import sys
from pathlib import Path

from runtime.__main__ import main as runtime
from runtime.samplers.catalogue import SAMPLERS
from runtime.samplers.sigmas import SEQUENCES

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
PORTRAIT = "portrait of a woman, light skin, orange background, blue hair"
CRACKED = f"cracked skin, {PORTRAIT}"
_SAMPLERS = ",".join(sampler.name for sampler in SAMPLERS)
_SCHEDULES = ",".join([*SEQUENCES, "leading", "linspace", "trailing"])

SHEETS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "samplers": (PORTRAIT, f"steps=4,8,20,50;sampler={_SAMPLERS}", ()),
    "schedules": (PORTRAIT, f"steps=4,8,20;schedule={_SCHEDULES}", ("--sampler", "Euler")),
    "cfg-steps": (CRACKED, "cfg=1,2,4,7,12,20;steps=5,10,20,50", ()),
    "cfg-rescale": (CRACKED, "cfg=4,7,12,20;cfg-rescale=0,0.7,1", ()),
    "weights": (CRACKED, "weight:cracked skin=0.2,0.6,1,1.2,1.4,1.6;seed=11..14", ()),
}
"""By the name of the sheet: prompt, axes, other options."""


def main() -> int:
    """Make every sheet; return the first exit status that is not 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bundle", default="bundles/demo")
    parser.add_argument("--backend", default="cpu")
    parser.add_argument("names", nargs="*", choices=[*SHEETS, []], help="only these")
    options = parser.parse_args()
    for name in options.names or SHEETS:
        prompt, axes, more = SHEETS[name]
        out = str(PICTURES / f"sheet-{name}.jpg")
        common = ["--bundle", options.bundle, "--backend", options.backend, "--seed", "11"]
        files = ["--out", out, "--force", "--quality", "88", "--quiet"]
        status = runtime(["generate", prompt, "--sheet", axes, *more, *common, *files])
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
