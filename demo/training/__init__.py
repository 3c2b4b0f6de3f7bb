"""Trains the demo model and its LoRAs from nothing: `python -m demo.training`."""
