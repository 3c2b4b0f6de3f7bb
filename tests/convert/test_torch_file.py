"""Files of torch.save: read without running their code, and every other file named."""

import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convert.fuse import load_tensor
from convert.torch_file import open_torch_file
from convert.weight_file import open_weight_file
from engines.errors import InputError

CALLBACK = "pytorch_lightning.callbacks.model_checkpoint"


def _rewrite(path: Path, change: Callable[[str, bytes], bytes], compress: int = 0) -> None:
    """Write the archive again, without the record by which a newer torch knows its layout."""
    with zipfile.ZipFile(path) as archive:
        records = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name, content in records:
            if not name.endswith(".format_version"):
                archive.writestr(name, change(name, content))


def _assert_holds(path: Path, expected: dict[str, torch.Tensor]) -> None:
    tensors = open_torch_file(path).tensors
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        loaded = load_tensor(tensors[name])
        assert loaded.dtype == tensor.dtype
        assert torch.equal(loaded, tensor)


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    whole = torch.randn(6, 4)
    return {
        "single": torch.randn(3, 5),
        "half": torch.randn(7).half(),
        "brain": torch.randn(2, 2, 2).bfloat16(),
        "double": torch.randn(3).double(),
        "whole": whole,
        "part of the same storage": whole[2:4],
        "scalar": torch.tensor(0.5),
        "parameter": torch.nn.Parameter(torch.randn(2)).data,
    }


def test_tensors_are_where_torch_put_them(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(tensors, tmp_path / "bare.pt")
    _assert_holds(tmp_path / "bare.pt", tensors)
    torch.save({"state_dict": {"state_dict": tensors}, "epoch": 1}, tmp_path / "wrapped.pt")
    _assert_holds(tmp_path / "wrapped.pt", tensors)
    torch.save({"params": tensors}, tmp_path / "nested.pt")
    _assert_holds(tmp_path / "nested.pt", {f"params.{n}": t for n, t in tensors.items()})


def test_a_file_without_torch_s_padding(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(tensors, tmp_path / "x.pt")
    _rewrite(tmp_path / "x.pt", lambda _, content: content)
    _assert_holds(tmp_path / "x.pt", tensors)


def test_tensors_of_a_gpu(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """What was saved from a GPU is read where there is none."""
    torch.save(tensors, tmp_path / "x.pt")
    cpu, cuda = (b"X" + len(n).to_bytes(4, "little") + n for n in (b"cpu", b"cuda:0"))
    _rewrite(tmp_path / "x.pt", lambda _, content: content.replace(cpu, cuda))
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(tmp_path / "x.pt", weights_only=True)
    _assert_holds(tmp_path / "x.pt", tensors)


def test_the_trainer_s_bookkeeping_is_passed_over(
    tensors: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pytorch_lightning keys its callbacks by class, and numpy numbers are in its loops."""
    callback = type("ModelCheckpoint", (), {"__module__": CALLBACK})
    names = ["pytorch_lightning", "pytorch_lightning.callbacks", CALLBACK]
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(sys.modules[CALLBACK], "ModelCheckpoint", callback, raising=False)
    content = {
        "callbacks": {callback: {"best": np.float64(0.5), "monitor": "val/loss"}},
        "state_dict": tensors,
    }
    torch.save(content, tmp_path / "x.ckpt")
    for name in names:
        monkeypatch.delitem(sys.modules, name)
    _assert_holds(tmp_path / "x.ckpt", tensors)


class _Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return (eval, (f"open({str(self.target)!r}, 'w').close()",))


def test_code_is_never_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "x": _Trap(trace)}, tmp_path / "x.ckpt")
    with pytest.raises(InputError, match=r"more than weights \(builtins\.eval\) and could run"):
        open_torch_file(tmp_path / "x.ckpt")
    (tmp_path / "old.ckpt").write_bytes(pickle.dumps({"x": _Trap(trace)}))
    with pytest.raises(InputError, match=r"a pickle from before torch 1\.6"):
        open_weight_file(tmp_path / "old.ckpt")
    assert not trace.exists()


def test_other_files_are_named(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match=r"from before torch 1\.6: load it with torch and save"):
        open_weight_file(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.safetensors", b"1234")
    with pytest.raises(InputError, match=r"a zip archive that torch\.save did not write"):
        open_weight_file(path)
    torch.save(tensors, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"x\.ckpt is truncated or damaged"):
        open_weight_file(path)
    torch.save(tensors, path)
    _rewrite(path, lambda name, content: b"\x80\x02}(" if name.endswith("data.pkl") else content)
    with pytest.raises(InputError, match=r"x\.ckpt is damaged: torch cannot read it"):
        open_weight_file(path)
    torch.save(tensors, path)
    _rewrite(path, lambda _, content: content, zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match=r"damaged, or packed again"):
        open_weight_file(path)


def test_sizes_that_the_file_has_not_are_an_error(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(64)}, tmp_path / "x.pt")
    _rewrite(tmp_path / "x.pt", lambda n, content: content[:16] if "/data/" in n else content)
    with pytest.raises(
        InputError, match="damaged, or packed again by another program: a is not where"
    ):
        open_torch_file(tmp_path / "x.pt")


def test_a_name_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    torch.save({"a\ud800": torch.zeros(2)}, tmp_path / "x.ckpt")
    with pytest.raises(InputError, match=r"'a\\ud800' is no text"):
        open_torch_file(tmp_path / "x.ckpt")


def test_what_is_not_stored_row_by_row_is_an_error(tmp_path: Path) -> None:
    torch.save({"a": torch.randn(3, 4).t()}, tmp_path / "x.pt")
    with pytest.raises(InputError, match="a is not stored in row-major order"):
        open_torch_file(tmp_path / "x.pt")
    torch.save({"a": torch.eye(3).to_sparse()}, tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"a is no plain tensor"):
        open_torch_file(tmp_path / "x.pt")


def test_a_big_endian_file_is_named(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "x.pt")
    _rewrite(tmp_path / "x.pt", lambda n, text: b"big" if n.endswith("byteorder") else text)
    with pytest.raises(InputError, match="big-endian"):
        open_torch_file(tmp_path / "x.pt")
