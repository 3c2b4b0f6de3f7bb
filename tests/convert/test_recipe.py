"""Recipes: the shipped ones are whole, and a wrong one is named by its key."""

from pathlib import Path

import pytest

from convert.embeddings import EmbeddingSource
from convert.recipe import load_recipe, recipe_names
from engines.errors import InputError, SettingError
from engines.manifest import Preset

WHOLE = """
name = "mine"
base = "model"
[[loras]]
name = "one"
source = "one.safetensors"
weight = 1
sha256 = "{sha256}"
[presets.p]
before = "x, "
[defaults]
steps = 30
preset = "p"
[export]
dtype = "fp32"
"""
TEXT = WHOLE.format(sha256="AB" * 32)


def _write(directory: Path, text: str) -> str:
    path = directory / "mine.toml"
    path.write_text(text)
    return str(path)


def test_the_shipped_recipes() -> None:
    assert recipe_names() == ["cracked-skin", "demo"]
    recipe = load_recipe("cracked-skin")
    assert recipe.base == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert [(lora.source, lora.file, lora.weight) for lora in recipe.loras] == [
        ("https://civitai.com/api/download/models/43695", "Cracked Skin.safetensors", 0.6),
        ("https://civitai.com/api/download/models/16576", "epiNoiseoffset_v2.safetensors", 0.6),
    ]
    assert recipe.presets.keys() == {"cracked", "glowing"}
    assert {preset.tags for preset in recipe.presets.values()} == {"all"}
    assert (recipe.defaults.width, recipe.defaults.steps, recipe.defaults.cfg) == (512, 20, 7.0)


def test_the_demo_recipe_finds_its_files(
    demo_base: Path, demo_loras: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("demo")
    assert Path(recipe.base).resolve() == demo_base
    assert tuple(Path(lora.source).resolve() for lora in recipe.loras) == demo_loras
    assert recipe.presets["cracked"] == Preset(before="cracked skin, ")
    assert (recipe.defaults.width, recipe.defaults.height, recipe.defaults.cfg) == (128, 128, 4.0)


def test_paths_start_from_the_file(tmp_path: Path) -> None:
    recipe = load_recipe(_write(tmp_path, TEXT))
    assert recipe.base == str(tmp_path / "model")
    assert recipe.loras[0].source == str(tmp_path / "one.safetensors")
    assert recipe.loras[0].sha256 == "ab" * 32
    assert recipe.loras[0].weight == 1.0
    assert recipe.presets["p"].before == "x, "
    assert (recipe.defaults.steps, recipe.defaults.sampler) == (30, "DPM++ 2M")
    assert recipe.export.dtype == "fp32"


def test_embeddings_are_placed_like_loras(tmp_path: Path) -> None:
    entries = """
        [[embeddings]]
        source = "glow.pt"
        [[embeddings]]
        source = "https://host/download/1"
        name = "old"
        file = "old.pt"
        sha256 = "{sha256}"
        [export]""".format(sha256="AB" * 32)
    recipe = load_recipe(_write(tmp_path, TEXT.replace("[export]", entries)))
    assert recipe.embeddings == (
        EmbeddingSource(str(tmp_path / "glow.pt")),
        EmbeddingSource("https://host/download/1", "old", "old.pt", "ab" * 32),
    )


def test_an_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(SettingError, match=r"'nope'.* cracked-skin, demo"):
        load_recipe("nope")
    with pytest.raises(InputError, match=r"no recipe file .*nope\.toml"):
        load_recipe("nope.toml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('base = "model"', "", "base is missing"),
        ("steps = 30", "stpes = 30", "defaults: stpes is unknown"),
        ("weight = 1", 'weight = "1"', r"loras\[0\]\.weight has the unexpected value '1'"),
        ("weight = 1", "weight = inf", r"loras\[0\]\.weight is inf"),
        ("weight = 1", "weight = 1\nblock_weights = [1.0]", r"\[0\]\.block_weights are 1 numbers"),
        ("weight = 1", "weight = true", r"loras\[0\]\.weight has the unexpected value True"),
        ("AB" * 32, "AB" * 31, "64 hexadecimal digits"),
        ("AB" * 32, "XY" * 32, "64 hexadecimal digits"),
        ('"fp32"', '"int8"', "export.dtype: The dtype 'int8'"),
        ('"fp32"', '"fp16,clip=fp32"', "export.dtype: The dtype 'fp16,clip=fp32' names no"),
        ('"fp32"', '"fp32"\nopset = 17', "export.opset: The opset 17"),
        ('"fp32"', '"fp32"\nstatic = "512"', "export.static: The static shape '512'"),
        ('preset = "p"', 'preset = "q"', "defaults.preset is 'q'"),
        ("steps = 30", "steps = 0", "defaults.steps is 0"),
        ("steps = 30", "width = 100", "defaults.width is 100"),
        ('name = "mine"', 'name = "a/b"', "name is 'a/b'"),
        ("[presets.p]", "[presets.p", "not valid TOML"),
        ("[presets.p]", '[presets.p]\ntags = "most"', "presets.p.tags: The tags 'most'"),
        ("[export]", '[[embeddings]]\nname = "a"\n[export]', r"embeddings\[0\]: source is missing"),
        (
            "[export]",
            '[[embeddings]]\nsource = "a.pt"\nsha256 = "1"\n[export]',
            r"embeddings\[0\]\.sha256 is not 64",
        ),
        ("[export]", '[[loras]]\nname = "one"\nsource = "s"\nweight = 1\n[export]', "an earlier"),
    ],
)
def test_a_wrong_recipe_is_named_by_its_key(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in TEXT
    with pytest.raises(InputError, match=message):
        load_recipe(_write(tmp_path, TEXT.replace(old, new)))


def test_all_faults_are_in_one_error(tmp_path: Path) -> None:
    text = TEXT.replace("steps = 30", "steps = 0\nwidth = 3").replace('"fp32"', '"x"')
    with pytest.raises(InputError, match=r"dtype.*steps.*width"):
        load_recipe(_write(tmp_path, text))
