"""A VAE in the place of the base's own, in every form in which people have one."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from convert.base import read_base
from convert.completeness import check_complete
from convert.fuse import load_tensor
from engines.errors import InputError
from tests.convert.ldm_files import (
    UNET_PREFIX,
    VAE_PREFIX,
    write_checkpoint,
)
from tests.convert.synthetic import Tensors, copy_base


@pytest.fixture
def other_vae(demo_base: Path, tmp_path: Path) -> Path:
    """A diffusers directory of a VAE whose every value differs from the demo's."""
    directory = copy_base(demo_base / "vae", tmp_path / "other")
    path = directory / "diffusion_pytorch_model.safetensors"
    weights = {name: tensor + 1 for name, tensor in load_file(path).items()}
    path.unlink()
    save_file(weights, path)
    return directory


@pytest.mark.parametrize("form", ["directory", "file", "bare", "wrapped", "checkpoint"])
@pytest.mark.parametrize("base_form", ["directory", "checkpoint"])
def test_a_replaced_vae(
    checkpoint: Path,
    tensors: Tensors,
    demo_base: Path,
    other_vae: Path,
    tmp_path: Path,
    form: str,
    base_form: str,
) -> None:
    weights = load_file(other_vae / "diffusion_pytorch_model.safetensors")
    original = {n: t + 1 for n, t in tensors.items() if n.startswith(VAE_PREFIX)}
    if form == "directory":
        vae = other_vae
    elif form == "file":
        vae = other_vae / "diffusion_pytorch_model.safetensors"
    elif form == "bare":
        vae = tmp_path / "vae.pt"
        bare = {name.removeprefix(VAE_PREFIX): tensor for name, tensor in original.items()}
        bare.update({"loss.logvar": torch.zeros(()), "model_ema.decay": torch.zeros(())})
        torch.save({"state_dict": bare}, vae)
    elif form == "wrapped":
        vae = write_checkpoint(tmp_path / "vae.safetensors", original)
    else:
        vae = write_checkpoint(tmp_path / "whole.safetensors", {**tensors, **original})
    base = read_base(
        checkpoint if base_form == "checkpoint" else demo_base,
        "demo",
        vae=vae,
        configuration=demo_base,
    )
    check_complete(base)
    found = base.components["vae"].tensors
    assert found.keys() == weights.keys()
    assert all(torch.equal(load_tensor(found[name]), weights[name]) for name in weights)
    files = base.weight_files()
    assert files["vae/diffusion_pytorch_model.safetensors"] == (
        vae / "diffusion_pytorch_model.safetensors" if form == "directory" else vae
    )
    assert ("checkpoint" in files) == (base_form == "checkpoint")


def test_a_checkpoint_without_a_vae_takes_another(
    tensors: Tensors, checkpoint: Path, demo_base: Path, tmp_path: Path
) -> None:
    part = {n: t for n, t in tensors.items() if not n.startswith(VAE_PREFIX)}
    path = write_checkpoint(tmp_path / "x.safetensors", part)
    with pytest.raises(InputError, match=r"incomplete: it has no VAE\. Give one with --vae"):
        read_base(path, "demo", configuration=demo_base)
    check_complete(read_base(path, "demo", vae=checkpoint, configuration=demo_base))
    unet = {name: tensor for name, tensor in tensors.items() if name.startswith(UNET_PREFIX)}
    only = write_checkpoint(tmp_path / "unet.safetensors", unet)
    with pytest.raises(InputError, match="it has no text encoder and no VAE"):
        read_base(only, "demo", configuration=demo_base)
    with pytest.raises(InputError, match=r"checkpoint without a VAE"):
        read_base(demo_base, "demo", vae=only, configuration=demo_base)


def test_what_is_no_vae_is_named(
    checkpoint: Path, demo_base: Path, demo_loras: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"is a LoRA, not a VAE"):
        read_base(checkpoint, "demo", vae=demo_loras[0], configuration=demo_base)
    with pytest.raises(InputError, match=r"There is no VAE at .*gone"):
        read_base(checkpoint, "demo", vae=tmp_path / "gone", configuration=demo_base)
