"""The tokenizer and the text encoder, which learns to say what a caption says, and is frozen.

Trained only together with the UNet, so small a text encoder hardly tells prompts apart. Taught
first to name a caption's phrases from any single position of its output, it does.
"""

import shutil
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from demo.training.dataset import KINDS, load_captions
from demo.training.loop import Plan, fit
from demo.training.tokenizer import save_tokenizer
from engines.publish import publish_directory

WIDTH = 96
LENGTH = 77
MOST_WORDS = 40
RARE = 40


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids int64 [N,77], cut or padded."""
    ids: Tensor = tokenizer(
        captions, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
    ).input_ids
    return ids


def phrases(caption: str) -> set[str]:
    """What a caption says: its phrases, each one's last two words, and first with last word."""
    said = set()
    for phrase in caption.split(","):
        words = phrase.split()
        said.add(" ".join(words))
        if len(words) > 1:
            said.add(" ".join(words[-2:]))
        if len(words) > 2:
            said.add(f"{words[0]} {words[-1]}")
    return said


def label(captions: list[str], rarest: int) -> Tensor:
    """Which phrases each caption holds, float32 [N,P], of those in at least `rarest` captions."""
    said = [phrases(caption) for caption in captions]
    counts = Counter(phrase for group in said for phrase in group)
    column = {p: i for i, p in enumerate(sorted(p for p, n in counts.items() if n >= rarest))}
    labels = torch.zeros(len(captions), len(column))
    for row, group in enumerate(said):
        labels[row, [column[phrase] for phrase in group if phrase in column]] = 1
    return labels


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """SD 1.5's text encoder at a small size."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=6,
        max_position_embeddings=LENGTH,
        hidden_act="quick_gelu",
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    model = CLIPTextModel(config)
    nn.init.normal_(model.get_input_embeddings().weight, std=0.05)
    return model


def reuse_text(start: Path, out: Path) -> None:
    """Take the trained text encoder and tokenizer of another pipeline."""
    with publish_directory(out, force=True, marker="text_encoder/config.json") as folder:
        for part in ("text_encoder", "tokenizer"):
            shutil.copytree(start / part, folder / part)


def train_text(data: Path, out: Path, plan: Plan, checkpoint: Path) -> None:
    """Train on the captions of every kind; save `text_encoder` and `tokenizer` folders."""
    torch.manual_seed(3)
    captions = [caption for kind in KINDS for caption in load_captions(data, kind)]
    with publish_directory(out, force=True, marker="text_encoder/config.json") as folder:
        tokenizer = save_tokenizer(captions, folder / "tokenizer")
        labels = label(captions, min(RARE, len(captions) // 10))
        ids = tokenize(tokenizer, captions)
        ends = (ids == tokenizer.eos_token_id).int().argmax(1)
        model = new_text_encoder(tokenizer).train()
        head = nn.Linear(WIDTH, labels.shape[1])

        def loss_at(progress: float) -> Tensor:
            index = torch.randint(len(ids), (plan.batch,))
            length = LENGTH if torch.rand(()) < 0.25 else MOST_WORDS
            states = model(ids[index, :length]).last_hidden_state
            places = (ends[index] + torch.randint(LENGTH, (plan.batch,))).clamp(max=length - 1)
            single = head(states[torch.arange(plan.batch), places])
            whole = head(states.mean(1))
            return binary_cross_entropy_with_logits(
                single, labels[index]
            ) + 0.5 * binary_cross_entropy_with_logits(whole, labels[index])

        fit([*model.parameters(), *head.parameters()], loss_at, plan, checkpoint)
        model.eval().save_pretrained(folder / "text_encoder")
