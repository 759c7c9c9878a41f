"""The correction buffer by hand: what is kept, drawn, trained, retired, and that nobody else is changed by it."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import pytest
import torch

from scope_rlvr.core.groups import Group, Member, Role
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Origin, Outcome
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods import Grpo, Method, Scope
from scope_rlvr.methods.metrics import group_tally
from scope_rlvr.methods.parts.corrections import CorrectionBuffer
from scope_rlvr.methods.step import give_credit, make_groups
from scope_rlvr.store.records import group_records
from tests.doubles import END, PROBLEM, PROMPT_IDS, CharCodec, ScriptedPolicy, group, plain, toolbox

FAILURE = "good 1\n\nbad 2\n\nanswer 3|"  # 8 tokens kept of 24; the teacher then writes 6, "good\n\n"
RIGHT = "answer 7|"


class TokenReader:
    """Gives the teacher's six tokens the probability ``p`` in all, and each token before them the log-probability ``own``."""

    def __init__(self, p: float, own: float = -0.5) -> None:
        self.p, self.own, self.num_read = p, own, 0

    def read(self, prompts: Any, responses: Any, reducers: Any, temperature: float) -> list[dict[str, Any]]:
        self.num_read += len(responses)
        rows = [[self.own] * (len(r) - 6) + [math.log(self.p) / 6] * 6 for r in responses]
        return [{reducer.name: torch.tensor(row, dtype=torch.float64) for reducer in reducers} for row in rows]


def one_step(method: Method, memory: dict[str, Any], *responses: str, p: float = 0.3, **options: Any) -> Any:
    """Groups, streams and toolbox of a step of one problem whose policy samples ``responses`` and ends all salvages well."""
    reader = TokenReader(p, **options)
    tools = toolbox(policy=ScriptedPolicy([*responses, RIGHT]), readers={"policy": reader}, memory=memory)
    offered = [Group(PROBLEM, (), prompt_ids=PROMPT_IDS)]
    groups = make_groups(method, offered, len(responses), tools)
    rewards = [[m.verdict.pay for m in g.members] for g in groups]
    return groups, give_credit(method, groups, rewards, Normalisation.NONE, tools), tools


def buffer(**options: Any) -> dict[str, Any]:
    return {"kind": "correction_buffer", **options}


def practised(groups: list[Group]) -> list[Member]:
    return [m for g in groups for m in g.members if m.role is Role.REPLAYED]


def test_a_correction_is_practised_from_the_next_step_on_and_only_its_teacher_tokens_train():
    method, memory = Scope(parts=[buffer(weight=0.5)]), {}
    groups, _, tools = one_step(method, memory, FAILURE, RIGHT)
    assert practised(groups) == []
    assert tools.told["corrections"] == 1
    groups, streams_PG, tools = one_step(method, json.loads(json.dumps(memory)), RIGHT, RIGHT)
    (member,) = practised(groups)
    assert plain(member.rollout) == "good 1\n\ngood\n\n"
    assert (member.verdict.outcome, member.problem) == (Outcome.UNKNOWN, PROBLEM)
    streams = streams_PG[0][-1]
    assert streams.advantage_T == (0.0,) * 8 + (0.5,) * 6
    assert streams.weight_T == (0.0,) * 8 + (1.0,) * 6
    assert streams.origin_T == (Origin.POLICY,) * 8 + (Origin.TEACHER,) * 6
    assert tools.told["correction_probability"] == pytest.approx(0.3)
    assert tools.told["correction_drift"] == pytest.approx(0.0)


def test_the_others_get_what_they_get_without_it():
    memory: dict[str, Any] = {}
    with_buffer = Scope(parts=[buffer()])
    one_step(with_buffer, memory, FAILURE, RIGHT)
    groups, streams_PG, _ = one_step(with_buffer, memory, FAILURE, RIGHT, "answer 3|")
    plain_groups, plain_PG, _ = one_step(Scope(), {}, FAILURE, RIGHT, "answer 3|")
    assert len(practised(groups)) == 1
    assert streams_PG[0][:-1] == plain_PG[0]
    assert groups[0].group_class is plain_groups[0].group_class
    ours, theirs = group_tally(groups, streams_PG).flush(), group_tally(plain_groups, plain_PG).flush()
    assert ours == theirs


def test_a_flat_group_that_is_dropped_keeps_its_practised_correction():
    memory: dict[str, Any] = {}
    method = Scope(parts=[buffer()], drop_flat_groups=True)
    one_step(method, memory, FAILURE, RIGHT)
    _, streams_PG, _ = one_step(method, memory, RIGHT, RIGHT)
    assert [sum(s.weight_T) for s in streams_PG[0]] == [0.0, 0.0, 6.0]


