"""A contestant that behaves as its kind says: python -m tests.benchmarks.contestant_stand_in."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.gpu.protocol import Case, Job, StageClock, measure_cases, read_job, tell_opened


class StandIn:
    """Makes grey pictures; `full` has no memory for more than one, `crash` dies of a second one."""

    def __init__(self, job: Job) -> None:
        self.clock = StageClock()
        self.prompts: list[str] = []
        self.recovered = 0
        self._kind = job.kind

    def make(self, case: Case, prompt: str) -> list[Any]:
        self.prompts.append(prompt)
        if case.batch > 1 and self._kind == "full":
            raise MemoryError("CUDA out of memory")
        if case.batch > 1 and self._kind == "crash":
            sys.stderr.write("Segmentation fault, more or less\n")
            os._exit(139)
        if case.batch > 1 and self._kind == "hang":
            time.sleep(3600)
        for stage in ("text_encoder", *["unet"] * case.steps, "vae_decoder"):
            with self.clock.time(stage):
                pass
        return [Image.new("RGB", (case.size, case.size), "grey")] * case.batch

    def recover(self) -> None:
        self.recovered += 1


def main() -> None:
    job = read_job(Path(sys.argv[2]))
    if sys.argv[1] == "run":
        tell_opened(job, "none")
        measure_cases(job, StandIn(job))
    elif job.kind == "mute":
        sys.exit("ImportError: libcuda")
    else:
        answer = {"ready": job.kind != "absent", "reason": "run: pip install it"}
        sys.stdout.write(f"a warning of some library\n{json.dumps(answer)}\n")


if __name__ == "__main__":
    main()
