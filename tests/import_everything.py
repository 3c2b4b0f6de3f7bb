"""Import every module of `engines` and `runtime` and print how many there are."""

import importlib
import pkgutil


def main() -> None:
    """Import them one after the other; any that needs what is not there fails."""
    names = []
    for package in ("engines", "runtime"):
        module = importlib.import_module(package)
        names += [found.name for found in pkgutil.walk_packages(module.__path__, f"{package}.")]
    for name in names:
        if not name.endswith("__main__"):
            importlib.import_module(name)
    print(len(names))  # noqa: T201 - what the test reads


if __name__ == "__main__":
    main()
