"""Parts by hand: what each does to groups, rewards, streams and losses; how they combine, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.groups import Group, GroupClass, Member, Role
from scope_rlvr.core.ports import JudgeReply, JudgeRequest, Sampling, ScoreReply, ScoreRequest
from scope_rlvr.core.types import Origin, Outcome, Problem, Rollout, Segment, Verdict
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Clip, example_tokens
from scope_rlvr.formulas.readings import Entropy, LogProb, TopK
from scope_rlvr.methods import Dapo, Grpo, Gspo, Opd, Pure, Scope
from scope_rlvr.methods.exploration.dars import Dars
from scope_rlvr.methods.parts.base import Family, Need, TokenWeight
from scope_rlvr.methods.parts.sources import Bandit
from scope_rlvr.methods.parts.tournament import Bracket
from scope_rlvr.methods.reading import ReadBy, Reading, read
from scope_rlvr.methods.registry import METHODS, PARTS, part_of
from scope_rlvr.methods.step import edit_groups
from scope_rlvr.methods.streams import sampled_rewards
from tests.doubles import PROBLEM, PROMPT_IDS, ScriptedPolicy, group, sampled, toolbox
from tests.unit.methods.crediting import credited

RIGHT, WRONG = "answer 7|", "answer 3|"


class ReaderByTable:
    """Reads the numbers of a table, by the reducer's name, the same for every token; counts its calls."""

    def __init__(self, **values: Any) -> None:
        self.values, self.calls = values, []

    def read(self, prompts, responses, reducers, temperature):
        self.calls.append([reducer.name for reducer in reducers])
        return [
            {r.name: torch.tensor([float(self.values[r.name])] * len(response)) for r in reducers}
            for response in responses
        ]


def member(outcome: Outcome, num_tokens: int = 2, **extras: Any) -> Member:
    segment = Segment(tuple(range(num_tokens)), Origin.POLICY, (-0.5,) * num_tokens)
    return Member(Rollout((1,), (segment,)), Verdict(outcome), extras=extras)


# --- the reading pass -------------------------------------------------------------------------------------------------


def test_readings_of_one_model_share_a_pass_and_lie_on_the_members():
    policy, reference = ReaderByTable(logprob=-0.5, entropy=0.7), ReaderByTable(logprob=-1.0)
    tools = toolbox(readers={"policy": policy, "reference": reference})
    entropy = PARTS["forking_tokens"]().readings[0]
    wanted = [Reading("own"), entropy, Reading("before", by=ReadBy.REFERENCE)]
    (found,) = read([group(RIGHT, WRONG)], wanted, tools)
    assert (policy.calls, reference.calls) == ([["logprob", "entropy"]], [["logprob"]])
    for one in found.members:
        count = len(one.rollout)
        assert one.extras["own"] == pytest.approx((-0.5,) * count)
        assert one.extras["entropy"] == pytest.approx((0.7,) * count)
        assert one.extras["before"] == (-1.0,) * count


def test_what_is_not_to_be_read_is_not_read():
    policy = ReaderByTable(logprob=-0.5)
    only_right = Reading("own", text=lambda g, m, tools: ((1,), (2, 3)) if m.verdict.is_right else None)
    (found,) = read([group(RIGHT, WRONG)], [only_right], toolbox(readers={"policy": policy}))
    assert [("own" in one.extras, len(one.extras.get("own", ()))) for one in found.members] == [(True, 2), (False, 0)]


def test_a_model_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="'reference' is to be read here, and there is none"):
        read([group(RIGHT)], [Reading("before", by=ReadBy.REFERENCE)], toolbox())


class ListingTeacher:
    """Finds the token that was written likely, and token 9 a little less so."""

    scoring_refusal = None

    def score(self, requests: list[ScoreRequest]) -> list[ScoreReply]:
        return [
            ScoreReply(
                (-0.1,) * len(r.response_ids),
                top_ids=tuple((token, 9)[: r.top_k] for token in r.response_ids),
                top_logprobs=((-0.1, -2.5)[: r.top_k],) * len(r.response_ids),
            )
            for r in requests
        ]


def test_a_teachers_likeliest_tokens_have_the_shape_of_the_policys():
    tools = toolbox(teacher=ListingTeacher())
    (found,) = read([group(RIGHT)], [Reading("likely", TopK(k=2), by=ReadBy.TEACHER)], tools)
    (one,) = found.members
    assert one.extras["likely"].shape == (len(one.rollout), 2, 2)
    assert one.extras["likely"][0, 0].tolist() == pytest.approx([-0.1, -2.5])
    assert one.extras["likely"][:, 1].tolist() == [[token, 9] for token in one.rollout.token_ids]


