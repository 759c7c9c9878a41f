"""A judge that is a causal language model in this process: its verdict is read from the probabilities of one token.

The model is shown the question and the beginning of the answer, ``Verdict:``, and never writes: the probabilities of the
candidates for the next token, the letters or the grades, are the verdict. Grades are weighted by their probabilities as in
G-Eval (Liu et al. 2023, arXiv 2303.16634), orders are those of the first token as in FIRST (Reddy et al. 2024,
arXiv 2406.15657).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from scope_rlvr.core.ports import Fault, JudgeKind, JudgeReply, JudgeRequest
from scope_rlvr.formulas.readings import LogitReducer
from scope_rlvr.models.local import LocalModel, TokenizerCodec
from scope_rlvr.teachers.judging import (
    BEST_GRADE,
    FORMS,
    LETTERS,
    Ballot,
    ballots,
    known_without_asking,
    mean_scores,
    rank_scores,
)

ENDING = """\


Answer with one line of the following form.
Verdict: {form}"""

BEGINNING = "Verdict:"
GRADES = "".join(map(str, range(BEST_GRADE + 1)))

_LEAST_MASS = 0.01
"""Where all candidates together are less likely, the model is about to write something else."""


class CandidateLogProbs(LogitReducer):
    """The log-probabilities of some tokens as the next one: ``(N, K)`` for ``K`` ids.

    >>> import torch
    >>> CandidateLogProbs(ids=(0, 2))(torch.zeros(1, 4), torch.tensor([0]))  # log ¼
    tensor([[-1.3863, -1.3863]])
    """

    title: ClassVar[str] = "candidates"
    ids: tuple[int, ...]

    def __call__(self, logits_NV: Tensor, ids_N: Tensor) -> Tensor:
        return logits_NV.log_softmax(-1)[:, list(self.ids)]


class LocalJudge:
    """Reads a local model's verdicts. ``model`` has a codec of its own, which puts the question into its chat template.

    Raises ``ValueError`` for a tokenizer that has not one token for each letter and for each grade.
    """

    def __init__(self, model: LocalModel, *, both_orders: bool = True) -> None:
        self.model = model
        self.both_orders = both_orders
        self._ids = {
            JudgeKind.SCORE: candidate_ids(model.codec, GRADES),
            JudgeKind.PICK: candidate_ids(model.codec, LETTERS),
        }

    def judge(self, requests: Sequence[JudgeRequest], *, seed: int) -> list[JudgeReply]:
        """One reply for each request, in order. Nothing is drawn, so ``seed`` changes nothing."""
        known = [known_without_asking(request) for request in requests]
        asked = [
            self._ballots(request) if reply is None else [] for request, reply in zip(requests, known, strict=True)
        ]
        read = iter(self._read([ballot for of_one in asked for ballot in of_one]))
        return [
            reply or _reply_of(request, [(ballot, next(read)) for ballot in of_one])
            for request, reply, of_one in zip(requests, known, asked, strict=True)
        ]

    def _ballots(self, request: JudgeRequest) -> list[Ballot]:
        """The best one is asked for where an order is: the probabilities of the letters put all of them in order."""
        kind = JudgeKind.SCORE if request.kind is JudgeKind.SCORE else JudgeKind.PICK
        return ballots(replace(request, kind=kind), both_orders=self.both_orders)

    def _read(self, asked: Sequence[Ballot]) -> list[list[float]]:
        """The log-probabilities of the candidates of each ballot."""
        found: dict[int, list[float]] = {}
        for kind, candidates in self._ids.items():
            batch = [i for i, ballot in enumerate(asked) if ballot.kind is kind]
            prompts = [self._prompt_ids(asked[i], candidates) for i in batch]
            kept = self.model.read(prompts, [candidates[:1]] * len(batch), [CandidateLogProbs(ids=candidates)])
            found |= {i: of_one[CandidateLogProbs.title][0].tolist() for i, of_one in zip(batch, kept, strict=True)}
        return [found[i] for i in range(len(asked))]

    def _prompt_ids(self, ballot: Ballot, candidates: tuple[int, ...]) -> tuple[int, ...]:
        text = ballot.text + ENDING.format(form=FORMS[ballot.kind])
        first = GRADES[0] if ballot.kind is JudgeKind.SCORE else LETTERS[0]
        written = self.model.codec.encode_prompt(text, f"{BEGINNING} {first}")
        assert written[-1] == candidates[0], "a candidate is one token, whatever stands before the line"
        return written[:-1]


def candidate_ids(codec: TokenizerCodec, candidates: str) -> tuple[int, ...]:
    """The ids of the single characters that may follow ``Verdict:`` and a space."""
    written = [codec.encode_prompt("?", f"{BEGINNING} {candidate}") for candidate in candidates]
    ids = tuple(ids[-1] for ids in written)
    if len({ids[:-1] for ids in written}) > 1 or len(set(ids)) < len(ids):
        raise ValueError(
            f"its tokenizer has not one token for each of {candidates[0]} to {candidates[-1]} after {BEGINNING!r}; take "
            "another model as the judge, or one behind a server, which writes its verdicts"
        )
    return ids


def _reply_of(request: JudgeRequest, read: Sequence[tuple[Ballot, list[float]]]) -> JudgeReply:
    votes = []
    for ballot, logprobs in read:
        shown = logprobs if ballot.kind is JudgeKind.SCORE else logprobs[: len(ballot.shown)]
        mass = sum(map(math.exp, shown))
        if mass < _LEAST_MASS:
            return JudgeReply(
                error=f"the judge's model gives all verdicts together a probability of {mass:.2g}: it would write something "
                "else, and its chat template or the model does not fit",
                fault=Fault.OTHER,
            )
        shares = [math.exp(logprob) / mass for logprob in shown]
        votes.append((ballot, _scores_of(request.kind, shares)))
    return JudgeReply(scores=mean_scores(len(request.responses), votes))


def _scores_of(kind: JudgeKind, shares: Sequence[float]) -> tuple[float, ...]:
    """From the shares of the candidates in their probability to a number for each response that was shown.

    >>> _scores_of(JudgeKind.SCORE, [0.5] + [0.0] * 8 + [0.5])  # half worthless, half perfect
    (0.5,)
    >>> _scores_of(JudgeKind.RANK, [0.2, 0.5, 0.3])
    (0.0, 1.0, 0.5)
    """
    if kind is JudgeKind.SCORE:
        return (sum(share * grade for grade, share in enumerate(shares)) / BEST_GRADE,)
    if kind is JudgeKind.PICK:
        return tuple(shares)
    return rank_scores(sorted(range(len(shares)), key=lambda place: -shares[place]))
