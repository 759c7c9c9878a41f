"""Every method and part on batches at the edge: nothing but right, wrong or unknown, one token a response, one rollout."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation
from scope_rlvr.methods import Method
from scope_rlvr.methods.loss import Counts, Objective, batch_loss, loss_reducers, stream_tensors, tokens_of
from scope_rlvr.methods.reading import read
from tests.doubles import group
from tests.unit.methods.test_parts_in_methods import EVERYTHING, Reader, tools_of

RIGHT, WRONG, UNKNOWN, ONE = "so\n\nanswer 7|", "so\n\nanswer 3|", "answer ?|", "|"
BATCHES = {
    "all right": [[RIGHT, RIGHT, "answer 7|"], [RIGHT, RIGHT]],
    "all wrong": [[WRONG, "answer 1|"], [WRONG, WRONG]],
    "all unknown": [[UNKNOWN, UNKNOWN], [UNKNOWN]],
    "one token": [[ONE, ONE], [ONE, RIGHT]],
    "one rollout": [[RIGHT], [WRONG]],
    "mixed": [[RIGHT, WRONG, UNKNOWN, ONE], [WRONG, RIGHT]],
}


def loss_of(method: Method, texts_PG: list[list[str]]) -> tuple[float, torch.Tensor, list]:
    """The loss of a batch that nobody edited, its gradient by the logits, and its streams."""
    tools = replace(tools_of(), readers={name: Reader() for name in ("policy", "reference", "average")})
    groups = method.prepare(read([group(*texts) for texts in texts_PG], method.readings, tools), tools)
    pays = [[m.verdict.pay for m in g.members] for g in groups]
    normalisation = method.normalisation or Normalisation.GROUP_STD
    streams = [s for streams_G in method.credit(groups, pays, normalisation) for s in streams_G]
    ids = [m.rollout.token_ids for g in groups for m in g.members]
    width = max(map(len, ids))
    ids_N = torch.tensor([[token % 40 for token in row] + [0] * (width - len(row)) for row in ids]).flatten()
    logits_NV = torch.randn(len(ids_N), 40, generator=torch.Generator().manual_seed(0)).requires_grad_()
    objective = Objective(20, aggregation=Aggregation.TOKEN_MEAN, entropy=0.01).of(method)
    kept = {
        r.name: (v := r(logits_NV, ids_N)).reshape(len(ids), width, *v.shape[1:])
        for r in loss_reducers(method, objective)
    }
    tensors = stream_tensors(streams, width, tuple(streams[0].extras))
    counts = Counts((tensors["token_weights"].sum(1) > 0).sum(), tensors["token_weights"].sum())
    found = batch_loss(
        method,
        tokens_of(kept, tensors),
        objective,
        counts,
        entropy_BT=kept["entropy"],
        is_response_BT=torch.tensor([[t < len(row) for t in range(width)] for row in ids]),
        sampler_logp_BT=tensors["behaviour_logps"],
        ref_logp_BT=kept["logprob"].detach() if objective.kl else None,
        term_weights=method.term_weights({}, tools),
    )
    (gradient,) = torch.autograd.grad(found.loss, logits_NV, allow_unused=True)
    return found.loss.item(), torch.zeros(1) if gradient is None else gradient, streams


@pytest.mark.parametrize("texts_PG", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("method", EVERYTHING.values(), ids=EVERYTHING)
def test_numbers_stay_finite_and_sensible(method: Method, texts_PG: list[list[str]]) -> None:
    loss, gradient, streams = loss_of(method, texts_PG)
    assert math.isfinite(loss)
    assert torch.isfinite(gradient).all()
    advantages = [a for s in streams for a in s.advantage_T]
    # Token-wise rewards and distances of log-probabilities may be large, but not beyond what a response can hold.
    assert all(math.isfinite(a) and abs(a) < 1e3 for a in advantages)
    assert all(w >= 0 and math.isfinite(w) for s in streams for w in s.weight_T)
