"""What the salvage promises, on the shipped models: prefixes untouched, segments whole, right answers only."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from scope_rlvr.core.groups import Group, Member, Role
from scope_rlvr.core.ports import Continuation, Sampling, TeacherReply, TeacherRequest
from scope_rlvr.core.steps import StepRule, split_steps
from scope_rlvr.core.toolbox import Toolbox, continue_rollout
from scope_rlvr.core.types import Origin, Outcome, Problem, Rollout, Verdict
from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.models.local import LocalModel, TokenizerCodec
from scope_rlvr.problems import families
from scope_rlvr.salvage.rules import Threshold
from scope_rlvr.salvage.salvage import salvage
from scope_rlvr.salvage.settings import Guards, SalvageSettings
from scope_rlvr.scorers.token_classifier import TokenClassifierScorer
from scope_rlvr.teachers.local import LocalTeacher
from tests.engine.conftest import load_policy

NUM_CUTS = 10_000
FAMILY = families.get("reduction")


@pytest.fixture(scope="module")
def tools(scorer: TokenClassifierScorer, teacher: LocalTeacher) -> Toolbox:
    model, tokenizer = load_policy()
    codec = TokenizerCodec(tokenizer)
    return Toolbox(
        policy=LocalModel(model, codec),
        verifier=FinalAnswerVerifier(),
        codec=codec,
        sampling=Sampling(),
        max_response_tokens=96,
        seed=11,
        step_scorer=scorer,
        teacher=teacher,
    )


@pytest.fixture(scope="module")
def groups(tools: Toolbox) -> list[Group]:
    problems = FAMILY.sample(level=6, count=60, seed=5, split="test")
    starts = [Rollout(tools.codec.encode(p.prompt), ()) for p in problems for _ in range(8)]
    continuations = tools.policy.extend(
        [start.prompt_ids for start in starts], tools.sampling, max_tokens=[96] * len(starts), seed=1
    )
    rollouts = [continue_rollout(s, c) for s, c in zip(starts, continuations, strict=True)]
    verdicts = tools.verify([(problems[i // 8], rollout) for i, rollout in enumerate(rollouts)])
    members = [Member(rollout, verdict) for rollout, verdict in zip(rollouts, verdicts, strict=True)]
    return [Group(p, tuple(members[i * 8 : (i + 1) * 8])) for i, p in enumerate(problems)]


class RandomScorer:
    """Finds a first wrong step by chance, so that every place in a rollout is cut sooner or later."""

    rule = Threshold(threshold=0.5)

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def score(self, solutions: Sequence[tuple[Problem, Sequence[str]]]) -> list[tuple[float, ...] | None]:
        scores: list[tuple[float, ...] | None] = []
        for _, steps in solutions:
            wrong = self.rng.randrange(len(steps))
            scores.append(tuple(0.0 if i == wrong else 1.0 for i in range(len(steps))))
        return scores


class Scribbler:
    """A teacher and a policy that write a few tokens of the vocabulary: what is kept does not depend on what comes after it."""

    def __init__(self, codec: TokenizerCodec, seed: int) -> None:
        self.rng = random.Random(seed)
        self.words = [i for i in range(len(codec.tokenizer)) if codec.pieces([i])[0].strip()]
        self.step_end = codec.encode("\n\n")

    def continue_from(self, requests: Sequence[TeacherRequest], *, seed: int) -> list[TeacherReply]:
        steps = [(*self.rng.choices(self.words, k=3), *self.step_end) for _ in requests]
        return [TeacherReply(step, logprobs=(-1.0,) * len(step)) for step in steps]

    def extend(
        self, prefixes: Sequence[Sequence[int]], sampling: Sampling, *, max_tokens: Sequence[int], seed: int
    ) -> list[Continuation]:
        written = [tuple(self.rng.choices(self.words, k=min(4, room))) for room in max_tokens]
        return [Continuation(ids, (-1.0,) * len(ids)) for ids in written]

    def entropies(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], temperature: float
    ) -> list[tuple[float, ...]]:
        raise NotImplementedError


def test_ten_thousand_random_cuts_leave_every_prefix_as_it_was_sampled(tools: Toolbox, groups: list[Group]) -> None:
    wrong = Verdict(Outcome.WRONG, reason="for this test every rollout is taken to be wrong")
    doubted = [
        Group(group.problem, tuple(Member(member.rollout, wrong) for member in group.members)) for group in groups
    ]
    no_guards = Guards(repeated=False, answer_leak=False, low_score=False)
    num_cuts, places, repeat = 0, set(), 0
    while num_cuts < NUM_CUTS:
        settings = SalvageSettings(
            max_salvages=8,
            min_prefix_steps=0,
            min_prefix_ratio=0,
            cut_back_tokens=repeat % 7,
            guards=no_guards,
            admission="always",
        )
        scribbler = Scribbler(tools.codec, repeat)
        chance = Toolbox(
            policy=scribbler,
            verifier=tools.verifier,
            codec=tools.codec,
            sampling=tools.sampling,
            max_response_tokens=96,
            seed=repeat,
            step_scorer=RandomScorer(repeat),
            teacher=scribbler,
        )
        for before, after in zip(doubted, salvage(doubted, settings, chance), strict=True):
            for original, member in zip(before.members, after.members, strict=True):
                record = member.salvage
                assert record is not None
                if record.attempt is None:
                    continue
                attempt, kept = record.attempt, record.num_kept_tokens
                assert attempt.token_ids[:kept] == original.rollout.token_ids[:kept]
                assert set(attempt.origin_T[:kept]) <= {Origin.POLICY}
                assert len(attempt.token_ids) == sum(len(segment) for segment in attempt.segments) <= 96
                assert all(len(segment) for segment in attempt.segments)
                num_cuts += 1
                places.add(kept)
        repeat += 1
    assert len(places) > 30


def test_every_admitted_rollout_is_right_and_most_are_right_in_every_step(tools: Toolbox, groups: list[Group]) -> None:
    edited = salvage(groups, SalvageSettings(max_salvages=8), tools)
    verifier = FinalAnswerVerifier()
    num_admitted = num_exact = 0
    for before, after in zip(groups, edited, strict=True):
        for original, member in zip(before.members, after.members, strict=True):
            pieces = tools.codec.pieces(member.rollout.token_ids)
            steps = split_steps(pieces, StepRule())
            assert [0, *(step.end for step in steps)] == [*(step.start for step in steps), len(member.rollout)]
            if member.role is not Role.SALVAGED:
                assert member.rollout == original.rollout
                continue
            assert not original.verdict.is_right
            assert verifier.verify([(after.problem, "".join(pieces))])[0].is_right
            num_admitted += 1
            num_exact += FAMILY.first_wrong_step(after.problem, [step.text for step in steps]) is None
    share = num_exact / num_admitted
    print(f"{num_admitted} admitted, {share:.1%} of them right in every step")
    assert num_admitted > 100
    assert share > 0.8
