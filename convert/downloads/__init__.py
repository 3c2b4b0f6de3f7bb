"""Weights from the web: one file by its URL, into a cache, checked before it is trusted."""