def test_a_teacher_is_not_asked_for_what_it_cannot_say():
    with pytest.raises(ValueError, match="wants 'entropy' of the teacher, which gives log-probabilities"):
        Reading("sure", Entropy(), by=ReadBy.TEACHER)


class Peek(TokenWeight):
    """Reads under a name of its own choice."""

    kind: str = "peek"
    title: ClassVar[str] = "Peek"
    called: str = "entropy"
    reducer: Any = None

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading(self.called, self.reducer),)


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (Peek(reducer=LogProb()), "two readings are called 'entropy' and differ"),
        (Peek(called="first", reducer=TopK(k=2)), "two reducers are called 'top_k by the policy' and differ"),
    ],
)
def test_two_things_of_one_name_are_refused(one, said):
    same = Peek(kind="other", called="second", reducer=TopK(k=3))
    with pytest.raises(ValueError, match=said):
        Grpo(parts=["forking_tokens", one, same])
    assert Grpo(parts=["forking_tokens", "entropy_smoothing", same]).parts, "equal readings are shared"


# --- families and combinations ----------------------------------------------------------------------------------------


def test_parts_act_in_the_order_of_their_families_and_then_of_the_list():
    method = Grpo(parts=["forking_tokens", "confidence_penalty", "replay", "overlong_penalty"])
    families = [part.family for part in method.all_parts]
    assert families == [Family.GROUP_EDIT, Family.REWARD, Family.ADVANTAGE, Family.TOKEN_WEIGHT]
    twice = Dapo(parts=["replay", {"kind": "novelty_bonus", "weight": 0.1}])
    assert [part.kind for part in twice.all_parts] == [
        "redraw_flat_groups", "replay", "overlong_penalty", "novelty_bonus",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "parts", "said"),
    [
        (Grpo, ["replay", "replay"], "'replay' is there twice"),
        (
            Grpo,
            ["step_rewards", "prime_credit"],
            "'step_rewards' and 'prime_credit' both take the place of the estimator",
        ),
        (Gspo, ["sequence_ratio"], "gspo has 'sequence_ratio' already"),
        (Grpo, ["replai"], "there is no part 'replai'; did you mean 'replay'"),
    ],
)
def test_contradictions_are_refused(method, parts, said):
    with pytest.raises(ValueError, match=said):
        method(parts=parts)


def test_needs_come_from_parts_too():
    assert Grpo(parts=["confidence_penalty"]).needs == {Need.REFERENCE}
    assert Grpo(parts=["tournament"]).needs == {Need.JUDGE}
    assert Scope(parts=["min_form"]).needs == {Need.STEP_SCORER, Need.TEACHER}
    assert Opd().needs == {Need.TEACHER_SCORES}
    assert Grpo(parts=[{"kind": "anchor", "to": "average"}]).needs == {Need.AVERAGE}
    with pytest.raises(ValueError, match="needs judge, which this engine cannot give"):
        Grpo(parts=["tournament"]).refuse_without(frozenset(), "this engine")


def test_an_estimator_works_inside_scope():
    texts = ("good 1\n\nbad 2\n\nanswer 3|", RIGHT, "bad|")
    edited, streams = credited(Scope(parts=["step_rewards"]), *texts)
    plain = credited(Scope(), *texts)
    assert [m.role for m in edited.members] == [m.role for m in plain[0].members]
    assert streams[0].advantage_T != plain[1][0].advantage_T
    assert all(a >= 0 for a, o in zip(streams[0].advantage_T, streams[0].origin_T, strict=True) if o is Origin.TEACHER)


@pytest.mark.parametrize("kind", sorted(PARTS))
def test_every_part_says_what_it_is(kind):
    part = part_of(kind)
    assert part.kind == kind
    for told in (part.title, part.source, part.changes, part.formula, part.status, part.family):
        assert told
    assert (type(part).__doc__ or "").count(">>>"), "a numeric example"


class OtherAverage(TokenWeight):
    kind: str = "other_average"

    @property
    def average_decay(self) -> float:
        return 0.5

    def weights(self, group, member, streams):
        return streams.weight_T


def test_one_average_has_one_decay():
    with pytest.raises(ValueError, match=r"cannot have the decays \[0.5, 0.99\]"):
        Grpo(parts=["anchor", OtherAverage()])
    assert Grpo(parts=[{"kind": "anchor", "decay": 0.5}, OtherAverage()]).average_decay == 0.5


