"""A training run: its configuration, its problems, what it works with, how it trains, and how it goes on after an interruption."""
