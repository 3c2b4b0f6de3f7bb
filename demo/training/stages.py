"""The stages in their order: what each one makes, and from what."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from demo.training.adapter import RECIPES, train_adapter
from demo.training.dataset import make_sets
from demo.training.decoder import tune_decoder
from demo.training.pack import pack
from demo.training.settings import Settings
from demo.training.sheet import draw_sheet
from demo.training.text import reuse_text, train_text
from demo.training.unet import train_unet
from demo.training.vae import encode_sets, train_vae

PROCESSES = 2


@dataclass(frozen=True)
class Stage:
    """One step of the way; it is done when `output` exists."""

    name: str
    output: Path
    action: Callable[[], None]


def list_stages(work: Path, settings: Settings, start: Path | None) -> list[Stage]:
    """All stages; `work/packed` is what they come to. `start` is a pipeline to go on from."""
    data, vae, latents, text = (work / n for n in ("data", "vae", "latents", "text"))
    base, decoder, packed = (work / n for n in ("base", "decoder", "packed"))
    adapters = {kind: work / "loras" / recipe.file for kind, recipe in RECIPES.items()}
    trained = ("vae", "text", "unet", "decoder", *adapters)
    saved = {name: work / "checkpoints" / f"{name}.pt" for name in trained}
    begin_vae, begin_unet = (start / "vae", start / "unet") if start else (None, None)
    make_text = (
        partial(reuse_text, start, text)
        if start
        else partial(train_text, data, text, settings.text, saved["text"])
    )
    plans = {"cracked": settings.cracked, "offset": settings.offset}

    return [
        Stage("data", data, partial(make_sets, data, settings.pictures, PROCESSES)),
        Stage("vae", vae, partial(train_vae, data, vae, settings.vae, saved["vae"], begin_vae)),
        Stage("latents", latents, partial(encode_sets, vae, data, latents)),
        Stage("text", text, make_text),
        Stage(
            "unet",
            base,
            partial(train_unet, work, base, settings.unet, saved["unet"], begin_unet),
        ),
        *(
            Stage(
                kind,
                path,
                partial(
                    train_adapter,
                    work,
                    kind,
                    path,
                    plans[kind],
                    saved[kind],
                ),
            )
            for kind, path in adapters.items()
        ),
        Stage(
            "decoder",
            decoder,
            partial(tune_decoder, work, decoder, settings.decoder, saved["decoder"]),
        ),
        Stage(
            "pack",
            packed,
            partial(pack, base, decoder, text / "tokenizer", list(adapters.values()), packed),
        ),
        Stage(
            "sheet",
            packed / "grid.png",
            partial(draw_sheet, packed, packed / "grid.png", settings.sheet_steps),
        ),
    ]
