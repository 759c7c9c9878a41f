"""One run of a study in a process of its own: ``scope`` as ever, except that it ends when the study's process does.

The study holds the other end of this process's standard input and never writes to it. When the study is gone, however it went,
the system closes that end; nothing then writes into a run folder that a new study may already be going on with.
"""

from __future__ import annotations

import os
import threading

from scope_rlvr.core.errors import ExitCode


def _end_with_the_study() -> None:
    while os.read(0, 1):
        pass
    os._exit(ExitCode.INTERRUPTED)


def main() -> None:
    """``python -m scope_rlvr.cli.study_worker train ...``"""
    threading.Thread(target=_end_with_the_study, daemon=True).start()
    from scope_rlvr.cli.main import main as scope

    scope()


if __name__ == "__main__":
    main()
