"""How different are the rollouts of a group? Several measures, since the paper does not say which one it used.

Measure them on rollouts that the policy wrote unaided: a teacher's tokens raise diversity mechanically.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

BLEU_WEIGHTS = (0.02, 0.1, 0.15, 0.25, 0.38)
"""Weights of 1- to 5-grams, as DIVER publishes them (they sum to 0.9)."""

BLEU_MAX_CHARS = 1000

BLEU_MAX_TEXTS = 32
"""Texts of a group that are compared: the cost grows with their square, and the mean over pairs does not need more."""

_SMOOTHING = 0.1
"""Matches counted where an n-gram order has none, so that one missing order does not erase the others."""

_FORMULA = re.compile(r"[^=\n:;,]+=[^=\n:;,]+")


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


@dataclass(frozen=True, slots=True)
class _Profile:
    """A text as BLEU sees it: its length in words and its n-grams of each order."""

    num_words: int
    ngrams: tuple[Counter[tuple[str, ...]], ...]

    @classmethod
    def of(cls, words: Sequence[str], max_order: int) -> _Profile:
        return cls(len(words), tuple(_ngrams(words, n) for n in range(1, max_order + 1)))


def bleu(candidate: Sequence[str], reference: Sequence[str], weights: Sequence[float] = BLEU_WEIGHTS) -> float:
    """BLEU of one word sequence against another: brevity penalty times the weighted geometric mean of precisions.

    Orders longer than the candidate are left out. Source: Papineni et al. 2002; smoothing 1 of Chen and Cherry 2014.

    >>> bleu("a b c".split(), "a b c".split())
    1.0
    >>> round(bleu("a b".split(), "a c".split(), weights=(0.5, 0.5)), 4)  # sqrt(1/2 · 0.1/1)
    0.2236
    """
    return _bleu(_Profile.of(candidate, len(weights)), _Profile.of(reference, len(weights)), weights)


def _bleu(candidate: _Profile, reference: _Profile, weights: Sequence[float]) -> float:
    return _bleu_from_matches(candidate, reference, weights, _matches(candidate, reference))


def _matches(one: _Profile, other: _Profile) -> tuple[int, ...]:
    """How many n-grams of each order two texts share, repeated ones as often as both have them; the same both ways."""
    return tuple(
        sum(min(a[ngram], b[ngram]) for ngram in a.keys() & b.keys())
        for a, b in zip(one.ngrams, other.ngrams, strict=True)
    )


def _bleu_from_matches(
    candidate: _Profile, reference: _Profile, weights: Sequence[float], matches: Sequence[int]
) -> float:
    if not candidate.num_words or not reference.num_words:
        return float(candidate.num_words == reference.num_words)
    log_precision = 0.0
    for order, (weight, shared) in enumerate(zip(weights, matches, strict=True)):
        num_ngrams = candidate.num_words - order
        if num_ngrams > 0:
            log_precision += weight * math.log((shared or _SMOOTHING) / num_ngrams)
    brevity = min(1.0, math.exp(1 - reference.num_words / candidate.num_words))
    return brevity * math.exp(log_precision)


def text_bleu(texts: Sequence[str]) -> float | None:
    """1 minus the mean pairwise BLEU of a group, each pair taken both ways. ``None`` for fewer than two texts.

    Looks at the first :data:`BLEU_MAX_CHARS` characters of the first :data:`BLEU_MAX_TEXTS` texts.

    >>> text_bleu(["a b c", "a b c"]), text_bleu(["a b c"])
    (0.0, None)
    """
    if len(texts) < 2:
        return None
    profiles = [_Profile.of(text[:BLEU_MAX_CHARS].split(), len(BLEU_WEIGHTS)) for text in texts[:BLEU_MAX_TEXTS]]
    return 1 - fmean(_symmetric_bleu(a, b) for a, b in combinations(profiles, 2))


def _symmetric_bleu(a: _Profile, b: _Profile) -> float:
    matches = _matches(a, b)
    return (_bleu_from_matches(a, b, BLEU_WEIGHTS, matches) + _bleu_from_matches(b, a, BLEU_WEIGHTS, matches)) / 2


def equation_diversity(texts: Sequence[str]) -> float | None:
    """For each text the share of its formulas that no other text of the group has; mean over texts with formulas.

    >>> equation_diversity(["1 + 2 = 3 : 3 4\\n\\n3 + 4 = 7 : 7", "1 + 2 = 3 : 3 4\\n\\n4 + 3 = 7 : 7"])
    0.5
    """
    return _mean_own_share([_formulas(text) for text in texts])


def own_formula_shares(texts: Sequence[str]) -> list[float]:
    """For each text the share of its formulas that no other text of the group has; 0 for a text without formulas.

    >>> own_formula_shares(["1 + 2 = 3\\n4 + 1 = 5", "1 + 2 = 3", "no formula"])
    [0.5, 0.0, 0.0]
    """
    return [share or 0.0 for share in _own_shares([_formulas(text) for text in texts])]


def _formulas(text: str) -> set[str]:
    return {" ".join(found.split()) for found in _FORMULA.findall(text)}


def step_diversity(texts: Sequence[str], separator: str = "\n\n") -> float | None:
    """For each text the share of its steps that no other text of the group has; mean over texts with steps.

    Steps are the pieces between separators, white space aside, in whatever order they come.

    >>> step_diversity(["a\\n\\nb", "b\\n\\na\\n\\nc\\n\\nd"])
    0.25
    """
    return _mean_own_share([{" ".join(step.split()) for step in text.split(separator)} - {""} for text in texts])


def _mean_own_share(parts_G: Sequence[Collection[str]]) -> float | None:
    """The share of a text's parts that it alone has, averaged over the texts with parts; ``None`` without any."""
    shares = [share for share in _own_shares(parts_G) if share is not None]
    return fmean(shares) if shares else None


