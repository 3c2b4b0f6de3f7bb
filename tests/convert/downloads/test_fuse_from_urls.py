"""LoRAs named by URL: fused as the same files from disk are, refused in one line."""

import shutil
from pathlib import Path

import pytest

from convert.__main__ import main
from convert.fuse_plan import plan_fuse
from convert.recipe import Recipe, RecipeLora
from convert.sources import find_base, source_name
from engines.errors import InputError
from tests.convert.downloads.server import Served, Server


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's choice of a cache."""
    monkeypatch.setenv("FRACTURE_SD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_content_makes_the_identity_wherever_it_came_from(
    server: Server, cache: Path, demo_base: Path, demo_loras: tuple[Path, Path]
) -> None:
    server.routes["/api/download/models/1"] = Served(demo_loras[0].read_bytes())

    def identity(source: str) -> str:
        recipe = Recipe(
            "test", str(demo_base), (RecipeLora("one", source, 0.6, "Named.safetensors"),)
        )
        return plan_fuse(recipe, progress=False).record.identity

    url = server.url("/api/download/models/1")
    assert identity(url) == identity(str(demo_loras[0]))
    assert [path.name for path in cache.rglob("*.safetensors")] == ["Named.safetensors"]
    server.routes.clear()
    assert identity(url) == identity(str(demo_loras[0]))


def test_the_recipes_hash_is_asked_of_a_download(
    server: Server, cache: Path, demo_base: Path, demo_loras: tuple[Path, Path]
) -> None:
    server.routes["/1"] = Served(demo_loras[0].read_bytes())
    lora = RecipeLora("one", server.url("/1"), 0.6, sha256="0" * 64)
    with pytest.raises(InputError, match=r"is expected: it is another file"):
        plan_fuse(Recipe("test", str(demo_base), (lora,)), progress=False)
    assert list(cache.rglob("*.safetensors")) == []


def test_the_command_fuses_from_urls(
    server: Server, cache: Path, demo_base: Path, demo_loras: tuple[Path, Path], tmp_path: Path
) -> None:
    del cache
    for name, lora in zip(("/one", "/two"), demo_loras, strict=True):
        server.routes[name] = Served(lora.read_bytes())
    out = tmp_path / "fused"
    urls = [f"--lora={server.url(name)}?key=secret" for name in ("/one", "/two")]
    status = main(
        ["fuse", f"--base={demo_base}", *urls, "--weights=0.6,0.6", f"--out={out}", "--quiet"]
    )
    assert status == 0
    record = (out / "fuse.json").read_text()
    assert '"one"' in record
    assert "secret" not in record
    shutil.rmtree(out)


def test_the_command_says_in_one_line_what_is_wrong(
    server: Server,
    cache: Path,
    demo_base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del cache
    server.routes["/one"] = lambda exchange: exchange.reply(200, {}, b"<html>Sign in</html>")
    url = f"{server.url('/one')}?key=secret"
    status = main(
        ["fuse", f"--base={demo_base}", f"--lora={url}", "--weights=1", f"--out={tmp_path / 'out'}"]
    )
    shown = capsys.readouterr().err
    assert status == 1
    assert "web page instead of the file" in shown.splitlines()[-1]
    assert "Traceback" not in shown
    assert "secret" not in shown
    assert not (tmp_path / "out").exists()


def test_names_and_errors_do_not_show_a_query() -> None:
    assert source_name("https://civitai.com/api/download/models/43695?token=secret") == "43695"
    assert source_name("loras/Cracked Skin.safetensors") == "Cracked Skin"


def test_a_base_is_fetched_as_a_lora_is(server: Server, cache: Path, demo_base: Path) -> None:
    content = (demo_base / "vae" / "diffusion_pytorch_model.safetensors").read_bytes()
    server.routes["/base"] = Served(content, disposition="attachment; filename=Base.safetensors")
    path = find_base(server.url("/base"), progress=False)
    assert path.is_relative_to(cache)
    assert (path.name, path.read_bytes()) == ("Base.safetensors", content)
    with pytest.raises(InputError, match=r"Base\.safetensors is a VAE in diffusers layout"):
        plan_fuse(Recipe("test", server.url("/base"), ()), progress=False)
