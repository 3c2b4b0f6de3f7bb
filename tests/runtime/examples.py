"""A picture's settings, origin and pixels, and prompts that are hard to write into files."""

import numpy as np

from runtime.metadata import Origin
from runtime.request import Settings

SETTINGS = Settings(
    "cracked skin, a (cat:1.2)", "blurry", 42, 20, 7.0, "DPM++ 2M", "karras", 512, 768, 1
)
ORIGIN = Origin("cracked-skin", "0123456789abcdef" * 4, "cpu")
PROMPTS = [
    "a cat",
    "",
    "line one\nline two, with commas\n\nand: colons",
    "Steps: 3, Sampler: none, Size: 1x1",
    'with "quotes" and \\ backslash',
    "café 中文 🙂",
    "a, b,",
]
SMOOTH = np.linspace(0, 255, 96 * 64 * 3).reshape(64, 96, 3).astype(np.uint8)
