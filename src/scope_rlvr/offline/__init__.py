"""Saved rollouts of any origin: read, salvaged without training, and written as data sets."""
