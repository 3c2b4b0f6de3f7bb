"""Sets of plans whose content nobody runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from engines import layout
from engines.bundle import Bundle
from engines.identity import sha256_file
from engines.plans import (
    Plan,
    PlanSet,
    ShapeRange,
    graph_identity,
    write_plans,
)

RTX = "tensorrt-rtx"
ARGUMENTS = ("--backend", RTX, "--target", "sm86,sm89", "--size", "512x512:768x768")


def add_plan_set(bundle: Bundle, *targets: str, **changes: Any) -> tuple[PlanSet, Path]:
    """Write a set for `targets` and return it with its directory."""
    directory = bundle.path / layout.engine_directory(changes.get("backend", RTX), targets)
    directory.mkdir(parents=True)
    file = directory / layout.plan_file("unet")
    file.write_bytes(b"a plan")
    sample = ShapeRange((1, 4, 32, 32), (2, 4, 64, 64), (16, 4, 128, 128))
    plan = Plan(
        file=file.name,
        size=6,
        sha256=sha256_file(file),
        graph_identity=graph_identity(bundle.manifest, "unet"),
        stripped=False,
        profiles=({"sample": sample},),
    )
    content = PlanSet(
        backend=RTX,
        targets=targets,
        library_version="1.7.1.116",
        system="linux-x86_64",
        gpu="",
        hardware_compatibility="none",
        identity="ab" * 32,
        options={"batch": [1, 2, 16]},
        arguments=ARGUMENTS,
        components={"unet": plan},
    )
    content = replace(content, **changes)
    write_plans(content, directory / layout.PLANS_FILE)
    return content, directory
