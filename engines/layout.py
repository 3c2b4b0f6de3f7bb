"""What a bundle looks like on disk: names of files, components and tensors, declared once.

The converter writes by these names and the runtime reads by them. Tensor names are those of
diffusers and optimum, so that other programs can open the graphs too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

REVISION = 1
"""The layout's revision; a reader refuses every other."""

BUNDLE_FILE = "bundle.json"
FUSE_FILE = "fuse.json"
MODEL_INDEX_FILE = "model_index.json"
SCHEDULER_FILE = "scheduler/scheduler_config.json"
TOKENIZER_FILE = "tokenizer/tokenizer.json"
TOKENIZER_DIRECTORY = "tokenizer"
ENGINES_DIRECTORY = "engines"
EMBEDDINGS_DIRECTORY = "embeddings"
PLANS_FILE = "plans.json"
PLANS_REVISION = 1
"""The revision of plans.json, which is built anew where this changes."""

TEXT_ENCODER = "text_encoder"
UNET = "unet"
VAE_ENCODER = "vae_encoder"
VAE_DECODER = "vae_decoder"

GRAPH_FILE = "model.onnx"
GRAPH_DATA_FILE = "model.onnx_data"
OPENVINO_GRAPH_FILE = "openvino.onnx"
"""A graph as OpenVINO runs it fastest on AMX; it shares the data of `GRAPH_FILE`."""

WEIGHT_MAP_FILE = "weights.json"

CHUNK_TOKENS = 77
"""Tokens in one chunk of prompt, its start and end tokens included."""

INPUT_IDS = "input_ids"
LAST_HIDDEN_STATE = "last_hidden_state"
PENULTIMATE_HIDDEN_STATE = "penultimate_hidden_state"
SAMPLE = "sample"
TIMESTEP = "timestep"
ENCODER_HIDDEN_STATES = "encoder_hidden_states"
OUT_SAMPLE = "out_sample"
LATENT_SAMPLE = "latent_sample"
LATENT_PARAMETERS = "latent_parameters"


@dataclass(frozen=True)
class ComponentLayout:
    """The tensors of one component: for each name, its axes.

    An axis named here is dynamic; `None` stands for a size that the model fixes (channels,
    embedding width) or, for `CHUNK_TOKENS`, the number itself.
    """

    inputs: dict[str, tuple[str | int | None, ...]]
    outputs: dict[str, tuple[str | int | None, ...]]


COMPONENTS: dict[str, ComponentLayout] = {
    TEXT_ENCODER: ComponentLayout(
        inputs={INPUT_IDS: ("batch", CHUNK_TOKENS)},
        outputs={
            LAST_HIDDEN_STATE: ("batch", CHUNK_TOKENS, None),
            PENULTIMATE_HIDDEN_STATE: ("batch", CHUNK_TOKENS, None),
        },
    ),
    UNET: ComponentLayout(
        inputs={
            SAMPLE: ("batch", None, "height", "width"),
            TIMESTEP: ("batch",),
            ENCODER_HIDDEN_STATES: ("batch", "tokens", None),
        },
        outputs={OUT_SAMPLE: ("batch", None, "height", "width")},
    ),
    VAE_ENCODER: ComponentLayout(
        inputs={SAMPLE: ("batch", 3, "picture_height", "picture_width")},
        outputs={LATENT_PARAMETERS: ("batch", None, "height", "width")},
    ),
    VAE_DECODER: ComponentLayout(
        inputs={LATENT_SAMPLE: ("batch", None, "height", "width")},
        outputs={SAMPLE: ("batch", 3, "picture_height", "picture_width")},
    ),
}
"""The four components, in the order in which a picture passes them (the encoder before the UNet).

`penultimate_hidden_state` is the last but one layer's output after the final layer norm: what
clip skip 2 means in AUTOMATIC1111's webui, and `clip_skip=1` in diffusers.
`latent_parameters` are the mean and log-variance of the latents, stacked along the channels.
`latent_sample` is in the VAE's own scale: latents divided by the scaling factor.
"""


def graph_file(component: str) -> str:
    """The path of a component's ONNX graph inside the bundle."""
    return f"{component}/{GRAPH_FILE}"


def openvino_graph_file(component: str) -> str:
    """The path inside the bundle of a component's graph as OpenVINO runs it fastest."""
    return f"{component}/{OPENVINO_GRAPH_FILE}"


def weight_map_file(component: str) -> str:
    """The path inside the bundle of what says where a graph's weights come from."""
    return f"{component}/{WEIGHT_MAP_FILE}"


def plan_file(component: str) -> str:
    """The name of a component's plan in its set's directory."""
    return f"{component}.plan"


def embedding_file(name: str) -> str:
    """The path inside the bundle of a textual-inversion embedding's vectors."""
    return f"{EMBEDDINGS_DIRECTORY}/{name}.safetensors"


def engine_directory(backend: str, targets: Sequence[str]) -> str:
    """The path inside the bundle of the plans for one backend and one or more architectures."""
    return f"{ENGINES_DIRECTORY}/{'-'.join([backend, *targets])}"
