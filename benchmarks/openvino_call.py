"""One call of a UNet at 512x512 with guidance: a bundle's session against OpenVINO by itself.

    python -m benchmarks.openvino_call BUNDLE

OpenVINO's process compiles the bundle's graph with fixed sizes and its latency hint and runs a
batch of two; so does one on the graph in the arrangement for AMX. Ours opens the session that
`runtime generate` uses, which runs one entry after the other. Processes in turns; each one's figure
is the median of its calls after the first.
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import save
from engines.identity import Json

CALLS = 8
_FEEDS = """
import sys, time, statistics
import numpy as np
noise = np.random.default_rng(1).standard_normal
feeds = {
    "sample": noise((2, 4, 64, 64)).astype(np.float16),
    "timestep": np.full(2, 500, np.float32),
    "encoder_hidden_states": noise((2, 77, 768)).astype(np.float16),
}
"""
_TIME = """
seconds = []
for _ in range(int(sys.argv[2])):
    started = time.perf_counter()
    call()
    seconds.append(time.perf_counter() - started)
print(statistics.median(seconds[1:]))
"""
OPENVINO_PROGRAM = f"""{_FEEDS}
from engines.backends.openvino_library import import_library
openvino = import_library()
core = openvino.Core()
model = core.read_model(sys.argv[1] + "/unet/" + sys.argv[3])
model.reshape({{name: list(array.shape) for name, array in feeds.items()}})
compiled = core.compile_model(model, "CPU", {{"PERFORMANCE_HINT": "LATENCY"}})
request = compiled.create_infer_request()
call = lambda: request.infer(feeds)
{_TIME}"""
OUR_PROGRAM = f"""{_FEEDS}
from pathlib import Path
from engines.backend import choose_backend
from engines.bundle import open_bundle
bundle = open_bundle(Path(sys.argv[1]))
session = choose_backend("openvino", bundle).backend.open_session(bundle, "unet")
call = lambda: session.run(feeds)
{_TIME}"""


def main() -> None:
    """Time both in turns and save the figures; the bundle's graphs have to be in fp16."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path, help="a full-size bundle with graphs in fp16")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    programs = {
        "session": [sys.executable, "-c", OUR_PROGRAM],
        "openvino": [sys.executable, "-c", OPENVINO_PROGRAM],
        "openvino, arranged": [sys.executable, "-c", OPENVINO_PROGRAM],
    }
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(options.turns):
        for name, program in programs.items():
            graph = "openvino.onnx" if name == "openvino, arranged" else "model.onnx"
            command = [*program, str(options.bundle), str(CALLS), graph]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds[name].append(float(output.split()[-1]))
    ours, theirs, arranged = (statistics.median(values) for values in seconds.values())
    figures: dict[str, Json] = {
        "seconds_of_a_call": {name: [round(s, 3) for s in v] for name, v in seconds.items()},
        "session_over_openvino": round(ours / theirs, 3),
        "arranged_over_openvino": round(arranged / theirs, 3),
    }
    print(save("openvino_call", "python -m benchmarks.openvino_call BUNDLE", figures, {}))


if __name__ == "__main__":
    main()
