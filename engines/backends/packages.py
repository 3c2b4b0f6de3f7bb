"""Why an engine's package cannot be imported."""


def import_fault(error: ImportError, install: str) -> str:
    """What is wrong with a package, and what would change that.

    Args:
        error: what importing it raised.
        install: the command that installs it.
    """
    if isinstance(error, ModuleNotFoundError):
        return f"the package {error.name} is not installed; run: {install}"
    return f"a package is installed but does not load ({error}); repair it, perhaps by: {install}"
