"""Bundles of inpainting models: UNets that see the mask and the masked picture.

There is no trained model of that kind so small. The demo's UNet gets five more input channels with
random weights, in diffusers and in the graph alike: every channel counts, and the picture does not.
"""

import dataclasses
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engines import layout
from engines.bundle import open_bundle
from engines.manifest import FileEntry, write_manifest
from runtime.hires import HiresSettings
from runtime.init_settings import InitSettings
from runtime.pipeline import Pipeline
from tests.runtime.against_diffusers import EXACT_DB, OURS, REQUEST, SIZE, Reference, make, psnr
from tests.runtime.drawings import HALF, inpaint, mask_of, photo_of, source_of

# torch's tensors meet numpy 2 inside diffusers' scheduler.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CHANNELS = 9


def _widened(weight: Any) -> Any:
    """`conv_in`'s weight [64, 4, 3, 3] with five input channels more."""
    more = np.random.default_rng(0).normal(size=(len(weight), CHANNELS - 4, 3, 3)) * 0.03
    return np.concatenate([weight, more.astype(np.float32)], axis=1)


@pytest.fixture(scope="module")
def mask_bundle(demo_bundle_fp32: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import onnx
    from onnx import numpy_helper

    path = tmp_path_factory.mktemp("mask") / "bundle"
    shutil.copytree(demo_bundle_fp32, path)
    file = path / layout.graph_file(layout.UNET)
    model = onnx.load(file)
    for tensor in model.graph.initializer:
        if tensor.name == "conv_in.weight":
            tensor.CopyFrom(
                numpy_helper.from_array(_widened(numpy_helper.to_array(tensor)), tensor.name)
            )
    (sample,) = (each for each in model.graph.input if each.name == layout.SAMPLE)
    sample.type.tensor_type.shape.dim[1].dim_value = CHANNELS
    del model.graph.value_info[:]
    (file.parent / layout.GRAPH_DATA_FILE).unlink()
    onnx.save(model, file)

    manifest = open_bundle(demo_bundle_fp32).manifest
    unet = manifest.components[layout.UNET]
    inputs = tuple(
        dataclasses.replace(each, shape=(each.shape[0], CHANNELS, *each.shape[2:]))
        if each.name == layout.SAMPLE
        else each
        for each in unet.inputs
    )
    files = {
        name: FileEntry(
            (path / name).stat().st_size, hashlib.sha256((path / name).read_bytes()).hexdigest()
        )
        for name in manifest.files
        if (path / name).exists()
    }
    components = {**manifest.components, layout.UNET: dataclasses.replace(unet, inputs=inputs)}
    write_manifest(
        dataclasses.replace(manifest, files=files, components=components),
        path / layout.BUNDLE_FILE,
    )
    return path


@pytest.fixture(scope="module")
def pipeline(mask_bundle: Path) -> Iterator[Pipeline]:
    with Pipeline.open(mask_bundle, "cpu") as opened:
        yield opened


@pytest.fixture(scope="module")
def reference(fused_demo: Path, one_thread: None) -> Reference:
    made = Reference(fused_demo)
    unet = made.networks.unet
    convolution = unet.conv_in
    unet.conv_in = torch.nn.Conv2d(CHANNELS, convolution.out_channels, 3, padding=1)
    unet.conv_in.weight.data = torch.from_numpy(_widened(convolution.weight.detach().numpy()))
    unet.conv_in.bias = convolution.bias
    unet.register_to_config(in_channels=CHANNELS)
    return made


@pytest.mark.parametrize(("sampler", "strength"), [("Euler a", 0.6), ("DPM++ 2M", 1.0)])
def test_inpainting(
    pipeline: Pipeline, reference: Reference, sampler: str, strength: float
) -> None:
    photo, mask = photo_of(*SIZE), mask_of(*SIZE, HALF)
    request = dataclasses.replace(
        REQUEST, sampler=OURS.get(sampler, sampler), init=inpaint(photo, mask, strength=strength)
    )
    painted = reference.run(
        "StableDiffusionInpaintPipeline",
        sampler,
        request,
        image=photo,
        mask_image=mask,
        strength=strength,
        width=SIZE[0],
        height=SIZE[1],
    )
    inside = np.asarray(mask) > 0
    ours = make(pipeline, request)
    assert psnr(ours[inside], np.asarray(painted)[inside]) >= EXACT_DB
    np.testing.assert_array_equal(ours[~inside], np.asarray(photo)[~inside])


def test_a_picture_from_nothing_is_one_that_is_all_masked(
    pipeline: Pipeline, reference: Reference
) -> None:
    """What the picture was does not count where nothing of it is left."""
    request = dataclasses.replace(REQUEST, sampler="DPM++ 2M")
    wanted = reference.run(
        "StableDiffusionInpaintPipeline",
        "DPM++ 2M",
        request,
        image=photo_of(*SIZE),
        mask_image=Image.new("L", SIZE, 255),
        strength=1.0,
        width=SIZE[0],
        height=SIZE[1],
    )
    assert psnr(make(pipeline, request), np.asarray(wanted)) >= EXACT_DB


def test_img2img_and_hires_fix_see_that_everything_is_masked(pipeline: Pipeline) -> None:
    """diffusers has no pipeline for these."""
    plain = dataclasses.replace(REQUEST, steps=4)
    changed = dataclasses.replace(plain, init=InitSettings(source_of(photo_of(*SIZE)), 0.5))
    assert make(pipeline, changed).shape == (SIZE[1], SIZE[0], 3)
    hires = HiresSettings(scale=1.2, steps=2)
    assert make(pipeline, dataclasses.replace(plain, hires=hires)).shape == (120, 144, 3)
