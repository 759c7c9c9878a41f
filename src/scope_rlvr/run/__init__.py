"""A training run: its configuration, its folder, what is written there, and how it goes on after an interruption."""
