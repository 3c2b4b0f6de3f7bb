"""A contestant: this package's runtime on one of its backends.

python -m benchmarks.gpu.ours probe|run JOB
"""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.gpu.contestants import WITHOUT_GRAPHS
from benchmarks.gpu.protocol import Case, Job, StageClock, append, measure_cases, read_job
from engines.axes import Limits
from engines.backend import Backend, Choice, choose_backend
from engines.backends.trt import TensorRtBackend
from engines.bundle import Bundle, open_bundle
from engines.errors import BackendError, UserError
from engines.identity import tool_versions
from engines.manifest import ComponentSpec
from engines.session import Array, Session
from runtime.pipeline import Pipeline
from runtime.request import Request

DISTRIBUTIONS = (
    "cuda-bindings",
    "cuda-core",
    "numpy",
    "onnxruntime",
    "onnxruntime-ep-nv-tensorrt-rtx",
    "onnxruntime-ep-openvino",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-rtx",
)


class _TimedSession(Session):
    """A session whose calls a clock times; they return only when their outputs are there."""

    def __init__(
        self, session: Session, spec: ComponentSpec, component: str, clock: StageClock
    ) -> None:
        super().__init__(spec)
        self.inputs, self.outputs = session.inputs, session.outputs
        self._session = session
        self._component = component
        self._clock = clock

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        with self._clock.time(self._component):
            return self._session.run(feeds)

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        return self._session.run(feeds)

    def close(self) -> None:
        self._session.close()


class _TimedBackend:
    """A backend whose sessions are timed."""

    def __init__(self, backend: Backend, clock: StageClock) -> None:
        self.name = backend.name
        self.device = backend.device
        self.max_batch = backend.max_batch
        self._backend = backend
        self._clock = clock

    def unavailable(self, bundle: Bundle) -> str | None:
        return self._backend.unavailable(bundle)

    def limits(self, bundle: Bundle) -> Limits:
        return self._backend.limits(bundle)

    def open_session(self, bundle: Bundle, component: str) -> Session:
        session = self._backend.open_session(bundle, component)
        return _TimedSession(session, bundle.component(component), component, self._clock)


class Ours:
    """The runtime's pipeline; a new batch size gets a pipeline that takes all of it in one call."""

    def __init__(self, job: Job) -> None:
        self.clock = StageClock()
        self._job = job
        self._bundle = open_bundle(Path(job.bundle))
        backend = _take(job.kind, self._bundle)
        self._choice = Choice(_TimedBackend(backend, self.clock), "asked for")
        most = max(case.batch for case in job.cases)
        self._pipeline = Pipeline(self._bundle, self._choice, max_batch=2 * most)

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
        most = max(case.batch for case in self._job.cases)
        self._pipeline = Pipeline(self._bundle, self._choice, max_batch=2 * most)


def probe(job: Job) -> dict[str, Any]:
    """Whether the backend can be used, and why not."""
    try:
        backend = _take(job.kind, open_bundle(Path(job.bundle)))
        return {"ready": True, "device": backend.device, "versions": tool_versions(DISTRIBUTIONS)}
    except UserError as error:
        return {"ready": False, "reason": str(error)}


def run(job: Job) -> None:
    """Measure every case."""
    started = time.perf_counter()
    contestant = Ours(job)
    append(
        job, {"loaded": time.perf_counter() - started, "device": contestant._choice.backend.device}
    )
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


def main() -> None:
    """Probe or run."""
    job = read_job(Path(sys.argv[2]))
    if sys.argv[1] == "probe":
        print(json.dumps(probe(job)))
    else:
        run(job)


if __name__ == "__main__":
    main()
