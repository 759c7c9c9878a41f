"""Rollout records in little room: each token is one number, which stands for its id and its text.

A record says every token twice, by its id and in the text, and a salvage says the same steps once more. A block of
records becomes three parts. The *skeleton* has one JSON line a record, without tokens. The *vocabulary* has every
different pair of a token id and the text that it contributes, the most frequent pair first. The *tokens* are numbers of
pairs, two bytes each where there are at most 65,536 pairs, else four. Nothing is lost: records are given back as they were.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, islice
from typing import Any, NamedTuple

from scope_rlvr.store.journal import encoded

_SEGMENT = ("origin", "text", "token_ids")
_PACKED_SEGMENT = {"origin", "num_tokens"}
_STEP = ("text", "start", "end")
_WITH_STEPS = ("scoring", "salvage")
"""The fields of a record that can hold steps, and an attempt."""
_SMALL = 1 << 16


class JoinedText(str):
    """A text that remembers the pieces that it was joined from, one a token.

    >>> text = JoinedText.of(["1 ", "+", " 1"])
    >>> text, text.pieces
    ('1 + 1', ('1 ', '+', ' 1'))
    """

    pieces: tuple[str, ...]

    @classmethod
    def of(cls, pieces: Sequence[str]) -> JoinedText:
        text = cls("".join(pieces))
        text.pieces = tuple(pieces)
        return text


class PackedRecords(NamedTuple):
    """The three parts of a block."""

    skeleton: bytes
    vocabulary: bytes
    tokens: bytes


# --- packing ----------------------------------------------------------------------------------------------------------


def pack(records: Sequence[Mapping[str, Any]]) -> PackedRecords:
    """Records as a block. A text that is no :class:`JoinedText` stays in the skeleton, with its ids.

    >>> text = JoinedText.of(["so ", "2"])
    >>> packed = pack([{"step": 1, "segments": [{"origin": "policy", "text": text, "token_ids": [7, 4]}]}])
    >>> packed.skeleton
    b'{"step": 1, "segments": [{"origin": "policy", "num_tokens": 2}]}\\n'
    >>> packed.vocabulary, packed.tokens
    (b'[[7, "so "], [4, "2"]]\\n', b'\\x00\\x00\\x01\\x00')
    """
    packer = _Packer(list(map(_pieces, records)))
    skeleton = b"".join(encoded(packer.without_tokens(record)) for record in records)
    return PackedRecords(skeleton, *packer.ranked())


def _pieces(record: Mapping[str, Any]) -> Sequence[str]:
    """The pieces of a record's response; none where they are not known."""
    segments = record.get("segments")
    if not isinstance(segments, list) or not all(map(_is_joined, segments)):
        return ()
    return [piece for segment in segments for piece in segment["text"].pieces]


def _is_joined(segment: Any) -> bool:
    return (
        isinstance(segment, dict)
        and tuple(segment) == _SEGMENT
        and isinstance(segment["text"], JoinedText)
        and len(segment["text"].pieces) == len(segment["token_ids"])
    )


class _Numbers(dict[tuple[int, str], int]):
    """A number for each pair of a token id and its text, in the order in which they are met."""

    def __missing__(self, pair: tuple[int, str]) -> int:
        return self.setdefault(pair, len(self))


@dataclass
class _Packer:
    """Takes the tokens out of the records of a block: first those of the response, then those of an attempt."""

    pieces: list[Sequence[str]]
    number_of: _Numbers = field(default_factory=_Numbers)
    numbers: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.record_of = {"".join(pieces): number for number, pieces in enumerate(self.pieces) if pieces}

    def without_tokens(self, record: Mapping[str, Any]) -> dict[str, Any]:
        packed = dict(record)
        if "segments" in record:
            packed["segments"] = self._segments(record["segments"])
        for name in _WITH_STEPS:
            inner = record.get(name)
            if isinstance(inner, dict):
                packed[name] = {
                    key: self._steps(value) if key == "steps" else self._segments(value) if key == "attempt" else value
                    for key, value in inner.items()
                }
        return packed

    def _segments(self, segments: Any) -> Any:
        return list(map(self._segment, segments)) if isinstance(segments, list) else segments

    def _segment(self, segment: Any) -> Any:
        if not _is_joined(segment):
            return segment
        pairs = zip(segment["token_ids"], segment["text"].pieces, strict=True)
        self.numbers += map(self.number_of.__getitem__, pairs)
        return {"origin": segment["origin"], "num_tokens": len(segment["token_ids"])}

    def _steps(self, steps: Any) -> Any:
        """Steps by the tokens at which they begin and end, where their text is that of these tokens of a response."""
        if not isinstance(steps, list) or not all(isinstance(step, dict) and tuple(step) == _STEP for step in steps):
            return steps
        number = self.record_of.get("".join(step["text"] for step in steps))
        spans = [[step["start"], step["end"]] for step in steps]
        if number is None or _at(self.pieces[number], spans) != steps:
            return steps
        return {"of": number, "spans": spans}

    def ranked(self) -> tuple[bytes, bytes]:
        """Vocabulary and tokens, with the most frequent pair as number 0."""
        order = [number for number, _ in Counter(self.numbers).most_common()]
        pairs, rank = list(self.number_of), [0] * len(order)
        for place, number in enumerate(order):
            rank[number] = place
        tokens = _array(len(order), map(rank.__getitem__, self.numbers))
        return encoded([pairs[number] for number in order]), _little_endian(tokens).tobytes()