@pytest.mark.parametrize(
    ("options", "reading", "num_left"),
    [
        ({}, {"p": 0.89}, 1),
        ({}, {"p": 0.91}, 0),
        ({"learned_at": None}, {"p": 0.999}, 1),
        ({"max_drift": 0.2}, {"p": 0.1, "own": -0.6}, 1),  # sampled at -0.5: drifted by 0.1
        ({"max_drift": 0.2}, {"p": 0.1, "own": -0.8}, 0),
    ],
)
def test_what_is_learned_or_has_drifted_is_retired(options, reading, num_left):
    method, memory = Scope(parts=[buffer(**options)]), {}
    one_step(method, memory, FAILURE, RIGHT)
    _, _, tools = one_step(method, memory, RIGHT, **reading)
    assert tools.told["corrections"] == len(memory["correction_buffer"]["corrections"]) == num_left
    assert tools.told["corrections_retired"] == 1 - num_left


def test_the_oldest_go_first_and_no_group_practises_one_twice():
    method, memory = Scope(parts=[buffer(capacity=3, per_group=2)]), {}
    for _ in range(5):
        one_step(method, memory, FAILURE, RIGHT)
    assert [one["number"] for one in memory["correction_buffer"]["corrections"]] == [2, 3, 4]
    groups, _, _ = one_step(method, memory, RIGHT, RIGHT)
    assert len({m.extras["correction_number"] for m in practised(groups)}) == 2


@pytest.mark.parametrize(("draw", "expected"), [("uniform", 0.5), ("improbable", 0.8)])
def test_the_improbable_ones_are_drawn_more_often(draw, expected):
    part, memory = CorrectionBuffer(draw=draw), {}
    for _ in range(2):
        one_step(Scope(parts=[buffer()]), memory, FAILURE, RIGHT)
    for one, p in zip(memory["correction_buffer"]["corrections"], (0.2, 0.8), strict=True):
        one["probability"] = p
    counts: Counter[int] = Counter()
    for seed in range(2000):
        tools = toolbox(memory=memory, seed=seed)
        (edited,) = part.edit([group(RIGHT)], tools)
        counts[edited.members[-1].extras["correction_number"]] += 1
    assert counts[0] / 2000 == pytest.approx(expected, abs=0.04)


def test_only_what_is_practised_is_read():
    memory: dict[str, Any] = {}
    method = Scope(parts=[buffer()])
    one_step(method, memory, FAILURE, RIGHT)
    _, _, tools = one_step(method, memory, RIGHT, RIGHT, RIGHT)
    assert tools.readers["policy"].num_read == 1


def test_without_corrections_nothing_is_added():
    groups, _, tools = one_step(Grpo(parts=[buffer()]), {}, FAILURE, RIGHT)
    assert practised(groups) == []
    assert tools.told == {"corrections": 0.0, "corrections_retired": 0.0}


def test_a_record_names_the_problem_that_a_practised_correction_answers():
    memory: dict[str, Any] = {}
    method = Scope(parts=[buffer()])
    one_step(method, memory, FAILURE, RIGHT)
    memory["correction_buffer"]["corrections"][0]["problem"]["id"] = "another"
    groups, _, _ = one_step(method, memory, RIGHT)
    records = list(group_records(1, groups, [[1.0, None]], CharCodec()))
    assert [(r["role"], r["problem"]) for r in records] == [("sampled", PROBLEM.id), ("replayed", "another")]
    assert END not in records[1]["segments"][1]["token_ids"]


def test_weights_must_be_positive():
    with pytest.raises(ValueError, match="weight"):
        CorrectionBuffer(weight=0)


def test_an_attempt_that_stays_wrong_but_is_admitted_is_no_correction():
    memory: dict[str, Any] = {}
    reader = TokenReader(0.3)
    tools: Toolbox = toolbox(
        policy=ScriptedPolicy([FAILURE, RIGHT, "answer 4|"]), readers={"policy": reader}, memory=memory
    )
    method = Scope(parts=[buffer()], admission="always")
    groups = make_groups(method, [Group(PROBLEM, (), prompt_ids=PROMPT_IDS)], 2, tools)
    give_credit(method, groups, [[m.verdict.pay for m in g.members] for g in groups], Normalisation.NONE, tools)
    assert Role.SALVAGED in {m.role for g in groups for m in g.members}
    assert memory["correction_buffer"]["corrections"] == []
