"""What is tried first where there is a GPU; the checks themselves run on the CPU everywhere."""
