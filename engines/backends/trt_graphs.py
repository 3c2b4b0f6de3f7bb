"""CUDA graphs: work that is recorded once and then launched in one call."""

import logging
from collections.abc import Callable

from engines.backends.cuda_api import CudaRuntime, Handle, check
from engines.errors import BackendError, InternalError

_log = logging.getLogger(__name__)


class CapturedGraph:
    """What a stream was given once, with the addresses that it was given."""

    def __init__(self, cuda: CudaRuntime, recorded: Handle) -> None:
        """Make a graph that can be launched of a recorded one, which stays the caller's.

        Raises:
            CudaError: CUDA cannot launch it.
        """
        self._cuda = cuda
        outcome = cuda.cudaGraphInstantiate(recorded, 0)
        self._launchable: Handle | None = check(cuda, outcome, "making a CUDA graph")

    def launch(self, stream: Handle) -> None:
        """Do the recorded work again."""
        if self._launchable is None:
            raise InternalError("a CUDA graph was launched after its release")
        outcome = self._cuda.cudaGraphLaunch(self._launchable, stream)
        check(self._cuda, outcome, "launching a CUDA graph")

    def release(self) -> None:
        """Give the graph back; nothing may be running it. A second call does nothing."""
        launchable, self._launchable = self._launchable, None
        if launchable is not None:
            outcome = self._cuda.cudaGraphExecDestroy(launchable)
            check(self._cuda, outcome, "releasing a CUDA graph")


def capture(
    cuda: CudaRuntime, stream: Handle, enqueue: Callable[[], None], what: str
) -> CapturedGraph | None:
    """Record what `enqueue` gives to the stream, without doing it.

    Args:
        cuda: the runtime.
        stream: where the work would go; what it has already is not recorded.
        enqueue: gives work to the stream.
        what: named in the warning where it cannot be recorded.

    Returns:
        The graph, or None where this work cannot be recorded; the stream is as it was.
    """
    try:
        return _capture(cuda, stream, enqueue)
    except BackendError as error:
        _log.warning("%s runs without a CUDA graph, which costs some speed: %s", what, error)
        return None


def _capture(cuda: CudaRuntime, stream: Handle, enqueue: Callable[[], None]) -> CapturedGraph:
    mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    check(cuda, cuda.cudaStreamBeginCapture(stream, mode), "beginning to record a CUDA graph")
    try:
        enqueue()
    except BaseException:
        _drop(cuda, *cuda.cudaStreamEndCapture(stream))
        raise
    outcome = cuda.cudaStreamEndCapture(stream)
    try:
        return CapturedGraph(cuda, check(cuda, outcome, "recording a CUDA graph"))
    finally:
        _drop(cuda, *outcome)


def _drop(cuda: CudaRuntime, code: object, recorded: Handle) -> None:
    """Give a recorded graph back, where there is one."""
    if code == cuda.cudaError_t.cudaSuccess:
        check(cuda, cuda.cudaGraphDestroy(recorded), "releasing a recorded CUDA graph")
