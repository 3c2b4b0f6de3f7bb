"""One 512x512 picture at the real size: `runtime generate` against diffusers on the same CPU.

    python -m tests.full_size.model work/full_size/fused
    convert export work/full_size/fused --out work/full_size/bundle
    python -m benchmarks.full_size work/full_size/fused work/full_size/bundle

The model has Stable Diffusion 1.5's configuration and seeded random weights, so the picture is
noise and only its cost means anything. 20 steps of DPM++ 2M Karras, CFG 7.5. Whole processes in
turns, from start to the PNG on disk: imports, loading, compiling and decoding are all in it.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import save, time_in_turns

PROMPT = "cracked skin, portrait of a woman"

DIFFUSERS_PROGRAM = """
import sys
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
model, dtype, steps, out = sys.argv[1:]
pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=getattr(torch, dtype))
pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
    pipeline.scheduler.config, use_karras_sigmas=True
)
picture = pipeline(
    "cracked skin, portrait of a woman", num_inference_steps=int(steps), guidance_scale=7.5,
    height=512, width=512, generator=torch.Generator().manual_seed(11),
).images[0]
picture.save(out)
"""


def main() -> None:
    """Time the three and save the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("fused", type=Path, help="the full-size model as a diffusers directory")
    parser.add_argument("bundle", type=Path, help="the bundle that was exported from it")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--runs", type=int, default=2)
    options = parser.parse_args()
    steps = str(options.steps)
    with tempfile.TemporaryDirectory() as scratch:
        ours = [sys.executable, "-m", "runtime", "generate", PROMPT, "--preset", "none"]
        ours += ["--bundle", str(options.bundle), "--seed", "11", "--steps", steps]
        ours += ["--cfg", "7.5", "--size", "512x512", "--backend", "openvino"]
        ours += ["--quiet", "--force", "--out", f"{scratch}/ours.png"]
        commands = {"runtime generate, openvino": ours}
        for dtype in ("float32", "bfloat16"):
            commands[f"diffusers, {dtype}"] = [
                *[sys.executable, "-W", "ignore", "-c", DIFFUSERS_PROGRAM],
                *[str(options.fused), dtype, steps, f"{scratch}/{dtype}.png"],
            ]
        timings = time_in_turns(commands, runs=options.runs, warmups=0)
    mine = timings["runtime generate, openvino"].median
    print(
        save(
            "full_size",
            f"python -m benchmarks.full_size FUSED BUNDLE --steps {steps} --runs {options.runs}",
            {
                "steps": options.steps,
                "speedup_over_float32": round(timings["diffusers, float32"].median / mine, 2),
                "speedup_over_bfloat16": round(timings["diffusers, bfloat16"].median / mine, 2),
            },
            timings,
        )
    )


if __name__ == "__main__":
    main()
