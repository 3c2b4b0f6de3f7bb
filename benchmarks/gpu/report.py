"""What the contestants measured, as one value for machines and tables for people."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.protocol import STAGES

Result = dict[str, Any]


def percentile(values: Sequence[float], part: float) -> float:
    """The value that `part` of the values do not exceed, by nearest rank; of 3, p95 is the last."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


def summarise(results: Sequence[Result]) -> list[Result]:
    """One row for each contestant and case: latency, pictures a second, stages, or the error."""
    rows = []
    for result in results:
        for line in result["cases"]:
            row: Result = {"name": result["name"], **line["case"]}
            if "error" in line:
                rows.append({**row, "error": line["error"]})
                continue
            seconds = line["seconds"]
            middle = statistics.median(seconds)
            row |= {
                "runs": len(seconds),
                "p50": middle,
                "p95": percentile(seconds, 0.95),
                "first": line["first"],
                "pictures_per_second": line["case"]["batch"] / middle,
            }
            for stage, values in line["stages"].items():
                row[stage] = {
                    "calls": len(values),
                    "p50": statistics.median(values),
                    "p95": percentile(values, 0.95),
                }
            rows.append(row)
    return rows


def compare_pictures(directory: Path, results: Sequence[Result]) -> list[Result]:
    """PSNR of each contestant's pictures against those of the first that has any."""
    import numpy as np
    from PIL import Image

    found: list[Result] = []
    names = [result["name"] for result in results]
    for size, steps in sorted({(c["size"], c["steps"]) for r in results for c in r["wanted"]}):
        paths = {name: directory / f"{name}-{size}-{steps}.png" for name in names}
        there = {
            name: np.asarray(Image.open(path).convert("RGB"), np.float64)
            for name, path in paths.items()
            if path.exists()
        }
        for name, picture in list(there.items())[1:]:
            first = next(iter(there))
            error = float(((picture - there[first]) ** 2).mean())
            decibels = None if error == 0 else 10 * math.log10(255**2 / error)
            found.append(
                {"size": size, "steps": steps, "name": name, "against": first, "psnr": decibels}
            )
    return found


def render(
    machine: Mapping[str, Any],
    results: Sequence[Result],
    absent: Mapping[str, str],
    pictures: Sequence[Result],
) -> str:
    """The report as Markdown.

    Args:
        machine: what is known of the machine.
        results: what the contestants measured.
        absent: why each of the others did not run.
        pictures: what `compare_pictures` returned.
    """
    rows = summarise(results)
    lines = ["# On a GPU" if machine.get("gpu") else "# Without a GPU: a trial of the harness", ""]
    lines += [f"- {key}: {value}" for key, value in machine.items()]
    for size, steps in sorted({(row["size"], row["steps"]) for row in rows}):
        lines += ["", f"## {size}x{size}, {steps} steps", ""]
        lines += _latencies([r for r in rows if (r["size"], r["steps"]) == (size, steps)])
    lines += ["", "## Stages of one picture, milliseconds a call (p50 / p95)", "", *_stages(rows)]
    lines += ["", "## Loading and memory", "", *_loading(results)]
    if pictures:
        lines += ["", "## Is it the same picture", "", *_pictures(pictures)]
    lines += ["", "## Not measured", "", *_gaps(results, rows, absent)]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
        *(f"| {' | '.join(cells)} |" for cells in body),
    ]


def _latencies(rows: Sequence[Result]) -> list[str]:
    batches = sorted({row["batch"] for row in rows})
    head = ["contestant", *(f"batch {batch}: s, p50 (p95), pictures/s" for batch in batches)]
    body = []
    for name in dict.fromkeys(row["name"] for row in rows):
        cells = {row["batch"]: row for row in rows if row["name"] == name}
        body.append([name, *(_latency(cells.get(batch)) for batch in batches)])
    return _table(head, body)


def _latency(row: Result | None) -> str:
    if row is None:
        return "-"
    if "error" in row:
        return "failed"
    return f"{row['p50']:.3f} ({row['p95']:.3f}), {row['pictures_per_second']:.2f}"


def _stages(rows: Sequence[Result]) -> list[str]:
    body = [
        [
            row["name"],
            f"{row['size']}x{row['size']}",
            str(row["batch"]),
            *(_stage(row.get(stage)) for stage in STAGES),
        ]
        for row in rows
        if "error" not in row and row["steps"] == min(each["steps"] for each in rows)
    ]
    return _table(["contestant", "size", "batch", *STAGES], body)


def _stage(figures: Result | None) -> str:
    if figures is None:
        return "-"
    return f"{figures['p50'] * 1e3:.2f} / {figures['p95'] * 1e3:.2f}"


def _loading(results: Sequence[Result]) -> list[str]:
    body = [
        [
            result["name"],
            result["what"],
            _first(result),
            "-" if result["peak_gpu_bytes"] is None else f"{result['peak_gpu_bytes'] / 1e9:.2f}",
        ]
        for result in results
    ]
    return _table(["contestant", "what", "to the first pictures, s", "GPU memory, GB"], body)


def _first(result: Result) -> str:
    """Seconds from the start of the process, as far as its imports, to the first pictures."""
    first = next((line["first"] for line in result["cases"] if "first" in line), None)
    return "-" if first is None else f"{result['opened'] + first:.1f}"


def _pictures(pictures: Sequence[Result]) -> list[str]:
    body = [
        [
            each["name"],
            each["against"],
            f"{each['size']}x{each['size']}, {each['steps']} steps",
            "equal" if each["psnr"] is None else f"{each['psnr']:.1f} dB",
        ]
        for each in pictures
    ]
    return _table(["contestant", "against", "picture", "PSNR"], body)


def _gaps(
    results: Sequence[Result], rows: Sequence[Result], absent: Mapping[str, str]
) -> list[str]:
    lines = [f"- {name}: {reason}" for name, reason in absent.items()]
    for row in rows:
        if "error" in row:
            case = f"{row['size']}x{row['size']}, batch {row['batch']}, {row['steps']} steps"
            lines.append(f"- {row['name']}, {case}: {row['error']}")
    for result in results:
        missing = len(result["wanted"]) - len(result["cases"])
        if missing or result["ended"] != "done":
            lines.append(f"- {result['name']}, {missing} cases: {result['ended']}")
    return lines or ["Nothing: every contestant ran every case."]
