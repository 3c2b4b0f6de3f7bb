"""Who takes part: this package on each of its backends, and its peers."""

from dataclasses import dataclass

from benchmarks.gpu.protocol import Case

OURS = "benchmarks.gpu.ours"
PIPELINES = "benchmarks.gpu.pipelines"

EAGER, COMPILED, OPTIMUM = "diffusers", "diffusers-compile", "optimum"

WITHOUT_GRAPHS = "-no-graph"
"""After the name of a TensorRT backend: without CUDA graphs."""


@dataclass(frozen=True)
class Entrant:
    """A contestant before it runs.

    Attributes:
        name: also its kind in its module.
        module: what is run as `python -m MODULE`.
        what: in words, for the report.
        batches: the only batch sizes that it is measured at; none means all. A compiler that
            takes minutes for each shape gets few.
    """

    name: str
    module: str
    what: str
    batches: tuple[int, ...] = ()

    def cases(self, cases: tuple[Case, ...]) -> tuple[Case, ...]:
        """Those of `cases` that it is measured at."""
        return tuple(case for case in cases if not self.batches or case.batch in self.batches)


ENTRANTS = (
    Entrant("tensorrt", OURS, "ours: TensorRT plans, CUDA graphs"),
    Entrant(f"tensorrt{WITHOUT_GRAPHS}", OURS, "ours: TensorRT plans, no CUDA graphs"),
    Entrant("tensorrt-rtx", OURS, "ours: TensorRT-RTX plans, CUDA graphs"),
    Entrant(f"tensorrt-rtx{WITHOUT_GRAPHS}", OURS, "ours: TensorRT-RTX plans, no CUDA graphs"),
    Entrant("ort-tensorrt-rtx", OURS, "ours: ONNX Runtime, TensorRT-RTX plugin"),
    Entrant("cuda", OURS, "ours: ONNX Runtime, CUDA provider"),
    Entrant("cuda-graph", OURS, "ours: ONNX Runtime, CUDA provider, CUDA graphs"),
    Entrant("openvino", OURS, "ours: OpenVINO on the CPU"),
    Entrant("cpu", OURS, "ours: ONNX Runtime on the CPU"),
    Entrant(EAGER, PIPELINES, "diffusers, eager, float16, channels last"),
    Entrant(COMPILED, PIPELINES, "diffusers, torch.compile (reduce-overhead)", batches=(1, 4)),
    Entrant(OPTIMUM, PIPELINES, "optimum on onnxruntime-gpu's CUDA provider"),
)

ON_CPU = frozenset({"openvino", "cpu"})
"""Taken only where they are asked for by name."""
