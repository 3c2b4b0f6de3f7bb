"""How much of everything: the run from nothing, one from trained weights, a smoke test."""

from dataclasses import dataclass

from demo.training.loop import Plan


@dataclass(frozen=True)
class Settings:
    """Pictures of each kind, a plan for each trained part, sampling steps of the sheet."""

    pictures: dict[str, int]
    vae: Plan
    text: Plan
    unet: Plan
    decoder: Plan
    cracked: Plan
    offset: Plan
    sheet_steps: int = 20


PICTURES = {"base": 7000, "lines": 1000, "cracked": 2400, "glow": 1500, "offset": 1000}

FULL = Settings(
    pictures=PICTURES,
    vae=Plan(5000, 5e-4, 16, flat=0.4, averaging=0.995, weight_decay=1e-4),
    text=Plan(1800, 1e-3, 64, flat=0.0, averaging=0.99),
    unet=Plan(6500, 6e-4, 16, warmup=100, flat=0.5),
    cracked=Plan(1000, 1.5e-3, 16, warmup=20, flat=0.5, averaging=0.99),
    offset=Plan(350, 1.5e-3, 16, warmup=20, flat=0.5, averaging=0.99),
    decoder=Plan(1500, 5e-4, 16, flat=0.3, averaging=0.995, weight_decay=1e-4),
)

FURTHER = Settings(
    pictures=PICTURES,
    vae=Plan(1800, 4e-4, 16, flat=0.4, averaging=0.995, weight_decay=1e-4),
    text=FULL.text,
    unet=Plan(800, 4e-4, 16, warmup=50, flat=0.5, averaging=0.998),
    cracked=Plan(680, 1.5e-3, 16, warmup=20, flat=0.5, averaging=0.98),
    offset=Plan(120, 1.5e-3, 16, warmup=20, flat=0.5, averaging=0.97),
    decoder=Plan(350, 5e-4, 16, flat=0.3, averaging=0.995, weight_decay=1e-4),
)

QUICK = Settings(
    pictures={"base": 100, "lines": 50, "cracked": 50, "glow": 50, "offset": 50},
    vae=Plan(6, 5e-4, 4),
    text=Plan(6, 1e-3, 16),
    unet=Plan(6, 6e-4, 4),
    decoder=Plan(4, 5e-4, 4),
    cracked=Plan(4, 1.5e-3, 4),
    offset=Plan(4, 1.5e-3, 4),
    sheet_steps=2,
)
