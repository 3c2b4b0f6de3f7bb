"""Which distributions an image holds: what is asked for, what that needs, and nothing else."""

from benchmarks.image_size import contents

CORE = {"numpy", "pillow", "tokenizers", "tqdm"}
WEB = {"fastapi", "starlette", "pydantic", "pydantic-core", "anyio", "uvicorn", "h11", "click"}


def test_requirements_are_followed() -> None:
    held = contents(("cpu", "serve")).keys()
    assert held >= CORE | WEB | {"onnxruntime", "openvino", "protobuf"}
    assert not held & {"torch", "onnx", "diffusers", "pytest", "selenium", "tensorrt-rtx"}


def test_one_backend_alone() -> None:
    held = contents(("tensorrt-rtx", "serve")).keys()
    assert held >= {"tensorrt-rtx", "tensorrt-rtx-cu13-libs", "cuda-bindings", "cuda-pathfinder"}
    assert not held & {"onnxruntime", "torch"}
