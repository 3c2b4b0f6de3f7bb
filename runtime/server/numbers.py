"""Numbers in requests."""

from typing import Annotated

from pydantic import Field

from runtime.seeds import MAX_SEED

Whole = Annotated[int, Field(ge=-MAX_SEED, le=MAX_SEED)]
"""A whole number that a float can hold about; what it may be is checked where it counts."""
