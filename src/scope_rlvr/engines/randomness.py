"""The random numbers that everybody in a process shares."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import torch


@contextmanager
def same_random_numbers_after() -> Iterator[None]:
    """What is drawn after the block is what would have been drawn without it.

    >>> _ = torch.manual_seed(0)
    >>> with same_random_numbers_after():
    ...     before = torch.rand(1)
    >>> bool(torch.rand(1) == before)
    True
    """
    of_python, of_numpy = random.getstate(), numpy.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(of_python)
        numpy.random.set_state(of_numpy)
