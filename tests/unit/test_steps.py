"""Where a response may be cut, token for token."""

from __future__ import annotations

import pytest

from scope_rlvr.core.steps import PieceReader, StepRule, split_steps


def texts(response: str, **rule) -> list[str]:
    """Steps of a response whose characters are its tokens."""
    return [step.text for step in split_steps(list(response), StepRule(**rule))]


def spans(pieces: list[str], **rule) -> list[tuple[int, int]]:
    return [(step.start, step.end) for step in split_steps(pieces, StepRule(**rule))]


def test_a_blank_line_ends_a_step_and_a_line_break_does_not():
    assert texts("a\nb\n\nc") == ["a\nb\n\n", "c"]


@pytest.mark.parametrize("response", ["", "a", "a\n\n", "\n\n"])
def test_short_responses(response):
    assert texts(response) == ([response] if response else [])


def test_more_white_space_stays_with_the_step_before():
    assert texts("a\n\n\n\n \nb") == ["a\n\n\n\n \n", "b"]


def test_leading_blank_lines_belong_to_the_first_step():
    assert texts("\n\na\n\nb") == ["\n\na\n\n", "b"]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["a", ".\n\n", "b"], [(0, 2), (2, 3)]),
        (["a", "\n", "\nb", "c"], [(0, 3), (3, 4)]),  # the separator is complete inside a token: cut after it
        (["a\n\n", " b"], [(0, 1), (1, 2)]),  # the space belongs to the next word
        (["a\n\n", "\n", "\n", " b"], [(0, 3), (3, 4)]),
        (["a\n\n", "", "é"], [(0, 1), (1, 3)]),  # the first bytes of a character are not split from its last
        (["a\n\n", "b\n\n", ""], [(0, 1), (1, 3)]),  # the end-of-sequence token
        (["a\n\nb\n\nc"], [(0, 1)]),  # one token is never cut in two
        (["", "", ""], [(0, 3)]),
    ],
)
def test_steps_end_with_the_token_that_completes_the_separator(pieces, expected):
    assert spans(pieces) == expected


def test_short_pieces_join_the_next_step_and_the_last_one_the_step_before():
    assert texts("ab\n\nc\n\nde\n\nf", min_chars=2) == ["ab\n\n", "c\n\nde\n\nf"]
    assert texts("a\n\nb", min_chars=9) == ["a\n\nb"]


def test_all_past_the_cap_is_one_step():
    assert texts("a\n\nb\n\nc\n\nd", max_steps=2) == ["a\n\n", "b\n\nc\n\nd"]
    assert texts("a\n\nb", max_steps=2) == ["a\n\n", "b"]
    assert texts("a\n\nb", max_steps=1) == ["a\n\nb"]


@pytest.mark.parametrize(
    "block",
    [
        "$$x\n\ny$$",
        "\\[x\n\ny\\]",
        "```py\nx\n\ny\n```",
        "\\begin{a}x\n\n\\begin{b}y\\end{b}\n\nz\\end{a}",
        "\\[x\n\ny\\\\[2pt]z\\]",  # a line break with spacing opens no other display
        "$$\\begin{a}x\n\ny$$",
    ],
)
def test_blank_lines_inside_a_block_do_not_end_a_step(block):
    assert texts(f"a\n\n{block}\n\nb") == ["a\n\n", f"{block}\n\n", "b"]
    assert len(texts(f"a\n\n{block}\n\nb", keep_blocks_whole=False)) > 3


@pytest.mark.parametrize("opener", ["$$", "\\[", "```", "\\begin{a}", "\\]", "\\end{a}"])
def test_a_block_that_is_never_closed_protects_nothing(opener):
    assert texts(f"a {opener}\n\nb\n\nc") == [f"a {opener}\n\n", "b\n\n", "c"]


def test_a_block_after_one_that_is_never_closed_is_still_whole():
    assert texts("\\[ a\n\n$$x\n\ny$$\n\nb") == ["\\[ a\n\n", "$$x\n\ny$$\n\n", "b"]


@pytest.mark.parametrize("separator", ["###", "\n", "(*)"])
def test_other_separators_are_taken_literally(separator):
    assert texts(f"a{separator}b{separator}{separator}c", separator=separator) == [
        f"a{separator}",
        f"b{separator}{separator}",
        "c",
    ]


def test_white_space_after_a_visible_separator_belongs_to_the_next_step():
    assert texts("a### b", separator="###") == ["a###", " b"]


@pytest.mark.parametrize(
    "step", ["\x00", "\x1b[31m", "\u200b", "\ufeff", "\u202e", "e\u0301", "第一步", "👩\u200d🔬", "\ud83d"]
)
def test_any_character_is_part_of_a_step(step):
    assert texts(f"{step}\n\n{step}\n\n") == [f"{step}\n\n"] * 2


def test_ten_thousand_steps_are_split_and_those_past_the_cap_joined():
    written = [f"{number}\n\n" for number in range(10_000)]
    assert texts("".join(written), max_steps=10_000) == written
    assert texts("".join(written)) == [*written[:511], "".join(written[511:])]


def test_unfinished_characters_belong_to_the_token_that_finishes_them():
    symbols = [b"a", "é".encode()[:1], "é".encode()[1:], b"b", "€".encode()[:2]]
    reader = PieceReader(lambda ids: b"".join(symbols[i] for i in ids).decode("utf-8", errors="replace"))
    assert reader.pieces([0, 1, 2, 3]) == ("a", "", "é", "b")
    assert "".join(reader.pieces([0, 4])) == "a�"
    assert reader.pieces([]) == ()


def test_pieces_join_even_where_the_text_depends_on_all_tokens():
    def decode(ids):
        text = "".join("ab "[i] for i in ids)
        return text.upper() if len(ids) > 3 else text.strip()

    for ids in ([0, 1, 2, 0, 1], [2, 2, 0], [0, 2, 2, 1], [2]):
        pieces = PieceReader(decode).pieces(ids)
        assert len(pieces) == len(ids)
        assert "".join(pieces) == decode(ids)


def test_pieces_of_a_long_response_are_read_in_linear_time():
    num_decoded = 0

    def decode(ids):
        nonlocal num_decoded
        num_decoded += len(ids)
        return "".join(chr(97 + i % 26) for i in ids)

    PieceReader(decode).pieces(list(range(4000)))
    assert num_decoded < 10 * 4000
