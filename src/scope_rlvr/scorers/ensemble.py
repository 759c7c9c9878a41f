"""Several step scorers as one: by the mean or the minimum of their scores, or by a vote on the first wrong step."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from scope_rlvr.core.ports import DecisionRule, StepScorer, is_served
from scope_rlvr.core.types import Problem
from scope_rlvr.salvage.rules import Calibrated
from scope_rlvr.scorers.families import Combine

_Scores = tuple[float, ...]


class EnsembleScorer:
    """A solution that one member cannot score gets no scores: fewer members would be another scorer.

    For mean and minimum, the scores of a member with a calibrated rule are its probabilities. A vote scores a step by the
    share of the members that find no wrong step up to it, so at a threshold of ½ the median member decides.

    >>> from scope_rlvr.salvage.rules import Threshold
    >>> class Says:
    ...     def __init__(self, *scores):
    ...         self.scores, self.rule = scores, Threshold(threshold=0.5)
    ...     def score(self, solutions):
    ...         return [self.scores for _ in solutions]
    >>> members = [Says(0.9, 0.2, 0.9), Says(0.9, 0.8, 0.1), Says(0.7, 0.2, 0.8)]
    >>> EnsembleScorer(members, Combine.VOTE, Threshold()).score([(Problem("p", "?", ""), ["a", "b", "c"])])
    [(1.0, 0.3333333333333333, 0.0)]
    >>> EnsembleScorer(members, Combine.MIN, Threshold()).score([(Problem("p", "?", ""), ["a", "b", "c"])])
    [(0.7, 0.2, 0.1)]
    """

    def __init__(self, members: Sequence[StepScorer], combine: Combine, rule: DecisionRule) -> None:
        self.members = members
        self.combine = combine
        self.rule = rule

    @property
    def is_served(self) -> bool:
        return any(map(is_served, self.members))

    def score(self, solutions: Sequence[tuple[Problem, Sequence[str]]]) -> list[_Scores | None]:
        scored = [self._of(member, solutions) for member in self.members]
        return [self._combined([found for found in some if found is not None]) for some in zip(*scored, strict=True)]

    def _of(self, member: StepScorer, solutions: Sequence[tuple[Problem, Sequence[str]]]) -> list[_Scores | None]:
        """What a member says of each solution, on the common scale."""
        found = member.score(solutions)
        fitting = [
            s if s is not None and len(s) == len(steps) else None
            for s, (_, steps) in zip(found, solutions, strict=True)
        ]
        return [None if scores is None else self._rescaled(member.rule, scores) for scores in fitting]

    def _rescaled(self, rule: DecisionRule, scores: _Scores) -> _Scores:
        if self.combine is Combine.VOTE:
            first_wrong = rule.first_wrong(scores)
            num_right = len(scores) if first_wrong is None else first_wrong
            return (1.0,) * num_right + (0.0,) * (len(scores) - num_right)
        if isinstance(rule, Calibrated) and rule.map is not None:
            return tuple(map(rule.map.probability, scores))
        return scores

    def _combined(self, found: Sequence[_Scores]) -> _Scores | None:
        if len(found) < len(self.members):
            return None
        combine = min if self.combine is Combine.MIN else fmean
        return tuple(combine(scores) for scores in zip(*found, strict=True))
