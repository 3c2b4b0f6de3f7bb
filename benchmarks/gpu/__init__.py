"""This package's runtime and its peers on one GPU: see `__main__`."""
