"""When to stop asking: a server that keeps failing, and a budget that is spent."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from scope_rlvr.core.errors import UserError
from scope_rlvr.store.files import write_text

_SCHEMA = 1


@dataclass(slots=True)
class CircuitBreaker:
    """Leaves a failing server alone for a while.

    After ``pause_after`` failures in a row nothing is asked for ``pause_seconds``; then one request at a time tries whether
    the server is back. A failure counts where the server has answered nobody since its request was asked: of requests under
    way together, those that hang end last, and are no sign of a server that is down. Times are seconds on any clock that
    does not go back.

    >>> breaker = CircuitBreaker(pause_after=2, pause_seconds=30)
    >>> breaker.failed(0.0, "HTTP 500", asked_at=0.0); breaker.failed(1.0, "HTTP 503", asked_at=0.5)
    >>> breaker.allows(at=2.0), breaker.allows(at=31.0), breaker.allows(at=31.1)
    (False, True, False)
    >>> breaker.cause
    'HTTP 503'
    >>> breaker.succeeded(at=31.2); breaker.allows(at=31.2)
    True
    """

    pause_after: int
    pause_seconds: float
    num_failures: int = 0
    cause: str = ""
    """What the latest failure said."""
    closed_until: float | None = None
    answered_at: float = -math.inf

    def allows(self, at: float) -> bool:
        """Whether to ask now. After a pause, saying yes starts the next one, so that no other request is sent."""
        if self.closed_until is None:
            return True
        if at < self.closed_until:
            return False
        self.closed_until = at + self.pause_seconds
        return True

    def failed(self, at: float, cause: str, *, asked_at: float) -> None:
        if asked_at < self.answered_at:
            return
        self.num_failures, self.cause = self.num_failures + 1, cause
        if self.num_failures >= self.pause_after:
            self.closed_until = at + self.pause_seconds

    def succeeded(self, at: float) -> None:
        self.num_failures, self.cause, self.closed_until, self.answered_at = 0, "", None, at


@dataclass(slots=True)
class Budget:
    """Tokens and money that a run may spend. Prices are for a million tokens; ``None`` is without limit.

    What a request may cost at most is set aside before it is sent, so that requests under way together do not overspend.
    With a ``record``, a file, the budget outlives its process: the file says what is spent and what is set aside before the
    request goes out, and the next process counts both as spent. After a kill that is at most what the requests under way
    could have cost.

    >>> budget = Budget(max_tokens=100)
    >>> budget.set_aside(30, 40), budget.set_aside(30, 40)
    (True, False)
    >>> budget.settle(30, 40, num_prompt_tokens=30, num_reply_tokens=5)
    >>> budget.num_tokens, budget.set_aside(25, 40)
    (35, True)
    """

    max_tokens: int | None = None
    max_money: float | None = None
    prompt_price: float = 0.0
    reply_price: float = 0.0
    num_tokens: int = 0
    money: float = 0.0
    record: Path | None = None
    _tokens_aside: int = 0
    _money_aside: float = 0.0

    def __post_init__(self) -> None:
        if self.record is not None and self.record.is_file():
            tokens, money = _recorded(self.record)
            self.num_tokens, self.money = max(self.num_tokens, tokens), max(self.money, money)

    def price(self, num_prompt_tokens: int, num_reply_tokens: int) -> float:
        """What so many tokens cost.

        >>> Budget(prompt_price=2.0, reply_price=8.0).price(1000, 500)
        0.006
        """
        return (num_prompt_tokens * self.prompt_price + num_reply_tokens * self.reply_price) / 1e6

    def set_aside(self, num_prompt_tokens: int, num_reply_tokens: int) -> bool:
        """Reserve the most that a request may cost; ``False`` where it may go beyond the budget."""
        tokens, money = num_prompt_tokens + num_reply_tokens, self.price(num_prompt_tokens, num_reply_tokens)
        has_tokens = self.max_tokens is None or self.num_tokens + self._tokens_aside + tokens <= self.max_tokens
        has_money = self.max_money is None or self.money + self._money_aside + money <= self.max_money
        if has_tokens and has_money:
            self._tokens_aside += tokens
            self._money_aside += money
            self._write()
        return has_tokens and has_money

    def settle(
        self, prompt_aside: int, reply_aside: int, *, num_prompt_tokens: int = 0, num_reply_tokens: int = 0
    ) -> None:
        """Book what was really spent in the place of what was set aside."""
        self._tokens_aside -= prompt_aside + reply_aside
        self._money_aside -= self.price(prompt_aside, reply_aside)
        self.num_tokens += num_prompt_tokens + num_reply_tokens
        self.money += self.price(num_prompt_tokens, num_reply_tokens)
        self._write()

    def _write(self) -> None:
        # Moved into its place whole: a killed process leaves the old record or the new one. No wait for the disk: the record
        # is to survive the process, and a machine that loses power loses more than this.
        if self.record is not None:
            spent = {"tokens": self.num_tokens, "money": self.money}
            aside = {"tokens_under_way": self._tokens_aside, "money_under_way": self._money_aside}
            write_text(self.record, json.dumps({"schema": _SCHEMA} | spent | aside) + "\n", sync=False)


def _recorded(record: Path) -> tuple[int, float]:
    """Tokens and money that a record counts as spent."""
    try:
        known = json.loads(record.read_bytes())
        if known["schema"] != _SCHEMA:
            raise ValueError(f"schema {known['schema']}, and {_SCHEMA} is known here")
        return int(known["tokens"] + known["tokens_under_way"]), float(known["money"] + known["money_under_way"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{record} does not say what the run has spent on a server ({error!r}); restore it, or delete it to begin at zero"
        ) from error
