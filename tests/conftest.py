"""What all tests share."""

from __future__ import annotations

import gc
import os
import signal

# What the tests import stays to the end, and would be looked through again and again while it is imported.
gc.disable()

# No test asks the Hub, and none waits until it does not answer.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A suite that was started in the background ignores Ctrl-C, and so would every program that it starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
