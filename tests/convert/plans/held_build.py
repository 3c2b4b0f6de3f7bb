"""`convert`, but the build of a UNet's plan stands still within TensorRT until `convert` is gone.

That it stands still is told by the file `held_file` beside the plan. A plan is built in a process
of its own, for which this module is `__mp_main__`.
"""

import multiprocessing
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from convert.__main__ import main
from convert.plans import worker
from convert.plans.api import TensorRt
from convert.plans.engine import PlanTask, build_engine
from engines import layout


def held_file(plan: Path) -> Path:
    """What appears beside a plan whose build stands still."""
    return plan.with_suffix(".held")


def _build_held(
    library: TensorRt,
    task: PlanTask,
    on_progress: Callable[[float, str], None],
    warn: Callable[[str], None],
) -> None:
    def hold(done: float, phase: str) -> None:
        convert = multiprocessing.parent_process()
        assert convert is not None
        held_file(task.out).touch()
        convert.join()
        on_progress(done, phase)

    is_unet = task.component == layout.UNET
    build_engine(library, task, hold if is_unet else on_progress, warn)


if __name__ in ("__main__", "__mp_main__"):
    vars(worker)["build_engine"] = _build_held
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    sys.exit(main())
