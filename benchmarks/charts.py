"""Draw the saved results as charts for README and docs.

    pip install '.[bench]'
    python -m benchmarks.charts

It reads benchmarks/results and writes docs/pictures; what was not measured is not drawn.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.measure import RESULTS

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
OURS, OTHERS = "#b3541e", "#8a8f98"
TITLES = {
    "cold_start": "From nothing to a picture of the demo model",
    "full_size": "A 512x512 picture at the real size, {steps} steps",
    "fuse_full_size": "Fusing two LoRAs of rank 128 into Stable Diffusion 1.5",
}


def main() -> None:
    """Draw one chart for each result that there is."""
    mpl.rcParams["svg.hashsalt"] = "fracture-sd"  # the same file each time
    for name, title in TITLES.items():
        path = RESULTS / f"{name}.json"
        if path.exists():
            result = json.loads(path.read_text())
            file = PICTURES / f"{name}.svg"
            draw_bars(result, title.format(**result["figures"]), file)
            print(file)


def draw_bars(result: Mapping[str, Any], title: str, file: Path) -> None:
    """Draw the seconds of each contestant, the product first, as horizontal bars.

    Args:
        result: what `benchmarks.measure.save` wrote.
        title: what was done.
        file: the SVG file.
    """
    timings = result["seconds"]
    names, medians = list(timings), [timing["median"] for timing in timings.values()]
    figure = Figure(figsize=(7, 0.9 + 0.42 * len(names)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(names, medians, color=[OURS, *[OTHERS] * (len(names) - 1)])
    labels = [
        f"{timing['median']:.3g} s, {timing['peak_bytes'] / 1e9:.2g} GB"
        for timing in timings.values()
    ]
    axes.bar_label(bars, labels, padding=4)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * max(medians))
    axes.set_title(title, loc="left", fontsize=11)
    hardware = result["hardware"]
    axes.set_xlabel(
        f"seconds of the whole process, and its peak memory\n{hardware['cores']} cores of "
        f"{hardware['cpu']}{', AMX' if hardware['amx_bf16'] else ''}, no GPU",
        fontsize=8,
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, metadata={"Date": None})


if __name__ == "__main__":
    main()
