"""Asking the driver: what it answers, and each way in which it does not."""

import ctypes
from typing import cast

import pytest

from engines.cuda_driver import Driver, Gpu, ask
from engines.errors import BackendError
from tests.engines.backends.gpu_stand_in import StandInDriver

GPUS = (
    Gpu("NVIDIA H100 80GB HBM3", (9, 0), 85_029_158_912),
    Gpu("NVIDIA GeForce RTX 4090", (8, 9), 25_386_352_640),
)


def _ask(driver: StandInDriver) -> Driver:
    return ask(cast("ctypes.CDLL", driver))


def test_names_capabilities_memory_and_version() -> None:
    assert _ask(StandInDriver(GPUS, version=12080)) == Driver((12, 8), GPUS)


@pytest.mark.parametrize(
    ("driver", "fault"),
    [
        (StandInDriver(GPUS, status=100), "sees no GPU; check CUDA_VISIBLE_DEVICES"),
        (StandInDriver(()), "sees no GPU"),
        (StandInDriver(GPUS, status=999), r"fails in cuInit: unknown error \(error 999\)"),
    ],
)
def test_a_driver_without_a_gpu_is_the_users_error(driver: StandInDriver, fault: str) -> None:
    with pytest.raises(BackendError, match=fault):
        _ask(driver)
