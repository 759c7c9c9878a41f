"""How different are the rollouts of a group? Several measures, since the paper does not say which one it used.

Measure them on rollouts that the policy wrote unaided: a teacher's tokens raise diversity mechanically.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from statistics import fmean

BLEU_WEIGHTS = (0.02, 0.1, 0.15, 0.25, 0.38)
"""Weights of 1- to 5-grams, as DIVER publishes them (they sum to 0.9)."""

BLEU_MAX_CHARS = 1000
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
    if not candidate.num_words or not reference.num_words:
        return float(candidate.num_words == reference.num_words)
    log_precision = 0.0
    for weight, own, other in zip(weights, candidate.ngrams, reference.ngrams, strict=True):
        if own:
            matches = sum(min(count, other[ngram]) for ngram, count in own.items() if ngram in other)
            log_precision += weight * math.log((matches or _SMOOTHING) / own.total())
    brevity = min(1.0, math.exp(1 - reference.num_words / candidate.num_words))
    return brevity * math.exp(log_precision)


def text_bleu(texts: Sequence[str]) -> float | None:
    """1 minus the mean pairwise BLEU of a group, each pair taken both ways. ``None`` for fewer than two texts.

    >>> text_bleu(["a b c", "a b c"]), text_bleu(["a b c"])
    (0.0, None)
    """
    if len(texts) < 2:
        return None
    profiles = [_Profile.of(text[:BLEU_MAX_CHARS].split(), len(BLEU_WEIGHTS)) for text in texts]
    return 1 - fmean(_bleu(a, b, BLEU_WEIGHTS) for a, b in permutations(profiles, 2))


def equation_diversity(texts: Sequence[str]) -> float | None:
    """For each text the share of its formulas that no other text of the group has; mean over texts with formulas.

    >>> equation_diversity(["1 + 2 = 3 : 3 4\\n\\n3 + 4 = 7 : 7", "1 + 2 = 3 : 3 4\\n\\n4 + 3 = 7 : 7"])
    0.5
    """
    formulas = [{" ".join(found.split()) for found in _FORMULA.findall(text)} for text in texts]
    holders = Counter(formula for own in formulas for formula in own)
    shares = [fmean(holders[formula] == 1 for formula in own) for own in formulas if own]
    return fmean(shares) if shares else None


def distinct_ngrams(texts: Sequence[str], n: int = 4) -> float | None:
    """Different word n-grams as a share of all n-grams of the group.

    >>> distinct_ngrams(["a b c", "a b d"], n=2)
    0.75
    """
    counts = sum((_ngrams(text.split(), n) for text in texts), Counter())
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

    >>> embedding_diversity([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    0.6666666666666667
    """
    if len(vectors) < 2:
        return None
    units = [[x / (math.hypot(*vector) or 1.0) for x in vector] for vector in vectors]
    return 1 - fmean(math.fsum(x * y for x, y in zip(a, b, strict=True)) for a, b in combinations(units, 2))


def group_diversity(
    texts: Sequence[str], answers: Sequence[str | None], is_right: Sequence[bool]
) -> dict[str, float | None]:
    """All measures that need nothing but the texts of one group."""
    return {
        "distinct_right_solutions": float(distinct_right(texts, is_right)),
        "text_bleu": text_bleu(texts),
        "equations": equation_diversity(texts),
        "distinct_4grams": distinct_ngrams(texts),
        "answer_entropy": answer_entropy(answers),
    }


def mean_diversity(groups: Sequence[dict[str, float | None]]) -> dict[str, float]:
    """Mean of each measure over the groups in which it is defined.

    >>> mean_diversity([{"text_bleu": 0.2}, {"text_bleu": None}, {"text_bleu": 0.4}])
    {'text_bleu': 0.30000000000000004}
    """
    names = {name for group in groups for name in group}
    values = {name: [v for group in groups if (v := group.get(name)) is not None] for name in sorted(names)}
    return {name: fmean(known) for name, known in values.items() if known}
