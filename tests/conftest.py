"""What all tests share."""

from __future__ import annotations

import signal

# A suite that was started in the background ignores Ctrl-C, and so would every program that it starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
