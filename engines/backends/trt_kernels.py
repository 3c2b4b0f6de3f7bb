"""The kernels that TensorRT for RTX compiles on this machine, kept on disk for the next start."""

import logging
from pathlib import Path

from engines.backends.trt_api import RtxIRuntimeCache, RtxIRuntimeConfig
from engines.backends.trt_machine import Machine
from engines.cache import cache_directory
from engines.cuda_driver import Driver
from engines.errors import OutputError
from engines.identity import identity_of
from engines.publish import publish_file

_log = logging.getLogger(__name__)


def kernel_file(driver: Driver, library_version: str, plan_sha256: str) -> Path:
    """Where the kernels of one plan on this GPU, library and driver are kept.

    Raises:
        OutputError: the user has no home directory.
    """
    key = identity_of(
        {
            "plan": plan_sha256,
            "gpu": driver.gpus[0].name,
            "driver": list(driver.cuda),
            "library": library_version,
        }
    )
    return cache_directory() / "kernels" / key


class KernelCache:
    """One plan's compiled kernels. A cache that cannot be read or written only costs time."""

    def __init__(self, config: RtxIRuntimeConfig, machine: Machine, plan_sha256: str) -> None:
        """Make `config` use what is on disk, and what will be compiled."""
        self._cache: RtxIRuntimeCache = config.create_runtime_cache()
        self._saved = b""
        self._path: Path | None = None
        try:
            self._path = kernel_file(
                machine.driver, machine.library.module.__version__, plan_sha256
            )
            self._saved = self._path.read_bytes()
        except FileNotFoundError:
            pass
        except (OSError, OutputError) as error:
            _log.warning("Compiled kernels cannot be kept: %s", error)
        if self._saved and not self._cache.deserialize(self._saved):
            _log.info("Kernels are compiled anew: %s does not fit this machine", self._path)
            self._saved = b""
        config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Write what was compiled since the last call, if anything was."""
        memory = self._cache.serialize()
        content = b"" if memory is None else bytes(memory)
        if self._path is None or content in (b"", self._saved):
            return
        try:
            with publish_file(self._path) as partial:
                partial.write_bytes(content)
        except OutputError as error:
            _log.warning("Compiled kernels cannot be kept: %s", error)
            self._path = None
        self._saved = content
