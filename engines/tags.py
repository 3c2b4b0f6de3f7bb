"""How a preset or a request says how many trained tags go into a prompt."""

import re

from engines.errors import SettingError

ALL = "all"
NONE = "none"


def read_tag_count(text: str) -> int | None:
    """How many tags `all`, `none` or a number means; None for all of them.

    Raises:
        SettingError: it is none of these.
    """
    if text == ALL:
        return None
    if text == NONE:
        return 0
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise SettingError(f"The tags {text!r} are not possible: choose all, none or a number.")
    return int(text)