# --- token weights ----------------------------------------------------------------------------------------------------


def test_forking_tokens_keeps_the_top_fifth_of_the_whole_batch():
    first = member(Outcome.RIGHT, 5, entropy=(0.1, 0.2, 0.3, 0.4, 0.5))
    second = member(Outcome.WRONG, 5, entropy=(0.9, 0.05, 0.06, 0.07, 0.08))
    streams = Grpo(parts=["forking_tokens"]).credit(
        [Group(PROBLEM, (first, second))], [[1.0, 0.0]], Normalisation.NONE
    )[0]
    assert [s.weight_T for s in streams] == [(0, 0, 0, 0, 1), (1, 0, 0, 0, 0)]
    everything = Grpo(parts=[{"kind": "forking_tokens", "share": 1}])
    plain = Grpo().credit([Group(PROBLEM, (first, second))], [[1.0, 0.0]], Normalisation.NONE)
    assert everything.credit([Group(PROBLEM, (first, second))], [[1.0, 0.0]], Normalisation.NONE) == plain


def test_ties_and_tiny_batches_keep_the_tokens_that_are_at_the_quantile():
    def kept(*entropies: float) -> tuple[float, ...]:
        one = member(Outcome.RIGHT, len(entropies), entropy=entropies)
        return (
            Grpo(parts=["forking_tokens"]).credit([Group(PROBLEM, (one,))], [[1.0]], Normalisation.NONE)[0][0].weight_T
        )

    assert kept(0.3) == (1,)
    assert kept(0.1, 0.2, 0.3) == (0, 0, 1)
    assert kept(*[0.0] * 10) == (1,) * 10, "of equal ones, all are"
    assert kept(0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9) == (0,) * 5 + (1,) * 3


# --- advantages -------------------------------------------------------------------------------------------------------


def test_ace_pushes_errors_that_became_likelier_away_harder():
    gained = member(Outcome.WRONG, policy_logprob=(-0.5, -0.5), reference_logprob=(-1.5, -1.5))
    right = member(Outcome.RIGHT, policy_logprob=(-0.5, -0.5), reference_logprob=(-1.5, -1.5))
    groups = [Group(PROBLEM, (gained, right))]
    streams = Grpo(parts=["confidence_penalty"]).credit(groups, [[0.0, 1.0]], Normalisation.NONE)[0]
    assert streams[0].advantage_T == pytest.approx([-0.5 * (1 + math.log(1 + math.e))] * 2)
    assert streams[1].advantage_T == (0.5, 0.5)
    neutral = Grpo(parts=[{"kind": "confidence_penalty", "alpha": 0}])
    assert neutral.credit(groups, [[0.0, 1.0]], Normalisation.NONE) == Grpo().credit(
        groups, [[0.0, 1.0]], Normalisation.NONE
    )


# --- rewards ----------------------------------------------------------------------------------------------------------


def test_the_outsider_of_a_group_gets_the_largest_bonus():
    vectors = [(1.0, 0.0, 0.0), (1.0, 0.1, 0.0), (-2.0, 0.0, 0.0)]
    members = tuple(
        member(outcome, mean_hidden=v)
        for outcome, v in zip([Outcome.RIGHT, Outcome.WRONG, Outcome.WRONG], vectors, strict=True)
    )
    method = Grpo(parts=[{"kind": "novelty_bonus", "weight": 1.0, "dimensions": 3}])
    (paid,) = method.prepare([Group(PROBLEM, members)], toolbox())
    bonus = [m.verdict.pay - before for m, before in zip(paid.members, [1.0, 0.0, 0.0], strict=True)]
    assert max(bonus) == bonus[2]
    assert all(0 < b < 1 for b in bonus)
    assert [m.verdict.outcome for m in paid.members] == [m.verdict.outcome for m in members]
    (hopeless,) = method.prepare([Group(PROBLEM, members[1:])], toolbox())
    assert [m.verdict.pay for m in hopeless.members] == [0.0, 0.0]


class JudgeByLength:
    """Prefers the longer response, whichever stands first, and remembers what it was asked."""

    def __init__(self, fails_on: str = "") -> None:
        self.asked: list[tuple[str, ...]] = []
        self.fails_on = fails_on

    def judge(self, requests: list[JudgeRequest], *, seed: int) -> list[JudgeReply]:
        self.asked += [request.responses for request in requests]
        return [self._reply(request.responses) for request in requests]

    def _reply(self, responses: tuple[str, ...]) -> JudgeReply:
        if self.fails_on and any(self.fails_on in text for text in responses):
            return JudgeReply(error="down")
        total = sum(map(len, responses))
        return JudgeReply(tuple(len(text) / total for text in responses))


