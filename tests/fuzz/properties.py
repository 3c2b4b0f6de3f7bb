"""What holds of every parser for any input: a result or the user's error, and soon.

A property is a function and the strategy of its input. The tests draw a fixed choice of inputs,
`python -m tests.fuzz` draws others for as long as it is told.
"""

import functools
import json
import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hypothesis import strategies as st

from convert.fuse_record import FuseRecord, read_record
from convert.lora import count_ranks, read_lora
from convert.lora_keys import parse_key
from convert.match import match_loras
from convert.peft_scale import read_config_scale
from convert.recipe import load_recipe
from convert.tensors import ITEM_SIZES as KNOWN_SIZES
from convert.tensors import open_tensor_file
from engines.errors import UserError
from engines.manifest import Manifest, read_manifest
from runtime.extra_networks import strip_extra_networks
from runtime.metadata import parse_parameters, parse_record
from runtime.prompt import parse_prompt
from runtime.prompt_plan import read_prompts
from tests.fuzz import inputs
from tests.fuzz.files import write

LIMIT_S: Final = 2.0
"""Processor time that no input of a megabyte may exceed."""


@dataclass(frozen=True)
class Property:
    """A function that fails if the property does not hold, and its inputs."""

    check: Callable[[Any], None]
    inputs: st.SearchStrategy[Any]


@contextmanager
def users_errors_only() -> Iterator[None]:
    """Let the user's errors pass, if they are fit to be read, and nothing that takes long."""
    started = time.process_time()
    logging.disable(logging.CRITICAL)
    try:
        yield
    except UserError as error:
        said = str(error)
    else:
        said = "a result"
    finally:
        logging.disable(logging.NOTSET)
    assert len(said) < 20_000
    assert time.process_time() - started < LIMIT_S


@functools.cache
def scratch() -> Path:
    """A directory for the files of this process; it is removed at the end."""
    return Path(_scratch().name)


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fuzz-")


def check_tensor_file(content: bytes) -> None:
    """A file that opens is one that the safetensors library opens too, and its tensors fill it."""
    from safetensors import safe_open

    path = write(scratch() / "x.safetensors", content)
    with users_errors_only():
        file = open_tensor_file(path)
        sizes = [len(tensor.read()) for tensor in file.tensors.values()]
        assert sum(sizes) == len(content) - 8 - int.from_bytes(content[:8], "little")
        for tensor in file.tensors.values():
            assert tensor.size == math.prod(tensor.shape) * KNOWN_SIZES[tensor.dtype]
        with safe_open(path, framework="numpy") as library:
            assert set(library.keys()) == file.tensors.keys()


def check_lora_file(content: bytes) -> None:
    """A LoRA is matched or refused, whatever it claims; the matched parts fuse or are refused."""
    directory = scratch() / "lora"
    directory.mkdir(exist_ok=True)
    (directory / "adapter_config.json").write_text('{"lora_alpha": 4}')
    path = write(directory / "lora.safetensors", content)
    with users_errors_only():
        lora = read_lora(path)
        record = [*map(str, count_ranks(lora)), lora.trained_tags]
        json.dumps(record, ensure_ascii=False).encode()
        keys = sum(len(module.tensors) for module in lora.modules) + len(lora.strays)
        for allow_unmatched in (False, True):
            with users_errors_only():
                (match,) = match_loras([lora], inputs.base(), allow_unmatched=allow_unmatched)
                assert len(match.unmatched) <= (keys if allow_unmatched else 0)
                _fuse(match.updates)


def _fuse(updates: Any) -> None:
    import torch

    from convert.fuse import fuse_tensor

    for update in updates[:20]:
        tensor = inputs.base().components[update.component].tensors[update.target]
        with users_errors_only():
            fused = fuse_tensor(tensor, [(update, 0.6, "x")], torch.float16)
            assert tuple(fused.shape) == tensor.shape
            assert torch.isfinite(fused).all()


def check_peft_config(text: str) -> None:
    """An adapter_config.json gives a finite scale or is refused."""
    (scratch() / "adapter_config.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    with users_errors_only():
        scale, _ = read_config_scale(scratch() / "adapter_model.safetensors")
        assert math.isfinite(scale.alpha_of("unet.down_blocks.0.to_q", 4))


def check_key(key: str) -> None:
    """A key is taken apart, and nothing of it but spelling is lost, or it is none."""
    with users_errors_only():
        part = parse_key(key)
        assert part is None or (part.role and key.startswith(part.module))


def check_manifest(content: bytes) -> None:
    """bundle.json and fuse.json are read or refused."""
    path = write(scratch() / "bundle.json", content)
    with users_errors_only():
        assert isinstance(read_manifest(path), Manifest)
    with users_errors_only():
        assert isinstance(read_record(path), FuseRecord)


def check_recipe(text: str) -> None:
    """A recipe is read or refused."""
    path = scratch() / "recipe.toml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with users_errors_only():
        assert load_recipe(str(path)).base


def check_prompt(text: str) -> None:
    """A prompt's weights are numbers, and its text is the user's, in order, at every step."""
    with users_errors_only():
        rest = iter(text)
        for section in parse_prompt(text):
            for span in section:
                assert span.text
                assert math.isfinite(span.weight)
                assert all(character in rest for character in span.text)
    with users_errors_only():
        texts = read_prompts(text, text, 7, 5.0)
        assert all(len(each) == 7 for each in (*texts.prompts, texts.negative or "1234567"))
        assert all(len(each) <= len(text) for each in texts.sections)
    with users_errors_only():
        assert len(strip_extra_networks(text, {"a": "0.6"})) <= len(text)


def check_metadata(text: str) -> None:
    """The webui's text is always taken apart; our record is read or refused."""
    with users_errors_only():
        parameters = parse_parameters(text)
        assert len(parameters.prompt) + len(parameters.negative) <= len(text)
    with users_errors_only():
        parse_record(text)


PROPERTIES: Final = {
    "tensors": Property(check_tensor_file, st.binary(max_size=80) | inputs.tensor_files()),
    "lora": Property(check_lora_file, inputs.lora_files()),
    "peft": Property(check_peft_config, inputs.peft_configs()),
    "key": Property(check_key, inputs.texts("key")),
    "manifest": Property(check_manifest, inputs.records()),
    "recipe": Property(check_recipe, inputs.recipes()),
    "prompt": Property(check_prompt, inputs.texts("prompt")),
    "metadata": Property(check_metadata, inputs.texts("metadata")),
}
