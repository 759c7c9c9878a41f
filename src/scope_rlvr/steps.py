"""A response as token-exact steps: where one may cut without touching a sampled token.

A step ends with the token in which its separator is complete. Steps partition the tokens of the response, their
texts join to its text, and separators inside display mathematics or code do not end a step.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise

from pydantic import Field

from scope_rlvr.settings import Settings

_CACHED_WINDOWS = 1 << 16


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

    ``decode`` maps ids to text. A token's contribution depends on what stands before it (spaces, characters that span
    several tokens), so windows of neighbouring tokens are decoded and compared, which is linear in the length;
    repeated windows are remembered. Bytes of an unfinished character belong to the token that finishes it.

    >>> reader = PieceReader(lambda ids: " ".join("abc"[i] for i in ids))
    >>> reader.pieces([0, 1, 2])
    ('a', ' b', ' c')
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._decode_window = lru_cache(_CACHED_WINDOWS)(lambda window: decode(window))

    def pieces(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        """One text a token; joined, they equal ``decode(token_ids)``."""
        ids, pieces, known_from, read_to = tuple(token_ids), [], 0, 0
        for position in range(len(ids)):
            known = self._decode_window(ids[known_from:read_to])
            text = self._decode_window(ids[known_from : position + 1])
            if text.endswith("�") and position + 1 < len(ids):
                pieces.append("")
                continue
            pieces.append(text[len(known) :])
            known_from, read_to = read_to, position + 1
        whole = self._decode(ids) if ids else ""
        return tuple(pieces) if "".join(pieces) == whole else self._pieces_by_prefix(ids, whole)

    def _pieces_by_prefix(self, ids: tuple[int, ...], whole: str) -> tuple[str, ...]:
        """Quadratic, for decoders whose text depends on more than the neighbouring tokens."""
        ends = [0]
        for position in range(1, len(ids)):
            prefix = self._decode(ids[:position])
            agreed = next((i for i, (a, b) in enumerate(zip(prefix, whole, strict=False)) if a != b), len(prefix))
            ends.append(max(ends[-1], min(agreed, len(whole))))
        return tuple(whole[start:end] for start, end in pairwise([*ends, len(whole)]))


# A line break with spacing, ``\\[2pt]``, opens no display.
_BLOCK_MARK = re.compile(r"\$\$|(?<!\\)\\\[|(?<!\\)\\\]|```|\\begin\{|\\end\{")
_BLOCK_CLOSER = {"$$": "$$", "\\[": "\\]", "```": "```", "\\begin{": "\\end{"}


def _protected_spans(text: str) -> list[tuple[int, int]]:
    """Character spans of closed blocks; a block that is never closed protects nothing."""
    marks, spans, first = list(_BLOCK_MARK.finditer(text)), [], 0
    while first < len(marks):
        last = _closing_mark(marks, first)
        if last is not None:
            spans.append((marks[first].start(), marks[last].end()))
        first = (first if last is None else last) + 1
    return spans


def _closing_mark(marks: Sequence[re.Match[str]], first: int) -> int | None:
    """The mark that closes the block opened by mark ``first``; ``None`` where that opens or closes nothing."""
    opener = marks[first].group()
    closer, depth = _BLOCK_CLOSER.get(opener), 1
    for index in range(first + 1, len(marks) if closer else 0):
        depth += {closer: -1}.get(marks[index].group(), int(marks[index].group() == opener))
        if depth == 0:
            return index
    return None


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
