"""The Tinker engine against the plainest engine: equal gradients whatever the method, runs that learn; and its refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scope_rlvr.core.ports import Sampling
from scope_rlvr.engines.local import LocalEngine, LocalLearner
from scope_rlvr.engines.tinker.engine import tinker_loop, unsupported
from scope_rlvr.engines.tinker.learner import TinkerLearner
from scope_rlvr.engines.tinker.policy import TinkerPolicy
from scope_rlvr.engines.tinker.service import Sampled
from scope_rlvr.formulas.losses import Aggregation, Clip
from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.methods import Dapo, Grpo, Gspo, Luffy, Method, ReLift, RlPlus, Scope
from scope_rlvr.methods.loss import Objective
from scope_rlvr.models.local import LocalModel, TokenizerCodec
from scope_rlvr.problems import families
from tests.engine.conftest import load_policy
from tests.local_service import LocalService

RATE = 1e-3
EVERY_KIND = {
    "scope": Scope(),
    "pairs and a buffer": Scope(insertion="pair", teacher_weight=4, parts=["correction_buffer"]),
    "shaped": Luffy(),
    "filtered": Dapo(),
    "one ratio a sequence": Gspo(),
    "mixture": RlPlus(),
    "part": Grpo(parts=["replay", "overlong_penalty"]),
}


def local() -> LocalModel:
    model, tokenizer = load_policy()
    return LocalModel(model, TokenizerCodec.of(tokenizer, model))


def problems() -> Any:
    return families.get("reduction").sample(level=5, count=8, seed=3)


def steps_of(loop: Any, steps: int) -> list[Any]:
    return list(loop.train(problems(), steps=steps, problems_per_step=4, rollouts_per_problem=4))


@pytest.mark.parametrize("method", EVERY_KIND.values(), ids=EVERY_KIND)
@pytest.mark.parametrize("aggregation", [Aggregation.MAX_LENGTH, Aggregation.TOKEN_MEAN])
def test_the_gradient_is_that_of_the_plainest_engine(
    method: Method, aggregation: Aggregation, scorer: Any, teacher: Any
) -> None:
    objective = Objective(80, aggregation=aggregation, clip=Clip(high=0.28))
    policy = local()
    engine = LocalEngine(
        policy.model,
        policy.codec,
        method,
        FinalAnswerVerifier(),
        objective,
        scorer,
        teacher,
        learning_rate=RATE,
        seed=3,
    )
    batches = steps_of(engine, 2)
    groups, streams_PG = batches[1][0].groups, batches[1][0].streams_PG
    term_weights = method.term_weights({}, engine.tools)

    def gradient(model: LocalModel, learner: Any) -> tuple[dict[str, float], torch.Tensor]:
        kept: list[torch.Tensor] = []
        learner_of = getattr(learner, "optimizer", None) or learner.service.optimizer
        learner_of.register_step_pre_hook(
            lambda *_: kept.append(torch.cat([p.grad.flatten().clone() for p in model.model.parameters()]))
        )
        return learner.update(groups, streams_PG, term_weights), kept[0]

    ours, theirs = local(), local()
    remote, g_remote = gradient(
        ours, TinkerLearner(LocalService(ours, max_grad_norm=1e9), method, objective, lambda step: RATE)
    )
    plain, g_plain = gradient(
        theirs, LocalLearner(theirs.model, method, objective, learning_rate=RATE, max_grad_norm=1e9)
    )
    assert remote["loss"] == pytest.approx(plain["loss"], abs=1e-6)
    assert g_plain.norm() > 0
    assert (g_remote - g_plain).norm() / g_plain.norm() < 1e-4


def test_a_run_learns_and_salvages_on_a_server(scorer: Any, teacher: Any) -> None:
    model = local()
    service = LocalService(model)
    loop = tinker_loop(
        service,
        model.codec,
        Scope(teacher_weight=4),
        FinalAnswerVerifier(),
        Objective(80),
        lambda step: RATE / step,
        step_scorer=scorer,
        teacher=teacher,
        seed=5,
    )
    before = [p.detach().clone() for p in model.model.parameters()]
    found = steps_of(loop, 3)
    assert any(m.role == "salvaged" for result, _ in found for g in result.groups for m in g.members)
    assert any((a != b).any() for a, b in zip(before, model.model.parameters(), strict=True))
    assert [figures["learning_rate"] for _, figures in found] == [RATE, RATE / 2, RATE / 3]
    assert all(figures["sampler/gap"] < 1e-4 for _, figures in found)
    # Sampling of the rollouts, then of the continuations; one reading, one gradient and one optimiser step.
    assert service.asked[-3:] == ["logprobs", "backward", "step"]
    assert service.asked.count("step") == 3


def test_what_a_server_writes_behind_the_end_is_cut_off() -> None:
    model = local()
    end = model.codec.end_id

    class WritesOn(LocalService):
        def sample(self, requests: Any) -> Any:
            assert {r.stop_ids for r in requests} == {tuple(sorted(model.codec.end_ids))}
            return [Sampled((7, 8, end, 9, end), (-0.1, -0.2, -0.3, -0.4, -0.5), False) for _ in requests]

    (found,) = TinkerPolicy(WritesOn(model), model.codec).extend([(1, 2)], Sampling(), max_tokens=[5], seed=1)
    assert (found.token_ids, found.logprobs, found.finished) == ((7, 8, end), (-0.1, -0.2, -0.3), True)


def test_a_step_without_any_weight_leaves_the_optimiser_alone() -> None:
    model = local()
    service = LocalService(model)
    learner = TinkerLearner(service, Grpo(), Objective(80), lambda step: RATE)
    assert learner.update([], [], {}) == {"loss": 0.0}
    assert service.asked == []


@pytest.mark.parametrize(
    ("method", "objective", "sampling", "updates", "said"),
    [
        (Grpo(kl=0.1), {}, {}, 1, "objective.kl: there is no reference model"),
        (Grpo(), {"entropy": 0.01}, {}, 1, "objective.entropy: a server gives no entropies"),
        (Grpo(), {}, {"temperature": 0.7}, 1, "sampling.temperature: a server trains at temperature 1"),
        (Grpo(), {}, {"top_k": 20}, 1, "sampling.top_p, top_k, min_p: what is cut off"),
        (Grpo(), {}, {}, 2, "objective.updates_per_batch: one optimiser step a batch"),
        (Grpo(parts=["entropy_smoothing"]), {}, {}, 1, "needs logits in the loss"),
        (Grpo(parts=["forking_tokens"]), {}, {}, 1, "reads entropy of the policy"),
        (Grpo(parts=["annealed_decoding"]), {}, {}, 1, "needs control of single decoding steps"),
        (Grpo(parts=["confidence_penalty"]), {}, {}, 1, "needs reference model"),
        (ReLift(), {}, {}, 1, "has an optimiser of its own"),
    ],
)
def test_what_a_server_cannot_do_is_refused_with_the_reason(
    method: Method, objective: dict[str, Any], sampling: dict[str, Any], updates: int, said: str
) -> None:
    found = unsupported(method, Objective(80, **objective), Sampling(**sampling), updates)
    assert said in " | ".join(map(str, found))


def test_what_a_server_can_do_is_not_refused() -> None:
    for method in EVERY_KIND.values():
        assert unsupported(method, Objective(80), Sampling(), 1) == []
