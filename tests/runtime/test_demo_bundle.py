"""The demo bundle as a user has it: no torch beside it, and texts that mean what they meant."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engines import layout
from engines.backend import choose_backend
from engines.bundle import open_bundle
from runtime.chunks import make_chunks
from runtime.png import read_record
from runtime.prompt import parse_prompt
from runtime.prompt_plan import PromptPlanner
from runtime.text import PromptEncoder
from runtime.textual_inversion import EmbeddingVocabulary
from runtime.tokenizer import ClipTokenizer

ROOT = Path(__file__).parents[2]


def test_a_picture_is_made_where_there_is_no_torch(demo_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "cat.png"
    arguments = ["--bundle", str(demo_bundle), "--out", str(out), "--preset", "cracked"]
    arguments += ["--seed", "5", "--steps", "2", "--json"]
    made = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.wall", "runtime", "generate", "a", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    result = json.loads(made.stdout)
    assert [picture["file"] for picture in result["pictures"]] == [str(out)]
    assert "2/2" in made.stderr
    settings, origin = read_record(out)
    assert settings.prompt == "cracked skin, a"
    assert origin.identity == open_bundle(demo_bundle).manifest.identity


@pytest.fixture(scope="module")
def theirs(fused_demo: Path) -> Any:
    from transformers import CLIPTextModel

    return CLIPTextModel.from_pretrained(
        fused_demo, subfolder="text_encoder", dtype=torch.float32
    ).eval()


@pytest.mark.parametrize("clip_skip", [1, 2])
@pytest.mark.parametrize(
    "prompt",
    [
        "portrait of a woman, blue skin",
        "portrait of a (woman:1.4), [blue] skin, ((long)) hair",
        "red skin, " * 60,
        "a BREAK (cracked skin:0.5)",
    ],
)
def test_embeddings_are_those_of_transformers(
    demo_bundle_fp32: Path, theirs: Any, prompt: str, clip_skip: int
) -> None:
    bundle = open_bundle(demo_bundle_fp32)
    tokenizer = EmbeddingVocabulary(ClipTokenizer.open(bundle.path / layout.TOKENIZER_FILE), {})
    backend = choose_backend("cpu", bundle).backend
    with backend.open_session(bundle, layout.TEXT_ENCODER) as session:
        plan = PromptPlanner(tokenizer).plan(prompt, "", 1, 1.0, clip_skip)
        ((ours,),) = PromptEncoder(session).encode(plan).prompts
    chunks = make_chunks(parse_prompt(prompt), tokenizer)
    wanted = []
    for chunk in chunks:
        with torch.no_grad():
            output = theirs(torch.tensor([chunk.ids]), output_hidden_states=True)
        model = getattr(theirs, "text_model", theirs)
        hidden = model.final_layer_norm(output.hidden_states[-clip_skip]).detach()
        weighted = hidden * torch.tensor(chunk.weights)[None, :, None]
        wanted.append((weighted * (hidden.mean() / weighted.mean()))[0])
    np.testing.assert_allclose(ours, torch.cat(wanted), atol=2e-4, rtol=2e-4)
