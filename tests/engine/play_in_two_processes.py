"""Starts what test_processes has two processes do; a module of its own, because the imports take longer than the acts."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from scope_rlvr.core.lazy import quick_imports
from scope_rlvr.core.processes import ProcessFailed

with quick_imports():
    from tests.engine.in_two_processes import main

if __name__ == "__main__":
    with suppress(ProcessFailed):
        main(Path(sys.argv[1]))
