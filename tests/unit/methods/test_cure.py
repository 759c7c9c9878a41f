"""CURE: where rollouts branch off, what branches share, and what of them trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.formulas.advantages import STD_FLOOR, Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip
from scope_rlvr.methods.exploration.cure import Cure
from tests.doubles import END, PROBLEM, PROMPT_IDS, CharCodec, ScriptedPolicy, credited, plain, sampled, toolbox


@dataclass
class UncertainPolicy(ScriptedPolicy):
    """Uncertain of every ``?`` and of the end of a response, a little of the first token, and of nothing else."""

    num_looks: int = 0

    def entropies(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], temperature: float
    ) -> list[tuple[float, ...]]:
        self.num_looks += 1
        return [
            tuple({"?": 2.0, "|": 3.0}.get(char, 0.1 * (t == 0)) for t, char in enumerate(text))
            for text in ("".join("|" if i == END else chr(i % (1 << 21)) for i in ids) for ids in responses)
        ]


def sampled_group(policy: ScriptedPolicy, num_rollouts: int = 4, step: int = 1, **settings) -> Group:
    tools = toolbox(policy=policy, step=step, num_steps=10, max_response_tokens=40)
    return Cure(**({"min_key_chars": 1} | settings)).sample(
        [Group(PROBLEM, (), prompt_ids=PROMPT_IDS)], num_rollouts, tools
    )[0]


def test_branches_keep_the_ids_before_the_key_token():
    policy = UncertainPolicy(["so? answer 1|", "\nanswer 7|", "\nanswer 2|", "\nanswer 3|"])
    group = sampled_group(policy, num_key_tokens=1)
    assert [m.role for m in group.members] == [Role.SAMPLED, *[Role.BRANCHED] * 3]
    assert policy.prefixes[1:] == [(*PROMPT_IDS, *sampled("so"))] * 3
    assert policy.budgets == [40, 38, 38, 38]
    assert [m.rollout.token_ids for m in group.members[1:]] == [sampled(f"so\nanswer {n}|") for n in (7, 2, 3)]
    assert [m.num_shared_tokens for m in group.members] == [0, 2, 2, 2]
    assert [m.verdict.is_right for m in group.members] == [False, True, False, False]


def test_the_shared_start_neither_trains_nor_counts():
    group = sampled_group(UncertainPolicy(["so? answer 1|", "\nanswer 7|", "\nanswer 2|"]), num_key_tokens=1)
    streams = credited(Cure(), [group])[0]
    assert set(streams[0].advantage_T) == {-0.25}
    assert streams[1].advantage_T == (0.0,) * 2 + (0.75,) * 10
    for branch in streams[1:]:
        assert branch.weight_T == (0.0,) * 2 + (1.0,) * 10


def test_every_fresh_rollout_gets_its_branches():
    policy = UncertainPolicy(["one? 1|", "two? 1|", "three? 1|", "\nanswer 7|"])
    group = sampled_group(policy, num_rollouts=10, num_key_tokens=1)
    assert [m.role for m in group.members].count(Role.SAMPLED) == 3
    branches = [plain(m.rollout) for m in group.members[3:]]
    assert branches == [f"{start}\nanswer 7|" for start in ("one", "two", "three", "one", "two", "three", "one")]


def test_the_key_token_is_drawn_among_the_most_uncertain():
    policy_text, cuts = "a?b?c?d|", set()
    for seed in range(60):
        tools = toolbox(policy=UncertainPolicy([policy_text, "|"]), seed=seed)
        group = Cure(num_key_tokens=2, min_key_chars=1).sample([Group(PROBLEM, (), prompt_ids=PROMPT_IDS)], 4, tools)[0]
        cuts.add(group.members[1].num_shared_tokens)
        assert len({m.num_shared_tokens for m in group.members[1:]}) == 1
    assert cuts == {1, 3}


@dataclass
class WordCodec(CharCodec):
    """Shows some characters as longer texts, and ``%`` as a token without text."""

    words: tuple[tuple[str, str], ...] = (("?", "so"), ("!", "+ "), ("%", ""))

    def pieces(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        return tuple(dict(self.words).get(piece, piece) for piece in super().pieces(token_ids))


class UncertainOfMarks(ScriptedPolicy):
    """Uncertain of every ``?``, ``!`` and ``%``, and of nothing else."""

    def entropies(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], temperature: float
    ) -> list[tuple[float, ...]]:
        return [tuple(float(chr(i % (1 << 21)) in "?!%") for i in ids) for ids in responses]


def test_signs_digits_and_tokens_without_text_are_no_key_tokens():
    cuts = set()
    for seed in range(30):
        tools = toolbox(policy=UncertainOfMarks(["a%b!c?d7e?f|", "|"]), seed=seed, codec=WordCodec())
        group = Cure(num_key_tokens=2).sample([Group(PROBLEM, (), prompt_ids=PROMPT_IDS)], 4, tools)[0]
        cuts.add(group.members[1].num_shared_tokens)
    # Of the texts "", "+ " and twice "so" only the last two have two characters.
    assert cuts == {5, 9}


@pytest.mark.parametrize("text", ["|", "a|"])
def test_a_rollout_without_key_token_is_sampled_again(text):
    group = sampled_group(UncertainPolicy([text, "answer 7|"]))
    assert [plain(m.rollout) for m in group.members[1:]] == ["answer 7|"] * 3
    assert [m.num_shared_tokens for m in group.members[1:]] == [0] * 3


def test_a_truncated_rollout_may_be_branched():
    group = sampled_group(UncertainPolicy(["x" * 39 + "?", "|"]), num_key_tokens=1)
    assert group.members[0].rollout.is_truncated
    assert [len(m.rollout) for m in group.members[1:]] == [40] * 3
    assert not any(m.rollout.is_truncated for m in group.members[1:])


def test_tokens_are_accounted_for_and_groups_are_as_large_as_asked():
    for num_rollouts in range(2, 18):
        tools = toolbox(policy=UncertainPolicy(["ab? 1|", "|"]))
        groups = [Group(PROBLEM, (), prompt_ids=PROMPT_IDS)] * 2
        after = Cure().sample(groups, num_rollouts, tools)
        assert [len(group.members) for group in after] == [num_rollouts] * 2
        written = sum(len(m.rollout) - m.num_shared_tokens for group in after for m in group.members)
        assert tools.tokens["sampled"] + tools.tokens["continuation"] == written


def test_the_second_stage_is_plain_sampling():
    policy = UncertainPolicy(["answer 7|"])
    group = sampled_group(policy, step=6, branching_steps=5)
    assert [m.role for m in group.members] == [Role.SAMPLED] * 4
    assert policy.num_looks == 0
    assert [Cure(branching_steps=5).stage(step, 10) for step in (1, 5, 6, 10)] == [0, 0, 1, 1]
    assert [Cure().stage(step, 1000) for step in (1, 300, 301)] == [0, 0, 1]


def test_the_objective_is_that_of_dapo():
    cure = Cure()
    assert cure.fixed == {
        "normalisation": Normalisation.GROUP_STD,
        "aggregation": Aggregation.TOKEN_MEAN,
        "clip": Clip(low=0.2, high=0.28, dual=10),
        "kl": 0.0,
        "entropy": 0.0,
    }
    group = sampled_group(UncertainPolicy(["so? answer 1|", "\nanswer 7|", "\nanswer 2|"]), num_key_tokens=1)
    rewards = [[m.verdict.pay for m in group.members]]
    streams = cure.credit([group], rewards, Normalisation.GROUP_STD)[0]
    assert streams[1].advantage_T[-1] == pytest.approx(0.75 / (0.5 + STD_FLOOR))
    flat = sampled_group(UncertainPolicy(["bad?|"]))
    assert all(set(s.weight_T) == {0.0} for s in credited(cure, [flat])[0])


def test_long_responses_are_charged():
    group = sampled_group(UncertainPolicy(["answer 7" + " " * 31 + "|", "|"]), num_key_tokens=1)
    assert len(group.members[0].rollout) == 40
    paid = Cure().prepare([group], toolbox(max_response_tokens=40))[0]
    assert paid.members[0].verdict.pay == pytest.approx(group.members[0].verdict.is_right - 0.5)
