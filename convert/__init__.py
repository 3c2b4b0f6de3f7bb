"""The offline half: fuse LoRAs into Stable Diffusion 1.5 and turn it into a bundle."""
