"""Commands in processes of their own that end, or meet with something, at a chosen step.

`python -m tests.convert.stage_process` loads what the stages need, once, and then forks a process
for each request: importing torch takes longer than a stage of the tiny model. A step is a change
in the file system below a directory: a file opened to be written or synchronised, something made,
renamed or removed. What is to happen at a step happens before it.
"""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_OPERATIONS = frozenset(
    {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "ctypes.dlopen"}
)


@dataclass(frozen=True)
class Job:
    """One command to run.

    `directory` is where steps are counted, and `messages` the file that gets what it writes. At
    step `at`, if that is not 0, the signal `signal` is sent, or `replaced` is overwritten with the
    content of `replacement`. No file may grow beyond `file_size` bytes, if that is not 0: the
    command is told so, or killed where `is_fatal`. `graphs` is a bundle whose graphs stand for
    those that would be traced.
    """

    arguments: list[str]
    directory: str
    messages: str
    graphs: str = ""
    at: int = 0
    signal: int = 0
    replaced: str = ""
    replacement: str = ""
    file_size: int = 0
    is_fatal: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its status (negative: the signal), its messages, its steps."""

    status: int
    messages: str
    steps: int


class Stages:
    """The process that forks; a context manager's value."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, job: Job) -> int:
        """Start a command and return its process id."""
        return int(self._ask(asdict(job)))

    def wait(self, pid: int, job: Job) -> Outcome:
        """Wait for a command that was started."""
        status = int(self._ask({"wait": pid}))
        messages = Path(job.messages).read_text()
        steps = re.search(r"^steps (\d+)\n\Z", messages, re.MULTILINE)
        return Outcome(
            status, messages[: steps.start()] if steps else messages, int(steps[1]) if steps else 0
        )

    def run(self, job: Job) -> Outcome:
        """Run a command."""
        return self.wait(self.start(job), job)

    def _ask(self, request: dict[str, Any]) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


@contextlib.contextmanager
def open_stages() -> Iterator[Stages]:
    """Start the process that forks."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # a fork inherits no threads
    with subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    ) as process:
        yield Stages(process)
        assert process.stdin is not None
        process.stdin.close()


def _serve() -> None:
    # What the stages import when they run.
    from diffusers import AutoencoderKL, UNet2DConditionModel  # noqa: F401
    from transformers import CLIPTextModel  # noqa: F401

    import convert.export
    import convert.stages
    import convert.verify  # noqa: F401
    from engines.backends import ort  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if not answer:
                _run(Job(**request))
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _run(job: Job) -> None:
    """Be the process of a job; never returns."""
    from convert.__main__ import main

    out = os.open(job.messages, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    vars(os)["fsync"] = lambda _: None  # it is for power cuts, and slow on a busy disk
    if job.graphs:
        _skip_tracing(Path(job.graphs))
    if job.file_size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.file_size, job.file_size))
        if job.is_fatal:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    steps = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal steps
        if event not in _OPERATIONS or not _is_step(job.directory, event, arguments):
            return
        steps += 1
        if steps == job.at and job.signal:
            os.kill(os.getpid(), job.signal)
        elif steps == job.at and job.replaced:
            shutil.copyfile(job.replacement, job.replaced)

    sys.addaudithook(count)
    status = 70
    try:
        status = main(job.arguments)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.write(f"steps {steps}\n")
        sys.stderr.flush()
        os._exit(status)


def _is_step(directory: str, event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "ctypes.dlopen":
        return True  # renameat2, which Python has not, is announced by the library that has it
    path, mode = str(arguments[0]), arguments[1] if event == "open" else None
    return path.startswith(directory) and (mode is None or not mode.startswith("r"))


def _skip_tracing(bundle: Path) -> None:
    import onnx_ir

    import convert.export
    from convert.trace import TracedGraph

    def load(name: str, *_: object) -> TracedGraph:
        return TracedGraph(onnx_ir.load(bundle / name / "model.onnx"), {})

    vars(convert.export)["trace_graph"] = load


if __name__ == "__main__":
    _serve()
