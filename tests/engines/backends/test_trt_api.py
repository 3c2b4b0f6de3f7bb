"""Every name of CUDA and TensorRT that is used is there, in both TensorRT modules.

mypy holds the code to the protocols of `cuda_api` and `trt_api`; here the protocols are held to
the real modules. `tensorrt_api.json` has the names of the classes concerned, as Python's `dir`
gives them in TensorRT 11.4 and TensorRT for RTX 1.7; TensorRT itself is not installed for tests.
"""

import inspect
import json
import re
from pathlib import Path
from typing import Any, Protocol, get_type_hints

import pytest

from engines.backends import cuda_api, trt_api
from tests.engines.backends import stand_in_tensorrt
from tests.engines.backends.stand_in_cuda import StandInCuda
from tests.engines.backends.stand_in_refit import StandInParserRefitter, StandInRefitter

API = json.loads((Path(__file__).parent / "tensorrt_api.json").read_text())


def _protocols(module: Any) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and Protocol in value.__mro__
        and value.__module__ == module.__name__
    }


def _own_names(protocol: Any) -> list[str]:
    names = {*vars(protocol).get("__annotations__", {}), *_methods(protocol)}
    return sorted(name for name in names if name == "__version__" or not name.startswith("_"))


def _methods(protocol: Any) -> list[str]:
    return [name for name, value in vars(protocol).items() if inspect.isfunction(value)]


PROTOCOLS = _protocols(trt_api)


def _real_name(protocol: str) -> str:
    return protocol.removeprefix("Rtx").removesuffix("Names")


def test_no_protocol_is_left_out() -> None:
    assert len(PROTOCOLS) >= 15
    known = set(API["tensorrt_rtx"]["classes"])
    assert {_real_name(name) for name in PROTOCOLS} - known == {"TensorRt"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_names_are_in_both_lists(protocol: str) -> None:
    """What begins with Rtx is in one alone: else it would not have to."""
    for module, api in API.items():
        if protocol in ("TensorRt", "RtxTensorRt"):
            there = {*api["module"], "__version__"}
        else:
            there = set(api["classes"].get(_real_name(protocol), ()))
        used = set(_own_names(PROTOCOLS[protocol]))
        if protocol.startswith("Rtx") and module == "tensorrt":
            assert not used & there
        else:
            assert used <= there, module


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_names_and_parameters_are_the_installed_modules(protocol: str) -> None:
    module = pytest.importorskip("tensorrt_rtx")
    is_module = protocol in ("TensorRt", "RtxTensorRt")
    real = module if is_module else getattr(module, _real_name(protocol))
    for name in _own_names(PROTOCOLS[protocol]):
        assert hasattr(real, name), name
    for name in _methods(PROTOCOLS[protocol]):
        if name.startswith("_"):
            continue
        ours = list(inspect.signature(getattr(PROTOCOLS[protocol], name)).parameters)[1:]
        assert ours in _parameters(getattr(real, name)), name


@pytest.mark.parametrize(
    ("protocol", "stand_in"),
    [
        (cuda_api.CudaRuntime, StandInCuda),
        (trt_api.Runtime, stand_in_tensorrt.StandInRuntime),
        (trt_api.ICudaEngine, stand_in_tensorrt.StandInEngine),
        (trt_api.IExecutionContext, stand_in_tensorrt.StandInContext),
        (trt_api.IRuntimeConfig, stand_in_tensorrt.StandInConfig),
        (trt_api.RtxIRuntimeConfig, stand_in_tensorrt.StandInConfig),
        (trt_api.RtxIRuntimeCache, stand_in_tensorrt.StandInRuntimeCache),
        (trt_api.Refitter, StandInRefitter),
        (trt_api.OnnxParserRefitter, StandInParserRefitter),
    ],
)
def test_stand_ins_have_the_same_parameters(protocol: Any, stand_in: Any) -> None:
    for name in _methods(protocol):
        if not name.startswith("_"):
            ours, theirs = (
                list(inspect.signature(getattr(each, name)).parameters)
                for each in (protocol, stand_in)
            )
            assert ours == theirs, name


def _parameters(function: Any) -> list[list[str]]:
    """The names of the parameters of each overload, from pybind11's docstring or the source."""
    if inspect.isfunction(function):
        return [list(inspect.signature(function).parameters)]
    signatures = re.findall(rf"{function.__name__}\((self: .*)\) -> ", function.__doc__)
    return [re.findall(r"(?:^|, )(\w+): ", signature)[1:] for signature in signatures]


def test_cudas_names_and_parameters_are_the_installed_modules() -> None:
    runtime: Any = cuda_api.load_cuda()
    hints = get_type_hints(cuda_api.CudaRuntime)
    for name, kind in hints.items():
        real = getattr(runtime, name)
        for member in getattr(kind, "__annotations__", {}):
            assert hasattr(real, member), member
    functions = _methods(cuda_api.CudaRuntime)
    functions = [name for name in functions if not name.startswith("_")]
    assert len(functions) > 15
    for name in functions:
        ours = list(inspect.signature(getattr(cuda_api.CudaRuntime, name)).parameters)[1:]
        assert ours == list(inspect.signature(getattr(runtime, name)).parameters), name
