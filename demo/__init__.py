"""The demo model: a small trained portrait model with two LoRAs, and what made and measures it."""
