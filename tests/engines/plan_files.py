"""Sets of plans whose content nobody runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from engines import layout
from engines.bundle import Bundle
from engines.identity import sha256_file
from engines.plans import TENSORRT_RTX, Plan, PlanSet, ShapeRange, graph_identity, write_plans

ARGUMENTS = ("--backend", TENSORRT_RTX, "--target", "sm86,sm89", "--size", "512x512:768x768")
VERSION = "1.2.3.4"
"""Of the library that built them."""

_SHAPES = ShapeRange((1, 4), (2, 4), (8, 4))


def add_plan_set(bundle: Bundle, *targets: str, **changes: Any) -> tuple[PlanSet, Path]:
    """Write a set with a plan of each component into the bundle.

    Args:
        bundle: where.
        targets: for which architectures.
        changes: fields of plans.json that are to be otherwise.

    Returns:
        The content of plans.json, and the directory of the set.
    """
    directory = bundle.path / layout.engine_directory(changes.get("backend", TENSORRT_RTX), targets)
    directory.mkdir(parents=True)
    content = PlanSet(
        backend=TENSORRT_RTX,
        targets=targets,
        library_version=VERSION,
        system="linux-x86_64",
        gpu="",
        hardware_compatibility="none",
        identity="ab" * 32,
        options={"batch": [1, 2, 16]},
        arguments=ARGUMENTS,
        components={
            name: _write_plan(bundle, name, directory) for name in bundle.manifest.components
        },
    )
    content = replace(content, **changes)
    write_plans(content, directory / layout.PLANS_FILE)
    return content, directory


def _write_plan(bundle: Bundle, component: str, directory: Path) -> Plan:
    file = directory / layout.plan_file(component)
    file.write_bytes(b"plan of " + component.encode())
    return Plan(
        file=file.name,
        size=file.stat().st_size,
        sha256=sha256_file(file),
        graph_identity=graph_identity(bundle.manifest, component),
        stripped=False,
        profiles=({tensor.name: _SHAPES for tensor in bundle.component(component).inputs},),
    )
