"""TensorRT's enumerations, as far as they are used, and its logger."""

import enum
from typing import Any


class Severity(enum.IntEnum):
    """`ILogger.Severity`."""

    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class StandInLogger:
    """`ILogger`, to be subclassed."""

    ERROR = Severity.ERROR
    WARNING = Severity.WARNING

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class AllocationStrategy(enum.Enum):
    USER_MANAGED = 2


class GraphStrategy(enum.Enum):
    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = 1


class KernelStrategy(enum.Enum):
    LAZY = 0
    EAGER = 1
