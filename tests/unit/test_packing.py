"""Packed records are given back as they were, whatever they say."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.store import packing
from scope_rlvr.store.journal import encoded
from scope_rlvr.store.packing import JoinedText, Unpacker, pack

PIECES = st.sampled_from(["", " ", "so ", "é", "2", "\n\n", "\ud83d", '"', "\u2028", "\\"])
TOKENS = st.lists(st.tuples(st.integers(0, 5) | st.just(151_000), PIECES), max_size=8)


def segment(tokens: list[tuple[int, str]], *, knows_pieces: bool = True) -> dict[str, Any]:
    text = JoinedText.of([piece for _, piece in tokens])
    return {
        "origin": "policy",
        "text": text if knows_pieces else str(text),
        "token_ids": [number for number, _ in tokens],
    }


def steps(tokens: list[tuple[int, str]], ends: list[int]) -> list[dict[str, Any]]:
    spans = zip([0, *ends], [*ends, len(tokens)], strict=True)
    return [{"text": "".join(p for _, p in tokens[start:end]), "start": start, "end": end} for start, end in spans]


@st.composite
def records(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rollouts of a step; steps may be those of any response among them, and attempts may be there."""
    responses = draw(st.lists(TOKENS, min_size=1, max_size=4))
    found = []
    for tokens in responses:
        whose = draw(st.sampled_from(responses))
        ends = sorted(draw(st.lists(st.integers(0, len(whose)), max_size=3)))
        salvage = {"outcome": "still wrong", "steps": steps(whose, ends), "attempt": None}
        if draw(st.booleans()):
            salvage["attempt"] = [segment(draw(TOKENS)), segment(draw(TOKENS), knows_pieces=draw(st.booleans()))]
        cut = draw(st.integers(0, len(tokens)))
        found.append(
            {
                "step": 3,
                "segments": [segment(tokens[:cut]), segment(tokens[cut:], knows_pieces=draw(st.booleans()))],
                "scoring": {"steps": steps(whose, [])} if draw(st.booleans()) else None,
                "salvage": salvage if draw(st.booleans()) else None,
            }
        )
    return found


@given(block=records())
def test_records_come_back_with_every_key_in_its_place(block: list[dict[str, Any]]) -> None:
    unpacker = Unpacker(pack(block))
    back = [unpacker.record(number) for number in range(len(block))]
    assert list(map(encoded, back)) == list(map(encoded, block))


@given(block=records())
def test_a_record_is_unpacked_without_those_before_it(block: list[dict[str, Any]]) -> None:
    last = len(block) - 1
    assert encoded(Unpacker(pack(block)).record(last)) == encoded(block[last])


odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["origin", "text", "token_ids"]), inner)
    ),
    max_leaves=8,
)


@given(block=st.lists(st.dictionaries(st.sampled_from(["segments", "salvage", "scoring", "a"]), odd), max_size=3))
def test_records_of_another_shape_come_back_too(block: list[dict[str, Any]]) -> None:
    unpacker = Unpacker(pack(block))
    assert [unpacker.record(number) for number in range(len(block))] == block


def test_tokens_are_counted_and_stored_once() -> None:
    tokens = [(7, "1 "), (8, "+ "), (7, "1 "), (9, "é")]
    story = {"outcome": "no room left", "steps": steps(tokens, [1]), "attempt": [segment(tokens[:2])]}
    packed = pack([{"segments": [segment(tokens)], "salvage": story}, {"segments": [segment([])], "salvage": story}])
    first, second = map(json.loads, packed.skeleton.splitlines())
    assert first["segments"] == [{"origin": "policy", "num_tokens": 4}]
    assert first["salvage"]["steps"] == {"of": 0, "spans": [[0, 1], [1, 4]]}
    assert first["salvage"]["attempt"] == [{"origin": "policy", "num_tokens": 2}]
    # The steps of the second record are those of the first one's response.
    assert second["salvage"]["steps"] == {"of": 0, "spans": [[0, 1], [1, 4]]}
    # "1 " comes four times, "+ " three times, "é" once.
    assert json.loads(packed.vocabulary) == [[7, "1 "], [8, "+ "], [9, "é"]]
    assert list(packed.tokens) == [0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0]


def test_a_block_with_many_different_tokens_takes_wider_numbers() -> None:
    tokens = [(number, str(number)) for number in range(packing._SMALL + 1)]
    record = {"segments": [segment(tokens)]}
    packed = pack([record])
    assert len(packed.tokens) == 4 * len(tokens)
    assert Unpacker(packed).record(0) == record


def test_texts_that_join_alike_from_other_pieces_are_no_steps_of_each_other() -> None:
    whole, halves = [(1, "ab"), (2, "c")], [(3, "a"), (4, "bc")]
    block = [
        {"segments": [segment(whole)], "salvage": {"steps": steps(whole, [1])}},
        {"segments": [segment(halves)], "salvage": {"steps": steps(halves, [1])}},
    ]
    unpacker = Unpacker(pack(block))
    assert [unpacker.record(number) for number in (0, 1)] == block
