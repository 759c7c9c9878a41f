"""A response as token-exact steps: where one may cut without touching a sampled token.

A step ends with the token in which its separator is complete. Steps partition the tokens of the response, their
texts join to its text, and separators inside display mathematics or code do not end a step.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, pairwise

from pydantic import Field

from scope_rlvr.core.settings import Settings

_REMEMBERED_WINDOWS = 1 << 16
_REMEMBERED_TOKENS = 16
"""Longer windows hardly ever come twice."""

_CONTEXT = 64
"""Tokens that are always looked back over, where fewer do not tell what a token contributes."""

_STRIDE = 16
"""A wait of so many tokens for a piece is looked at again after two more, not after one."""

_CHARACTER = 4
"""Tokens that one character may be cut into: as many as it has bytes."""

_UNREADABLE = "\ufffd"
"""What stands in decoded text for bytes that make no character (yet)."""


@dataclass(frozen=True, slots=True)
class Step:
    """Tokens ``start`` to ``end`` (exclusive) of a response, and their text with its separator."""

    text: str
    start: int
    end: int


class StepRule(Settings):
    """How a response is split.

    ``separator`` ends a step (a blank line: what process reward models of the field are trained on). A piece with
    fewer than ``min_chars`` visible characters joins the next one. From the ``max_steps``-th step on all is one step,
    so that no response outgrows a scorer's context. ``keep_blocks_whole`` protects ``$$...$$``, ``\\[...\\]``,
    ``\\begin...\\end`` and fenced code.
    """

    separator: str = Field("\n\n", min_length=1)
    min_chars: int = Field(1, ge=1)
    max_steps: int = Field(512, ge=1)
    keep_blocks_whole: bool = True


class PieceReader:
    """Assigns to each token the text it contributes, for any tokenizer.

    ``decode`` maps ids to text. What a token contributes depends on its neighbours (spaces, characters that span several
    tokens), so it is decoded in a window with tokens before it, and the window is believed where it says what the whole
    text says there. Else it grows, by the next token or to the front. What tokens write together, the last of them
    contributes: bytes of an unfinished character belong to the token that finishes it. The work is linear in the
    length, or that times its logarithm where many tokens write something only together; short windows are remembered.

    >>> reader = PieceReader(lambda ids: " ".join("abc"[i] for i in ids))
    >>> reader.pieces([0, 1, 2])
    ('a', ' b', ' c')
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._remembered = lru_cache(_REMEMBERED_WINDOWS)(self._texts)

    def pieces(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        """One text a token; joined, they equal ``decode(token_ids)``."""
        ids = tuple(token_ids)
        reading = _Reading(ids, self._decode(ids) if ids else "", self._texts_of_window)
        pieces = [""] * len(ids)
        while reading.ends[-1] < len(ids):
            piece = reading.read_on()
            pieces[reading.ends[-1] - 1] = piece
        return tuple(pieces)

    def _texts_of_window(self, before: tuple[int, ...], tokens: tuple[int, ...]) -> tuple[str, str]:
        """The text of some tokens, and the text of these and others behind them."""
        is_short = len(before) + len(tokens) <= _REMEMBERED_TOKENS
        return self._remembered(before, tokens) if is_short else self._texts(before, tokens)

    def _texts(self, before: tuple[int, ...], tokens: tuple[int, ...]) -> tuple[str, str]:
        return self._decode(before) if before else "", self._decode((*before, *tokens))


@dataclass(slots=True)
class _Reading:
    """A text of which the first ``num_read`` characters are known to be those of the tokens up to the last of ``ends``.

    ``ends`` are where pieces end. Windows begin there alone: one that began inside a character would misread it.
    """

    ids: tuple[int, ...]
    whole: str
    texts: Callable[[tuple[int, ...], tuple[int, ...]], tuple[str, str]]
    num_read: int = 0
    ends: list[int] = field(default_factory=lambda: [0])

    def read_on(self) -> str:
        """The next piece, of as few tokens as have one."""
        start = tried = end = self.ends[-1]
        piece = ""
        while not piece and end < len(self.ids):
            # In strides that grow with what is waiting: to try every token of a long wait would be quadratic.
            tried, end = end, min(end + 1 + (end - start) // _STRIDE, len(self.ids))
            piece = self._piece_up_to(end)
        while end - tried > 1:
            middle = (tried + end) // 2
            earlier = self._piece_up_to(middle)
            tried, end, piece = (tried, middle, earlier) if earlier else (middle, end, piece)
        self.ends.append(end)
        self.num_read += len(piece)
        return piece

    def _piece_up_to(self, end: int) -> str:
        """What the tokens that are next, up to ``end``, contribute; empty where that is nothing, or not certain."""
        if end == len(self.ids):
            return self.whole[self.num_read :]
        start, reach = self.ends[-1], 1
        while True:
            # Behind the last piece, then behind ever more, as far back as the wait is long.
            first = self.ends[bisect_right(self.ends, max(0, start - reach)) - 1]
            piece, reach = self._piece_in(first, end), 4 * (start - first)
            if piece is not None or first == 0 or reach > max(_CONTEXT, end - start):
                return piece or ""

    def _piece_in(self, first: int, end: int) -> str | None:
        """The same by the window from ``first`` on; ``None`` where that may lack something that stands before it."""
        start = self.ends[-1]
        known, text = self.texts(self.ids[first:start], self.ids[start:end])
        # Tokens that write nothing here (a space, at the front of a window) do not show that they are read rightly.
        if text.startswith(known) and (known or first == 0):
            piece = text[len(known) :]
            if not piece or self._is_next(piece):
                return piece if self._is_finished(piece, first, end) else ""
        # An unfinished character is finished by what comes next, not by what stands before.
        return "" if text.endswith(_UNREADABLE) and not self._is_next(_UNREADABLE) else None

    def _is_next(self, piece: str) -> bool:
        return self.whole.startswith(piece, self.num_read)

    def _is_finished(self, piece: str, first: int, end: int) -> bool:
        """Whether the tokens that follow do not belong to a character, unreadable so far, at the end of a piece."""
        if not piece.endswith(_UNREADABLE):
            return True
        start = self.ends[-1]
        for later in range(end + 1, min(end + _CHARACTER, len(self.ids) + 1)):
            known, text = self.texts(self.ids[first:start], self.ids[start:later])
            longer = text[len(known) :]
            if len(longer) <= len(piece) and self._is_next(longer):
                return False
        return True


# A line break with spacing, ``\\[2pt]``, opens no display.
_BLOCK_MARK = re.compile(r"\$\$|(?<!\\)\\\[|(?<!\\)\\\]|```|\\begin\{|\\end\{")
_BLOCK_CLOSER = {"$$": "$$", "\\[": "\\]", "```": "```", "\\begin{": "\\end{"}


def _protected_spans(text: str) -> list[tuple[int, int]]:
    """Character spans of closed blocks; a block that is never closed protects nothing."""
    marks = list(_BLOCK_MARK.finditer(text))
    closing, spans, first = _closing_marks([mark.group() for mark in marks]), [], 0
    while first < len(marks):
        last = closing.get(first)
        if last is not None:
            spans.append((marks[first].start(), marks[last].end()))
        first = (first if last is None else last) + 1
    return spans


def _closing_marks(marks: Sequence[str]) -> dict[int, int]:
    """For each mark that opens a block, the mark that closes it, each kind of block for itself.

    >>> _closing_marks(["$$", "\\\\[", "$$", "\\\\[", "\\\\]"])
    {0: 2, 3: 4}
    """
    closing: dict[int, int] = {}
    opened: dict[str, list[int]] = {closer: [] for closer in _BLOCK_CLOSER.values()}
    for index, mark in enumerate(marks):
        if opened.get(mark):
            closing[opened[mark].pop()] = index
        # Where both look the same, what closes one block may as well open the next.
        if mark in _BLOCK_CLOSER:
            opened[_BLOCK_CLOSER[mark]].append(index)
    return closing


def _separator_ends(text: str, rule: StepRule) -> list[tuple[int, int]]:
    """For each run of separators that ends a step: where it ends, and where the white space after it ends."""
    spans = _protected_spans(text) if rule.keep_blocks_whole else []
    trailing = r"\s*" if rule.separator.isspace() else ""
    separators = re.compile(f"((?:{re.escape(rule.separator)})+){trailing}")
    ends, next_span = [], 0
    for found in separators.finditer(text):
        while next_span < len(spans) and spans[next_span][1] <= found.start():
            next_span += 1
        inside = next_span < len(spans) and spans[next_span][0] < found.start()
        if not inside:
            ends.append((found.end(1), found.end()))
    return ends


def split_steps(pieces: Sequence[str], rule: StepRule) -> tuple[Step, ...]:
    """Split a response, given the text of each of its tokens, into steps that partition the tokens.

    >>> [(step.text, step.start, step.end) for step in split_steps(["a", ".\\n\\n", "b", "\\n", "\\nc"], StepRule())]
    [('a.\\n\\n', 0, 2), ('b\\n\\nc', 2, 5)]

    (The last separator is complete only inside the token that also writes ``c``: that token is not cut in two.) Tokens
    of nothing but white space that follow a separator stay with it.
    """
    char_ends = list(accumulate(len(piece) for piece in pieces))
    token_ends, token = [], 0
    for separator_end, space_end in _separator_ends("".join(pieces), rule):
        while char_ends[token] < separator_end:
            token += 1
        while token + 1 < len(pieces) and char_ends[token] < char_ends[token + 1] <= space_end:
            token += 1
        token_ends.append(token + 1)
    bounds = [0, *token_ends, len(pieces)]
    return _merge_short([(a, b) for a, b in pairwise(bounds) if b > a], pieces, rule)


def _merge_short(spans: list[tuple[int, int]], pieces: Sequence[str], rule: StepRule) -> tuple[Step, ...]:
    """Join pieces without enough visible text to the next one (the last to the one before), and all past the cap."""
    merged: list[Step] = []
    start = None
    for first, end in spans:
        start = first if start is None else start
        text = "".join(pieces[start:end])
        if len(text.strip()) >= rule.min_chars:
            merged.append(Step(text, start, end))
            start = None
    if start is not None:
        start = merged.pop().start if merged else start
        merged.append(Step("".join(pieces[start:]), start, len(pieces)))
    if len(merged) > rule.max_steps:
        start = merged[rule.max_steps - 1].start
        merged = [*merged[: rule.max_steps - 1], Step("".join(pieces[start:]), start, len(pieces))]
    return tuple(merged)
