"""Judges and reward functions for the tests of the worker pool; workers import this module by its name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from scope_rlvr.core.types import Problem


def make_misbehaving(**options: Any) -> Callable[..., tuple[str, str]]:
    """A judge that does what the question says."""

    def judge(do: str) -> tuple[str, str]:
        match do:
            case "answer":
                return "right", f"pid {os.getpid()} {options.get('word', '')}".strip()
            case "print":
                print("between the answers?")
                return "right", "printed"
            case "sleep":
                time.sleep(600)
            case "compute":
                return "right", str(len(str(9**9**8)))
            case "hold memory":
                held = []
                while True:
                    held.append(b"1" * (32 << 20))
                    time.sleep(0.001)
            case "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "leave":
                os._exit(3)
            case "raise":
                raise LookupError("nothing here")
            case "recurse":
                return judge("recurse")
            case "start another":
                child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
                open(options["file"], "w").write(str(child.pid))  # noqa: SIM115
                time.sleep(600)
            case "ignore the end":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(600)
        raise AssertionError(do)

    return judge


def make_nothing() -> None:
    raise RuntimeError("no judge today")


def ends_in_seven(problem: Problem, response: str) -> bool | None:
    return None if "?" in response else response.endswith(problem.reference)


def says_maybe(problem: Problem, response: str) -> str:
    return "maybe"


def never_returns(problem: Problem, response: str) -> bool:
    time.sleep(600)
    return True


def last_line_is_right(problem: Problem, response: str) -> bool | None:
    """As the embedded family wants it; a response whose last number is 4 cannot be judged."""
    last = response.strip().splitlines()[-1:] or [""]
    return None if last[0].endswith("4") else last[0] == f"answer {problem.reference}"
