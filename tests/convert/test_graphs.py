"""Every exported graph against diffusers and transformers, which load the model themselves."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from convert.model import canonical_name
from engines import layout
from engines.backend import choose_backend
from engines.bundle import Bundle, open_bundle
from engines.session import Session
from engines.weight_map import read_weight_map

Array = NDArray[Any]
DTYPES = ("fp32", "fp16")
COMPONENTS = list(layout.COMPONENTS)

RELATIVE_TOLERANCE = {"fp32": 4e-5, "fp16": 4e-3}
"""Of the output's largest magnitude. Measured: 1.2e-5 and 1.8e-3; a fault costs above 1e-1."""

# Latent sizes that are multiples of 8, of 2 and of nothing, and both ends of the range.
SIZES = ((1, 8, 8, 77), (2, 9, 13, 154), (3, 16, 16, 77), (1, 33, 18, 231), (2, 1, 2, 77))
SOURCES = {
    layout.TEXT_ENCODER: ("text_encoder", "model.safetensors"),
    layout.UNET: ("unet", "diffusion_pytorch_model.safetensors"),
    layout.VAE_ENCODER: ("vae", "diffusion_pytorch_model.safetensors"),
    layout.VAE_DECODER: ("vae", "diffusion_pytorch_model.safetensors"),
}
VAE_PARTS = {
    layout.VAE_ENCODER: ("encoder.", "quant_conv."),
    layout.VAE_DECODER: ("decoder.", "post_quant_conv."),
}


