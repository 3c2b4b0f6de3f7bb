"""Opening a file of weights, in either of the two forms that they come in."""

from pathlib import Path
from typing import Final

from convert.tensors import TensorFile, open_tensor_file
from engines.errors import MissingExtraError

_ZIP: Final = b"PK\3\4"


def open_weight_file(path: Path) -> TensorFile:
    """Read where the tensors lie in a safetensors file or in one of torch.save.

    Raises:
        InputError: the file is missing, damaged, of another kind, or holds more than weights.
        MissingExtraError: it is one of torch.save's, and torch is not installed.
    """
    if not _is_zip(path):
        return open_tensor_file(path)
    try:
        from convert.torch_file import open_torch_file
    except ImportError as error:
        raise MissingExtraError(str(error.name), "convert", f"Reading {path}") from error
    return open_torch_file(path)


def _is_zip(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_ZIP)) == _ZIP
    except OSError:
        return False  # whoever opens it next says why it cannot be read
