"""Fusing: W' = W + Σ weight · ΔW, written as a diffusers directory.

A LoRA's ΔW depends on nothing but its file and W (convert/updates), so that the order of several
is of no matter beyond rounding. Sums are taken in float32 and rounded once to the output's dtype.
Some tensors are made while others are written, so the peak is that of the largest ones, whatever
the model's size. Each is made by one thread: the output is the same on any number of cores.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from tqdm import tqdm

from convert.completeness import check_complete
from convert.fuse_plan import KEEP_DTYPE, FusePlan
from convert.fuse_record import FuseRecord, write_record
from convert.match import Update
from convert.model import WEIGHT_FILES, Component
from convert.tensor_writer import write_tensor_file
from convert.tensors import StoredTensor
from engines import layout
from engines.errors import InputError
from engines.identity import sha256_file
from engines.manifest import FileEntry
from engines.publish import publish_directory

TORCH_DTYPES: Final = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
STORED_DTYPES: Final = {"fp16": "F16", "fp32": "F32"}

_CONFIG_DTYPE_KEYS: Final = ("dtype", "torch_dtype")

_MOST_THREADS: Final = 4
"""More would wait for the thread that hashes what they make."""

Updates = list[tuple[Update, float, str]]
"""What is added to one tensor: the update, its weight, the LoRA's name."""


def run_fuse(plan: FusePlan, out: Path, *, force: bool, progress: bool = True) -> FuseRecord:
    """Fuse, and publish the result at `out`.

    Args:
        plan: what `plan_fuse` returned.
        out: the diffusers directory to be made; it appears whole or not at all.
        force: whether an older fused model at `out` may be replaced.
        progress: whether to show a progress bar on stderr.

    Returns:
        The record that was written as fuse.json.

    Raises:
        OutputError: `out` exists and may not be replaced, or cannot be written.
        InputError: a part of the base is missing, or a value is not finite or does not fit the
            output's dtype.
    """
    check_complete(plan.base)
    updates = _updates_by_weight(plan)
    total = sum(t.size for c in plan.base.components.values() for t in c.tensors.values())
    files: dict[str, FileEntry] = {}
    with (
        publish_directory(out, force=force, marker=layout.FUSE_FILE) as partial,
        _one_core_for_each() as threads,
        tqdm(total=total, desc="fuse", unit="B", unit_scale=True, disable=not progress) as bar,
    ):
        documents = dict(plan.base.documents)
        for component in plan.base.components.values():
            name = WEIGHT_FILES[component.name]
            (partial / name).parent.mkdir()
            files[name] = _write_component(
                component, partial / name, updates, plan.draft.dtype, threads, bar
            )
            config = _config_for(component, plan.draft.dtype)
            documents[f"{component.name}/config.json"] = config
        for name, content in documents.items():
            (partial / name).parent.mkdir(exist_ok=True)
            (partial / name).write_bytes(content)
            files[name] = FileEntry(len(content), sha256_file(partial / name))
        record = replace(plan.record, files=dict(sorted(files.items())))
        write_record(record, partial / layout.FUSE_FILE)
    return record


@contextlib.contextmanager
def _one_core_for_each() -> Iterator[int]:
    """How many threads to make tensors in; torch does not divide any of their work further."""
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield min(cores, _MOST_THREADS)
    finally:
        torch.set_num_threads(cores)


def _updates_by_weight(plan: FusePlan) -> dict[tuple[str, str], Updates]:
    """All that changes each weight, by component and name; what has weight 0 changes none."""
    updates: dict[tuple[str, str], Updates] = {}
    for lora in plan.loras:
        for update in lora.updates:
            weight = lora.weight_for(update)
            if weight:
                key = (update.component, update.target)
                updates.setdefault(key, []).append((update, weight, lora.record.name))
    return updates


def _write_component(
    component: Component,
    path: Path,
    updates: Mapping[tuple[str, str], Updates],
    dtype: str,
    threads: int,
    bar: "tqdm[Any]",
) -> FileEntry:
    targets = {
        name: tensor.dtype if dtype == KEEP_DTYPE else STORED_DTYPES[dtype]
        for name, tensor in component.tensors.items()
    }

    def produce(name: str) -> memoryview:
        tensor = component.tensors[name]
        applied = updates.get((component.name, name), [])
        with bar.get_lock():
            bar.update(tensor.size)
        if not applied and tensor.dtype == targets[name]:
            return tensor.read()
        return _to_bytes(fuse_tensor(tensor, applied, TORCH_DTYPES[targets[name]]))

    shapes = {name: (targets[name], tensor.shape) for name, tensor in component.tensors.items()}
    return write_tensor_file(path, shapes, produce, {"format": "pt"}, threads=threads)


def fuse_tensor(tensor: StoredTensor, updates: Updates, dtype: torch.dtype) -> torch.Tensor:
    """One weight with its updates added, in `dtype`.

    Args:
        tensor: the base's weight.
        updates: the updates, each with its weight and its LoRA's name.
        dtype: what the float32 sum is rounded to.

    Raises:
        InputError: an update is not finite, or the sum is not in the range of `dtype`.
    """
    base = load_tensor(tensor).to(torch.float32)
    needs_base = any(update.difference.needs_base for update, _, _ in updates)
    total = base.clone() if needs_base else base
    for update, weight, _ in updates:
        part = tuple(slice(size) for size in update.shape)
        update.difference.add_to(total[part], base[part], _load_float, weight)
    rounded = total.to(dtype)
    if not is_finite(total, dtype):
        _blame(tensor, updates)
        raise InputError(
            f"{tensor.file}: {tensor.name} has values that are no finite numbers, or too large "
            f"for {str(dtype).removeprefix('torch.')}. Fuse with --dtype fp32 or smaller weights."
        )
    return rounded


def is_finite(tensor: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether every element stays a finite number when it is rounded to `dtype`."""
    if not tensor.numel():
        return True
    # One pass and no mask: a NaN anywhere makes both extremes NaN.
    extremes = torch.stack(torch.aminmax(tensor)).to(dtype)
    return bool(torch.isfinite(extremes).all())


def _blame(tensor: StoredTensor, updates: Updates) -> None:
    """Raise the error that names the LoRA whose update of a tensor is not finite, if one is."""
    base = _load_float(tensor)
    if not is_finite(base, torch.float32):
        return
    for update, weight, lora in updates:
        part = tuple(slice(size) for size in update.shape)
        if not is_finite(update.difference.delta(base[part], _load_float, weight), torch.float32):
            raise InputError(
                f"The LoRA {lora} has values that are no finite numbers, or overflow, in "
                f"{update.key}. Get the file again, or leave it out."
            )


def load_tensor(tensor: StoredTensor) -> torch.Tensor:
    """A stored tensor in its own dtype and in memory of its own."""
    dtype = TORCH_DTYPES[tensor.dtype]
    if not tensor.size:
        return torch.empty(tensor.shape, dtype=dtype)
    return torch.frombuffer(tensor.read(), dtype=dtype).reshape(tensor.shape)


def _load_float(tensor: StoredTensor) -> torch.Tensor:
    return load_tensor(tensor).to(torch.float32)


def _to_bytes(tensor: torch.Tensor) -> memoryview:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def _config_for(component: Component, dtype: str) -> bytes:
    """A component's config.json, naming the output's dtype where it names one."""
    config = dict(component.config)
    if dtype != KEEP_DTYPE:
        name = str(TORCH_DTYPES[STORED_DTYPES[dtype]]).removeprefix("torch.")
        config.update({key: name for key in _CONFIG_DTYPE_KEYS if key in config})
    return (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()
