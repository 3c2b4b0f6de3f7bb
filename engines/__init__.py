"""The seam between the converter and the runtime: the bundle's layout and the engine sessions."""

__version__ = "0.1.0"
