"""A stand-in for the module `tensorrt`: it records what it is told and writes that as its plan.

It has the names of the real module alone: setting another attribute is an error.
"""

import enum
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__version__ = "11.4.0.106"

_NAMES: dict[str, list[str]] = json.loads(
    (Path(__file__).parent / "tensorrt_11_4.json").read_text()
)["names"]


def _enumeration(name: str) -> Any:
    return enum.Enum(name, [each for each in _NAMES[name] if each not in ("name", "value")])


BuilderFlag = _enumeration("BuilderFlag")
HardwareCompatibilityLevel = _enumeration("HardwareCompatibilityLevel")
MemoryPoolType = _enumeration("MemoryPoolType")


class _Named:
    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_") and name not in _NAMES[type(self).__name__]:
            raise AttributeError(f"{type(self).__name__} has no {name}")
        super().__setattr__(name, value)


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def log(self, severity: int, msg: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError


class IStreamWriter:
    def write(self, data: bytes) -> int:
        raise NotImplementedError


class IOptimizationProfile(_Named):
    def __init__(self) -> None:
        self._shapes: dict[str, list[list[int]]] = {}

    def set_shape(
        self, name: str, least: Sequence[int], best: Sequence[int], most: Sequence[int]
    ) -> None:
        self._shapes[name] = [list(least), list(best), list(most)]

    def __bool__(self) -> bool:
        return all(least <= best <= most for least, best, most in self._shapes.values())


class ITimingCache(_Named):
    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> bytes:
        return self._content + b"T"


class IBuilderConfig(_Named):
    def __init__(self) -> None:
        self._record: dict[str, Any] = {"flags": [], "profiles": [], "pools": {}}
        self._cache: ITimingCache | None = None

    def set_flag(self, flag: Any) -> None:
        self._record["flags"].append(flag.name)

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._record["profiles"].append(profile._shapes)
        return len(self._record["profiles"]) - 1

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self._record["pools"][pool.name] = size

    def create_timing_cache(self, content: bytes) -> ITimingCache:
        return ITimingCache(content)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if cache._content.startswith(b"foreign"):
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache


class INetworkDefinition(_Named):
    def __init__(self, flags: int) -> None:
        self._flags = flags
        self._graph = ""


class Builder(_Named):
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int) -> INetworkDefinition:
        return INetworkDefinition(flags)

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network_to_stream(
        self, network: INetworkDefinition, config: Any, writer: IStreamWriter
    ) -> bool:
        """A graph that holds the name of a signal ends the process with it."""
        content = Path(network._graph).read_text()
        if content.startswith("SIG"):
            os.kill(os.getpid(), signal.Signals[content])
        config.progress_monitor.phase_start("Building engine", None, 2)
        config.progress_monitor.step_complete("Building engine", 0)
        config.progress_monitor.phase_finish("Building engine")
        self._logger.log(ILogger.WARNING, "a warning of the stand-in")
        level = getattr(config, "hardware_compatibility_level", None)
        record = {
            **config._record,
            "typed_by": network._flags,
            "optimization_level": getattr(config, "builder_optimization_level", None),
            "hardware": level.name if level else None,
        }
        data = json.dumps(record).encode()
        return writer.write(data) == len(data)


class OnnxParser(_Named):
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self.num_errors = 0
        self._network = network

    def parse_from_file(self, path: str) -> bool:
        self._network._graph = path
        return True
