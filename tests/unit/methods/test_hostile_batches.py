"""Every method and part on batches that teach nothing, or that hardly exist: all numbers stay finite."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.core.types import Origin, Outcome, Rollout, Segment, Verdict
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation
from scope_rlvr.methods import METHODS, Grpo, Method
from scope_rlvr.methods.loss import Counts, Objective, batch_loss, loss_reducers, stream_tensors, tokens_of
from scope_rlvr.methods.reading import read
from scope_rlvr.methods.registry import PARTS
from tests.doubles import PROBLEM, PROMPT_IDS, ExactJudge, group
from tests.unit.methods.test_parts_in_methods import Reader, tools_of

EVERYTHING = {name: METHODS[name]() for name in METHODS} | {kind: Grpo(parts=[kind]) for kind in PARTS}

RIGHT, WRONG, UNKNOWN = "answer 7|", "answer 3|", "answer ?|"


def short(outcome: Outcome, num_tokens: int = 1) -> Member:
    ids = tuple(range(5, 5 + num_tokens))
    segments = (Segment(ids, Origin.POLICY, (-0.5,) * num_tokens),) if ids else ()
    return Member(Rollout(PROMPT_IDS, segments), Verdict(outcome, "7" if outcome is Outcome.RIGHT else None))


def of_short(*outcomes: Outcome) -> Group:
    return Group(PROBLEM, tuple(map(short, outcomes)), prompt_ids=PROMPT_IDS)


def shared(one: Group) -> Group:
    """The group with nothing that trains: every token belongs to another rollout, too."""
    return replace(one, members=tuple(replace(m, num_shared_tokens=len(m.rollout)) for m in one.members))


BATCHES = {
    "all right": [group(RIGHT, RIGHT)],
    "all wrong": [group(WRONG, WRONG, WRONG)],
    "nothing known": [group(UNKNOWN, UNKNOWN)],
    "one known": [group(UNKNOWN, RIGHT)],
    "one rollout": [group(RIGHT)],
    "one token": [of_short(Outcome.RIGHT, Outcome.WRONG)],
    "one token, flat": [of_short(Outcome.WRONG, Outcome.WRONG)],
    "nothing trains": [shared(group(RIGHT, WRONG))],
    "no rollouts": [Group(PROBLEM, (), prompt_ids=PROMPT_IDS)],
    "a bit of all": [group(RIGHT, WRONG, UNKNOWN), of_short(Outcome.RIGHT, Outcome.UNKNOWN), group(WRONG)],
}


def credited(method: Method, groups: Sequence[Group]) -> list[Streams]:
    tools = replace(tools_of(), judge=ExactJudge(goodness=lambda text: len(text) / 100))
    tools = replace(tools, readers={name: Reader() for name in ("policy", "reference", "average")})
    made = method.prepare(read(groups, method.readings, tools), tools)
    pays = [[member.verdict.pay for member in one.members] for one in made]
    return [s for streams_G in method.credit(made, pays, Normalisation.GROUP_STD) for s in streams_G]


def numbers(streams: Streams) -> Iterator[float]:
    yield from streams.advantage_T
    yield from streams.weight_T
    for values in streams.extras.values():
        yield from values


@pytest.mark.parametrize("name", EVERYTHING)
def test_credit_and_loss_stay_finite(name: str) -> None:
    method = EVERYTHING[name]
    for batch, groups in BATCHES.items():
        streams = credited(method, groups)
        assert all(map(math.isfinite, (x for s in streams for x in numbers(s)))), batch
        assert max((abs(a) for s in streams for a in s.advantage_T), default=0) < 1e3, batch
        if streams:
            assert torch.isfinite(loss_of(method, streams)), batch


def loss_of(method: Method, streams: Sequence[Streams]) -> torch.Tensor:
    """The loss after the policy has moved a little, and its gradient, which has to be finite, too."""
    num_tokens = max(1, *(len(s.weight_T) for s in streams))
    objective = Objective(200, aggregation=Aggregation.TOKEN_MEAN)
    tensors = stream_tensors(streams, num_tokens, tuple(streams[0].extras))
    kept = {r.name: torch.full((len(streams), num_tokens), 0.3) for r in loss_reducers(method, objective)}
    kept["logprob"] = torch.full((len(streams), num_tokens), -0.4).requires_grad_()
    is_response = torch.tensor([[t < len(s.weight_T) for t in range(num_tokens)] for s in streams])
    found = batch_loss(
        method,
        tokens_of(kept, tensors, torch.full((len(streams), num_tokens), -0.5)),
        objective,
        Counts((tensors["token_weights"].sum(1) > 0).sum(), tensors["token_weights"].sum()),
        entropy_BT=kept["entropy"],
        is_response_BT=is_response,
        sampler_logp_BT=tensors["behaviour_logps"],
    ).loss
    found.backward()
    assert torch.isfinite(kept["logprob"].grad).all()  # type: ignore[arg-type]
    return found