def test_a_tournament_pays_by_rank_and_asks_both_ways():
    judge = JudgeByLength()
    method = Grpo(parts=["tournament"])
    texts = ["1|", "22222222|", "333|", "4444|"]
    (paid,) = method.prepare([group(*texts)], toolbox(judge=judge))
    assert [m.verdict.pay for m in paid.members] == pytest.approx([0, 1, 1 / 3, 2 / 3])
    assert all((pair[1], pair[0]) in judge.asked for pair in judge.asked)
    (kept,) = method.prepare([group(*texts)], toolbox(judge=JudgeByLength("4444")))
    assert [m.verdict.pay for m in kept.members] == [0, 0, 0, 0]


@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=12, unique=True))
def test_the_strongest_wins_every_tournament(strengths):
    bracket = Bracket(len(strengths))
    rounds = 0
    while pairs := bracket.pairings():
        bracket.play({(i, j): 2 * strengths[i] / (strengths[i] + strengths[j]) for i, j in pairs})
        rounds += 1
        assert rounds <= 1 + len(strengths).bit_length()
    places = bracket.ranks()
    assert sorted(places) == list(range(len(strengths)))
    assert places[strengths.index(max(strengths))] == 0


# --- estimators -------------------------------------------------------------------------------------------------------


class ScoringTeacher:
    """Finds every token likely, those of longer responses than ``limit`` not at all."""

    scoring_refusal = None

    def __init__(self, limit: int = 99) -> None:
        self.limit = limit

    def score(self, requests: list[ScoreRequest]) -> list[ScoreReply]:
        return [
            ScoreReply((-0.1,) * len(r.response_ids)) if len(r.response_ids) <= self.limit else ScoreReply(error="long")
            for r in requests
        ]


def test_on_policy_distillation_by_hand():
    tools = toolbox(teacher=ScoringTeacher())
    (found,) = read([group(RIGHT, WRONG)], Opd().readings, tools)
    streams = Opd().credit([found], [[1.0, None]], Normalisation.NONE)[0]
    # Everything was sampled with -0.5, and an unknown verdict changes nothing here.
    for one in streams:
        assert one.advantage_T == pytest.approx([0.4] * len(one.advantage_T))
        assert set(one.weight_T) == {1.0}
    assert tools.tokens["scored"] == sum(len(m.rollout) for m in found.members)
    assert tools.tokens["teacher"] == 0


def test_what_the_teacher_could_not_score_does_not_train():
    (found,) = read([group("answer 33|", WRONG)], Opd().readings, toolbox(teacher=ScoringTeacher(limit=9)))
    long, short = Opd().credit([found], [[0.0, 0.0]], Normalisation.NONE)[0]
    assert not any(long.weight_T)
    assert all(short.weight_T)


def test_a_value_baseline_learns_what_responses_are_worth():
    method = Grpo(parts=[{"kind": "value_baseline", "learning_rate": 0.02, "updates": 30}])
    tools = toolbox()
    good, bad = torch.tensor([[1.0, 0.0]] * 3), torch.tensor([[0.0, 1.0]] * 3)
    groups = [
        Group(PROBLEM, (member(Outcome.RIGHT, 3, states_before=good), member(Outcome.WRONG, 3, states_before=bad)))
    ]
    sizes = []
    for _ in range(10):
        prepared = method.prepare(groups, tools)
        streams = method.credit(prepared, [[1.0, 0.0]], Normalisation.NONE)[0]
        sizes.append(sum(abs(a) for s in streams for a in s.advantage_T))
    assert sizes[-1] < 0.1 * sizes[0]
    assert {name.split("/")[0] for name in tools.tensors} == {"head", "head_optimizer"}
    assert all("states_before" not in m.extras for m in prepared[0].members)


@pytest.mark.parametrize("others", [(), ("answer ?|",)])
def test_tokens_of_rollouts_that_do_not_differ_are_not_divided_by_next_to_nothing(others):
    failure = "good 1\n\nbad 2\n\nanswer 3|"
    method = Grpo(parts=[{"kind": "good_prefix", "cut_back_tokens": 0}])
    divided = credited(method, failure, *others, normalisation=Normalisation.GROUP_STD)[1]
    assert divided == credited(method, failure, *others)[1]
    assert max(map(abs, divided[0].advantage_T)) < 1


