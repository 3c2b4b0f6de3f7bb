"""What others have published: the peak rates of GPUs, and how long peers take for a picture.

None of it was measured here. Tensor rates are dense (without sparsity), in float16.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class GpuRates:
    """A GPU's published peak rates.

    Attributes:
        name: the GPU.
        tflops: float16 tensor cores, summing in float16: the fastest that the hardware does.
        tflops_fp32_sums: the same, summing in float32; half as much on GeForce cards.
        gb_per_second: memory bandwidth.
        source: where NVIDIA publishes that.
    """

    name: str
    tflops: float
    tflops_fp32_sums: float
    gb_per_second: float
    source: str


GPUS = (
    GpuRates("T4", 65, 65, 320, "NVIDIA T4 datasheet"),
    GpuRates("L4", 121, 121, 300, "NVIDIA L4 datasheet (242 with sparsity)"),
    GpuRates(
        "RTX 3060",
        51,
        25.5,
        360,
        "112 tensor cores x 128 FMA x 1.78 GHz (NVIDIA Ampere GA102 whitepaper's rate per core); "
        "12 GB model",
    ),
    GpuRates("RTX 3090", 142, 71, 936, "NVIDIA Ampere GA102 whitepaper"),
    GpuRates("RTX 4090", 330.3, 165.2, 1008, "NVIDIA Ada GPU architecture whitepaper"),
    GpuRates("RTX 5090", 419, 209.5, 1792, "NVIDIA RTX Blackwell whitepaper"),
    GpuRates("A100", 312, 312, 2039, "NVIDIA A100 80GB SXM datasheet"),
    GpuRates("H100", 989.4, 989.4, 3350, "NVIDIA H100 SXM datasheet (1979 with sparsity)"),
    GpuRates(
        "Orin",
        42.5,
        42.5,
        204.8,
        "Jetson AGX Orin 64GB technical brief: a quarter of the GPU's 170 sparse int8 TOPS",
    ),
)


@dataclass(frozen=True)
class PublishedTime:
    """How long somebody's Stable Diffusion 1.5 takes for a 512x512 picture, one at a time.

    Attributes:
        peer: whose, and with what engine.
        gpu: one of `GPUS`.
        steps: steps with guidance.
        seconds: as published.
        scope: what the seconds cover, and what differs from the GPU's rates above.
        source: where it was published.
    """

    peer: str
    gpu: str
    steps: int
    seconds: float
    scope: str
    source: str


_ORT_README = "onnxruntime stable_diffusion/README.md"
_ORT_STATIC = "onnxruntime PR 17788"
_FAL = "fal-ai/stable-diffusion-benchmarks"
_STABLE_FAST = "stable-fast README"
_NEXFORT = "onediff nexfort examples/sd1.5/README.md"

_CLOCK = "picture; clock held at 990 MHz"

PUBLISHED = (
    PublishedTime("ORT-TRT, CUDA graph", "T4", 50, 4.7, _CLOCK, _ORT_README),
    PublishedTime("ORT-CUDA", "T4", 50, 5.5, _CLOCK, _ORT_README),
    PublishedTime("torch 2", "T4", 50, 6.4, _CLOCK, _ORT_README),
    PublishedTime("ORT-CUDA", "RTX 3060", 50, 4.8, "picture", _ORT_README),
    PublishedTime("torch 2", "RTX 3060", 50, 5.6, "picture", _ORT_README),
    PublishedTime("onediff nexfort", "RTX 3090", 20, 0.50, "picture", _NEXFORT),
    PublishedTime("onediff nexfort", "RTX 4090", 20, 0.25, "picture", _NEXFORT),
    PublishedTime("onediff nexfort", "A100", 20, 0.30, "picture; A800", _NEXFORT),
    PublishedTime("stable-fast", "A100", 50, 50 / 61.8, "UNet: 61.8 steps/s", _STABLE_FAST),
    PublishedTime("TensorRT 9.0, static, CUDA graph", "A100", 50, 0.819, "picture", _FAL),
    PublishedTime("ORT-TRT, static, CUDA graph", "A100", 50, 0.851, "picture", _ORT_STATIC),
    PublishedTime("ORT-CUDA, static, CUDA graph", "A100", 50, 0.861, "picture", _ORT_STATIC),
    PublishedTime("torch.compile, channels last", "A100", 50, 1.058, "picture", _FAL),
    PublishedTime("torch, SDPA", "A100", 50, 1.604, "picture", _FAL),
    PublishedTime("stable-fast", "H100", 50, 50 / 104.6, "UNet: 104.6 steps/s", _STABLE_FAST),
    PublishedTime("optimum, ORT-CUDA", "H100", 50, 0.572, "picture", "onnxruntime PR 22834"),
)
