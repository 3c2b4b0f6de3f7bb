"""The least time that a picture can take on a GPU, from what its graphs cost: a bound on paper.

    python -m benchmarks.roofline bundles/cracked-skin

For each graph the floating-point operations and the bytes of its weights are counted, and divided
by the GPU's published peak rates; the larger quotient bounds the graph's time. Nothing is measured:
no kernel reaches the peak of every layer, launches and copies are free here, and activations are
taken to stay in caches. Two things could go below it: a kernel that saves multiplications
(Winograd), and an engine that keeps what does not change between steps.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.graph_cost import GraphCost, measure_graph
from benchmarks.measure import RESULTS
from benchmarks.published import GPUS, PUBLISHED, GpuRates
from engines import layout
from engines.bundle import Bundle, open_bundle
from engines.identity import Json

LABEL = "A bound, not a measurement."
SIZES = (512, 768)
STEPS = (20, 50)
GUIDED = 2
"""Entries of a UNet call for one picture with guidance."""


@dataclass(frozen=True)
class PictureCost:
    """What one guided picture of a size costs; the UNet's is that of one step."""

    size: int
    text_encoder: GraphCost
    unet: GraphCost
    vae_decoder: GraphCost


def picture_cost(bundle: Bundle, size: int) -> PictureCost:
    """Count for one guided picture of `size` by `size` pixels with one chunk of prompt."""
    side = size // bundle.manifest.latents.downscale
    latents = {"height": side, "width": side}
    return PictureCost(
        size,
        measure_graph(bundle.graph(layout.TEXT_ENCODER), {"batch": GUIDED}),
        measure_graph(
            bundle.graph(layout.UNET),
            {"batch": GUIDED, "tokens": layout.CHUNK_TOKENS, **latents},
        ),
        measure_graph(bundle.graph(layout.VAE_DECODER), {"batch": 1, **latents}),
    )


def bound_seconds(cost: PictureCost, steps: int, tflops: float, gb_per_second: float) -> float:
    """The least seconds of a picture at these peak rates.

    Williams, Waterman and Patterson 2009, "Roofline": time is at least operations over the peak
    rate of operations, and bytes over the peak rate of bytes.

    Args:
        cost: of one call of each graph.
        steps: calls of the UNet.
        tflops: 10^12 operations a second.
        gb_per_second: 10^9 bytes a second.
    """

    def graph(each: GraphCost) -> float:
        return max(each.flops / (tflops * 1e12), each.weight_bytes / (gb_per_second * 1e9))

    return graph(cost.text_encoder) + steps * graph(cost.unet) + graph(cost.vae_decoder)


def bounds(costs: Mapping[int, PictureCost], gpu: GpuRates) -> dict[str, Json]:
    """Every bound of one GPU, in seconds, by `SIZE/STEPS`; the second one sums in float32."""
    return {
        f"{size}/{steps}": [
            bound_seconds(cost, steps, rate, gpu.gb_per_second)
            for rate in (gpu.tflops, gpu.tflops_fp32_sums)
        ]
        for size, cost in costs.items()
        for steps in STEPS
    }


def render(costs: Mapping[int, PictureCost]) -> str:
    """The bounds and the published times as Markdown."""
    lines = [
        "# Roofline",
        "",
        f"**{LABEL}** Written by `python -m benchmarks.roofline BUNDLE` from the graphs of",
        "Stable Diffusion 1.5 in float16. Seconds for one picture with guidance: the text",
        "encoder on prompt and negative prompt, the UNet on a batch of two a step, one decoding.",
        "",
        "| graph | size | TFLOP | weights MB | activations MB, nothing fused |",
        "|---|---|---|---|---|",
    ]
    for cost in costs.values():
        for name in ("text_encoder", "unet", "vae_decoder"):
            each: GraphCost = getattr(cost, name)
            lines.append(
                f"| {name} | {cost.size}x{cost.size} | {each.flops / 1e12:.4f} | "
                f"{each.weight_bytes / 1e6:.0f} | {each.activation_bytes / 1e6:.0f} |"
            )
    cells = [f"{size}x{size}, {steps} steps" for size in costs for steps in STEPS]
    lines += [
        "",
        "The first number sums in float16, the fastest that the hardware does; after the slash,",
        "where it differs, in float32, as TensorRT and cuDNN mostly do.",
        "",
        f"| GPU | TFLOP/s | GB/s | {' | '.join(cells)} | rates from |",
        "|---" * (len(cells) + 4) + "|",
    ]
    for gpu in GPUS:
        figures = bounds(costs, gpu).values()
        shown = [_seconds(*pair) for pair in figures if isinstance(pair, list)]
        lines.append(
            f"| {gpu.name} | {_pair(gpu.tflops, gpu.tflops_fp32_sums)} | {gpu.gb_per_second:g} | "
            f"{' | '.join(shown)} | {gpu.source} |"
        )
    lines += [
        "",
        "Beside what peers have published for 512x512, none of it measured here. The last column",
        "is the bound (summing in float16) over the published time.",
        "",
        "| peer | GPU | steps | published s | covers | bound s | share | source |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rates = {gpu.name: gpu for gpu in GPUS}
    for time in PUBLISHED:
        gpu = rates[time.gpu]
        bound = bound_seconds(costs[512], time.steps, gpu.tflops, gpu.gb_per_second)
        lines.append(
            f"| {time.peer} | {time.gpu} | {time.steps} | {time.seconds:.3g} | {time.scope} | "
            f"{bound:.3f} | {bound / time.seconds:.0%} | {time.source} |"
        )
    return "\n".join(lines) + "\n"


def _pair(first: float, second: float) -> str:
    return f"{first:g}" if first == second else f"{first:g} / {second:g}"


def _seconds(first: Json, second: Json) -> str:
    return f"{first:.3f}" if first == second else f"{first:.3f} / {second:.3f}"


def main() -> None:
    """Count, and write roofline.json and roofline.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path, help="a bundle of full-size Stable Diffusion 1.5")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go")
    options = parser.parse_args()
    bundle = open_bundle(options.bundle)
    costs = {size: picture_cost(bundle, size) for size in SIZES}
    result = {
        "benchmark": "roofline",
        "label": LABEL,
        "command": "python -m benchmarks.roofline BUNDLE",
        "costs": {str(size): asdict(cost) for size, cost in costs.items()},
        "gpus": [{**asdict(gpu), "bound_seconds": bounds(costs, gpu)} for gpu in GPUS],
        "published": [asdict(time) for time in PUBLISHED],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "roofline.json").write_text(json.dumps(result, indent=2) + "\n")
    text = render(costs)
    (options.out / "roofline.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
