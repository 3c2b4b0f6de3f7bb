"""The fused weights, against diffusers' own fusing in float32 and a formula in float64."""

import json
import math
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from convert.fuse import fuse_tensor
from convert.fuse_plan import plan_fuse
from convert.fuse_record import read_record
from convert.model import WEIGHT_FILES
from convert.recipe import load_recipe
from engines.errors import InputError
from tests.convert.fusing import (
    assert_rounded_once,
    fuse,
    fuse_with_diffusers,
    load_fused,
    recipe_of,
)
from tests.convert.synthetic import Tensors, copy_base, kohya_module, write_lora


def _base(demo_base: Path, component: str) -> Tensors:
    return load_file(demo_base / WEIGHT_FILES[component])


@pytest.mark.parametrize("weights", [[0.6, 0.6], [1.0, -0.3]], ids=str)
def test_every_tensor_is_as_diffusers_fuses_it(
    demo_base: Path, demo_loras: tuple[Path, Path], tmp_path: Path, weights: list[float]
) -> None:
    """In float16 it is the same sum rounded once; the LoRAs' order is of no matter in float32."""
    expected = fuse_with_diffusers(demo_base, demo_loras, weights, ["unet", "text_encoder"])
    half = fuse(recipe_of(demo_base, *demo_loras), tmp_path / "fp16", weights, dtype="fp16")
    backwards = recipe_of(demo_base, *reversed(demo_loras))
    exact = fuse(backwards, tmp_path / "fp32", weights[::-1], dtype="fp32")
    for component in WEIGHT_FILES:
        oracle = getattr(expected, component)
        ours, rounded = getattr(exact, component), getattr(half, component)
        assert ours.keys() == rounded.keys() == oracle.keys()
        for name, tensor in oracle.items():
            torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-6, msg=name)
            assert_rounded_once(rounded[name], tensor, name)


def test_the_unet_alone(
    demo_base: Path, demo_loras: tuple[Path, Path], tmp_path: Path, fused_demo: Path
) -> None:
    """Text encoder weights of 0 leave it as it was; the UNet is fused as ever."""
    expected = fuse_with_diffusers(demo_base, demo_loras, [0.6, 0.6], ["unet"])
    recipe = recipe_of(demo_base, *demo_loras)
    ours = fuse(recipe, tmp_path / "out", [0.6, 0.6], text_encoder_weights=[0.0, 0.0])
    for name, tensor in expected.unet.items():
        assert_rounded_once(ours.unet[name], tensor, name)
    before = load_file(demo_base / "text_encoder" / "model.safetensors")
    assert all(torch.equal(ours.text_encoder[n], t) for n, t in before.items())
    both = load_fused(fused_demo)
    assert all(torch.equal(ours.unet[n], t) for n, t in both.unet.items())
    assert any(not torch.equal(ours.text_encoder[n], t) for n, t in both.text_encoder.items())


CASES = {
    "linear, alpha is not the rank": ("down_blocks.0.attentions.0.proj_out", (4, 64), (64, 4), 1.0),
    "linear, no alpha": (
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_v",
        (3, 96),
        (96, 3),
        None,
    ),
    "1x1 convolution": (
        "down_blocks.0.attentions.0.proj_in",
        (4, 64, 1, 1),
        (64, 4, 1, 1),
        2.0,
    ),
    "3x3 convolution": (
        "up_blocks.0.resnets.0.conv1",
        (5, 192, 3, 3),
        (96, 5, 1, 1),
        2.5,
    ),
    "3x3 convolution with stride": (
        "down_blocks.0.downsamplers.0.conv",
        (2, 64, 3, 3),
        (64, 2, 1, 1),
        1.0,
    ),
}


@pytest.fixture(scope="module")
def fused_cases(
    demo_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tensors, Tensors]:
    """A LoRA with every case as a module, and the UNet fused with it at -0.7 in float32."""
    directory = tmp_path_factory.mktemp("cases")
    tensors: Tensors = {}
    for module, down, up, alpha in CASES.values():
        tensors |= kohya_module(f"lora_unet_{module.replace('.', '_')}", down, up, alpha)
    lora = write_lora(directory / "lora.safetensors", tensors)
    fused = fuse(recipe_of(demo_base, lora), directory / "out", [-0.7], dtype="fp32")
    return tensors, fused.unet


