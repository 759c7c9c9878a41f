"""What all tests share."""

from __future__ import annotations

import os
import signal

# No test asks the Hub, and none waits until it does not answer.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A suite that was started in the background ignores Ctrl-C, and so would every program that it starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
