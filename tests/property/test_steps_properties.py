"""Steps of any text under any tokenisation."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from scope_rlvr.core.steps import PieceReader, StepRule, split_steps

FRAGMENTS = st.sampled_from(
    [
        "\n",
        "\n\n",
        " ",
        "\t",
        "$$",
        "\\[",
        "\\]",
        "\\\\[2pt]",
        "```",
        "\\begin{a}",
        "\\end{a}",
        "a",
        "b = 1",
        ".\n\n",
        "é€😀",
    ]
)
TEXTS = st.lists(FRAGMENTS | st.text(max_size=4), max_size=25).map("".join)
RULES = st.builds(
    StepRule,
    separator=st.sampled_from(["\n\n", "\n", "###", "a", ". "]),
    min_chars=st.integers(1, 6),
    max_steps=st.integers(1, 8),
    keep_blocks_whole=st.booleans(),
)
MODERATE = settings(max_examples=200, deadline=None)


@st.composite
def tokenised(draw: st.DrawFn, texts: st.SearchStrategy[str] = TEXTS) -> list[str]:
    """A text cut into pieces anywhere, with empty pieces among them."""
    text = draw(texts)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=30)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    return pieces if text or draw(st.booleans()) else []


@MODERATE
@given(tokenised(), RULES)
def test_steps_partition_the_tokens_and_their_texts_join(pieces, rule):
    steps = split_steps(pieces, rule)
    assert [token for step in steps for token in range(step.start, step.end)] == list(range(len(pieces)))
    assert all(step.text == "".join(pieces[step.start : step.end]) for step in steps)
    assert "".join(step.text for step in steps) == "".join(pieces)
    assert (len(steps) == 0) == (len(pieces) == 0)
    assert all(step.end > step.start for step in steps)


@MODERATE
@given(tokenised(), RULES)
def test_steps_keep_to_the_bounds_of_the_rule(pieces, rule):
    steps = split_steps(pieces, rule)
    assert len(steps) <= rule.max_steps
    if len(steps) > 1:
        assert all(len(step.text.strip()) >= rule.min_chars for step in steps)


@MODERATE
@given(tokenised(), RULES)
def test_every_step_but_the_last_ends_with_the_token_that_completes_a_separator(pieces, rule):
    text = "".join(pieces)
    ends = [i + len(rule.separator) for i in range(len(text)) if text.startswith(rule.separator, i)]
    for step in split_steps(pieces, rule)[:-1]:
        cut, last_token = len("".join(pieces[: step.end])), len("".join(pieces[: step.end - 1]))
        assert any(last_token < end <= cut or (end <= cut and not text[end:cut].strip()) for end in ends)


@MODERATE
@given(tokenised(st.text("ab \n", max_size=60)), st.integers(1, 4))
def test_cutting_at_a_step_border_and_splitting_again_gives_the_steps_before_it(pieces, min_chars):
    rule = StepRule(min_chars=min_chars)
    steps = split_steps(pieces, rule)
    for number, step in enumerate(steps):
        assert split_steps(pieces[: step.start], rule) == steps[:number]


class ByteTokens:
    """A tokeniser of single bytes, or of pairs of them, that decodes as real ones do."""

    def __init__(self, width: int) -> None:
        self.width = width

    def encode(self, text: str) -> list[bytes]:
        data = text.encode("utf-8", errors="replace")
        return [data[i : i + self.width] for i in range(0, len(data), self.width)]

    def decode(self, tokens) -> str:
        return b"".join(tokens).decode("utf-8", errors="replace")


@MODERATE
@given(TEXTS, st.integers(1, 5))
def test_pieces_of_bytes_join_to_the_text_and_stand_one_for_each_token(text, width):
    tokens = ByteTokens(width).encode(text)
    pieces = PieceReader(ByteTokens(width).decode).pieces(tokens)
    assert len(pieces) == len(tokens)
    assert "".join(pieces) == ByteTokens(width).decode(tokens)


@MODERATE
@given(st.lists(st.binary(min_size=1, max_size=3), max_size=20))
def test_pieces_of_broken_bytes_still_join(tokens):
    pieces = PieceReader(ByteTokens(1).decode).pieces(tokens)
    assert len(pieces) == len(tokens)
    assert "".join(pieces) == ByteTokens(1).decode(tokens)


@MODERATE
@given(TEXTS, st.integers(1, 3))
def test_a_cut_at_a_step_border_never_splits_a_character(text, width):
    tokens = ByteTokens(width).encode(text)
    pieces = PieceReader(ByteTokens(width).decode).pieces(tokens)
    for step in split_steps(pieces, StepRule()):
        if width == 1:
            assert ByteTokens(width).decode(tokens[: step.start]) == "".join(pieces[: step.start])
