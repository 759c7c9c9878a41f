"""Benchmarks on this machine, where there are any: the folder that SCOPE_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def benchmark_file(name: str) -> Path:
    """The file of this name; the test is skipped where it is not there."""
    file = Path(os.environ.get("SCOPE_DATA", "nowhere")) / name
    if not file.is_file():
        pytest.skip(f"no {name} in the folder that SCOPE_DATA names")
    return file