def test_a_flat_group_that_does_not_count_is_not_whitened_with_the_others():
    method, tools = Pure(parts=["redraw_flat_groups"]), toolbox()
    flat = group("good 1\n\nbad 2\n\nanswer 3|", "bad 1\n\nanswer 3|")
    mixed = group("good 1\n\nbad 2\n\nanswer 3|", "good 1\n\nanswer 7|")

    def streams_of(*groups: Group) -> Any:
        prepared = method.prepare(groups, tools)
        return method.credit(prepared, [[m.verdict.pay for m in g.members] for g in prepared], Normalisation.NONE)

    among, alone = streams_of(mixed, flat), streams_of(mixed)
    assert among[0] == alone[0]
    assert not any(any(s.weight_T) for s in among[1])


# --- terms ------------------------------------------------------------------------------------------------------------


def test_the_band_follows_the_history_and_the_weight_warms_up():
    (term,) = Grpo(parts=[{"kind": "entropy_smoothing", "weight": 2.0, "warmup": 4}]).parts
    tools = toolbox()
    for entropy, mean in ((1.0, 1.0), (0.0, 0.5)):
        (found,) = term.prepare([Group(PROBLEM, (member(Outcome.RIGHT, entropy=(entropy,) * 2),))], tools)
        assert found.members[0].extras["mean_entropy"] == mean
    assert [term.weight_after({}, replace(tools, step=step)) for step in (1, 2, 4, 9)] == [0.5, 1.0, 2.0, 2.0]
    tokens = example_tokens(0.5)
    inside = replace(tokens, extras={"entropy": torch.tensor([[1.0]]), "mean_entropy": torch.tensor([[1.0]])})
    above = replace(tokens, extras={"entropy": torch.tensor([[1.5]]), "mean_entropy": torch.tensor([[1.0]])})
    assert term.loss(inside).item() == pytest.approx(-0.001)
    assert term.loss(above).item() == pytest.approx(-0.0015 + 0.1 * 0.3)


# --- sources, decoding, replay, budgets -------------------------------------------------------------------------------


class PoolOfLevels:
    def __init__(self, levels: list[int]) -> None:
        self.problems = [Problem(f"p{i}", "?", "7", level=level) for i, level in enumerate(levels)]

    def __len__(self) -> int:
        return len(self.problems)

    def problem(self, index: int) -> Problem:
        return self.problems[index]

    def groups(self, indices: list[int]) -> list[Group]:
        return [Group(self.problems[i], (), prompt_ids=PROMPT_IDS) for i in indices]


def test_a_bandit_draws_what_teaches():
    source, tools = Bandit(), toolbox(pool=PoolOfLevels([1] * 5 + [2] * 5))
    flat = Group(Problem("a", "?", "7", level=1), (member(Outcome.RIGHT),) * 50)
    mixed = Group(Problem("b", "?", "7", level=2), (member(Outcome.RIGHT), member(Outcome.WRONG)) * 25)
    source.learn([flat, mixed], tools)
    chosen = source.choose([flat] * 40, tools)
    levels = [g.problem.level for g in chosen]
    assert len(levels) == 40
    assert levels.count(2) > 30
    assert source.choose([flat] * 40, tools) == chosen, "drawn by the step's seed"
    assert Grpo(parts=["bandit"]).draws_problems


def test_annealing_changes_the_draw_and_not_what_is_written_down():
    (part,) = Grpo(parts=[{"kind": "annealed_decoding", "flat": 0}]).parts
    sampling = part.decoding(Sampling(), toolbox(step=1))
    logits = torch.tensor([[1.0, 3.0], [1.0, 3.0]])
    changed = sampling.control.adjust(logits, [0, 100_000])
    assert changed[0].tolist() == pytest.approx([1 / 1.2, 3 / 1.2])
    assert changed[1].tolist() == pytest.approx([10.0, 30.0])


def test_an_earlier_success_returns_where_all_fail():
    method, tools = Grpo(parts=["replay"]), toolbox(step=1)
    before = group(RIGHT, WRONG)
    assert edit_groups(method, [before], tools)[0] == before
    later = replace(tools, step=5)
    (edited,) = edit_groups(method, [group(WRONG, WRONG)], later)
    returned = edited.members[-1]
    assert (returned.role, returned.verdict.outcome) == (Role.GUIDED, Outcome.RIGHT)
    assert returned.rollout.token_ids == sampled(RIGHT)
    assert set(returned.rollout.origin_T) == {Origin.TEACHER}
    assert len(edit_groups(method, [group(RIGHT, WRONG)], later)[0].members) == 2
    too_late = replace(later, step=999)
    assert len(edit_groups(method, [group(WRONG, WRONG)], too_late)[0].members) == 2
    assert method.num_reserved_rows == 1