@pytest.mark.parametrize("case", CASES)
def test_the_formula_in_float64(
    demo_base: Path, fused_cases: tuple[Tensors, Tensors], case: str
) -> None:
    """W + weight · alpha / rank · up · down, where the kernel's axes belong to down."""
    module, down_shape, up_shape, alpha = CASES[case]
    tensors, ours = fused_cases
    key = f"lora_unet_{module.replace('.', '_')}"
    down, up = (tensors[f"{key}.lora_{part}.weight"].double().numpy() for part in ("down", "up"))
    rank = down_shape[0]
    product = np.einsum("or,ri...->oi...", up.reshape(up_shape[:2]), down)
    scale = -0.7 * (rank if alpha is None else alpha) / rank
    name = f"{module}.weight"
    base = _base(demo_base, "unet")[name].double().numpy()
    expected = base + scale * product.reshape(base.shape)
    np.testing.assert_allclose(ours[name].double().numpy(), expected, rtol=0, atol=1e-6)


def test_nothing_else_is_changed(demo_base: Path, fused_cases: tuple[Tensors, Tensors]) -> None:
    base = _base(demo_base, "unet")
    changed = {n for n, t in fused_cases[1].items() if not torch.equal(t, base[n].float())}
    assert changed == {f"{module}.weight" for module, *_ in CASES.values()}


def test_what_no_lora_touches_is_copied(
    demo_base: Path, demo_loras: tuple[Path, Path], fused_demo: Path
) -> None:
    fused = load_fused(fused_demo)
    assert all(torch.equal(fused.vae[n], t) for n, t in _base(demo_base, "vae").items())
    base = _base(demo_base, "unet")
    touched = {n for n, tensor in fused.unet.items() if not torch.equal(tensor, base[n])}
    assert len(touched) == 192
    assert all(tensor.dtype == torch.float16 for tensor in fused.unet.values())


