"""The package openvino without its conversion tools.

Where these are imported, as the package does by itself, they report it to Google Analytics without
asking. Nothing here needs them. So every module that uses the package takes it from here.
"""

import sys
import threading
from typing import Any, Final

_TOOLS: Final = "openvino.tools"
_IMPORTING: Final = threading.Lock()


def import_library() -> Any:
    """The package.

    Raises:
        ImportError: it is not installed, or does not load.
    """
    with _IMPORTING:
        blocked = "openvino" not in sys.modules and _TOOLS not in sys.modules
        if blocked:
            sys.modules[_TOOLS] = None  # type: ignore[assignment]  # how an import is made to fail
        try:
            import openvino
        finally:
            if blocked:
                del sys.modules[_TOOLS]
    return openvino
