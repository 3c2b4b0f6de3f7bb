"""A fixed choice of inputs for every parser, and files of every malice that came to mind."""

import subprocess
import sys
import textwrap

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.files import HOSTILE
from tests.fuzz.properties import (
    PROPERTIES,
    check_lora_file,
    check_manifest,
    check_metadata,
    check_peft_config,
    check_prompt,
    check_recipe,
    check_tensor_file,
)

EXAMPLES = {"lora": 150, "tensors": 300}
MEMORY = 256 << 20
"""What a hostile file may take: 16 times the longest header that is read."""


@pytest.mark.parametrize("name", PROPERTIES)
def test_any_input_gives_a_result_or_the_users_error(name: str) -> None:
    choice = settings(
        max_examples=EXAMPLES.get(name, 100),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    choice(given(PROPERTIES[name].inputs)(PROPERTIES[name].check))()


@pytest.mark.parametrize("fault", HOSTILE)
def test_hostile_file(fault: str) -> None:
    content = HOSTILE[fault]()
    check_tensor_file(content)
    check_lora_file(content)


LONG = 100_000
ENDLESS = ("(", "[", ")", "]", ":1", ":", " ", "a", "1", "\\", "BREAK", "a:", '"', "\n", "<lora:")


@pytest.mark.parametrize("start", ["", "[" * 90, 'a:"'], ids=lambda text: text[:3])
@pytest.mark.parametrize("unit", ENDLESS)
def test_endless_text(unit: str, start: str) -> None:
    text = start + unit * (LONG // len(unit))
    check_prompt(text)
    check_metadata(text)


@pytest.mark.parametrize("unit", ["[", '{"a":', "[[", '"', "9", "a=[", "a={b=", "[a."])
def test_endless_record(unit: str) -> None:
    text = unit * (LONG // len(unit))
    check_manifest(text.encode())
    check_manifest(('{"revision":1,"files":' + text).encode())
    check_peft_config(text)
    check_recipe(text)


def test_large_files_take_little_memory_and_time() -> None:
    """All of them, one after the other, in a process that gets no more."""
    program = textwrap.dedent(
        f"""
        import resource
        from tests.fuzz.files import LARGE
        from tests.fuzz.inputs import base
        from tests.fuzz.properties import check_lora_file

        base()
        contents = {{fault: make() for fault, make in LARGE.items()}}
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + {MEMORY},) * 2)
        for fault, content in contents.items():
            try:
                check_lora_file(content)
            except BaseException as error:
                raise SystemExit(f"{{fault}}: {{error!r}}") from None
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
