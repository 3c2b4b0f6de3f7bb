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
from runtime.__main__ import main
from runtime.calls import complete
from runtime.chunks import make_chunks
from runtime.picture_file import read_record
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


def test_a_picture_is_made_again_bit_for_bit(demo_bundle_fp32: Path, tmp_path: Path) -> None:
    """From the file alone, in another process' worth of sessions."""
    common = ["--bundle", str(demo_bundle_fp32), "--backend", "cpu", "--quiet"]
    first, again = tmp_path / "first.webp", tmp_path / "again.png"
    options = "--seed 5 --steps 3 --sampler dpm++_2m_sde --eta 0.7 --cfg-rescale 0.5 --size 64x96"
    arguments = [*options.split(), "--quality", "90", "--out", str(first)]
    assert main(["generate", "portrait of a (woman:1.2)", *arguments, *common]) == 0
    lossless = tmp_path / "lossless.png"
    assert main(["generate", "--from", str(first), "--out", str(lossless), *common]) == 0
    assert main(["generate", "--from", str(lossless), "--out", str(again), *common]) == 0
    assert lossless.read_bytes() == again.read_bytes()
    assert read_record(first) == read_record(again)


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
        ((ours,),) = complete(PromptEncoder(session).encode(plan)).prompts
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
