"""Which of a LoRA's keys are used: what is left out, inpainting bases, several kinds at once."""

import json
import logging
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from convert.__main__ import main
from convert.base import read_base
from convert.fuse import run_fuse
from convert.fuse_plan import plan_fuse
from convert.fuse_record import read_record
from convert.lora import read_lora
from convert.match import match_loras
from convert.model import BaseModel
from engines.errors import InputError
from tests.convert.fusing import fuse, recipe_of
from tests.convert.synthetic import Tensors, kohya_module, write_lora
from tests.convert.tiny_model import WIDTH, write_tiny_model

QUERY = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
QUERY_WEIGHT = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
STRAYS = {
    "bundle_emb.word.string_to_param.*": torch.ones(1),
    "lora_unet_no_such_layer.lora_down.weight": torch.ones(2, 2),
    "lora_unet_no_such_layer.lora_up.weight": torch.ones(2, 2),
    "lora_te_encoder_layers_0_mlp_fc1.oft_blocks": torch.ones(2, 2),
    "lora_te_encoder_layers_0_mlp_fc1.alpha": torch.tensor(1.0),
}


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> BaseModel:
    return read_base(tiny_model, "tiny")


@pytest.fixture(scope="module")
def module() -> Tensors:
    return kohya_module(QUERY, (2, WIDTH), (WIDTH, 2))


