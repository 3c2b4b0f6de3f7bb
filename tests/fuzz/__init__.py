"""Parsers on input that no program writes: `python -m tests.fuzz --help`."""
