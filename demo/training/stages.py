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
from demo.training.text import train_text
from demo.training.unet import train_unet
from demo.training.vae import encode_sets, train_vae

PROCESSES = 2


@dataclass(frozen=True)
class Stage:
    """One step of the way; it is done when `output` exists."""

    name: str
    output: Path
    action: Callable[[], None]


def list_stages(work: Path, settings: Settings) -> list[Stage]:
    """All stages; `work/packed` is what they come to."""
    data, vae, latents, text = (work / n for n in ("data", "vae", "latents", "text"))
    base, decoder, packed = (work / n for n in ("base", "decoder", "packed"))
    saved = {n: work / "checkpoints" / f"{n}.pt" for n in ("vae", "text", "unet", "decoder")}
    adapters = {kind: work / "loras" / recipe.file for kind, recipe in RECIPES.items()}
    plans = {"cracked": settings.cracked, "offset": settings.offset}

    return [
        Stage("data", data, partial(make_sets, data, settings.pictures, PROCESSES)),
        Stage("vae", vae, partial(train_vae, data, vae, settings.vae, saved["vae"])),
        Stage("latents", latents, partial(encode_sets, vae, data, latents)),
        Stage("text", text, partial(train_text, data, text, settings.text, saved["text"])),
        Stage("unet", base, partial(train_unet, work, base, settings.unet, saved["unet"])),
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
                    work / "checkpoints" / f"{kind}.pt",
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
        Stage("sheet", packed / "grid.png", partial(draw_sheet, packed, packed / "grid.png")),
    ]
