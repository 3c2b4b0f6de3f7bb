"""ONNX Runtime on a GPU: a session whose inputs stay in the GPU's memory until they are fed again.

What changed is copied to the GPU, the outputs are copied back, and nothing else crosses the bus.
With CUDA graphs, each set of input shapes is recorded once and replayed from then on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import onnxruntime

from engines.backends.ort import Configure, load_graph, run_error
from engines.bundle import Bundle
from engines.errors import BackendError
from engines.session import Array, Session

NVIDIA: Final = 0x10DE
"""NVIDIA's PCI vendor id, by which ONNX Runtime tells the GPUs of several plugins apart."""

MOST_GRAPHS: Final = 16
"""Shapes that are recorded; a recorded graph keeps its memory until the session is closed."""

_NO_GRAPH: Final = "-1"

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
"""Every input's name and shape, by name."""


@dataclass(frozen=True)
class GpuProvider:
    """An execution provider of ONNX Runtime for NVIDIA GPUs.

    Attributes:
        name: the provider's name in ONNX Runtime.
        configure: puts a plugin into the session's options.
        built_in: the options of a provider that is no plugin.
        graph_id: the run option that tells recorded CUDA graphs apart; None where none are wanted.
        off_gpu: operators that may run on the CPU, because they only compute shapes; None where
            the provider takes whole graphs or none, and ONNX Runtime itself refuses the rest.
    """

    name: str
    configure: Configure
    built_in: Mapping[str, str] | None = None
    graph_id: str | None = None
    off_gpu: frozenset[str] | None = None


class OrtDeviceSession(Session):
    """One graph in ONNX Runtime on a GPU."""

    def __init__(self, bundle: Bundle, component: str, provider: GpuProvider) -> None:
        super().__init__(bundle.component(component))
        self._session: Any = load_graph(
            bundle.graph(component), provider.name, _with_records(provider), provider.built_in
        )
        if provider.off_gpu is not None:
            _refuse_work_on_cpu(self._session, provider, component)
        self._names = [tensor.name for tensor in self.outputs]
        self._dtypes = {tensor.name: tensor.dtype for tensor in self.inputs}
        self._graph_id = provider.graph_id
        self._buffers: dict[tuple[str, tuple[int, ...]], Any] = {}
        self._calls: dict[Shapes, _Call] = {}
        self._graphs = 0

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        shapes: Shapes = tuple(sorted(self._shapes.items()))
        try:
            for name, array in feeds.items():
                self._buffer(name, array.shape).update_inplace(array)
            if shapes not in self._calls:
                self._calls[shapes] = self._prepare(shapes)
            arrays = self._calls[shapes].run(self._session)
        except Exception as error:  # ONNX Runtime has no public base class for its errors
            self._calls.pop(shapes, None)
            raise run_error(error, " on the GPU") from error
        return dict(zip(self._names, arrays, strict=True))

    def close(self) -> None:
        """Release the graph and its memory on the GPU."""
        self._calls = {}
        self._buffers = {}
        self._session = None

    def _buffer(self, name: str, shape: tuple[int, ...]) -> Any:
        """The memory on the GPU that holds an input of this shape: one for all calls with it."""
        key = (name, shape)
        if key not in self._buffers:
            self._buffers[key] = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
                shape, self._dtypes[name], "gpu", 0, NVIDIA
            )
        return self._buffers[key]

    def _prepare(self, shapes: Shapes) -> "_Call":
        """Bind the inputs of these shapes, and outputs in their place."""
        if self._graph_id is None:
            self._calls.clear()
            self._buffers = {key: self._buffers[key] for key in shapes}
        binding = self._session.io_binding()
        for key in shapes:
            binding.bind_ortvalue_input(key[0], self._buffers[key])
        options = onnxruntime.RunOptions()
        if self._graph_id is None:
            for name in self._names:
                binding.bind_output(name, "cpu")
            return _Call(binding, options)
        self._place_outputs(binding)
        recorded = self._graphs < MOST_GRAPHS
        self._graphs += recorded  # never an id twice: one may be left from a failed recording
        options.add_run_config_entry(self._graph_id, str(self._graphs) if recorded else _NO_GRAPH)
        return _Call(binding, options)

    def _place_outputs(self, binding: Any) -> None:
        """Give the outputs places that stay: a recorded graph writes where it wrote before.

        Their shapes are what one run without recording returns.
        """
        for name in self._names:
            binding.bind_output(name, "cuda", 0)
        options = onnxruntime.RunOptions()
        options.add_run_config_entry(self._graph_id, _NO_GRAPH)
        self._session.run_with_iobinding(binding, options)
        for name, value in zip(self._names, binding.get_outputs(), strict=True):
            binding.bind_ortvalue_output(name, value)


@dataclass(frozen=True)
class _Call:
    """Bound inputs and outputs of certain shapes."""

    binding: Any
    options: Any

    def run(self, session: Any) -> list[Array]:
        """Run on what the inputs' memory holds now, and return copies of the outputs."""
        self.binding.synchronize_inputs()
        session.run_with_iobinding(self.binding, self.options)
        arrays: list[Array] = self.binding.copy_outputs_to_cpu()
        return arrays


def _with_records(provider: GpuProvider) -> Configure:
    """Configure so that no work lands on the CPU unseen."""

    def configure(options: onnxruntime.SessionOptions) -> None:
        provider.configure(options)
        if provider.off_gpu is None:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        else:
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")

    return configure


def _refuse_work_on_cpu(session: Any, provider: GpuProvider, component: str) -> None:
    strays = sorted(
        {
            node.op_type
            for part in session.get_provider_graph_assignment_info()
            if part.ep_name != provider.name
            for node in part.get_nodes()
        }
        - (provider.off_gpu or frozenset())
    )
    if strays:
        raise BackendError(
            f"{provider.name} leaves operators of the {component} to the CPU, which would be "
            f"slow: {', '.join(strays)}. Install another onnxruntime-gpu or choose another "
            "--backend."
        )
