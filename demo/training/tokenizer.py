"""A byte-pair tokenizer in CLIP's file format, trained on the captions."""

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
FURTHER_WORDS = """photo painting picture image face close up beautiful young old smooth cracks
crack broken stone marble porcelain lava neon light shadow soft hard simple plain studio low
quality blurry deformed ugly bad worst the and with in on at his her smiling looking viewer front
view head shoulders gold silver pattern texture"""


def byte_symbols() -> list[str]:
    """The printable stand-ins for the 256 bytes, in the order of CLIP's vocabulary.

    Source: `bytes_to_unicode` of OpenAI's GPT-2.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]


def learn_merges(captions: list[str], vocabulary: int) -> list[tuple[str, str]]:
    """Byte-pair merges in the order in which they apply."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, min_frequency=2, end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(captions + [FURTHER_WORDS] * 60, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(m[0], m[1]) if isinstance(m, list) else tuple(m.split(" ")) for m in merges]


def save_tokenizer(captions: list[str], folder: Path) -> CLIPTokenizer:
    """Write CLIP's tokenizer files to `folder` and open them."""
    merges = learn_merges(captions, 1400)
    symbols = byte_symbols()
    pieces = dict.fromkeys([*symbols, *(s + "</w>" for s in symbols), *map("".join, merges)])
    vocabulary = {piece: index for index, piece in enumerate([*pieces, START, END])}
    named = {"bos_token": START, "eos_token": END, "unk_token": END}
    folder.mkdir(parents=True)
    _write_json(folder / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *map(" ".join, merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    flags = {"lstrip": False, "rstrip": False, "normalized": True, "single_word": False}
    special = {key: {"content": token, **flags} for key, token in named.items()}
    _write_json(folder / "special_tokens_map.json", {**special, "pad_token": END})
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "do_lower_case": True,
        "add_prefix_space": False,
        "errors": "replace",
        **named,
        "pad_token": END,
    }
    _write_json(folder / "tokenizer_config.json", config)
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder)
    return tokenizer


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")
