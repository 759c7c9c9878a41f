"""Any part acts in any method: every hook is called, and what parts carry reaches the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.core.ports import Continuation
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Problem
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation
from scope_rlvr.formulas.readings import EmbeddingReducer, HiddenReducer
from scope_rlvr.methods import METHODS, Cure, Grpo, Luffy, Method, Sft
from scope_rlvr.methods.loss import Counts, Objective, batch_loss, loss_reducers, stream_tensors, tokens_of
from scope_rlvr.methods.parts.base import GroupEdit, Need, Reward, Rewards, Sampler
from scope_rlvr.methods.reading import read
from scope_rlvr.methods.registry import PARTS
from scope_rlvr.methods.step import give_credit, make_groups
from tests.doubles import PROBLEM, PROMPT_IDS, CharCodec, ExactJudge, ScriptedPolicy, ScriptedTeacher, group, toolbox
from tests.unit.methods.test_parts import ScoringTeacher

FAILURE, RIGHT = "bad 1\n\nanswer 3|", "answer 7|"
NUM_ROLLOUTS = 4


class Codec(CharCodec):
    def encode_prompt(self, text: str) -> tuple[int, ...]:
        return self.encode(text)


class Policy(ScriptedPolicy):
    def extend(self, prefixes: Any, sampling: Any, *, num_written: Any = None, **how: Any) -> list[Continuation]:
        return super().extend(prefixes, sampling, **how)

    def entropies(self, prompts: Any, responses: Any, temperature: float) -> list[tuple[float, ...]]:
        return [(0.5,) * len(response) for response in responses]


class Teacher(ScriptedTeacher, ScoringTeacher):
    def __init__(self) -> None:
        ScriptedTeacher.__init__(self, [RIGHT])
        ScoringTeacher.__init__(self)


class Pool:
    """Three problems."""

    def __len__(self) -> int:
        return 3

    def problem(self, index: int) -> Problem:
        return replace(PROBLEM, id=f"pool{index}")

    def groups(self, indices: Sequence[int]) -> list[Group]:
        return [Group(self.problem(i), (), prompt_ids=PROMPT_IDS) for i in indices]


class Reader:
    """A model whose logits and hidden states follow from the tokens, but for what a ``table`` says of all tokens alike."""

    def __init__(self, **table: float) -> None:
        self.table = table

    def read(self, prompts: Any, responses: Any, reducers: Any, temperature: float) -> list[dict[str, torch.Tensor]]:
        return [{r.name: self._kept(r, ids) for r in reducers} for ids in responses]

    def _kept(self, reducer: Any, ids: Sequence[int]) -> torch.Tensor:
        if reducer.name in self.table:
            return torch.full((len(ids),), self.table[reducer.name])
        ids_T = torch.tensor([token % 40 for token in ids], dtype=torch.long)
        if isinstance(reducer, HiddenReducer):
            return reducer(torch.sin(ids_T[:, None] + torch.arange(3.0)))
        logits_TV = torch.cos(ids_T[:, None] * torch.arange(40.0))
        if isinstance(reducer, EmbeddingReducer):
            embedding_VD = torch.sin(torch.arange(40.0)[:, None] * torch.arange(1.0, 4.0))
            return reducer.of_response(reducer(logits_TV, ids_T, embedding_VD))
        return reducer(logits_TV, ids_T)


class Watching(GroupEdit):
    """Writes down which of its hooks were called, and adds nothing."""

    kind: str = "watching"

    def resample(self, groups: Sequence[Group], sample: Sampler, tools: Toolbox) -> list[Group]:
        tools.memory["resampled"] = [len(group.members) for group in sample([_bare(g) for g in groups], "again")]
        return list(groups)

    def edit(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        tools.memory["edited"] = [len(group.members) for group in groups]
        return list(groups)

    def mark(
        self, groups: Sequence[Group], rewards_PG: Rewards, streams_PG: Sequence[Sequence[Streams]]
    ) -> list[tuple[Streams, ...]]:
        return [tuple(replace(s, extras={"watched": s.weight_T}) for s in streams_G) for streams_G in streams_PG]

    def learn(self, groups: Sequence[Group], tools: Toolbox) -> None:
        tools.memory["learned"] = len(groups)


class Doubled(Reward):
    kind: str = "doubled"

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        tools.memory["doubled"] = tools.memory.get("doubled", 0) + 1
        return 2 * (member.verdict.pay or 0.0)


def _bare(group: Group) -> Group:
    return replace(group, members=(), replaced=())


def tools_of(script: Sequence[str] = (FAILURE,)) -> Toolbox:
    readers = {name: Reader(logprob=-0.5, entropy=0.5) for name in ("policy", "reference", "average")}
    return toolbox(
        policy=Policy(script),
        teacher=Teacher(),
        judge=ExactJudge(),
        codec=Codec(),
        readers=readers,
        pool=Pool(),
        problem_source=lambda count, seed: [Group(PROBLEM, (), prompt_ids=PROMPT_IDS)] * count,
    )


def offered(count: int = 2) -> list[Group]:
    return [Group(replace(PROBLEM, id=f"p{i}"), (), prompt_ids=PROMPT_IDS) for i in range(count)]


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_hook_of_a_part_is_called_in_every_method(name: str) -> None:
    method, tools = METHODS[name](parts=[Watching(), Doubled()]), tools_of()
    groups = make_groups(method, offered(), NUM_ROLLOUTS, tools)
    rewards = [[member.verdict.pay for member in group.members] for group in groups]
    streams_PG = give_credit(method, groups, rewards, Normalisation.NONE, tools)
    assert all(s.extras["watched"] == s.weight_T for streams_G in streams_PG for s in streams_G)
    assert tools.memory["edited"] == [len(group.members) for group in groups]
    assert tools.memory["learned"] == 2
    assert len(tools.memory["resampled"]) == 2
    assert tools.memory["doubled"] == sum(reward is not None for rewards_G in rewards for reward in rewards_G)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_what_parts_carry_and_weigh_reaches_the_loss_in_every_method(name: str) -> None:
    plain = METHODS[name]()
    # A run has one average of the policies, with one decay.
    anchor = {"kind": "anchor", "decay": plain.average_decay or 0.99}
    own = {part.kind for part in plain.own_parts}
    parts = [anchor, *(kind for kind in ("forking_tokens",) if kind not in own)]
    method, tools = METHODS[name](parts=parts), tools_of([FAILURE, RIGHT])
    groups = make_groups(method, offered(), NUM_ROLLOUTS, tools)
    streams_PG = give_credit(method, groups, _pays(groups), Normalisation.NONE, tools)
    streams = [s for streams_G in streams_PG for s in streams_G]
    assert all(s.extras["anchor_logprob"] == (-0.5,) * len(s.weight_T) for s in streams)
    num_tokens = max(len(s.weight_T) for s in streams)
    tensors = stream_tensors(streams, num_tokens, tuple(streams[0].extras))
    objective = Objective(200, aggregation=Aggregation.TOKEN_MEAN)
    kept = {r.name: torch.zeros(len(streams), num_tokens) for r in loss_reducers(method, objective)}
    kept["logprob"] = torch.full((len(streams), num_tokens), -0.7).requires_grad_()
    is_response = torch.tensor([[t < len(s.weight_T) for t in range(num_tokens)] for s in streams])
    count = torch.tensor(1.0)
    loss = batch_loss(
        method,
        tokens_of(kept, tensors),
        objective,
        Counts(count, count),
        entropy_BT=kept["entropy"],
        is_response_BT=is_response,
        sampler_logp_BT=tensors["behaviour_logps"],
    ).loss
    assert torch.isfinite(loss)


def _pays(groups: Sequence[Group]) -> list[list[float | None]]:
    return [[member.verdict.pay for member in group.members] for group in groups]


def test_token_weights_act_on_imitated_traces_too() -> None:
    # Of a quantile over equal entropies everything trains; of a share of others, that share.
    tools = tools_of()
    entropies = iter([(0.1,) * 8 + (0.9,)] * 2)
    tools.readers["policy"].read = lambda prompts, *_: [{"entropy": torch.tensor(next(entropies))} for _ in prompts]
    method = Sft(parts=[{"kind": "forking_tokens", "share": 0.1}])
    groups = make_groups(method, offered(), NUM_ROLLOUTS, tools)
    streams_PG = method.credit(groups, _pays(groups), Normalisation.NONE)
    assert [s.weight_T for streams_G in streams_PG for s in streams_G] == [(0.0,) * 8 + (1.0,)] * 2


def test_flat_groups_are_drawn_anew_as_the_method_samples() -> None:
    tools = tools_of([*[FAILURE] * 4, "bad 1\n\nanswer 7|", *[FAILURE] * 3, RIGHT])
    (cure,) = make_groups(Cure(parts=["redraw_flat_groups"], min_key_chars=1), offered(1), NUM_ROLLOUTS, tools)
    assert [m.verdict.is_right for m in cure.members] == [True, False, False, False]
    assert [m.num_shared_tokens > 0 for m in cure.members] == [False, True, True, True]
    tools = tools_of([*[FAILURE] * 3, FAILURE, RIGHT, FAILURE])
    (luffy,) = make_groups(Luffy(parts=["redraw_flat_groups"]), offered(1), NUM_ROLLOUTS, tools)
    assert len(luffy.members) == NUM_ROLLOUTS, "rows for a trace are left free in a redraw, too"
    assert [m.verdict.is_right for m in luffy.members[:3]] == [False, True, False]


UNKNOWN = "answer ?|"


def credit_without_editing(method: Method, texts: Sequence[str]) -> list[tuple[Streams, bool]]:
    """The streams of a group that nobody edited, and whether its verdict is known."""
    tools = replace(tools_of(), judge=ExactJudge(goodness=lambda text: len(text) / 100), seed=3)
    tools.readers["policy"], tools.readers["reference"] = Reader(), Reader()
    groups = method.prepare(read([group(*texts)], method.readings, tools), tools)
    (streams_G,) = method.credit(groups, _pays(groups), Normalisation.GROUP_STD)
    return [(s, m.verdict.is_known) for s, m in zip(streams_G, groups[0].members, strict=True)]


EVERYTHING = {name: METHODS[name]() for name in METHODS} | {kind: Grpo(parts=[kind]) for kind in PARTS}


@pytest.mark.parametrize("method", EVERYTHING.values(), ids=EVERYTHING)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_an_unknown_verdict_changes_nothing_for_the_others(method: Method, place: int) -> None:
    known = ["good 1\n\nanswer 7|", FAILURE, RIGHT, "bad 1\n\nbad 2\n\nanswer 5|"]
    alone = credit_without_editing(method, known)
    among = credit_without_editing(method, [*known[:place], UNKNOWN, *known[place:]])
    for (one, _), (other, _) in zip(alone, [pair for pair in among if pair[1]], strict=True):
        assert other.weight_T == one.weight_T
        assert other.advantage_T == pytest.approx(one.advantage_T, abs=1e-12)
    (unknown,) = [streams for streams, is_known in among if not is_known]
    if Need.TEACHER_SCORES not in method.needs:
        assert not any(unknown.advantage_T)
        assert not any(unknown.weight_T)


ODD_BATCHES = {
    "all wrong": ["bad|", "bad\n\nanswer 3|"],
    "all right": [RIGHT, RIGHT],
    "all unknown": [UNKNOWN, UNKNOWN],
    "one token": ["|", "7", RIGHT, UNKNOWN],
    "one rollout": [RIGHT],
    "truncated": ["no end", "no end either", RIGHT],
}


@pytest.mark.parametrize("method", EVERYTHING.values(), ids=EVERYTHING)
def test_odd_batches_have_sensible_numbers(method: Method) -> None:
    tools = replace(tools_of(), judge=ExactJudge(goodness=lambda text: len(text) / 100), step=30, num_steps=40)
    tools.readers["policy"], tools.readers["reference"], tools.readers["average"] = Reader(), Reader(), Reader()
    together = [group(*texts, problem=replace(PROBLEM, id=name)) for name, texts in ODD_BATCHES.items()]
    for batch in [*([one] for one in together), together]:
        groups = method.prepare(read(batch, method.readings, tools), tools)
        streams_PG = give_credit(method, groups, _pays(groups), Normalisation.GROUP_STD, tools)
        for s in (s for streams_G in streams_PG for s in streams_G):
            assert all(math.isfinite(x) for values_T in (s.weight_T, *s.extras.values()) for x in values_T)
            assert all(abs(a) < 50 for a in s.advantage_T)