def test_weight_zero_changes_nothing_and_is_recorded(
    demo_base: Path, demo_loras: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    fused = fuse(recipe_of(demo_base, *demo_loras), out, [0.0, 0.0])
    assert all(torch.equal(fused.unet[n], t) for n, t in _base(demo_base, "unet").items())
    assert [lora.weight for lora in read_record(out / "fuse.json").loras] == [0.0, 0.0]


def test_bfloat16_loras(demo_base: Path, tmp_path: Path) -> None:
    key = "lora_unet_down_blocks_0_attentions_0_proj_out"
    tensors = {n: t.bfloat16() for n, t in kohya_module(key, (4, 64), (64, 4), 2.0).items()}
    wide = write_lora(tmp_path / "wide.safetensors", {n: t.float() for n, t in tensors.items()})
    narrow = write_lora(tmp_path / "narrow.safetensors", tensors)
    name = "down_blocks.0.attentions.0.proj_out.weight"
    wide_sum, narrow_sum = (
        fuse_tensor(plan.base.components["unet"].tensors[name], updates, torch.float32)
        for plan in (plan_fuse(recipe_of(demo_base, path)) for path in (wide, narrow))
        for updates in [[(update, 1.0, "x") for update in plan.loras[0].updates]]
    )
    assert torch.equal(wide_sum, narrow_sum)


def test_diffusers_and_transformers_load_it_without_a_missing_key(fused_demo: Path) -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    for kind, name in (
        (UNet2DConditionModel, "unet"),
        (AutoencoderKL, "vae"),
        (CLIPTextModel, "text_encoder"),
    ):
        _, info = kind.from_pretrained(fused_demo, subfolder=name, output_loading_info=True)
        assert not any(info.values()), (name, info)


def test_diffusers_opens_the_whole(fused_demo: Path) -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(fused_demo)
    assert pipeline.safety_checker is None
    assert type(pipeline.scheduler).__name__ == "PNDMScheduler"


def test_the_text_encoder_has_sd15_s_names(fused_demo: Path) -> None:
    """transformers 4 finds no weight without the prefix; transformers 5 takes both."""
    assert all(name.startswith("text_model.") for name in load_fused(fused_demo).text_encoder)


def test_the_record(demo_base: Path, demo_loras: tuple[Path, Path], fused_demo: Path) -> None:
    record = read_record(fused_demo / "fuse.json")
    assert (record.recipe, record.base.name, record.dtype) == ("demo", "base", "base")
    unet = record.base.files["unet/diffusion_pytorch_model.safetensors"]
    assert unet == _digest(demo_base / WEIGHT_FILES["unet"])
    cracked, offset = record.loras
    assert [cracked.sha256, offset.sha256] == [_digest(path) for path in demo_loras]
    assert cracked.autov2 == cracked.sha256[:10].upper()
    assert (cracked.weight, cracked.text_encoder_weight) == (0.6, 0.6)
    assert {n: (c.touched, c.layers) for n, c in cracked.coverage.items()} == {
        "unet": (192, 281),
        "text_encoder": (18, 18),
    }
    assert "cracked skin" in record.trained_tags()["cracked_skin_demo"]
    assert record.presets["cracked"].before == "cracked skin, "
    assert record.defaults.width == 128
    written = {
        path.relative_to(fused_demo).as_posix() for path in fused_demo.rglob("*") if path.is_file()
    }
    assert written == record.files.keys() | {"fuse.json"}
    for name, entry in record.files.items():
        assert (entry.size, entry.sha256) == (
            (fused_demo / name).stat().st_size,
            _digest(fused_demo / name),
        )


@pytest.mark.parametrize("cores", [1, 3])
def test_the_number_of_cores_changes_nothing(
    demo_base: Path, demo_loras: tuple[Path, Path], tmp_path: Path, fused_demo: Path, cores: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(cores)
    try:
        fuse(recipe_of(demo_base, *demo_loras), tmp_path / "out", [0.6, 0.6])
        assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(before)
    files, others = (
        read_record(path / "fuse.json").files for path in (tmp_path / "out", fused_demo)
    )
    assert all(files[name] == others[name] for name in WEIGHT_FILES.values())


def test_no_path_of_this_machine_is_recorded(fused_demo: Path, demo_base: Path) -> None:
    for path in fused_demo.rglob("*.json"):
        text = path.read_text()
        assert str(demo_base.parents[1]) not in text
        assert str(fused_demo.parent) not in text


def test_the_inputs_are_left_as_they_were(
    demo_base: Path, demo_loras: tuple[Path, Path], tmp_path: Path
) -> None:
    files = [path for path in (*demo_base.rglob("*"), *demo_loras) if path.is_file()]
    before = {path: _digest(path) for path in files}
    fuse(recipe_of(demo_base, *demo_loras), tmp_path / "out", [1.0, 1.0])
    assert {path: _digest(path) for path in files} == before


def test_the_dtype_of_the_configuration_follows(demo_base: Path, tmp_path: Path) -> None:
    fuse(recipe_of(demo_base), tmp_path / "out", [], dtype="fp32")
    config = json.loads((tmp_path / "out/text_encoder/config.json").read_text())
    assert config["dtype"] == "float32"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_lora_that_is_not_finite_is_an_error(
    demo_base: Path, tmp_path: Path, value: float
) -> None:
    key = "lora_unet_down_blocks_0_attentions_0_proj_out"
    tensors = kohya_module(key, (4, 64), (64, 4))
    tensors[f"{key}.lora_up.weight"][3, 2] = value
    lora = write_lora(tmp_path / "bad.safetensors", tensors)
    with pytest.raises(InputError, match=f"LoRA bad .*no finite numbers.* in {key}"):
        fuse(recipe_of(demo_base, lora), tmp_path / "out", [1.0])
    assert [path.name for path in tmp_path.iterdir()] == ["bad.safetensors"]


def test_a_sum_beyond_half_precision_is_an_error(demo_base: Path, tmp_path: Path) -> None:
    key = "lora_unet_down_blocks_0_attentions_0_proj_out"
    tensors = {n: t * 1e4 for n, t in kohya_module(key, (4, 64), (64, 4)).items()}
    lora = write_lora(tmp_path / "large.safetensors", tensors)
    with pytest.raises(InputError, match="too large for float16"):
        fuse(recipe_of(demo_base, lora), tmp_path / "out", [1.0])
    fuse(recipe_of(demo_base, lora), tmp_path / "out", [1.0], dtype="fp32")


def test_an_incomplete_base_is_refused(
    demo_base: Path, demo_loras: tuple[Path, Path], tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    base = copy_base(demo_base, tmp_path / "base")
    tensors = _base(demo_base, "vae")
    del tensors["decoder.conv_in.bias"]
    (base / WEIGHT_FILES["vae"]).unlink()
    save_file(tensors, base / WEIGHT_FILES["vae"])
    with pytest.raises(InputError, match=r"decoder\.conv_in\.bias is missing"):
        fuse(recipe_of(base, *demo_loras), tmp_path / "out", [1.0, 1.0])
    assert not (tmp_path / "out").exists()


def test_the_demo_recipe_is_the_two_loras(
    demo_base: Path, demo_loras: tuple[Path, Path], fused_demo: Path
) -> None:
    plan = plan_fuse(load_recipe("demo"))
    assert plan.is_fulfilled_by(fused_demo)
    other = replace(plan, draft=replace(plan.draft, recipe="other"))
    assert not other.is_fulfilled_by(fused_demo)


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
