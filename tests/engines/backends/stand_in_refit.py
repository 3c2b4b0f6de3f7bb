"""TensorRT's refitters: they take the very graph that a plan was built from."""

import hashlib
from pathlib import Path
from typing import Any

from tests.engines.backends.stand_in_names import Severity


class StandInRefitter:
    """`Refitter`."""

    def __init__(self, engine: Any, logger: Any) -> None:
        self.engine, self.logger = engine, logger
        self.read = False

    def get_missing_weights(self) -> list[str]:
        return list(self.engine.plan["missing"])

    def refit_cuda_engine(self) -> bool:
        if not self.read or self.get_missing_weights():
            self.logger.log(Severity.ERROR, "weights are missing")
            return False
        self.engine.has_weights = True
        return True


class StandInParserRefitter:
    """`OnnxParserRefitter`: takes the graph that the plan was built from, and no other."""

    def __init__(self, refitter: StandInRefitter, logger: Any) -> None:
        self._refitter = refitter
        self._errors: list[str] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def refit_from_file(self, model: str) -> bool:
        if graph_digest(Path(model)) != self._refitter.engine.plan["sha256"]:
            self._errors.append("a weight has another shape")
            return False
        self._refitter.read = True
        return True

    def get_error(self, index: int) -> Any:
        message = self._errors[index]

        class Error:
            def desc(self) -> str:
                return message

        return Error()


def graph_digest(path: Path) -> str:
    """What tells one graph from another."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
