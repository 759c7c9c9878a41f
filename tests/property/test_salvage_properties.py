"""What holds for every group, every option and every way in which the players may behave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from scope_rlvr.core.groups import Group, Member, Role, SalvageOutcome
from scope_rlvr.core.ports import TeacherReply
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Origin, Outcome, Problem
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods import Grpo, Scope
from scope_rlvr.salvage.salvage import salvage
from scope_rlvr.salvage.settings import SalvageSettings
from tests.doubles import (
    END_MARK,
    SAMPLED,
    CharCodec,
    ExactVerifier,
    ScriptedPolicy,
    ScriptedTeacher,
    TableScorer,
    rollout,
    toolbox,
)

GOOD = st.sampled_from(["good 1\n\n", "good 2\n\n", "good é😀\n\n", "good\n\n\n"])
BAD = st.sampled_from(["bad 3\n\n", "bad\n\n"])
ENDS = st.sampled_from(
    ["answer 7|", "answer 3|", "answer 3|", "answer 0|", "bad answer|", "answer ?|", "|", "", "answer 7"]
)
RESPONSES = st.builds(
    lambda good, bad, rest, end: "".join([*good, *bad, *rest]) + end,
    st.lists(GOOD, min_size=1, max_size=3),
    st.lists(BAD, min_size=1, max_size=2),
    st.lists(GOOD | BAD, max_size=2),
    ENDS,
) | st.builds(lambda steps, end: "".join(steps) + end, st.lists(GOOD | BAD | st.just("half"), max_size=3), ENDS)
CONTINUATIONS = (
    st.sampled_from(["answer 7|", "bad\n\nanswer 7|", "bad 4\n\nanswer 3|", "good\n\nbad\n\nanswer 0|"]) | RESPONSES
)
TEXT_REPLIES = st.builds(
    TeacherReply,
    text=st.sampled_from(["good", "good\n\n", "answer 7", "", "bad"]),
    finished=st.booleans(),
    is_cut_off=st.booleans(),
)
FAILURES = st.sampled_from([TeacherReply(error="down"), TeacherReply()])
REPLIES = (
    GOOD | GOOD | st.sampled_from(["so\n\n", "answer 7|", "good\n\nanswer 7|"]) | TEXT_REPLIES | RESPONSES | FAILURES
)
DISTORTIONS = st.sampled_from([*[lambda s: s] * 20, lambda s: s[:-1], lambda s: (float("nan"),) * len(s)])
MODERATE = settings(max_examples=150, deadline=None)

OPTIONS = st.fixed_dictionaries(
    {
        "max_salvages": st.sampled_from([0, 1, 1, 2, 3]),
        "group_rule": st.sampled_from(["any_failure", "any_failure", "all_fail", "rate_below"]),
        "no_error_rule": st.sampled_from(["skip", "last_step", "argmin"]),
        "min_prefix_steps": st.sampled_from([0, 0, 1, 1, 2]),
        "min_prefix_ratio": st.sampled_from([0.0, 0.0, 0.1, 0.5]),
        "include_truncated": st.booleans(),
        "ranking": st.sampled_from(["longest_prefix", "latest_step", "shortest", "random"]),
        "cut_back_steps": st.sampled_from([0, 0, 0, 1]),
        "cut_back_tokens": st.sampled_from([0, 0, 0, 2]),
        "mode": st.sampled_from(["step", "suffix", {"kind": "step", "max_tokens": 7}]),
        "max_rounds": st.integers(1, 3),
        "num_continuations": st.integers(1, 3),
        "guards": st.fixed_dictionaries({name: st.booleans() for name in ("repeated", "answer_leak", "low_score")}),
        "fallback": st.sampled_from(["none", "suffix"]),
        "admission": st.sampled_from(["verified", "verified", "always"]),
        "insertion": st.sampled_from(["replace", "append", "pair"]),
        "show_rejected_step": st.booleans(),
    }
)


@st.composite
def groups_of_rollouts(draw: st.DrawFn) -> list[Group]:
    groups = []
    for number, texts in enumerate(draw(st.lists(st.lists(RESPONSES, min_size=1, max_size=4), max_size=3))):
        problem = Problem(f"p{number}", "Q", "7")
        rollouts = [rollout(text) for text in texts]
        verdicts = toolbox().verify([(problem, r) for r in rollouts])
        groups.append(Group(problem, tuple(Member(r, v) for r, v in zip(rollouts, verdicts, strict=True))))
    return groups


@st.composite
def worlds(draw: st.DrawFn) -> Toolbox:
    return toolbox(
        policy=ScriptedPolicy(draw(st.lists(CONTINUATIONS, min_size=1, max_size=4))),
        teacher=ScriptedTeacher(draw(st.lists(REPLIES, min_size=1, max_size=4))),
        step_scorer=TableScorer(distort=draw(DISTORTIONS)),
        max_response_tokens=draw(st.sampled_from([200, 200, 80, 60, 40, 20])),
        seed=draw(st.integers(0, 5)),
    )


def salvaged_of(groups: Sequence[Group]) -> list[tuple[Group, Member]]:
    return [(g, m) for g in groups for m in g.members if m.role is Role.SALVAGED]


def original_of(group: Group, salvaged: Member) -> Member:
    """The failure that a salvaged rollout was made from: the two share one record."""
    (original,) = [m for m in group.sampled if m.salvage is salvaged.salvage]
    return original


@MODERATE
@given(groups_of_rollouts(), worlds(), OPTIONS)
def test_a_salvaged_rollout_keeps_its_prefix_and_is_admitted_by_the_verifier_alone(groups, world, options):
    edited = salvage(groups, SalvageSettings(**options), world)
    for group, member in salvaged_of(edited):
        original, record = original_of(group, member), member.salvage
        kept = record.num_kept_tokens
        assert member.rollout.token_ids[:kept] == original.rollout.token_ids[:kept]
        assert member.rollout.logprob_T[:kept] == original.rollout.logprob_T[:kept]
        assert set(member.rollout.origin_T[:kept]) <= {Origin.POLICY}
        assert member.rollout.prompt_ids == original.rollout.prompt_ids
        assert original.verdict.outcome is Outcome.WRONG
        assert record.is_admitted
        (verdict,) = ExactVerifier().verify([(group.problem, world.text(member.rollout))])
        if options["admission"] == "verified":
            assert member.verdict == verdict
            assert verdict.is_right
            assert not member.rollout.is_truncated
        assert member.verdict.is_known
        assert len(member.rollout) <= max(world.max_response_tokens, kept)


@MODERATE
@given(groups_of_rollouts(), worlds(), OPTIONS)
def test_segments_partition_the_response_and_the_end_belongs_to_who_wrote_it(groups, world, options):
    for _, member in salvaged_of(salvage(groups, SalvageSettings(**options), world)):
        r = member.rollout
        assert sum(map(len, r.segments)) == len(r) == len(r.token_ids) == len(r.origin_T) == len(r.logprob_T)
        assert all(len(segment) for segment in r.segments)
        ends = [i for i, token in enumerate(r.token_ids) if token in CharCodec.end_ids]
        assert ends == ([] if r.is_truncated else [len(r) - 1])
        assert Origin.TEACHER in r.origin_T
        for correction in member.salvage.corrections[-1:]:
            end = correction.at_token + correction.num_tokens
            assert set(r.origin_T[correction.at_token : end]) == {Origin.TEACHER}
            assert set(r.origin_T[end:]) <= {Origin.POLICY}


@MODERATE
@given(groups_of_rollouts(), worlds(), OPTIONS)
def test_groups_have_the_members_that_the_insertion_says(groups, world, options):
    edited = salvage(groups, SalvageSettings(**options), world)
    assert len(edited) == len(groups)
    for before, after in zip(groups, edited, strict=True):
        num_salvaged = sum(m.role is Role.SALVAGED for m in after.members)
        assert num_salvaged <= options["max_salvages"]
        assert after.problem == before.problem
        assert after.num_sampled == len(before.members)
        replaces = options["insertion"] == "replace"
        assert len(after.members) == len(before.members) + (0 if replaces else num_salvaged)
        assert len(after.replaced) == (num_salvaged if replaces else 0)
        for old, new in zip(before.members, after.members, strict=False):
            if new.role is Role.SAMPLED:
                assert (new.rollout, new.verdict) == (old.rollout, old.verdict)
        if num_salvaged == 0 and options["max_salvages"]:
            assert [m.rollout for m in after.members] == [m.rollout for m in before.members]


@MODERATE
@given(groups_of_rollouts(), worlds(), OPTIONS)
def test_every_failure_has_a_record_that_is_consistent(groups, world, options):
    config = SalvageSettings(**options)
    for group in salvage(groups, config, world):
        attempted = 0
        for member in group.sampled:
            record = member.salvage
            if not options["max_salvages"] or member.verdict.outcome is not Outcome.WRONG:
                assert record is None
                continue
            assert record is not None
            assert isinstance(record.outcome, SalvageOutcome)
            assert len(record.step_scores_S) in (0, len(record.steps))
            attempted += record.was_attempted
            assert record.passed_guards <= record.was_attempted <= record.is_located
            assert record.is_admitted == any(m.salvage is record for m in group.members if m.role is Role.SALVAGED)
            num_tries = config.max_rounds + (config.fallback == "suffix")
            assert len(record.corrections) <= num_tries
            assert record.num_continuations <= config.num_continuations * config.max_rounds
            if record.verdict is not None and not record.attempt.is_truncated:
                assert [record.verdict] == ExactVerifier().verify([(group.problem, world.text(record.attempt))])
        assert attempted <= options["max_salvages"]


@MODERATE
@given(groups_of_rollouts(), worlds(), OPTIONS)
def test_a_pair_shares_its_prefix_and_parts_at_the_correction(groups, world, options):
    for group, member in salvaged_of(salvage(groups, SalvageSettings(**options | {"insertion": "pair"}), world)):
        original = original_of(group, member)
        shared = member.num_shared_tokens
        assert shared == original.num_shared_tokens == member.salvage.num_kept_tokens
        assert member.rollout.token_ids[:shared] == original.rollout.token_ids[:shared]
        assert member.rollout.origin_T[shared] is Origin.TEACHER


@MODERATE
@given(groups_of_rollouts(), worlds(), OPTIONS, st.booleans())
def test_nothing_salvaged_is_grpo_bit_for_bit(groups, world, options, is_wanted):
    if is_wanted:  # wanted, but no attempt can succeed
        options = options | {"admission": "verified"}
        world = replace(
            world, policy=ScriptedPolicy(["bad 9\n\nanswer 0|"]), teacher=ScriptedTeacher(["so\n\n", "so|"])
        )
    else:
        options = options | {"max_salvages": 0}
    scope, grpo = Scope(**options), Grpo()
    edited = scope.edit_groups(groups, world)
    assert not salvaged_of(edited)
    value = {Outcome.RIGHT: 1.0, Outcome.WRONG: 0.0, Outcome.UNKNOWN: None}
    rewards_PG = [[value[m.verdict.outcome] for m in g.members] for g in groups]
    for normalisation in Normalisation:
        ours = scope.credit(edited, rewards_PG, normalisation)
        assert ours == grpo.credit(groups, rewards_PG, normalisation)
    if options["max_salvages"] == 0:
        assert all(a is b for a, b in zip(edited, groups, strict=True))


@MODERATE
@given(groups_of_rollouts(), worlds(), OPTIONS)
def test_equal_worlds_give_equal_groups(groups, world, options):
    def fresh() -> list[Any]:
        again = toolbox(
            policy=ScriptedPolicy(world.policy.script),
            teacher=ScriptedTeacher(world.teacher.script),
            step_scorer=TableScorer(distort=world.step_scorer.distort),
            max_response_tokens=world.max_response_tokens,
            seed=world.seed,
        )
        return salvage(groups, SalvageSettings(**options), again)

    first, second = fresh(), fresh()
    assert [g.members for g in first] == [g.members for g in second]


@MODERATE
@given(groups_of_rollouts(), worlds(), OPTIONS)
def test_streams_fit_the_rollouts_and_teacher_tokens_are_never_pushed_down(groups, world, options):
    scope = Scope(**options)
    edited = scope.edit_groups(groups, world)
    value = {Outcome.RIGHT: 1.0, Outcome.WRONG: 0.0, Outcome.UNKNOWN: None}
    rewards_PG = [[value[m.verdict.outcome] for m in g.members] for g in edited]
    for group, streams_G in zip(edited, scope.credit(edited, rewards_PG, Normalisation.NONE), strict=True):
        for member, streams in zip(group.members, streams_G, strict=True):
            assert len(streams.advantage_T) == len(member.rollout)
            assert streams.origin_T == member.rollout.origin_T
            for advantage, weight, origin in zip(streams.advantage_T, streams.weight_T, streams.origin_T, strict=True):
                assert origin is Origin.POLICY or advantage >= 0
                assert weight in (0.0, 1.0)
                assert member.verdict.is_known or weight == 0.0


def test_scripted_ids_differ_from_encoded_ones():
    """The doubles can tell a prefix that was kept from one that was written again."""
    rng = Random(0)
    text = "".join(rng.choice("ab \n") for _ in range(9))
    assert rollout(text + END_MARK).token_ids[:9] == tuple(SAMPLED + i for i in CharCodec().encode(text))
