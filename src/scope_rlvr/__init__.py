"""Reinforcement learning from verifiable rewards that recycles failed rollouts."""

__version__ = "0.1.0"