def test_what_returns_pays_what_the_verifier_paid_and_not_what_rewards_made_of_it():
    method, tools = Grpo(parts=["replay", {"kind": "overlong_penalty", "overlong_share": 1}]), toolbox(step=1)
    before = group(RIGHT, WRONG)
    rich = replace(before.members[0], verdict=replace(before.members[0].verdict, reward=5.0))
    for _ in range(2):  # a problem that was remembered is remembered anew
        edited = edit_groups(method, [replace(before, members=(rich, before.members[1]))], tools)
        method.learn(method.prepare(edited, tools), tools)
    (returned,) = edit_groups(method, [group(WRONG, WRONG)], replace(tools, step=2))
    assert returned.members[-1].verdict.pay == 5.0


def test_what_was_solved_longest_ago_is_forgotten_first_in_a_resumed_run_too():
    method, tools = Grpo(parts=[{"kind": "replay", "capacity": 2}]), toolbox(step=1)
    for step, name in enumerate(("z", "a", "z", "m"), start=1):
        solved = group(RIGHT, problem=replace(PROBLEM, id=name))
        # What a checkpoint keeps is all that the method remembers.
        tools = replace(tools, step=step, memory=json.loads(json.dumps(tools.memory)))
        edit_groups(method, [solved], tools)
    assert list(tools.memory["replay"]) == ["z", "m"]


def test_a_salvaged_group_is_not_flat():
    texts = ("good 1\n\nbad 2\n\nanswer 3|", WRONG)
    edited, streams = credited(Scope(parts=["redraw_flat_groups"]), *texts)
    assert edited.group_class is GroupClass.SALVAGED
    assert streams == credited(Scope(), *texts)[1]
    assert any(any(s.weight_T) for s in streams)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(0, 60))
def test_a_budget_is_never_overdrawn(wanted, room):
    allotted = Dars().allotted(wanted, room)
    assert sum(allotted) <= max(room, 0) or allotted == wanted
    assert all(0 <= got <= asked for got, asked in zip(allotted, wanted, strict=True))


def test_hard_problems_get_more_rollouts():
    script = [RIGHT] * 4 + [RIGHT, WRONG, WRONG, WRONG] + [RIGHT]
    tools = toolbox(policy=ScriptedPolicy(script))
    empty = [Group(PROBLEM, (), prompt_ids=PROMPT_IDS), Group(replace(PROBLEM, id="q"), (), prompt_ids=PROMPT_IDS)]
    easy, hard = Dars(extra_rows=1).sample(empty, 4, tools)
    assert (len(easy.members), len(hard.members)) == (4, 6)
    assert tools.policy.num_calls == 2, "whatever is wanted is sampled at once"


def test_unknown_verdicts_make_no_problem_hard():
    dars = Dars()
    assert dars.wanted(0, 0, 8) == 0
    assert dars.wanted(1, 2, 8) == 0
    assert dars.wanted(1, 4, 8) == dars.wanted(2, 8, 8)
    tools = toolbox(policy=ScriptedPolicy([RIGHT, "answer ?|", "answer ?|", "answer ?|", WRONG]))
    (known,) = dars.sample([Group(PROBLEM, (), prompt_ids=PROMPT_IDS)], 4, tools)
    assert len(known.members) == 4


# --- the loss ---------------------------------------------------------------------------------------------------------


def test_every_method_and_part_has_a_loss_for_plain_tokens():
    tokens = example_tokens(0.4)
    for name in METHODS:
        loss_BT = METHODS[name]().token_loss(replace(tokens, is_teacher_BT=torch.tensor([[False]])), Clip())
        assert torch.isfinite(loss_BT).all(), name


def test_the_sampled_baseline_knows_only_what_the_policy_wrote_unaided():
    guided = replace(member(Outcome.RIGHT), role=Role.GUIDED)
    one = Group(PROBLEM, (member(Outcome.WRONG), guided), replaced=(member(Outcome.WRONG), guided))
    assert sampled_rewards(one, [0.0, 1.0]) == [0.0, 0.0]
