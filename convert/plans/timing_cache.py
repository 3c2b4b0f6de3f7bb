"""TensorRT's timing cache, kept in a file between builds."""

from collections.abc import Callable
from pathlib import Path

from convert.plans.api import IBuilderConfig
from engines.publish import publish_file


class TimingCache:
    """What a build measures of kernels, so that the next one need not."""

    def __init__(self, config: IBuilderConfig, path: Path, warn: Callable[[str], None]) -> None:
        """Give `config` the cache in the file `path`, or an empty one."""
        self._config = config
        self._path = path
        if path.is_file():
            if self._give(path.read_bytes()):
                return
            warn(f"{path} was not made by this TensorRT on this GPU; it is made anew")
        self._give(b"")

    def _give(self, content: bytes) -> bool:
        cache = self._config.create_timing_cache(content)
        return cache is not None and self._config.set_timing_cache(cache, ignore_mismatch=False)

    def save(self) -> None:
        """Write the file, with what the build has added.

        Raises:
            OutputError: it cannot be written.
        """
        cache = self._config.get_timing_cache()
        if cache is None:
            return
        with publish_file(self._path) as partial, partial.open("wb") as file:
            file.write(cache.serialize())
