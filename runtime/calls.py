"""Work that calls engines one call at a time, so that others may use them in between.

Such work is a generator. Before each call of an engine it yields the component that it is about to
call; whoever goes on with it has that call made, and what follows up to the next one. What it
returns is the result. Work that is not wanted any more is closed between two calls.
"""

from collections.abc import Generator
from typing import TypeVar

Result = TypeVar("Result")

Calls = Generator[str, None, Result]
"""Work that yields a component of `engines.layout` before each call, and returns a result."""


def complete(calls: Calls[Result]) -> Result:
    """Make all calls of some work one after the other, and return its result."""
    while True:
        try:
            next(calls)
        except StopIteration as end:
            result: Result = end.value
            return result
