"""Diversity measures on groups small enough to count by hand."""

from __future__ import annotations

import math
from itertools import combinations
from random import Random

import pytest

from scope_rlvr.formulas.diversity import (
    BLEU_MAX_CHARS,
    BLEU_MAX_TEXTS,
    GROUP_MEASURES,
    answer_entropy,
    bleu,
    distinct_ngrams,
    distinct_right,
    embedding_diversity,
    equation_diversity,
    step_diversity,
    text_bleu,
)


def test_bleu_of_a_text_with_itself_is_one_and_with_nothing_zero():
    words = list("abcdef")
    assert bleu(words, words) == 1.0
    assert bleu(words, []) == bleu([], words) == 0.0
    assert bleu([], []) == 1.0


def test_bleu_by_hand():
    # 1-grams 3/4 (the second "a" has no partner), 2-grams 1/3; weights one half each; no brevity penalty.
    assert bleu(list("abxa"), list("abyx"), (0.5, 0.5)) == pytest.approx(math.sqrt(3 / 4 * 1 / 3))


def test_a_short_candidate_pays_the_brevity_penalty():
    assert bleu(["a", "b"], ["a", "b", "c", "d"], (1.0,)) == pytest.approx(math.exp(1 - 2))
    assert bleu(["a", "b", "c", "d"], ["a", "b"], (1.0,)) == pytest.approx(0.5)


def test_text_bleu_is_the_same_in_any_order_and_takes_each_pair_both_ways():
    texts = ["a b c d", "a b", "x y z"]
    words = [text.split() for text in texts]
    by_hand = 1 - sum(bleu(a, b) for a in words for b in words if a is not b) / 6
    assert text_bleu(texts) == pytest.approx(by_hand)
    assert text_bleu(texts[::-1]) == pytest.approx(by_hand)


def test_text_bleu_reads_the_first_characters_only():
    start = "a " * (BLEU_MAX_CHARS // 2)
    assert text_bleu([start + "b", start + "c"]) == pytest.approx(0)


def test_more_different_texts_are_more_diverse():
    same, close, far = ["a b c d"] * 2, ["a b c d", "a b c e"], ["a b c d", "w x y z"]
    assert text_bleu(same) == 0 < text_bleu(close) < text_bleu(far) < 1
    assert distinct_ngrams(same, 2) < distinct_ngrams(close, 2) < distinct_ngrams(far, 2) == 1


def test_equation_diversity_by_hand():
    # first text: one shared, one own formula; second: one shared; third has none and does not count
    assert equation_diversity(["1+1=2\n2+2=4", "1+1=2", "no formula"]) == pytest.approx((0.5 + 0) / 2)
    assert equation_diversity(["1 +  1 = 2", "1 + 1 = 2"]) == 0
    assert equation_diversity(["none", "none"]) is None


def test_distinct_ngrams_of_texts_too_short_for_any():
    assert distinct_ngrams(["a b", "c"], n=4) is None


def test_answer_entropy():
    assert answer_entropy(["1", "1"]) == 0
    assert math.copysign(1, answer_entropy(["1"])) == 1
    assert answer_entropy(["1", None]) == pytest.approx(math.log(2))
    assert answer_entropy(["1", "2", "3", "4"]) == pytest.approx(math.log(4))


def test_distinct_right_counts_texts_and_not_white_space():
    assert distinct_right(["a", " a\n", "b", "c"], [True, True, True, False]) == 2


def test_embedding_diversity():
    assert embedding_diversity([[1, 0], [2, 0]]) == pytest.approx(0)
    assert embedding_diversity([[1, 0], [-1, 0]]) == pytest.approx(2)
    assert embedding_diversity([[1, 0]]) is None
    assert embedding_diversity([[0, 0], [1, 0]]) == pytest.approx(1)


def test_embedding_diversity_is_what_going_through_the_pairs_gives():
    rng = Random(0)
    vectors = [[rng.gauss(0, 1) for _ in range(5)] for _ in range(7)] + [[0.0] * 5]
    cosines = [
        sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b) or 1.0)
        for a, b in combinations(vectors, 2)
    ]
    assert embedding_diversity(vectors) == pytest.approx(1 - sum(cosines) / len(cosines))


def test_step_diversity_by_hand():
    # first: a is shared, b is its own; second: a is shared, wherever it stands; third: both its own
    assert step_diversity(["a\n\nb", "\n\n a \n\n", "c\n\n\n\nd"]) == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert step_diversity(["a b\n\nc", "a  b\n\nc"]) == 0
    assert step_diversity(["", "\n\n"]) is None
    assert step_diversity(["a;b", "b"], separator=";") == pytest.approx((1 / 2 + 0) / 2)


def test_text_bleu_compares_the_first_texts_of_a_large_group():
    texts = [f"a b c {i} d e" for i in range(BLEU_MAX_TEXTS)]
    assert text_bleu([*texts, "something else"]) == text_bleu(texts)


def test_group_measures_by_hand():
    texts = ["1+1=2\n\nanswer 2", "1+1=2\n\nanswer 2", "2+0=2\n\nanswer 2", "1+1=3\n\nanswer 3"]
    found = {name: take(texts, ["2", "2", "2", "3"], [True] * 3 + [False]) for name, take in GROUP_MEASURES.items()}
    assert found["distinct_right_solutions"] == 2
    assert found["equations"] == pytest.approx((0 + 0 + 1 + 1) / 4)
    assert found["steps"] == pytest.approx((0 + 0 + 1 / 2 + 1) / 4)
    assert found["answer_entropy"] == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert found["distinct_4grams"] is None
    assert 0 < found["text_bleu"] < 1
