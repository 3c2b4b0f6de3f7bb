"""CLIP's byte-pair vocabulary, the one of every Stable Diffusion 1.x text encoder.

data/clip/merges.txt.gz has the first 48,894 merges of `bpe_simple_vocab_16e6.txt.gz` of OpenAI's
CLIP, taken from the wheel of open_clip_torch 3.3.0 and written as transformers writes merges.txt.
Everything else follows from them: 256 bytes, the same at the end of a word, a token for each merge,
and the two special tokens.
"""

import gzip
import json
from pathlib import Path
from typing import Final

from convert.json_file import dump_json

_MERGES: Final = Path(__file__).parent / "data" / "clip" / "merges.txt.gz"
_WORD_END: Final = "</w>"
START: Final = "<|startoftext|>"
END: Final = "<|endoftext|>"


def write_clip_tokenizer(directory: Path) -> None:
    """Write the files of a CLIPTokenizer to a directory, which is made."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in clip_tokenizer_files().items():
        (directory / name).write_bytes(content)


def clip_tokenizer_files() -> dict[str, bytes]:
    """vocab.json, merges.txt and tokenizer_config.json, as a CLIPTokenizer has them."""
    text = gzip.decompress(_MERGES.read_bytes())
    lines = text.decode().splitlines()
    merges = [line for line in lines if line and not line.startswith("#version")]
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "do_lower_case": True,
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
    }
    return {
        "merges.txt": text,
        "vocab.json": json.dumps(clip_vocabulary(merges), ensure_ascii=False).encode(),
        "tokenizer_config.json": dump_json(config),
    }


def clip_vocabulary(merges: list[str]) -> dict[str, int]:
    """The id of every token, in the order that CLIP's own tokenizer gives them."""
    characters = _byte_characters()
    tokens = [
        *characters,
        *(character + _WORD_END for character in characters),
        *(merge.replace(" ", "") for merge in merges),
        START,
        END,
    ]
    return {token: number for number, token in enumerate(tokens)}


def _byte_characters() -> list[str]:
    """A printable character for each byte, in GPT-2's order: printable bytes stand for themselves.

    Radford et al., "Language Models are Unsupervised Multitask Learners", `bytes_to_unicode`.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
