"""Reading what a server sent: data from a stranger, bounded before it is parsed and checked before it is used."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from scope_rlvr.core.ports import Fault

MAX_COUNT = 10_000_000
"""The most tokens that a server is believed to have counted for one question."""

_MAX_DIGITS = 19
"""Digits of the largest integers that are used anywhere (64 bits)."""

_MAX_NUMBER_TEXT = 64
_MAX_WAIT_TEXT = 64
_ROUNDING = 1e-3
"""How far above 0 rounding may lift a log-probability."""

_STOP_REASONS = frozenset({"stop", "eos", "eos_token", "stop_sequence"})
_LONGEST_QUOTE = 80
_LONGEST_NAME = 200
_MOST_MODELS = 100


class BadReply(Exception):
    """A complete reply that is no answer; raised by the function that reads replies."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


def parsed(body: bytes) -> Any:
    """The JSON of a body; ``ValueError`` for anything else, and for numbers that no computer number holds.

    >>> parsed(b'{"usage": {"total": 12}}')
    {'usage': {'total': 12}}
    >>> parsed(b"[1" + b"0" * 400 + b"]")
    Traceback (most recent call last):
    ...
    ValueError: an integer of 401 digits
    """
    try:
        return json.loads(body, parse_int=_int, parse_float=_float, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _int(text: str) -> int:
    num_digits = len(text.removeprefix("-"))
    if num_digits > _MAX_DIGITS:
        raise ValueError(f"an integer of {num_digits} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text) if len(text) <= _MAX_NUMBER_TEXT else math.inf
    if not math.isfinite(value):
        raise ValueError(f"{text[:_MAX_NUMBER_TEXT]} is no number of 64 bits")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def count(value: Any, otherwise: int) -> int:
    """A count of tokens as a server gives it; ``otherwise`` where it is none, or cannot be true.

    >>> count(12, otherwise=5), count(-1, otherwise=5), count(True, otherwise=5), count(10**12, otherwise=5)
    (12, 5, 5, 5)
    """
    return value if type(value) is int and 0 <= value <= MAX_COUNT else otherwise


def retry_after(value: str | None, now: datetime | None = None) -> float:
    """Seconds that a ``Retry-After`` header asks to wait: a number, or a date; 0 where it says nothing of sense.

    >>> retry_after("2.5"), retry_after("soon"), retry_after("-1"), retry_after(None)
    (2.5, 0.0, 0.0, 0.0)
    >>> retry_after("Wed, 21 Oct 2015 07:28:00 GMT", now=datetime(2015, 10, 21, 7, 27, tzinfo=UTC))
    60.0
    """
    if value is None or len(value) > _MAX_WAIT_TEXT:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - (now or datetime.now(UTC))).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return seconds if seconds > 0 else 0.0


# --- completions and conversations ------------------------------------------------------------------------------------


def only_choice(reply: Any) -> dict[str, Any]:
    """The one choice of an OpenAI-style reply."""
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise BadReply(Fault.MALFORMED, "the reply has no list of choices")
    if len(choices) != 1:
        raise BadReply(Fault.MALFORMED, f"the reply has {len(choices)} choices, and one was asked for")
    return choices[0]


def is_cut_off(choice: dict[str, Any]) -> bool:
    """Whether its token budget ended a choice; :class:`BadReply` where something else than that or its end did.

    >>> is_cut_off({"finish_reason": "length"}), is_cut_off({"finish_reason": "stop"})
    (True, False)
    """
    ending = choice.get("finish_reason")
    if not isinstance(ending, str):
        raise BadReply(Fault.MALFORMED, "the reply's choice has no finish_reason")
    if ending != "length" and ending not in _STOP_REASONS:
        raise BadReply(Fault.REPORTED, f"the reply ended for the reason {quoted(ending)}, neither stop nor length")
    return ending == "length"


def object_in(value: dict[str, Any], key: str) -> dict[str, Any]:
    if not isinstance(value.get(key), dict):
        raise BadReply(Fault.MALFORMED, f"the reply's choice has no {key}")
    return value[key]


def text_of(value: dict[str, Any], key: str) -> str:
    """A text that can be encoded; a missing one is empty, since servers leave it out where a model wrote nothing."""
    text = value.get(key, "")
    text = "" if text is None else text
    if not isinstance(text, str) or re.search("[\ud800-\udfff]", text):
        raise BadReply(Fault.MALFORMED, f"the reply's {key} is no text")
    return text


def logprobs_in(values: Any, num_tokens: int, name: str) -> tuple[float, ...]:
    """``num_tokens`` log-probabilities; rounding above 0 is taken off.

    >>> logprobs_in([-0.5, 0.0004], 2, "token_logprobs")
    (-0.5, 0.0)
    """
    if not isinstance(values, list) or len(values) != num_tokens:
        raise BadReply(Fault.MALFORMED, f"{name} has not one number for each of {num_tokens} tokens")
    return tuple(logprob_in(value, name) for value in values)


def logprob_in(value: Any, name: str) -> float:
    """One log-probability: a finite number of at most 0, or a rounding error above."""
    is_number = type(value) is float or (type(value) is int and abs(value) < 10**_MAX_DIGITS)
    if not is_number or not math.isfinite(value) or value > _ROUNDING:
        raise BadReply(Fault.MALFORMED, f"{name} holds what is no log-probability: {quoted(value)}")
    return min(float(value), 0.0)


def ids_in(values: Any, num_ids: int, max_tokens: int, name: str) -> tuple[int, ...]:
    """At most ``max_tokens`` ids below ``num_ids``; the number is looked at first."""
    if isinstance(values, list) and len(values) > max_tokens:
        raise BadReply(Fault.MALFORMED, f"{name} are {len(values)} ids, and {max_tokens} were asked for at most")
    if not isinstance(values, list) or not all(type(i) is int and 0 <= i < num_ids for i in values):
        raise BadReply(Fault.MALFORMED, f"{name} are no list of ids below {num_ids}: another vocabulary")
    return tuple(values)


def require_own_prompt(reply: Any, choice: dict[str, Any], sent: list[int]) -> bool:
    """Whether a reply says that it read the prompt that was sent; :class:`BadReply` where it read another one.

    >>> require_own_prompt({}, {"prompt_token_ids": [5, 6]}, [5, 6]), require_own_prompt({}, {}, [5, 6])
    (True, False)
    """
    read = choice.get("prompt_token_ids") or reply.get("prompt_token_ids")
    if read is not None and read != sent:
        raise BadReply(Fault.MALFORMED, "the reply belongs to another prompt (its prompt_token_ids are not those sent)")
    return read is not None


def without_thoughts(content: str) -> str:
    """What a chat model said after it had thought; :class:`BadReply` where its budget ended while it thought.

    >>> without_thoughts("<think>hm</think>So it is 4.")
    'So it is 4.'
    """
    if "</think>" not in content and content.lstrip().startswith("<think>"):
        raise BadReply(Fault.EMPTY, "the server's model only thought, and wrote nothing; give it more tokens")
    return content.rpartition("</think>")[2]


def served_models(listed: Any) -> dict[str, dict[str, Any]]:
    """The models in a reply to ``GET /models`` by their names; none where it is no such reply. A name that is very long, or
    that acts on the screen that shows it, is left out.

    >>> list(served_models({"data": [{"id": "small"}, {"id": "large"}, {"id": "\x1b[2J"}]}))
    ['small', 'large']
    """
    data = listed.get("data") if isinstance(listed, dict) else None
    rows = data[:_MOST_MODELS] if isinstance(data, list) else []
    named = [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]
    return {row["id"]: row for row in named if len(row["id"]) <= _LONGEST_NAME and row["id"].isprintable()}


def quoted(value: Any) -> str:
    """A value of a reply as an error message shows it: its beginning, nothing of which acts on a screen.

    >>> quoted("stop\\x1b[2J")
    "'stop\\\\x1b[2J'"
    """
    if isinstance(value, dict | list):
        return f"{type(value).__name__} of {len(value)}"
    text = repr(value[:_LONGEST_QUOTE] if isinstance(value, str) else value)
    return text if len(text) <= 2 * _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"
