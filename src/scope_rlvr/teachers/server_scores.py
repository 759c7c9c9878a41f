"""Asking a completions server how likely tokens are that are already written, and reading what it says.

The prompt and the response go out together as the prompt of a request, by token ids, and the server echoes it with the
log-probability of each token. One request serves two shapes of reply: the ``logprobs`` of the OpenAI dialect, which ``echo``
extends to the prompt, and vLLM's ``prompt_logprobs``, which name every token by its id. Servers generate one token at
least; it is not used.
"""

from __future__ import annotations

from typing import Any

from scope_rlvr.core.ports import Fault, ScoreReply
from scope_rlvr.servers.replies import BadReply, logprob_in, object_in, only_choice, require_own_prompt

_BYTES_AN_ENTRY = 512
"""Bytes that a reply may spend on one token and on each of its alternatives, in both shapes together."""

_ID = "token_id:"
"""What stands before an id where a server names tokens by their ids."""

_MAX_DIGITS = 10

Row = tuple[float, dict[int, float]]
"""The log-probability of a token, and those of the alternatives by id, the token's own among them where it was listed."""


def scores_body(name: str, prompt_ids: tuple[int, ...], response_ids: tuple[int, ...], top_k: int) -> dict[str, Any]:
    """The request for the log-probabilities of a response after a prompt.

    >>> scores_body("large", (5, 6), (7,), top_k=0)["prompt"]
    [5, 6, 7]
    """
    return {
        "model": name,
        "prompt": [*prompt_ids, *response_ids],
        "max_tokens": 1,
        "temperature": 1.0,
        "echo": True,
        # SGLang takes 0 for "none".
        "logprobs": max(1, top_k),
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }


def scores_bytes(num_tokens: int, top_k: int) -> int:
    """The most bytes that a reply about ``num_tokens`` tokens, prompt and response, can need."""
    return (1 << 16) + _BYTES_AN_ENTRY * (2 + top_k) * (num_tokens + 1)


def read_scores(reply: Any, sent: list[int], num_scored: int, top_k: int) -> ScoreReply:
    """The log-probabilities of the last ``num_scored`` of the ids that were sent.

    Raises :class:`BadReply` for a reply that belongs to other ids or does not say to which, that has another number of
    tokens, or that holds for one of the tokens what is no log-probability.

    >>> listed = [None, {"6": {"logprob": -1.5}}, {"7": {"logprob": -0.25}, "1": {"logprob": -2.0}}]
    >>> read_scores({"choices": [{"prompt_logprobs": listed}]}, [5, 6, 7], num_scored=2, top_k=0).logprobs
    (-1.5, -0.25)
    >>> given = {"tokens": ["token_id:5", "token_id:6"], "token_logprobs": [None, -1.5]}
    >>> read_scores({"choices": [{"logprobs": given}]}, [5, 6], num_scored=1, top_k=0).logprobs
    (-1.5,)
    """
    choice = only_choice(reply)
    says_so = require_own_prompt(reply, choice, sent)
    listed = choice.get("prompt_logprobs")
    first = len(sent) - num_scored
    if listed is not None:
        _require_count(listed, (len(sent),), "prompt_logprobs")
        rows = [_listed_row(entry, token) for entry, token in zip(listed[first:], sent[first:], strict=True)]
    else:
        rows = _echoed_rows(object_in(choice, "logprobs"), sent, first, says_so, wants_others=top_k > 0)
    logprobs = tuple(own for own, _ in rows)
    if not top_k:
        return ScoreReply(logprobs)
    top = [_likeliest(others, top_k) for _, others in rows]
    return ScoreReply(
        logprobs,
        top_ids=tuple(tuple(token for token, _ in row) for row in top),
        top_logprobs=tuple(tuple(logprob for _, logprob in row) for row in top),
    )


def _require_count(values: Any, allowed: tuple[int, ...], name: str) -> None:
    if not isinstance(values, list) or len(values) not in allowed:
        num = f"{len(values)} entries" if isinstance(values, list) else "no list"
        raise BadReply(Fault.MALFORMED, f"{name} has {num} for {allowed[0]} tokens that were sent")


def _listed_row(entry: Any, token: int) -> Row:
    """vLLM's shape: ``{"6": {"logprob": -1.5, ...}, ...}``, or null for a token without a distribution before it."""
    own = entry.get(str(token)) if isinstance(entry, dict) else None
    if not isinstance(own, dict):
        raise BadReply(Fault.MALFORMED, f"prompt_logprobs has nothing about the token {token} at its place")
    others = {
        _id_of(name): logprob_in(of.get("logprob") if isinstance(of, dict) else None, "prompt_logprobs")
        for name, of in entry.items()
    }
    return others[token], others


def _echoed_rows(given: dict[str, Any], sent: list[int], first: int, says_so: bool, *, wants_others: bool) -> list[Row]:
    """The OpenAI shape: lists over the echoed prompt and, on some servers, the generated token after it."""
    logprobs, tokens = given.get("token_logprobs"), given.get("tokens")
    _require_count(logprobs, (len(sent), len(sent) + 1), "logprobs.token_logprobs")
    assert isinstance(logprobs, list)
    if isinstance(tokens, list) and tokens[: len(sent)] == [f"{_ID}{token}" for token in sent]:
        says_so = True
    if not says_so:
        raise BadReply(
            Fault.MALFORMED,
            "the reply does not say which ids it is about: neither prompt_token_ids nor tokens of the form token_id:7",
        )
    owns = [logprob_in(value, "logprobs.token_logprobs") for value in logprobs[first : len(sent)]]
    if not wants_others:
        return [(own, {}) for own in owns]
    listed = given.get("top_logprobs")
    _require_count(listed, (len(sent), len(sent) + 1), "logprobs.top_logprobs")
    assert isinstance(listed, list)
    return [(own, _others(entry)) for own, entry in zip(owns, listed[first : len(sent)], strict=True)]


def _others(entry: Any) -> dict[int, float]:
    if not isinstance(entry, dict):
        raise BadReply(Fault.MALFORMED, "logprobs.top_logprobs has no alternatives for a token")
    return {
        _id_of(name.removeprefix(_ID) if name.startswith(_ID) else ""): logprob_in(value, "logprobs.top_logprobs")
        for name, value in entry.items()
    }


def _id_of(name: str) -> int:
    if not name.isascii() or not name.isdecimal() or len(name) > _MAX_DIGITS:
        raise BadReply(Fault.MALFORMED, "the alternatives of a token are not named by their ids")
    return int(name)


def _likeliest(others: dict[int, float], top_k: int) -> list[tuple[int, float]]:
    if len(others) < top_k:
        raise BadReply(Fault.MALFORMED, f"{len(others)} alternatives for a token, and {top_k} were asked for")
    return sorted(others.items(), key=lambda one: (-one[1], one[0]))[:top_k]
