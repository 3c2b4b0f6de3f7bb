"""Embeddings from every kind of file into a bundle, against diffusers' textual inversion."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from convert.embeddings import EmbeddingSource, parse_embedding, read_embeddings
from convert.export import run_export
from convert.export_plan import plan_export
from convert.verify import run_verify
from engines import layout
from engines.backend import choose_backend
from engines.bundle import Bundle, open_bundle
from engines.errors import InputError, SettingError
from engines.identity import sha256_file
from runtime.calls import complete
from runtime.prompt_plan import PromptPlanner
from runtime.text import PromptEncoder
from runtime.textual_inversion import EmbeddingVocabulary
from runtime.tokenizer import ClipTokenizer
from tests.convert.embedding_files import (
    vectors,
    write_concept,
    write_original,
    write_safetensors,
    write_webui,
)
from tests.convert.tiny_model import WIDTH

Writer = Callable[[Path, torch.Tensor], Path]
LORA_KEY = "lora_unet_x.lora_up.weight"
COUNTS = {"glow": 3, "<cat-toy>": 1, "porcelain": 2, "old": 4}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The file of each embedding by the name that it goes by."""
    path = tmp_path_factory.mktemp("embeddings")
    return {
        "glow": write_webui(path / "glow.pt", vectors(3, WIDTH, 1)),
        "<cat-toy>": write_concept(path / "learned.bin", "<cat-toy>", vectors(1, WIDTH, 2)[0]),
        "porcelain": write_safetensors(path / "porcelain.safetensors", vectors(2, WIDTH, 3).half()),
        "old": write_original(path / "old.pt", vectors(4, WIDTH, 4)),
    }


@pytest.fixture(scope="module")
def bundle(tiny_model: Path, files: dict[str, Path], tmp_path_factory: Any) -> Bundle:
    out: Path = tmp_path_factory.mktemp("bundles") / "embedded"
    sources = [EmbeddingSource(str(file)) for file in files.values()]
    plan = plan_export(tiny_model, dtype="fp32", embeddings=sources)
    run_export(plan, out, force=False, progress=False)
    return open_bundle(out)


def test_the_bundle_says_what_it_holds(bundle: Bundle, files: dict[str, Path]) -> None:
    embeddings = bundle.manifest.embeddings
    assert {name: spec.vectors for name, spec in embeddings.items()} == COUNTS
    assert [spec.first_id for spec in embeddings.values()] == [796, 799, 800, 802]
    for name, spec in embeddings.items():
        assert spec.source_sha256 == sha256_file(files[name])
        assert spec.file in bundle.manifest.files
        stored = load_file(bundle.path / spec.file)["emb_params"]
        assert stored.shape == (COUNTS[name], WIDTH)
    assert embeddings["<cat-toy>"].file == "embeddings/cat-toy.safetensors"


@pytest.fixture(scope="module")
def theirs(tiny_model: Path, files: dict[str, Path]) -> Any:
    from diffusers import StableDiffusionPipeline

    pipeline: Any = StableDiffusionPipeline.from_pretrained(
        tiny_model, dtype=torch.float32, safety_checker=None
    )
    for name, file in files.items():
        if name == "old":  # diffusers knows no ParameterDict
            file = write_webui(file.with_name("again.pt"), vectors(4, WIDTH, 4))
        pipeline.load_textual_inversion(str(file.parent), weight_name=file.name, token=name)
    return pipeline


@pytest.fixture(scope="module")
def encode(bundle: Bundle) -> Iterator[Callable[[str], np.ndarray]]:
    tokenizer = ClipTokenizer.open(bundle.path / layout.TOKENIZER_FILE)
    vocabulary = EmbeddingVocabulary(tokenizer, bundle.manifest.embeddings)
    backend = choose_backend("cpu", bundle).backend
    with backend.open_session(bundle, layout.TEXT_ENCODER) as session:
        encoder, planner = PromptEncoder(session), PromptPlanner(vocabulary)

        def run(prompt: str) -> np.ndarray:
            ((text,),) = complete(encoder.encode(planner.plan(prompt, "", 1, 1.0, 1))).prompts
            return text

        yield run


@pytest.mark.parametrize(
    "prompt",
    [
        "a portrait",
        "glow",
        "a glow portrait",
        "a <cat-toy>",
        "a <cat-toy> of porcelain, old glow",
        "old old glow <cat-toy> porcelain",
    ],
)
def test_texts_are_encoded_as_diffusers_encodes_them(
    encode: Callable[[str], np.ndarray], theirs: Any, prompt: str
) -> None:
    with torch.no_grad():
        wanted, _ = theirs.encode_prompt(prompt, "cpu", 1, do_classifier_free_guidance=False)
    np.testing.assert_allclose(encode(prompt), wanted[0], atol=2e-5)