def test_allow_unmatched_leaves_out_reports_and_records(
    tiny_model: Path, tmp_path: Path, module: Tensors, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = recipe_of(tiny_model, write_lora(tmp_path / "x.safetensors", {**module, **STRAYS}))
    with pytest.raises(InputError) as raised:
        plan_fuse(recipe)
    for part in (
        "nothing in the base (2): bundle_emb.word.string_to_param.*, lora_unet_no_such_layer;",
        "cannot fuse (1): lora_te_encoder_layers_0_mlp_fc1.oft_blocks (OFT)",
    ):
        assert part in str(raised.value)
    with caplog.at_level(logging.WARNING):
        plan = plan_fuse(recipe, allow_unmatched=True)
    assert "left out (5): bundle_emb" in caplog.text
    assert plan.record.loras[0].unmatched == tuple(sorted(STRAYS))
    run_fuse(plan, tmp_path / "out", force=False, progress=False)
    assert read_record(tmp_path / "out" / "fuse.json") == replace(
        plan.record, files=read_record(tmp_path / "out" / "fuse.json").files
    )
    clean = recipe_of(tiny_model, write_lora(tmp_path / "clean.safetensors", module))
    alone = fuse(clean, tmp_path / "alone", [1.0])
    both = load_file(tmp_path / "out" / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(both[name], tensor) for name, tensor in alone.unet.items())


def test_allow_unmatched_is_no_excuse_for_damage_or_for_nothing(
    base: BaseModel, tmp_path: Path, module: Tensors
) -> None:
    damaged = {**module, f"{QUERY}.lora_up.weight": torch.ones(WIDTH, 3)}
    lora = read_lora(write_lora(tmp_path / "damaged.safetensors", damaged))
    with pytest.raises(InputError, match=r"does not fit \(1\)"):
        match_loras([lora], base, allow_unmatched=True)
    lora = read_lora(write_lora(tmp_path / "strays.safetensors", STRAYS))
    with pytest.raises(InputError, match="nothing in it can be fused"):
        match_loras([lora], base, allow_unmatched=True)


def test_the_command_line_has_both_options(
    tiny_model: Path, tmp_path: Path, module: Tensors, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_lora(tmp_path / "first.safetensors", {**module, **STRAYS})
    second = write_lora(tmp_path / "second.safetensors", module)
    blocks = ",".join(["1"] * 16 + ["0.5"])
    arguments = ["fuse", "--base", str(tiny_model), "--lora", str(first), "--lora", str(second)]
    arguments += ["--weights", "1,1", "--out", str(tmp_path / "out")]
    assert main([*arguments, "-q"]) == 1
    assert "match nothing" in capsys.readouterr().err
    assert main([*arguments, "--allow-unmatched", "--block-weights", blocks, "-q"]) == 1
    assert "given 1 times, and there are 2 LoRAs" in capsys.readouterr().err
    arguments += ["--allow-unmatched", "--block-weights", "all", "--block-weights", blocks]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "BASE=1 IN01=1" in captured.out
    assert "OUT11=0.5" in captured.out
    assert "left out: 5 keys, as bundle_emb.word" in captured.out
    assert "keys that are left out (5)" in captured.err
    record = read_record(tmp_path / "out" / "fuse.json")
    assert [len(lora.block_weights) for lora in record.loras] == [0, 17]
    assert main(["inspect", str(first), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["strays"] == ["bundle_emb.word.string_to_param.*"]
    with pytest.raises(SystemExit):
        main([*arguments, "--block-weights", "1,2,3"])
    assert "3 numbers instead of 17" in capsys.readouterr().err


def test_a_plain_lora_of_the_first_convolution_on_an_inpainting_base(
    demo_base: Path, tmp_path: Path
) -> None:
    """Its four input channels are the latent's; the mask and the masked picture are left alone."""
    model = write_tiny_model(demo_base, tmp_path / "inpainting", in_channels=9)
    key = "lora_unet_conv_in"
    plain = kohya_module(key, (3, 4, 3, 3), (WIDTH, 3, 1, 1))
    path = write_lora(tmp_path / "plain.safetensors", plain)
    before = load_file(model / "unet" / "diffusion_pytorch_model.safetensors")["conv_in.weight"]
    after = fuse(recipe_of(model, path), tmp_path / "out", [0.5]).unet["conv_in.weight"]
    up, down = plain[f"{key}.lora_up.weight"], plain[f"{key}.lora_down.weight"]
    delta = 0.5 * torch.einsum("or,ri...->oi...", up.flatten(1), down)
    torch.testing.assert_close(after[:, :4], before[:, :4] + delta, rtol=0, atol=1e-6)
    assert torch.equal(after[:, 4:], before[:, 4:])

    own = kohya_module(key, (3, 9, 3, 3), (WIDTH, 3, 1, 1))
    path = write_lora(tmp_path / "own.safetensors", own)
    fused = fuse(recipe_of(model, path), tmp_path / "own", [1.0]).unet["conv_in.weight"]
    assert (fused != before).any(dim=(0, 2, 3)).all()
    wrong = write_lora(
        tmp_path / "wrong.safetensors", kohya_module(key, (3, 5, 3, 3), (WIDTH, 3, 1, 1))
    )
    with pytest.raises(InputError, match="for 32x4x3x3"):
        plan_fuse(recipe_of(model, wrong))


def test_a_lora_of_torch_save(tiny_model: Path, tmp_path: Path, module: Tensors) -> None:
    torch.save(module, tmp_path / "x.bin")
    out = fuse(recipe_of(tiny_model, tmp_path / "x.bin"), tmp_path / "out", [0.5])
    same = write_lora(tmp_path / "x.safetensors", module)
    expected = fuse(recipe_of(tiny_model, same), tmp_path / "same", [0.5])
    assert torch.equal(out.unet[QUERY_WEIGHT], expected.unet[QUERY_WEIGHT])


def test_the_order_of_several_kinds_is_of_no_matter(tiny_model: Path, tmp_path: Path) -> None:
    """DoRA and IA3 depend on the weight that they change: on the base's, not on the sum so far."""
    generator = torch.Generator().manual_seed(1)
    dora = kohya_module(QUERY, (2, WIDTH), (WIDTH, 2), 1.0, seed=1)
    dora[f"{QUERY}.dora_scale"] = torch.rand((WIDTH, 1), generator=generator)
    kinds = {
        "dora": dora,
        "ia3": _ia3(QUERY, WIDTH),
        "full": {f"{QUERY}.diff": torch.randn((WIDTH, WIDTH), generator=generator)},
        "lora": kohya_module(QUERY, (2, WIDTH), (WIDTH, 2), seed=2),
    }
    paths = [write_lora(tmp_path / f"{name}.safetensors", kinds[name]) for name in kinds]
    weights = [0.6, -0.5, 0.3, 1.0]
    forwards, backwards = (
        fuse(recipe_of(tiny_model, *order), tmp_path / str(i), values, dtype="fp32").unet
        for i, (order, values) in enumerate([(paths, weights), (paths[::-1], weights[::-1])])
    )
    torch.testing.assert_close(forwards[QUERY_WEIGHT], backwards[QUERY_WEIGHT], rtol=0, atol=1e-6)
    base = load_file(tiny_model / "unet" / "diffusion_pytorch_model.safetensors")[QUERY_WEIGHT]
    total = base.double()
    for path, weight in zip(paths, weights, strict=True):
        out = tmp_path / path.stem
        alone = fuse(recipe_of(tiny_model, path), out, [weight], dtype="fp32").unet[QUERY_WEIGHT]
        assert (alone - base).abs().max() > 0.01
        total += alone.double() - base.double()
    torch.testing.assert_close(forwards[QUERY_WEIGHT].double(), total, rtol=0, atol=1e-6)


def test_what_is_recorded_of_kinds_without_a_rank(tmp_path: Path, tiny_model: Path) -> None:
    lora = write_lora(tmp_path / "x.safetensors", _ia3(QUERY, WIDTH))
    plan = plan_fuse(recipe_of(tiny_model, lora))
    assert [asdict(row) for row in plan.record.loras[0].ranks] == [
        {"component": "unet", "kind": "IA3", "rank": None, "alpha": None, "modules": 1}
    ]
    assert plan.record.loras[0].coverage["unet"].touched == 1
    norm = {"lora_unet_mid_block_resnets_0_norm1.w_norm": torch.ones(WIDTH)}
    plan = plan_fuse(recipe_of(tiny_model, write_lora(tmp_path / "y.safetensors", norm)))
    assert plan.record.loras[0].coverage["unet"].touched == 0


def _ia3(key: str, outputs: int) -> Tensors:
    values = torch.linspace(-1, 1, outputs)
    return {f"{key}.weight": values, f"{key}.on_input": torch.tensor(0)}
