"""Fusing at full size: Stable Diffusion 1.5 in one fp16 file, and two LoRAs of rank 128.

    python -m benchmarks.fuse_full_size

Ours is `convert fuse`; the other is the shortest diffusers program that does the same:
from_single_file, load_lora_weights, fuse_lora, save_pretrained. Weights are seeded random numbers;
the LoRAs change the 192 layers of the UNet and the 72 of the text encoder that kohya's trainer
changes. Whole processes, in turns.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from safetensors import safe_open

from benchmarks.measure import save, time_in_turns
from convert.checkpoint import CONFIGURATION
from convert.clip_vocabulary import write_clip_tokenizer
from convert.json_file import read_json
from convert.ldm import PREFIXES, unet_modules, vae_modules
from convert.model import TEXT_ENCODER, UNET, VAE, WEIGHT_FILES, Component, canonical_name
from convert.networks import build_network
from convert.tensor_writer import write_tensor_file
from engines.identity import Json

RANK: Final = 128
WEIGHT: Final = 0.6
RUNS: Final = 3

DIFFUSERS_PROGRAM: Final = """
import sys
import torch
from diffusers import StableDiffusionPipeline
checkpoint, config, first, second, weight, out = sys.argv[1:]
pipeline = StableDiffusionPipeline.from_single_file(
    checkpoint, config=config, local_files_only=True, dtype=torch.float16
)
pipeline.load_lora_weights(first, adapter_name="first")
pipeline.load_lora_weights(second, adapter_name="second")
pipeline.set_adapters(["first", "second"], [float(weight)] * 2)
pipeline.fuse_lora(adapter_names=["first", "second"])
pipeline.unload_lora_weights()
pipeline.save_pretrained(out)
"""

Shapes = dict[str, tuple[int, ...]]


def main() -> None:
    """Make the inputs, run both, and save the figures."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        checkpoint, loras = make_inputs(folder)
        ours = [sys.executable, "-m", "convert", "fuse", "--base", str(checkpoint)]
        ours += [option for lora in loras for option in ("--lora", str(lora))]
        ours += ["--weights", f"{WEIGHT},{WEIGHT}", "--quiet", "--force"]
        ours += ["--out", f"{folder}/ours"]
        theirs = [sys.executable, "-W", "ignore", "-c", DIFFUSERS_PROGRAM, str(checkpoint)]
        theirs += [f"{folder}/config", *map(str, loras), str(WEIGHT), f"{folder}/diffusers"]
        timings = time_in_turns({"convert fuse": ours, "diffusers": theirs}, RUNS)
        difference = largest_difference(folder / "ours", folder / "diffusers")
    first, second = timings["convert fuse"], timings["diffusers"]
    figures: dict[str, Json] = {
        "speedup": round(second.median / first.median, 2),
        "peak_ratio": round(second.peak_bytes / first.peak_bytes, 2),
        "largest_difference": difference,
    }
    print(save("fuse_full_size", "python -m benchmarks.fuse_full_size", figures, timings))


def make_inputs(folder: Path) -> tuple[Path, list[Path]]:
    """Write the checkpoint, the LoRAs, and a directory of configurations for diffusers.

    Returns:
        The checkpoint and the LoRAs.
    """
    torch.manual_seed(0)
    for path in CONFIGURATION.rglob("*.json"):
        copy = folder / "config" / path.relative_to(CONFIGURATION)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    write_clip_tokenizer(folder / "config" / "tokenizer")
    shapes = {part: network_shapes(part) for part in WEIGHT_FILES}
    checkpoint = folder / "checkpoint.safetensors"
    write_random(checkpoint, dict(original_shapes(shapes)), 0.02)
    loras = [folder / "first.safetensors", folder / "second.safetensors"]
    for path in loras:
        write_random(path, dict(lora_shapes(shapes)), 0.01)
    return checkpoint, loras


def network_shapes(part: str) -> Shapes:
    """The shape of every parameter of a component, by its canonical name."""
    config = read_json(CONFIGURATION / part / "config.json")
    network = build_network(Component(part, config, {}, CONFIGURATION))
    return {
        canonical_name(part, name) or name: tuple(parameter.shape)
        for name, parameter in network.named_parameters()
    }


def original_shapes(shapes: dict[str, Shapes]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor of the checkpoint in the original layout."""
    configs = {part: read_json(CONFIGURATION / part / "config.json") for part in shapes}
    tables = {UNET: unet_modules(configs[UNET]), VAE: vae_modules(configs[VAE])}
    for part, parameters in shapes.items():
        originals = {named: original for original, named in tables.get(part, {}).items()}
        for name, shape in parameters.items():
            if part == TEXT_ENCODER:
                yield PREFIXES[part] + name, shape
                continue
            module = next(m for m in _parents(name) if m in originals)
            is_attention = part == VAE and ".attentions." in name and len(shape) == 2
            original = PREFIXES[part] + originals[module] + name.removeprefix(module)
            yield original, (*shape, 1, 1) if is_attention else shape


def _parents(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def lora_shapes(shapes: dict[str, Shapes]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The factors of every layer that kohya's trainer changes by default."""
    for part, prefix in ((UNET, "lora_unet_"), (TEXT_ENCODER, "lora_te_")):
        for name, shape in shapes[part].items():
            is_changed = ".attentions." in name or ".layers." in name
            if not is_changed or not name.endswith(".weight") or len(shape) == 1:
                continue
            key = prefix + name.removesuffix(".weight").replace(".", "_")
            yield f"{key}.lora_down.weight", (RANK, *shape[1:])
            yield f"{key}.lora_up.weight", (shape[0], RANK, *shape[2:])
            yield f"{key}.alpha", ()


def write_random(path: Path, shapes: Shapes, spread: float) -> None:
    """Write normally distributed fp16 numbers, and alphas of half the rank."""

    def produce(name: str) -> memoryview:
        if name.endswith(".alpha"):
            values = torch.tensor(RANK / 2)
        else:
            values = torch.randn(shapes[name]) * spread
        return values.half().reshape(-1).numpy().data

    layout = {name: ("F16", shape) for name, shape in shapes.items()}
    write_tensor_file(path, layout, produce, {})


def largest_difference(first: Path, second: Path) -> float:
    """The largest difference between two models' weights: diffusers sums in fp16, we in fp32."""
    largest = 0.0
    for file in WEIGHT_FILES.values():
        with safe_open(first / file, "pt") as ours, safe_open(second / file, "pt") as theirs:
            prefix = "" if set(ours.keys()) == set(theirs.keys()) else "text_model."
            for name in theirs.keys():  # noqa: SIM118 - it is no mapping
                change = ours.get_tensor(prefix + name).float() - theirs.get_tensor(name).float()
                largest = max(largest, float(change.abs().max()))
    return largest


if __name__ == "__main__":
    main()
