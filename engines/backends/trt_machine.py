"""What the sessions of one backend share: the GPU, one stream, one piece of working memory."""

import logging
import threading
from collections import deque
from typing import Any, Final

from engines.backends.cuda_api import CudaRuntime, Handle, check
from engines.backends.trt_api import Runtime, TensorRt
from engines.backends.trt_memory import DeviceBlock
from engines.cuda_driver import Driver
from engines.errors import InternalError

_log = logging.getLogger(__name__)

_REMEMBERED_ERRORS: Final = 4


class Library:
    """A TensorRT module that was imported, with the logger that it gets.

    TensorRT keeps the first logger of a process, so a library is made once and never given up.
    """

    def __init__(self, module: TensorRt, *, for_rtx: bool) -> None:
        """Take a module.

        Args:
            module: `tensorrt` or `tensorrt_rtx`.
            for_rtx: whether it is TensorRT for RTX, which compiles kernels and records CUDA graphs
                itself.
        """
        self.module = module
        self.for_rtx = for_rtx
        self.logger, self._errors = _make_logger(module)

    def reasons(self) -> str:
        """What TensorRT has logged as errors since the last call, to end a message with."""
        errors = "; ".join(self._errors)
        self._errors.clear()
        return errors or "TensorRT gives no reason"


class Machine:
    """The GPU, for all sessions of one backend in this process.

    Sessions take turns: whoever runs holds `lock`, gives its work to `stream` and waits for it. So
    the memory for intermediate results, `working_memory`, serves them all one after the other.
    """

    def __init__(
        self, cuda: CudaRuntime, library: Library, driver: Driver, *, graphs: bool
    ) -> None:
        """Take the GPU.

        Args:
            cuda: the CUDA runtime.
            library: TensorRT.
            driver: what the driver says of the GPU.
            graphs: whether CUDA graphs are used.

        Raises:
            CudaError: CUDA cannot be started on it.
        """
        self.cuda = cuda
        self.library = library
        self.driver = driver
        self.graphs = graphs
        self.lock = threading.RLock()
        self.stream: Handle = check(
            cuda, cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking), "making a stream"
        )
        self.working_memory = DeviceBlock(cuda, "intermediate results")
        self._runtime: Runtime | None = library.module.Runtime(library.logger)

    @property
    def runtime(self) -> Runtime:
        """What reads plans."""
        if self._runtime is None:
            raise InternalError("the GPU was used after its release")
        return self._runtime

    def synchronise(self) -> None:
        """Wait until the stream has done all its work.

        Raises:
            CudaError: some of it failed.
        """
        check(self.cuda, self.cuda.cudaStreamSynchronize(self.stream), "computing on the GPU")

    def memory(self) -> tuple[int, int]:
        """Bytes of the GPU's memory that are free, and that there are."""
        code, free, total = self.cuda.cudaMemGetInfo()
        check(self.cuda, (code,), "asking for free memory")
        return free, total

    def release(self) -> None:
        """Give the GPU back, after the last session; a second call does nothing."""
        if self._runtime is None:
            return
        self._runtime = None
        self.working_memory.release()
        check(self.cuda, self.cuda.cudaStreamDestroy(self.stream), "releasing a stream")


def _make_logger(module: TensorRt) -> tuple[Any, deque[str]]:
    """TensorRT's messages as Python's; its last errors are kept to be quoted in exceptions."""
    errors: deque[str] = deque(maxlen=_REMEMBERED_ERRORS)
    base = module.ILogger

    class Logger(base):  # type: ignore[misc, valid-type]
        """Passes messages on."""

        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            """Called by TensorRT, from any of its threads."""
            if severity <= base.ERROR:
                errors.append(msg)
                _log.debug("TensorRT: %s", msg)
            elif severity == base.WARNING:
                _log.warning("TensorRT: %s", msg)
            else:
                _log.debug("TensorRT: %s", msg)

    return Logger(), errors