def _own_shares(parts_G: Sequence[Collection[str]]) -> list[float | None]:
    """The share of each text's parts that it alone has; ``None`` for a text without parts."""
    holders = Counter(part for own in parts_G for part in own)
    return [fmean(holders[part] == 1 for part in own) if own else None for own in parts_G]


def distinct_ngrams(texts: Sequence[str], n: int = 4) -> float | None:
    """Different word n-grams as a share of all n-grams of the group.

    >>> distinct_ngrams(["a b c", "a b d"], n=2)
    0.75
    """
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        counts.update(_ngrams(text.split(), n))
    return len(counts) / counts.total() if counts else None


def answer_entropy(answers: Sequence[str | None]) -> float:
    """Entropy in nats of the distribution of final answers; a missing answer is an answer of its own.

    >>> round(answer_entropy(["1", "1", "2", "2"]), 4)
    0.6931
    """
    shares = [count / len(answers) for count in Counter(answers).values()]
    return -sum(share * math.log(share) for share in shares) + 0.0


def distinct_right(texts: Sequence[str], is_right: Sequence[bool]) -> int:
    """How many different right solutions the group holds (for the embedded family: different valid orders).

    >>> distinct_right(["a", "a", "b", "c"], [True, True, True, False])
    2
    """
    return len({text.strip() for text, right in zip(texts, is_right, strict=True) if right})


def embedding_diversity(vectors: Sequence[Sequence[float]]) -> float | None:
    """1 minus the mean pairwise cosine of the group's response embeddings, which the caller computes.

    The sum over the pairs of n unit vectors is (‖Σu‖² − Σ‖u‖²) / 2, so the cost grows with n and not with its square.
    A vector of zeros has cosine 0 to every other.

    >>> round(embedding_diversity([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]), 4)  # cosines 0, 1 and 0
    0.6667
    """
    count = len(vectors)
    if count < 2:
        return None
    norms = [math.hypot(*vector) for vector in vectors]
    total = [
        math.fsum(x / norm for x, norm in zip(xs, norms, strict=True) if norm) for xs in zip(*vectors, strict=True)
    ]
    return 1 - (math.fsum(x * x for x in total) - sum(map(bool, norms))) / (count * (count - 1))


GroupMeasure = Callable[[Sequence[str], Sequence[str | None], Sequence[bool]], float | None]
"""A measure of the texts of one group, their final answers, and whether each is right."""

GROUP_MEASURES: dict[str, GroupMeasure] = {
    "distinct_right_solutions": lambda texts, answers, is_right: float(distinct_right(texts, is_right)),
    "text_bleu": lambda texts, answers, is_right: text_bleu(texts),
    "equations": lambda texts, answers, is_right: equation_diversity(texts),
    "steps": lambda texts, answers, is_right: step_diversity(texts),
    "distinct_4grams": lambda texts, answers, is_right: distinct_ngrams(texts),
    "answer_entropy": lambda texts, answers, is_right: answer_entropy(answers),
}
"""All measures that need nothing but the texts of a group, what a verifier read in them, and its verdicts."""