def _at(pieces: Sequence[str], spans: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    return [{"text": "".join(pieces[start:end]), "start": start, "end": end} for start, end in spans]


def _array(num_pairs: int, numbers: Iterator[int] | bytes) -> array[int]:
    return array("H" if num_pairs <= _SMALL else "I", numbers)


def _little_endian(numbers: array[int]) -> array[int]:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


# --- unpacking --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unpacker:
    """The records of a block, each unpacked when it is asked for.

    >>> text = JoinedText.of(["so ", "2"])
    >>> record = {"step": 1, "segments": [{"origin": "policy", "text": text, "token_ids": [7, 4]}]}
    >>> unpacker = Unpacker(pack([record]))
    >>> unpacker.heads[0]["segments"], unpacker.record(0) == record
    ([{'origin': 'policy', 'num_tokens': 2}], True)
    """

    packed: PackedRecords

    @cached_property
    def heads(self) -> list[dict[str, Any]]:
        """The records without their tokens."""
        return [json.loads(line) for line in self.packed.skeleton.split(b"\n") if line]

    @cached_property
    def _vocabulary(self) -> tuple[Sequence[int], Sequence[str]]:
        """The ids and the texts of the pairs."""
        ids, texts = zip(*json.loads(self.packed.vocabulary), strict=True) if self.packed.tokens else ((), ())
        return ids, texts

    @cached_property
    def _tokens(self) -> array[int]:
        return _little_endian(_array(len(self._vocabulary[0]), self.packed.tokens))

    @cached_property
    def _starts(self) -> list[int]:
        """Where the tokens of each record begin, and behind the last one where they end."""
        return list(accumulate(map(_num_tokens, self.heads), initial=0))

    def record(self, number: int) -> dict[str, Any]:
        """A whole record, by its number in the block from 0 on."""
        head = self.heads[number]
        tokens = iter(self._tokens[self._starts[number] : self._starts[number + 1]])
        record = dict(head)
        if "segments" in head:
            record["segments"] = self._segments(head["segments"], tokens)
        for name in _WITH_STEPS:
            inner = head.get(name)
            if isinstance(inner, dict):
                record[name] = {
                    key: self._steps(value)
                    if key == "steps"
                    else self._segments(value, tokens)
                    if key == "attempt"
                    else value
                    for key, value in inner.items()
                }
        return record

    def _segments(self, segments: Any, tokens: Iterator[int]) -> Any:
        if not isinstance(segments, list):
            return segments
        return [self._segment(one, tokens) if _is_packed(one) else one for one in segments]

    def _segment(self, segment: dict[str, Any], tokens: Iterator[int]) -> dict[str, Any]:
        numbers, (ids, texts) = list(islice(tokens, segment["num_tokens"])), self._vocabulary
        text = "".join(map(texts.__getitem__, numbers))
        return {"origin": segment["origin"], "text": text, "token_ids": list(map(ids.__getitem__, numbers))}

    def _steps(self, steps: Any) -> Any:
        if not isinstance(steps, dict):
            return steps
        start = self._starts[steps["of"]]
        length = sum(segment["num_tokens"] for segment in self.heads[steps["of"]]["segments"])
        pieces = list(map(self._vocabulary[1].__getitem__, self._tokens[start : start + length]))
        return _at(pieces, steps["spans"])


def _is_packed(segment: Any) -> bool:
    return isinstance(segment, dict) and segment.keys() == _PACKED_SEGMENT


def _num_tokens(head: Mapping[str, Any]) -> int:
    inner = (head.get(name) for name in _WITH_STEPS)
    lists = [head.get("segments"), *(one.get("attempt") for one in inner if isinstance(one, dict))]
    found = (one for segments in lists if isinstance(segments, list) for one in segments)
    return sum(one["num_tokens"] for one in found if _is_packed(one))