@pytest.fixture(scope="module")
def pipeline(fused_demo: Path) -> Any:
    """diffusers' own pipeline on the fused model, in float32."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(fused_demo).to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module", params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def bundle(dtype: str, request: pytest.FixtureRequest) -> Bundle:
    path = request.getfixturevalue("demo_bundle" if dtype == "fp16" else "demo_bundle_fp32")
    return open_bundle(path)


def open_cpu(bundle: Bundle, component: str) -> Session:
    return choose_backend("cpu", bundle).backend.open_session(bundle, component)


def feed(session: Session, **tensors: torch.Tensor) -> dict[str, Array]:
    """Run a session on tensors, cast to what the graph takes."""
    dtypes = {tensor.name: tensor.dtype for tensor in session.inputs}
    feeds = {name: value.numpy().astype(dtypes[name]) for name, value in tensors.items()}
    return {name: value.copy() for name, value in session.run(feeds).items()}


def assert_close(found: Array, expected: torch.Tensor, dtype: str) -> None:
    reference = expected.numpy()
    assert found.shape == reference.shape
    error = np.abs(found.astype(np.float64) - reference).max() / np.abs(reference).max()
    assert error < RELATIVE_TOLERANCE[dtype]


@pytest.mark.parametrize("component", COMPONENTS)
def test_graph_is_valid(bundle: Bundle, component: str) -> None:
    onnx.checker.check_model(bundle.graph(component), full_check=True)
    assert (
        onnx.load(bundle.graph(component), load_external_data=False).opset_import[0].version == 18
    )


def test_text_encoder_is_the_pipelines(bundle: Bundle, dtype: str, pipeline: Any) -> None:
    encoder = pipeline.text_encoder
    # What diffusers does for clip_skip=1, which its 0.42 cannot with transformers 5.
    final_layer_norm = getattr(encoder, "text_model", encoder).final_layer_norm
    prompts = ["", "cracked skin, portrait of a woman", "glowing cracked skin, " * 20]
    with open_cpu(bundle, layout.TEXT_ENCODER) as session:
        for batch in (prompts[:1], prompts):
            ids = pipeline.tokenizer(
                batch, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
            ).input_ids
            with torch.no_grad():
                expected, _ = pipeline.encode_prompt(batch, "cpu", 1, False)
                states = encoder(ids, output_hidden_states=True).hidden_states
                penultimate = final_layer_norm(states[-2])
            found = feed(session, input_ids=ids)
            assert_close(found[layout.LAST_HIDDEN_STATE], expected, dtype)
            assert_close(found[layout.PENULTIMATE_HIDDEN_STATE], penultimate, dtype)


def test_unet_is_the_pipelines_at_any_size(bundle: Bundle, dtype: str, pipeline: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    with open_cpu(bundle, layout.UNET) as session:
        for batch, height, width, tokens in SIZES:
            sample = torch.randn(batch, 4, height, width, generator=generator)
            timestep = torch.linspace(1, 999, batch)
            embeddings = torch.randn(batch, tokens, 96, generator=generator)
            with torch.no_grad():
                expected = pipeline.unet(sample, timestep, embeddings).sample
            found = feed(
                session, sample=sample, timestep=timestep, encoder_hidden_states=embeddings
            )
            assert_close(found[layout.OUT_SAMPLE], expected, dtype)


def test_vae_decoder_is_the_pipelines_at_any_size(
    bundle: Bundle, dtype: str, pipeline: Any
) -> None:
    generator = torch.Generator().manual_seed(2)
    with open_cpu(bundle, layout.VAE_DECODER) as session:
        for batch, height, width, _ in SIZES:
            latents = torch.randn(batch, 4, height, width, generator=generator) * 5
            with torch.no_grad():
                expected = pipeline.vae.decode(latents).sample
            assert_close(feed(session, latent_sample=latents)[layout.SAMPLE], expected, dtype)


def test_vae_encoder_is_the_pipelines_at_any_size(
    bundle: Bundle, dtype: str, pipeline: Any
) -> None:
    generator = torch.Generator().manual_seed(3)
    with open_cpu(bundle, layout.VAE_ENCODER) as session:
        for batch, height, width, _ in SIZES:
            picture = torch.rand(batch, 3, height * 8, width * 8, generator=generator) * 2 - 1
            with torch.no_grad():
                expected = pipeline.vae.encode(picture).latent_dist.parameters
            assert_close(feed(session, sample=picture)[layout.LATENT_PARAMETERS], expected, dtype)


@pytest.mark.parametrize("component", COMPONENTS)
def test_tensors_are_the_layouts(bundle: Bundle, dtype: str, component: str) -> None:
    graph = onnx.load(bundle.graph(component), load_external_data=False).graph
    spec, expected = bundle.component(component), layout.COMPONENTS[component]
    for values, tensors, axes in (
        (graph.input, spec.inputs, expected.inputs),
        (graph.output, spec.outputs, expected.outputs),
    ):
        assert [value.name for value in values] == [tensor.name for tensor in tensors] == list(axes)
        for value, tensor, named in zip(values, tensors, axes.values(), strict=True):
            found = [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
            assert found == list(tensor.shape)
            assert all(
                isinstance(size, int) if name is None else size == name
                for size, name in zip(tensor.shape, named, strict=True)
            )
    floats = "float16" if dtype == "fp16" else "float32"
    dtypes = {tensor.name: tensor.dtype for tensor in (*spec.inputs, *spec.outputs)}
    special = {layout.INPUT_IDS: "int64", layout.TIMESTEP: "float32"}
    assert dtypes == {name: special.get(name, floats) for name in dtypes}


@pytest.mark.parametrize("component", COMPONENTS)
def test_weights_keep_their_names_and_values(
    bundle: Bundle, dtype: str, component: str, fused_demo: Path
) -> None:
    """Whoever refits a plan finds each weight by the name that it has in the fused model."""
    folder, file = SOURCES[component]
    stored = load_file(fused_demo / folder / file)
    parts = VAE_PARTS.get(component, ("",))
    expected = {
        str(canonical_name(folder, name)): value
        for name, value in stored.items()
        if name.startswith(parts)
    }
    graph = onnx.load(bundle.graph(component)).graph
    found = {value.name: onnx.numpy_helper.to_array(value) for value in graph.initializer}
    weight_map = read_weight_map(bundle.path / layout.weight_map_file(component))
    assert weight_map.file == f"{folder}/{file}"
    assert weight_map.weights.keys() == expected.keys()
    assert {*weight_map.weights, *weight_map.constants} == found.keys()
    assert len(graph.initializer) == len(weight_map.weights) + len(weight_map.constants)
    # Positions, the causal mask, frequencies: no weight is among the constants.
    assert sum(found[name].size for name in weight_map.constants) < 8000
    floats = np.float16 if dtype == "fp16" else np.float32
    for name, source in weight_map.weights.items():
        assert source.tensor == name
        value, array = expected[name].astype(floats), found[name]
        assert array.dtype == floats
        # A linear layer's weight is transposed for MatMul, a norm's gets axes to be multiplied.
        is_transposed = value.ndim == 2 and source.order == (1, 0)
        arranged = value.T if is_transposed else value.reshape(array.shape)
        np.testing.assert_array_equal(array, arranged, name)
        np.testing.assert_array_equal(array, source.arrange(value), name)


@pytest.mark.parametrize("component", COMPONENTS)
def test_graph_says_nothing_of_the_machine_that_made_it(bundle: Bundle, component: str) -> None:
    content = bundle.graph(component).read_bytes()
    for trace in (b"site-packages", b".py", b"/home/", b"pkg.torch"):
        assert trace not in content
