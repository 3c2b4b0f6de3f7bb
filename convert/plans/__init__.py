"""Building TensorRT plans from a bundle, with `tensorrt` or `tensorrt_rtx`."""
