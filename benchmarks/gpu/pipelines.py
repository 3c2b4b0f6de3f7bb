"""Contestants: diffusers' pipeline in torch, eager or compiled, and optimum's on ONNX Runtime.

python -m benchmarks.gpu.pipelines probe|run JOB

Run by whatever Python has the packages; nothing else of this package is imported.
"""

from typing import Any

from benchmarks.gpu.contestants import COMPILED, EAGER, OPTIMUM
from benchmarks.gpu.protocol import (
    STAGES,
    Case,
    Job,
    StageClock,
    measure_cases,
    run_contestant,
    tell_opened,
)

PIP = {
    EAGER: "pip install torch diffusers transformers accelerate",
    COMPILED: "pip install torch diffusers transformers accelerate",
    OPTIMUM: 'pip install optimum-onnx==0.1.0 "transformers<5" diffusers==0.39.0 onnxruntime-gpu',
}


class TorchPipeline:
    """StableDiffusionPipeline in float16 on a GPU, channels last, with torch's own attention."""

    def __init__(self, job: Job) -> None:
        import torch
        from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

        self.clock = StageClock()
        self._job = job
        self._torch = torch
        dtype = torch.float16 if job.device == "cuda" else torch.float32
        self.pipe = StableDiffusionPipeline.from_pretrained(
            job.model, torch_dtype=dtype, safety_checker=None
        ).to(job.device)
        self.pipe.scheduler = DPMSolverMultistepScheduler.from_config(
            self.pipe.scheduler.config, use_karras_sigmas=True
        )
        self.pipe.set_progress_bar_config(disable=True)
        self.pipe.unet.to(memory_format=torch.channels_last)
        self.pipe.vae.to(memory_format=torch.channels_last)
        if job.kind == COMPILED:
            # As diffusers' guide to torch.compile has it.
            self.pipe.unet = torch.compile(self.pipe.unet, mode="reduce-overhead", fullgraph=True)
            self.pipe.vae.decode = torch.compile(
                self.pipe.vae.decode, mode="reduce-overhead", fullgraph=True
            )
        self._time("text_encoder", self.pipe.text_encoder, "forward")
        self._time("vae_decoder", self.pipe.vae, "decode")
        unet = self.pipe.unet
        unet.forward = self._timed("unet", unet.forward)

    def make(self, case: Case, prompt: str) -> list[Any]:
        """Make the pictures of a case, as Pillow's images."""
        images = call(self.pipe, self._job, case, prompt)
        self._finish()
        return images

    def recover(self) -> None:
        """Give memory back that a failed case has left."""
        if self._job.device == "cuda":
            self._torch.cuda.empty_cache()

    def _time(self, stage: str, owner: Any, name: str) -> None:
        setattr(owner, name, self._timed(stage, getattr(owner, name)))

    def _timed(self, stage: str, function: Any) -> Any:
        def timed(*arguments: Any, **named: Any) -> Any:
            if not self.clock.on:
                return function(*arguments, **named)
            self._finish()
            with self.clock.time(stage):
                out = function(*arguments, **named)
                self._finish()
            return out

        return timed

    def _finish(self) -> None:
        if self._job.device == "cuda":
            self._torch.cuda.synchronize()


class OptimumPipeline:
    """optimum's ORTStableDiffusionPipeline on the bundle's graphs."""

    def __init__(self, job: Job) -> None:
        from diffusers import DPMSolverMultistepScheduler
        from optimum.onnxruntime import ORTStableDiffusionPipeline

        self.clock = StageClock()
        self._job = job
        provider = "CUDAExecutionProvider" if job.device == "cuda" else "CPUExecutionProvider"
        self.pipe = ORTStableDiffusionPipeline.from_pretrained(job.bundle, provider=provider)
        active = self.pipe.unet.session.get_providers()[0]
        if active != provider:
            raise RuntimeError(f"optimum runs on {active} instead of {provider}")
        self.pipe.scheduler = DPMSolverMultistepScheduler.from_config(
            self.pipe.scheduler.config, use_karras_sigmas=True
        )
        self.pipe.set_progress_bar_config(disable=True)
        for stage, part in zip(STAGES, ("text_encoder", "unet", "vae_decoder"), strict=True):
            owner = self.pipe.vae.decoder if part == "vae_decoder" else getattr(self.pipe, part)
            owner.forward = self._timed(stage, owner.forward)

    def make(self, case: Case, prompt: str) -> list[Any]:
        """Make the pictures of a case, as Pillow's images."""
        return call(self.pipe, self._job, case, prompt)

    def recover(self) -> None:
        """ONNX Runtime keeps its memory."""

    def _timed(self, stage: str, function: Any) -> Any:
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.clock.time(stage):
                return function(*arguments, **named)

        return timed


def call(pipe: Any, job: Job, case: Case, prompt: str) -> list[Any]:
    """One call of a pipeline of diffusers' shape, with the seeds that ours has."""
    import torch

    images: list[Any] = pipe(
        [prompt] * case.batch,
        negative_prompt=[job.negative] * case.batch,
        width=case.size,
        height=case.size,
        num_inference_steps=case.steps,
        guidance_scale=job.cfg,
        generator=[torch.Generator("cpu").manual_seed(job.seed + i) for i in range(case.batch)],
    ).images
    return images


def probe(job: Job) -> dict[str, Any]:
    """Whether the packages and the GPU are there, and what to do where not."""
    try:
        import diffusers
        import torch
        import transformers

        versions = {
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
        }
        if job.kind == OPTIMUM:
            import onnxruntime
            import optimum.onnxruntime  # noqa: F401

            versions["onnxruntime"] = onnxruntime.__version__
            if job.device == "cuda" and (
                "CUDAExecutionProvider" not in onnxruntime.get_available_providers()
            ):
                return {"ready": False, "reason": f"onnxruntime without CUDA: {PIP[OPTIMUM]}"}
        elif job.device == "cuda" and not torch.cuda.is_available():
            return {"ready": False, "reason": f"torch {torch.__version__} sees no GPU"}
    except ImportError as error:
        return {"ready": False, "reason": f"{error.name} is not installed: {PIP[job.kind]}"}
    return {"ready": True, "device": job.device, "versions": versions}


def run(job: Job) -> None:
    """Measure every case."""
    contestant = OptimumPipeline(job) if job.kind == OPTIMUM else TorchPipeline(job)
    tell_opened(job, job.device)
    measure_cases(job, contestant)


if __name__ == "__main__":
    run_contestant(probe, run)
