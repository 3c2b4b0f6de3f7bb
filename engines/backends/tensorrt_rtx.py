"""TensorRT for RTX: GeForce and RTX workstation cards."""

from typing import Final

from engines.backend import Backend
from engines.backends.trt import TensorRtBackend
from engines.plans import TENSORRT_RTX

BACKEND: Final[Backend] = TensorRtBackend(TENSORRT_RTX, "tensorrt_rtx")
