"""TensorRT for data-centre GPUs and Jetson."""

from typing import Final

from engines.backend import Backend
from engines.backends.trt import TensorRtBackend
from engines.plans import TENSORRT

BACKEND: Final[Backend] = TensorRtBackend(TENSORRT, "tensorrt")
