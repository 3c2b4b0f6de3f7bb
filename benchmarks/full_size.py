"""One 512x512 picture at the real size: `runtime generate` against others on the same CPU.

    python -m tests.full_size.model work/full_size/fused
    convert export work/full_size/fused --out work/full_size/bundle
    python -m benchmarks.full_size work/full_size/fused work/full_size/bundle

The model has Stable Diffusion 1.5's configuration and seeded random weights, so the picture is
noise and only its cost means anything. 20 steps of DPM++ 2M Karras, CFG 7.5. Whole processes in
turns, from start to the PNG on disk: imports, loading, compiling and decoding are all in it.

With --openvino PYTHON MODEL, OpenVINO GenAI takes part (benchmarks/genai_picture.py says how to
make its environment and model; it has no DPM++ 2M and takes as many steps of Euler), and with
--optimum PYTHON so does optimum's ONNX pipeline (benchmarks/optimum_opens_bundle.py likewise).
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import save, time_in_turns
from engines.identity import Json

PROMPT = "cracked skin, portrait of a woman"

DIFFUSERS_PROGRAM = """
import importlib
import sys
import torch
from diffusers import DPMSolverMultistepScheduler
module, name, model, prompt, steps, out, *dtype = sys.argv[1:]
options = {"dtype": getattr(torch, each) for each in dtype}
pipeline = getattr(importlib.import_module(module), name).from_pretrained(model, **options)
pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
    pipeline.scheduler.config, use_karras_sigmas=True
)
picture = pipeline(
    prompt, num_inference_steps=int(steps), guidance_scale=7.5,
    height=512, width=512, generator=torch.Generator().manual_seed(11),
).images[0]
picture.save(out)
"""
"""A picture by diffusers' pipeline or optimum's, which has the same interface."""

DIFFUSERS = ("diffusers", "StableDiffusionPipeline")
OPTIMUM = ("optimum.onnxruntime", "ORTStableDiffusionPipeline")
OURS = "runtime generate, openvino"


def main() -> None:
    """Time everyone and save the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("fused", type=Path, help="the full-size model as a diffusers directory")
    parser.add_argument("bundle", type=Path, help="the bundle that was exported from it")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--openvino", nargs=2, metavar=("PYTHON", "MODEL"))
    parser.add_argument("--optimum", metavar="PYTHON")
    options = parser.parse_args()
    steps = str(options.steps)
    with tempfile.TemporaryDirectory() as scratch:
        ours = [sys.executable, "-m", "runtime", "generate", PROMPT, "--preset", "none"]
        ours += ["--bundle", str(options.bundle), "--seed", "11", "--steps", steps]
        ours += ["--cfg", "7.5", "--size", "512x512", "--backend", "openvino"]
        ours += ["--quiet", "--force", "--out", f"{scratch}/ours.png"]
        commands = {OURS: ours}
        program = ["-W", "ignore", "-c", DIFFUSERS_PROGRAM]
        for dtype in ("float32", "bfloat16"):
            commands[f"diffusers, {dtype}"] = [
                *[sys.executable, *program, *DIFFUSERS, str(options.fused)],
                *[PROMPT, steps, f"{scratch}/{dtype}.png", dtype],
            ]
        if options.openvino:
            python, model = options.openvino
            script = str(Path(__file__).parent / "genai_picture.py")
            arguments = ["generate", model, steps, f"{scratch}/genai.png"]
            commands["openvino-genai"] = [python, script, *arguments]
        if options.optimum:
            commands["optimum-onnx"] = [
                *[options.optimum, *program, *OPTIMUM, str(options.bundle)],
                *[PROMPT, steps, f"{scratch}/optimum.png"],
            ]
        timings = time_in_turns(commands, runs=options.runs, warmups=0)
    mine = timings.pop(OURS)
    figures: dict[str, Json] = {"steps": options.steps}
    figures |= {
        f"speedup over {name}": round(timing.median / mine.median, 2)
        for name, timing in timings.items()
    }
    command = f"python -m benchmarks.full_size FUSED BUNDLE --steps {steps} --runs {options.runs}"
    command += " --openvino PYTHON MODEL" * bool(options.openvino)
    command += " --optimum PYTHON" * bool(options.optimum)
    print(save("full_size", command, figures, {OURS: mine, **timings}))


if __name__ == "__main__":
    main()
