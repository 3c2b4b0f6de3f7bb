"""From nothing to the committed weights, one stage after the other; finished ones are skipped."""

import argparse
import logging
import os
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "30000")
THREADS = os.environ.setdefault("OMP_NUM_THREADS", "2")

import torch  # noqa: E402 (torch reads the environment once)

from demo.training.pack import install  # noqa: E402
from demo.training.settings import FULL, FURTHER, QUICK  # noqa: E402
from demo.training.stages import Stage, list_stages  # noqa: E402

log = logging.getLogger("demo.training")


def main() -> None:
    """Run every stage whose output is not there yet."""
    parser = argparse.ArgumentParser(prog="python -m demo.training", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for what is in between")
    parser.add_argument("--out", type=Path, required=True, help="gets base/, loras/, grid.png")
    parser.add_argument("--quick", action="store_true", help="a few steps a stage: a smoke test")
    parser.add_argument("--start", type=Path, help="a trained pipeline of this shape to go on from")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(int(THREADS))
    settings = QUICK if options.quick else FURTHER if options.start else FULL
    for stage in list_stages(options.work, settings, options.start):
        run(stage)
    install(options.work / "packed", options.out)


def run(stage: Stage) -> None:
    """Run one stage, unless its output exists."""
    if stage.output.exists():
        log.info("%s: there already", stage.name)
        return
    began = time.perf_counter()
    stage.action()
    log.info("%s: done in %.0f s", stage.name, time.perf_counter() - began)


if __name__ == "__main__":
    main()
