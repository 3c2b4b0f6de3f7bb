"""One module per command of `runtime`."""
