"""An ONNX graph in ONNX Runtime's CPU provider, as the stand-in engines run it."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

_DTYPES: dict[str, np.dtype[Any]] = {
    "tensor(float16)": np.dtype(np.float16),
    "tensor(float)": np.dtype(np.float32),
    "tensor(int64)": np.dtype(np.int64),
}


@functools.cache
def open_graph(path: Path) -> "GraphRunner":
    """The graph at `path`, loaded once a session of tests."""
    return GraphRunner(path)


class GraphRunner:
    """One graph; its tensors' names in order."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self._dtypes = {each.name: _DTYPES[each.type] for each in (*inputs, *outputs)}
        self._known: dict[tuple[Any, ...], dict[str, tuple[int, ...]]] = {}
        self.inputs: list[str] = [each.name for each in inputs]
        self.outputs: list[str] = [each.name for each in outputs]

    def dtype(self, name: str) -> np.dtype[Any]:
        return self._dtypes[name]

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        return dict(zip(self.outputs, self._session.run(self.outputs, dict(feeds)), strict=True))

    def output_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """What comes out for inputs of these shapes: found by trying."""
        key = tuple(sorted(shapes.items()))
        if key not in self._known:
            zeros = {name: np.zeros(shape, self.dtype(name)) for name, shape in shapes.items()}
            self._known[key] = {name: array.shape for name, array in self.run(zeros).items()}
        return self._known[key]