def test_an_embedding_is_more_than_its_name(encode: Callable[[str], np.ndarray]) -> None:
    """With a mistake in the ids, every embedding could be encoded as some other token."""
    texts = [encode(name) for name in (*COUNTS, "a", "glo", "porcelains")]
    for i, one in enumerate(texts):
        for other in texts[:i]:
            assert np.abs(one - other).max() > 0.1


def test_verify_compares_the_embeddings_too(
    bundle: Bundle, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, _ = run_verify(bundle, tiny_model, 0, progress=False)
    assert all(figure.passed for figure in manifest.parity[layout.TEXT_ENCODER])
    monkeypatch.setattr("convert.verify.bundle_embeddings", lambda bundle: _shuffled(bundle))
    changed, _ = run_verify(open_bundle(bundle.path), tiny_model, 0, progress=False)
    assert not all(figure.passed for figure in changed.parity[layout.TEXT_ENCODER])


def _shuffled(bundle: Bundle) -> Any:
    from convert.embeddings import bundle_embeddings

    return bundle_embeddings(bundle)[::-1]


def test_embeddings_are_part_of_the_identity(tiny_model: Path, files: dict[str, Path]) -> None:
    def identity(*texts: str) -> str:
        sources = [parse_embedding(text) for text in texts]
        return plan_export(tiny_model, dtype="fp32", embeddings=sources).identity

    glow = str(files["glow"])
    found = [identity(), identity(glow), identity(f"shine={glow}"), identity(str(files["old"]))]
    assert len(set(found)) == 4
    assert identity(glow) == found[1]


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("a.pt", EmbeddingSource("a.pt")),
        ("name=a.pt", EmbeddingSource("a.pt", "name")),
        ("<a b>=dir/a.pt", EmbeddingSource("dir/a.pt", "<a b>")),
        ("dir/a=b.pt", EmbeddingSource("dir/a=b.pt")),
        ("https://host/x?a=b", EmbeddingSource("https://host/x?a=b")),
    ],
)
def test_the_command_lines_form(text: str, source: EmbeddingSource) -> None:
    assert parse_embedding(text) == source


def test_a_file_that_exists_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b.pt").touch()
    assert parse_embedding("a=b.pt") == EmbeddingSource("a=b.pt")


def _tensors(path: Path, **tensors: torch.Tensor) -> Path:
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: p / "gone.pt", "There is no embedding file at"),
        (lambda p: write_safetensors(p / "a(b).safetensors", vectors(1, 8)), "cannot go by"),
        (lambda p: write_concept(p / "a.bin", "x" * 101, vectors(1, 8)), "cannot go by the name"),
        (lambda p: write_safetensors(p / "a.safetensors", vectors(76, 8)), "76 vectors; 75 is"),
        (lambda p: write_safetensors(p / "a.safetensors", torch.zeros(0, 8)), "in the place of"),
        (lambda p: write_safetensors(p / "a.safetensors", torch.zeros(1, 2, 8)), "in the place of"),
        (
            lambda p: write_safetensors(p / "a.safetensors", torch.zeros(2, 8, dtype=torch.int32)),
            "I32 of the shape",
        ),
        (
            lambda p: _tensors(p / "x.safetensors", clip_l=vectors(1, 8), clip_g=vectors(1, 9)),
            "is for Stable Diffusion XL",
        ),
        (
            lambda p: _tensors(p / "x.safetensors", one=vectors(1, 8), two=vectors(1, 8)),
            "no textual-inversion embedding with one name, but of an unknown kind with 2 tensors",
        ),
        (
            lambda p: write_safetensors(p / "x.safetensors", vectors(4, 8), LORA_KEY),
            "is no textual-inversion embedding with one name, but a LoRA",
        ),
    ],
)  # fmt: skip
def test_what_is_no_embedding_is_refused(
    tmp_path: Path, write: Callable[[Path], Path], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_embeddings([EmbeddingSource(str(write(tmp_path)))])
    assert "\n" not in str(caught.value)


def test_an_embedding_of_another_family_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    file = write_safetensors(tmp_path / "a.safetensors", vectors(1, WIDTH + 1))
    with pytest.raises(InputError, match="vectors of 33 numbers, and this model's are 32"):
        plan_export(tiny_model, dtype="fp32", embeddings=[EmbeddingSource(str(file))])


def test_two_embeddings_of_one_name_are_refused(files: dict[str, Path]) -> None:
    sources = [EmbeddingSource(str(files["glow"])), EmbeddingSource(str(files["old"]), "Glow")]
    with pytest.raises(SettingError, match=r"Two embeddings have the name 'Glow'.*NAME=FILE"):
        read_embeddings(sources)


def test_another_content_than_the_recipe_expects_is_refused(files: dict[str, Path]) -> None:
    source = EmbeddingSource(str(files["glow"]), sha256="0" * 64)
    with pytest.raises(InputError, match="the recipe expects"):
        read_embeddings([source])
