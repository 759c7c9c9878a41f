"""Steps of real tokenizers: every cut lies between two tokens, whatever is written, and the work is linear.

How many of the random strings at the end are split is told by the environment variable SCOPE_STRINGS.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import step_splitting
from scope_rlvr.core import steps as steps_module
from scope_rlvr.core.steps import PieceReader, StepRule, _closing_marks, split_steps
from scope_rlvr.models.local import TokenizerCodec
from tests.tokenizers_zoo import END, KINDS, LOSSLESS, OF_BYTES, tokenizer_of

STRINGS = int(os.environ.get("SCOPE_STRINGS", "4000"))
SEEDS = range(10)

SEPARATORS = ["\n\n", "\n", "###", "ки", ". "]
FRAGMENTS = [
    *("\n\n", "\n", "\r\n\r\n", "\u2028", "\x0b", "\x85", " ", "  ", "\t", ".\n\n", "###", "ки", "<extra_0>", END),
    *("$$", "\\[", "\\]", "\\\\[2pt]", "```", "\\begin{align}", "\\end{align}", "$x$", "\\boxed{7}", "12345"),
    *("\x00", "\x07", "\x1b[0m", "\ufeff", "\u200d", "\u202e", "\u0301", "\ufffd", "\U0010ffff", "𝔸", "ﬁ"),
    *("Шаг 1. ", "第一步：", "الخطوة ", "चरण ", "ขั้นตอน", "단계 ", "👩\u200d🔬", "é", "e\u0301", "We add 12", "isn't"),
]
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
TEXTS = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=6), max_size=16).map("".join)
MODERATE = settings(max_examples=50, deadline=None)


@cache
def codec_of(kind: str) -> TokenizerCodec:
    return TokenizerCodec(tokenizer_of(kind))


def decoded(kind: str, ids: Sequence[int]) -> str:
    tokenizer = tokenizer_of(kind)
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False) if ids else ""


def check_steps(pieces: Sequence[str], text: str, rule: StepRule) -> None:
    """Steps partition the tokens, and their texts join to the text."""
    steps = split_steps(pieces, rule)
    assert "".join(step.text for step in steps) == text
    assert [0, *(step.end for step in steps)] == [*(step.start for step in steps), len(pieces)]
    assert all(step.text == "".join(pieces[step.start : step.end]) for step in steps)


def check_tokens(kind: str, ids: Sequence[int], rule: StepRule) -> tuple[str, ...]:
    """The pieces of tokens, after a look at them and at their steps."""
    pieces, text = codec_of(kind).pieces(ids), decoded(kind, ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == text
    check_steps(pieces, text, rule)
    return pieces


def random_rule(rng: Random) -> StepRule:
    return StepRule(
        separator=rng.choice(SEPARATORS),
        min_chars=rng.randint(1, 5),
        max_steps=rng.randint(1, 30),
        keep_blocks_whole=rng.random() < 0.7,
    )


RULES = st.integers(0, 99).map(lambda number: random_rule(Random(number)))


# --- any text, any tokens --------------------------------------------------------------------------------------------


@EVERY_KIND
@MODERATE
@given(text=TEXTS, rule=RULES)
def test_every_piece_is_what_its_token_adds_to_the_text(kind, text, rule):
    ids = codec_of(kind).encode(text)
    pieces = check_tokens(kind, ids, rule)
    for end in range(0, len(ids), 1 + len(ids) // 25):
        prefix = decoded(kind, ids[:end])
        # Bytes of a character that is cut in two belong to the token that finishes it.
        assert "".join(pieces[:end]) == prefix or prefix.endswith("�")


@EVERY_KIND
@MODERATE
@given(data=st.data(), rule=RULES)
def test_tokens_in_any_order_are_read(kind, data, rule):
    """Also such as no text is written with: parts of characters, special tokens, ids that no token has."""
    ids = data.draw(st.lists(st.integers(0, len(tokenizer_of(kind)) + 3), max_size=80))
    check_tokens(kind, ids, rule)


@pytest.mark.parametrize("kind", LOSSLESS)
@MODERATE
@given(text=TEXTS)
def test_a_tokenizer_that_loses_nothing_gives_the_text_back(kind, text):
    text = text.replace(END, "")
    assert "".join(codec_of(kind).pieces(codec_of(kind).encode(text))) == text


# --- what solutions are written with ---------------------------------------------------------------------------------

SCRIPTS = {
    "english": "We add 12 and 345.",
    "russian": "Шаг: сложим 2 и 2.",
    "chinese": "第一步：二加二等于四。",
    "arabic": "الخطوة: ٢ + ٢ = ٤.",
    "hindi": "चरण: दो और दो चार।",
    "emoji": "👩‍🔬 gives 😀.",
    "combining marks": "e\u0301, a\u0300\u0323 and o\u0302.",
    "control characters": "a\x00b\x07c\x1b[0m",
    "markers": "text <extra_0> ки ### \\boxed{4}",
    "display": "so\n$$\nx\n\ny\n$$\nholds.",
}


def is_lost(kind: str, script: str) -> bool:
    """WordPiece drops a word with an unknown letter, and writes ``$$`` as two words."""
    return kind == "WordPiece" and script in ("control characters", "display", "combining marks")


def check_written_steps(kind: str, written: list[str]) -> None:
    """Each written step is a step of its tokens; what is cut off between two reads like what was written."""
    ids = codec_of(kind).encode("".join(written))
    pieces = check_tokens(kind, ids, rule := StepRule(max_steps=len(written) + 1))
    steps = split_steps(pieces, rule)
    assert len(steps) == len(written)
    if kind in LOSSLESS:
        assert [step.text for step in steps] == written
    for step in steps[1 :: 1 + len(steps) // 3]:
        assert decoded(kind, ids[: step.end]) == "".join(pieces[: step.end])
        assert codec_of(kind).pieces(ids[: step.end]) == pieces[: step.end]


@pytest.mark.parametrize("script", SCRIPTS)
@EVERY_KIND
def test_steps_of_any_script_are_cut_exactly(kind, script):
    if is_lost(kind, script):
        check_tokens(kind, codec_of(kind).encode(f"{SCRIPTS[script]}\n\n" * 50), StepRule())
    else:
        check_written_steps(kind, [f"{SCRIPTS[script]}\n\n"] * 50)


@EVERY_KIND
def test_ten_thousand_steps_are_cut_exactly(kind):
    check_written_steps(kind, ["x = 3\n\n", "二 é\n\n", "Ответ 😀\n\n", "الجواب\n\n"] * 2500)


@pytest.mark.parametrize("kind", OF_BYTES)
def test_a_byte_that_makes_no_character_leaves_the_steps_around_it_alone(kind):
    codec = codec_of(kind)
    first, second = codec.encode("One step. "), codec.encode("another\n\n")
    broken = next(token for token in codec.encode("é") if decoded(kind, [token]) == "�")
    pieces = check_tokens(kind, (*first, broken, broken, *second), StepRule())
    assert pieces[: len(first)] == codec.pieces(first)
    assert pieces[len(first) : len(first) + 2] == ("�", "�")
    assert "".join(pieces[len(first) + 2 :]).strip(" ") == "another\n\n"


# --- linear work -----------------------------------------------------------------------------------------------------

WRITTEN = {
    "lines": "x = 1.\n\n",
    "chinese": "第一步\n\n",
    "emoji": "😀",
    "combining marks": "e\u0301\u0302\u0303",
    "control characters": "\x00\x07\x1b[0m",
    "unreadable": "\ufffd",
    "line breaks": "\n",
    "spaces": " ",
}


def sampled(kind: str, count: int) -> dict[str, Sequence[int]]:
    """Tokens that nobody would write, but a policy at a high temperature."""
    codec, rng, size = codec_of(kind), Random(0), len(tokenizer_of(kind))
    words, breaks = codec.encode("So it is. ") * (count // 4), codec.encode("\n" * count)
    found: dict[str, Sequence[int]] = {
        "anything": rng.choices(range(size), k=count),
        "nothing": (*words, *[codec.end_id] * count, *words),
    }
    if kind in OF_BYTES:
        broken = [i for i in range(size) if decoded(kind, [i]) == "�"]
        found |= {
            "broken bytes": rng.choices(broken, k=count),
            "one broken byte": broken[:1] * count,
            "emoji, cut off": (*words, *codec.encode("😀" * count)[:-1]),
            "line breaks, then a broken byte": (*words, *breaks, broken[-1], *words),
            "a broken byte, then line breaks": (*words, broken[-1], *breaks, *words),
        }
    return found


def tokens_decoded(kind: str, ids: Sequence[int]) -> float:
    """For each token, while none is remembered from before."""
    num_decoded = 0

    def decode(window: Sequence[int]) -> str:
        nonlocal num_decoded
        num_decoded += len(window)
        return decoded(kind, window)

    assert "".join(PieceReader(decode).pieces(ids)) == decoded(kind, ids)
    return num_decoded / max(1, len(ids))


@EVERY_KIND
def test_the_work_for_a_token_does_not_grow_with_the_length(kind):
    short = {name: codec_of(kind).encode(unit * 200) for name, unit in WRITTEN.items()} | sampled(kind, 200)
    long = {name: codec_of(kind).encode(unit * 1000) for name, unit in WRITTEN.items()} | sampled(kind, 1000)
    for name, ids in long.items():
        assert tokens_decoded(kind, ids) <= 2 * tokens_decoded(kind, short[name]) + 10, name


def test_the_benchmark_measures_what_it_says():
    for case in step_splitting.CASES:
        found = step_splitting.measure(case, LOSSLESS[0], lengths=(5, 20), num_blocks=2)
        assert [[one.num_tokens > 0 and one.both > 0 for one in block] for block in found.blocks] == [[True] * 2] * 2
        assert len(found.growth) == len(found.times_decoding) == 2
        steps = split_steps(codec_of(LOSSLESS[0]).pieces(step_splitting.response(case, LOSSLESS[0], 20)), StepRule())
        assert len(steps) == 20 or case == step_splitting.RANDOM
        assert case in step_splitting.markdown([found])


def test_text_that_depends_on_all_tokens_is_still_read_in_linear_time():
    num_decoded = 0

    def decode(ids: Sequence[int]) -> str:
        nonlocal num_decoded
        num_decoded += len(ids)
        return "".join(map(chr, ids)).swapcase() if len(ids) == 5000 else "".join(map(chr, ids))

    ids = [97 + i % 26 for i in range(5000)]
    pieces = PieceReader(decode).pieces(ids)
    assert "".join(pieces) == decode(ids)
    assert num_decoded < 300 * 5000


def lines_run(function: Callable[..., Any], *arguments: Any) -> int:
    """How many lines of ``steps.py`` a call runs."""
    num_lines = 0

    def count(frame: Any, event: str, _: Any) -> Any:
        nonlocal num_lines
        num_lines += event == "line"
        return count if frame.f_code.co_filename == steps_module.__file__ else None

    before = sys.gettrace()
    sys.settrace(count)
    try:
        function(*arguments)
    finally:
        sys.settrace(before)
    return num_lines


@pytest.mark.parametrize(
    "unit", ["x = 1.\n\n", "\\[ a\n\n", "\\begin{a}\n\n```\n\n$$\n\n", "\\end{a}\n\n", "\n", " ", "$$"]
)
def test_splitting_takes_linear_work(unit):
    short, long = (lines_run(split_steps, list(unit * count), StepRule(max_steps=1000)) for count in (50, 500))
    assert long <= 10.5 * short


MARKS = ["$$", "\\[", "\\]", "```", "\\begin{", "\\end{"]


def closed_by(marks: list[str], first: int) -> int | None:
    """Where the block that a mark opens is closed, found by counting on from it."""
    closer = {"$$": "$$", "\\[": "\\]", "```": "```", "\\begin{": "\\end{"}.get(marks[first])
    depth = 1
    for index in range(first + 1, len(marks)):
        depth += -1 if marks[index] == closer else int(marks[index] == marks[first])
        if depth == 0 and closer is not None:
            return index
    return None


@given(st.lists(st.sampled_from(MARKS), max_size=30))
def test_blocks_are_closed_where_counting_from_each_says(marks):
    expected = {first: closed_by(marks, first) for first in range(len(marks))}
    assert _closing_marks(marks) == {first: last for first, last in expected.items() if last is not None}


# --- as many strings as one likes ------------------------------------------------------------------------------------


def random_text(rng: Random) -> str:
    """Fragments, and characters of all planes, except the halves of surrogate pairs, which are no characters."""
    parts = []
    for _ in range(rng.randrange(12)):
        last = rng.choice([0x7F, 0x7FF, 0xFFFF, 0x10FFFF])
        codes = [rng.randint(0, last) for _ in range(rng.randint(1, 5))]
        letters = "".join(chr(code) for code in codes if not 0xD800 <= code <= 0xDFFF)
        parts.append(rng.choice(FRAGMENTS) if rng.random() < 0.6 else letters)
    return "".join(parts)


@pytest.mark.parametrize("seed", SEEDS)
def test_steps_of_random_strings_join_to_them(seed):
    """Of every string, cut anywhere, and of its tokens, of one kind after the other."""
    rng = Random(seed)
    for number in range(STRINGS // len(SEEDS)):
        text, rule = random_text(rng), random_rule(rng)
        cuts = sorted(rng.randint(0, len(text)) for _ in range(rng.randrange(20)))
        check_steps([text[a:b] for a, b in pairwise([0, *cuts, len(text)])], text, rule)
        kind = KINDS[number % len(KINDS)]
        check_tokens(kind, codec_of(kind).encode(text), rule)
