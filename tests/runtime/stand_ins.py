"""A bundle and a backend without a model: fast, deterministic, and every input matters."""

import dataclasses
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from engines import layout
from engines.axes import Limits, fixed_limits
from engines.bundle import Bundle, open_bundle
from engines.manifest import (
    ComponentSpec,
    Defaults,
    FileEntry,
    Latents,
    Manifest,
    Preset,
    TensorSpec,
    write_manifest,
)
from engines.session import Array, Session

ROOT = Path(__file__).parents[2]
BASE = ROOT / "demo" / "base"
WIDTH = 8
_CHANNELS = {
    layout.TEXT_ENCODER: WIDTH,
    layout.UNET: 4,
    layout.VAE_ENCODER: 8,
    layout.VAE_DECODER: 4,
}


def _tensor(component: str, name: str, axes: tuple[str | int | None, ...]) -> TensorSpec:
    size = WIDTH if name == layout.ENCODER_HIDDEN_STATES else _CHANNELS[component]
    dtype = "int64" if name == layout.INPUT_IDS else "float32"
    return TensorSpec(name, dtype, tuple(size if axis is None else axis for axis in axes))


def component_specs() -> dict[str, ComponentSpec]:
    """The four components with the tensors that the layout declares, in float32."""
    return {
        component: ComponentSpec(
            graph=layout.graph_file(component),
            dtype="float32",
            inputs=tuple(_tensor(component, *tensor) for tensor in tensors.inputs.items()),
            outputs=tuple(_tensor(component, *tensor) for tensor in tensors.outputs.items()),
        )
        for component, tensors in layout.COMPONENTS.items()
    }


MANIFEST = Manifest(
    name="stand-in",
    identity="0123456789abcdef" * 4,
    tools={},
    latents=Latents(channels=4, downscale=8, scaling_factor=0.18215),
    components=component_specs(),
    files={},
    defaults=Defaults(steps=4, cfg=4.0, width=64, height=64, negative="blurry"),
    presets={
        "cracked": Preset(before="cracked skin, ", negative="smooth skin"),
        "glowing": Preset(before="glowing, ", after=", (dark skin:1.2)"),
    },
    provenance={"loras": [{"name": "Cracked Skin", "weight": 0.6}]},
)


def write_bundle(path: Path, manifest: Manifest = MANIFEST) -> Path:
    """Write a bundle whose graphs are empty files, with the demo model's tokenizer."""
    for name in (layout.SCHEDULER_FILE, layout.TOKENIZER_FILE):
        (path / name).parent.mkdir(parents=True)
        shutil.copy(BASE / name, path / name)
    for component in layout.COMPONENTS:
        graph = path / layout.graph_file(component)
        graph.parent.mkdir()
        graph.touch()
    files = {
        str(file.relative_to(path)): FileEntry(
            file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest()
        )
        for file in path.rglob("*")
        if file.is_file()
    }
    write_manifest(dataclasses.replace(manifest, files=files), path / layout.BUNDLE_FILE)
    return path


def open_stand_in(path: Path) -> Bundle:
    """Write a bundle to `path` and open it."""
    return open_bundle(write_bundle(path))


class StandInSession(Session):
    """Computes each component's outputs by a formula in which every input matters."""

    def __init__(self, component: str) -> None:
        super().__init__(MANIFEST.components[component])
        self.component = component
        self.batches: list[int] = []
        self.shapes: set[tuple[int, ...]] = set()
        self.closed = False
        self._bound: dict[str, Array] = {}

    def _execute(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        self._bound.update({name: array.copy() for name, array in feeds.items()})
        (first, *_) = self._bound.values()
        self.batches.append(len(first))
        self.shapes.add(first.shape[2:])
        match self.component:
            case layout.TEXT_ENCODER:
                return self._encode(self._bound[layout.INPUT_IDS])
            case layout.UNET:
                return self._predict(**self._bound)
            case layout.VAE_ENCODER:
                return self._encode_picture(self._bound[layout.SAMPLE])
            case _:
                return self._decode(self._bound[layout.LATENT_SAMPLE])

    def _encode(self, ids: Array) -> dict[str, Array]:
        place = np.arange(1, 1 + ids.shape[1], dtype=np.float32)[:, None]
        width = np.arange(1, 1 + WIDTH, dtype=np.float32)
        hidden = np.sin(ids[..., None].astype(np.float32) * width + place) + np.float32(0.25)
        return {
            layout.LAST_HIDDEN_STATE: hidden,
            layout.PENULTIMATE_HIDDEN_STATE: hidden * np.float32(0.5),
        }

    def _predict(
        self, sample: Array, timestep: Array, encoder_hidden_states: Array
    ) -> dict[str, Array]:
        text = encoder_hidden_states[:, :, :4].mean(axis=1)[:, :, None, None]
        noise = 0.8 * sample + 0.3 * np.tanh(text * 5) + (timestep / 5000)[:, None, None, None]
        return {layout.OUT_SAMPLE: noise.astype(np.float32)}

    def _decode(self, latents: Array) -> dict[str, Array]:
        channels = np.tanh(latents[:, :3] / 5)
        return {layout.SAMPLE: channels.repeat(8, axis=2).repeat(8, axis=3)}

    def _encode_picture(self, sample: Array) -> dict[str, Array]:
        entries, channels, height, width = sample.shape
        cells = sample.reshape(entries, channels, height // 8, 8, width // 8, 8).mean((3, 5))
        mean = np.concatenate([4 * cells, cells[:, :1]], axis=1)
        return {layout.LATENT_PARAMETERS: np.concatenate([mean, mean - 3], axis=1)}

    def close(self) -> None:
        self.closed = True


class StandInBackend:
    """Opens stand-ins and remembers them."""

    name = "stand-in"
    device = "formulas"
    max_batch = 4

    def __init__(self) -> None:
        self.sessions: dict[str, StandInSession] = {}

    def unavailable(self, bundle: Bundle) -> str | None:
        return None

    def limits(self, bundle: Bundle) -> Limits:
        return fixed_limits(bundle.manifest)

    def open_session(self, bundle: Bundle, component: str) -> Session:
        assert component not in self.sessions, "loaded twice"
        self.sessions[component] = StandInSession(component)
        return self.sessions[component]

    def unet_shapes(self) -> set[tuple[int, ...]]:
        """Heights and widths of the latents that the UNet saw."""
        return self.sessions[layout.UNET].shapes


class _FreshBackend:
    """What `--backend stand-in` finds: new stand-ins each time."""

    name = StandInBackend.name
    device = StandInBackend.device
    max_batch = StandInBackend.max_batch

    def unavailable(self, bundle: Bundle) -> str | None:
        return None

    def limits(self, bundle: Bundle) -> Limits:
        return fixed_limits(bundle.manifest)

    def open_session(self, bundle: Bundle, component: str) -> Session:
        return StandInSession(component)


BACKEND = _FreshBackend()


class Words:
    """A vocabulary in which every word and comma is one token, numbered as it comes."""

    start = -1
    end = -2
    padding = -3
    comma: int | None = 0

    def __init__(self) -> None:
        self.words = [","]

    def runs(self, text: str) -> list[tuple[int, ...]]:
        tokens = text.replace(",", " , ").split()
        self.words.extend(dict.fromkeys(word for word in tokens if word not in self.words))
        return [(self.words.index(word),) for word in tokens]
