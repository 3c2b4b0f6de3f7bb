"""A contestant: this package's runtime on one of its backends.

python -m benchmarks.gpu.ours probe|run JOB
"""

from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.gpu.contestants import WITHOUT_GRAPHS
from benchmarks.gpu.protocol import (
    Case,
    Job,
    StageClock,
    measure_cases,
    run_contestant,
    tell_opened,
)
from engines.backend import Backend, Choice, choose_backend
from engines.backends.trt import TensorRtBackend
from engines.bundle import Bundle, open_bundle
from engines.errors import BackendError, UserError
from engines.identity import tool_versions
from runtime.pipeline import Pipeline
from runtime.request import Request
from runtime.stopwatch import TimedBackend

DISTRIBUTIONS = (
    "cuda-bindings",
    "cuda-core",
    "numpy",
    "onnxruntime",
    "onnxruntime-ep-nv-tensorrt-rtx",
    "openvino",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-rtx",
)


class Ours:
    """The runtime's pipeline, whose calls take all pictures of the largest case at once."""

    def __init__(self, job: Job) -> None:
        self.clock = StageClock()
        self._job = job
        self._bundle = open_bundle(Path(job.bundle))
        backend = _take(job.kind, self._bundle)
        self.device = backend.device
        self._choice = Choice(TimedBackend(backend, self.clock), "asked for")
        self._pipeline = self._open()

    def make(self, case: Case, prompt: str) -> list[Any]:
        """Make the pictures of a case, as Pillow's images."""
        job = self._job
        request = Request(
            prompt,
            job.negative,
            preset="none",
            seed=job.seed,
            steps=case.steps,
            cfg=job.cfg,
            sampler="DPM++ 2M",
            schedule="karras",
            width=case.size,
            height=case.size,
            count=case.batch,
        )
        made = list(self._pipeline.generate(self._pipeline.settle([request])))
        return [Image.fromarray(picture.pixels) for picture in made]

    def recover(self) -> None:
        """Close the graphs and open them anew for the next case."""
        self._pipeline.close()
        self._pipeline = self._open()

    def _open(self) -> Pipeline:
        """A pipeline, which loads its graphs when it makes its first pictures."""
        most = max(case.batch for case in self._job.cases)
        return Pipeline(self._bundle, self._choice, max_batch=2 * most)


def probe(job: Job) -> dict[str, Any]:
    """Whether the backend can be used, and why not."""
    try:
        backend = _take(job.kind, open_bundle(Path(job.bundle)))
        return {"ready": True, "device": backend.device, "versions": tool_versions(DISTRIBUTIONS)}
    except UserError as error:
        return {"ready": False, "reason": str(error)}


def run(job: Job) -> None:
    """Measure every case."""
    contestant = Ours(job)
    tell_opened(job, contestant.device)
    measure_cases(job, contestant)


def _take(kind: str, bundle: Bundle) -> Backend:
    """The backend that a kind names.

    Raises:
        UserError: it cannot be used here.
    """
    name = kind.removesuffix(WITHOUT_GRAPHS)
    if name == kind:
        return choose_backend(kind, bundle).backend
    backend = TensorRtBackend(name, name.replace("-", "_"), graphs=False)
    reason = backend.unavailable(bundle)
    if reason is not None:
        raise BackendError(reason)
    return backend


if __name__ == "__main__":
    run_contestant(probe, run)
