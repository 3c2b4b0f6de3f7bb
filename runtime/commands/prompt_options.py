"""What is asked for in words: the prompts and what is put around them."""

import argparse


def add_prompt_arguments(parser: argparse.ArgumentParser, *, nargs: str) -> None:
    """Declare the prompts, as many as `nargs` says, and the preset, tags, negative, clip skip."""
    parser.add_argument(
        "prompts",
        nargs=nargs,
        metavar="PROMPT",
        help="in the webui's grammar: (more), [less], (so much:1.3), BREAK, [from:to:0.5], [a|b], "
        "AND (docs/prompts.md)",
    )
    parser.add_argument("--preset", metavar="NAME", help="one of the bundle's presets, or none")
    parser.add_argument(
        "--tags",
        metavar="all|N|none",
        help="put the trained tags of the bundle's first LoRA into the prompt, all of them or the "
        "N most frequent (default: as the preset says)",
    )
    parser.add_argument("--negative", metavar="TEXT", help="what the picture should not show")
    parser.add_argument(
        "--clip-skip", type=int, metavar="N", help="1 (default) or 2, as in the webui"
    )
