"""Cold start: from the start of the process to the first demo picture on disk.

    make demo
    python -m benchmarks.cold_start

Ours is `runtime generate` on the bundle of `make demo`; the other is the shortest diffusers
program that makes the same picture from the fused model that the bundle was exported from
(float32, DPM++ 2M Karras, 20 steps, CFG 4). Whole processes, in turns.
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.measure import save, time_in_turns

ROOT = Path(__file__).parent.parent
BUNDLE = ROOT / "bundles" / "demo"
FUSED = ROOT / "bundles" / "demo.fused"
PROMPT = "cracked skin, portrait of a woman, light skin, orange background, blue hair"

DIFFUSERS_PROGRAM = """
import sys
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
model, prompt, out = sys.argv[1:]
pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32)
pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
    pipeline.scheduler.config, use_karras_sigmas=True
)
picture = pipeline(
    prompt, num_inference_steps=20, guidance_scale=4.0, height=128, width=128,
    generator=torch.Generator().manual_seed(11),
).images[0]
picture.save(out)
"""


def main() -> None:
    """Time both and save the figures."""
    if not (BUNDLE.is_dir() and FUSED.is_dir()):
        sys.exit("There is no demo bundle yet. Run: make demo")
    with tempfile.TemporaryDirectory() as scratch:
        ours = [sys.executable, "-m", "runtime", "generate", PROMPT, "--bundle", str(BUNDLE)]
        ours += ["--seed", "11", "--steps", "20", "--cfg", "4", "--size", "128x128"]
        ours += ["--quiet", "--force", "--out", f"{scratch}/ours.png"]
        theirs = [sys.executable, "-W", "ignore", "-c", DIFFUSERS_PROGRAM]
        theirs += [str(FUSED), PROMPT, f"{scratch}/diffusers.png"]
        timings = time_in_turns({"runtime generate": ours, "diffusers": theirs}, runs=7)
    speedup = timings["diffusers"].median / timings["runtime generate"].median
    print(
        save(
            "cold_start",
            "make demo && python -m benchmarks.cold_start",
            {"speedup": round(speedup, 2)},
            timings,
        )
    )


if __name__ == "__main__":
    main()
