"""A container file's instructions, as far as ours use the grammar."""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stage:
    """One stage: its base image, and its instructions in their order."""

    image: str
    instructions: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        return [value for instruction, value in self.instructions if instruction == name]

    def last(self, name: str) -> str:
        return self.all(name)[-1]

    def environment(self) -> dict[str, str]:
        pairs = [pair for value in self.all("ENV") for pair in shlex.split(value)]
        return dict(pair.split("=", 1) for pair in pairs)

    def health_check(self) -> list[str]:
        command = self.last("HEALTHCHECK").partition("CMD ")[2]
        words: list[str] = json.loads(command)
        return words


def read_stages(path: Path) -> list[Stage]:
    """The stages of a container file."""
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    stages: list[tuple[str, list[tuple[str, str]]]] = []
    for line in filter(None, text.splitlines()):
        name, _, value = line.partition(" ")
        if name == "FROM":
            stages.append((value.partition(" ")[0], []))
        else:
            stages[-1][1].append((name, value.strip()))
    return [Stage(image, tuple(instructions)) for image, instructions in stages]
