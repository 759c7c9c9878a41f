"""A training loop over a Tinker server, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scope_rlvr.core.ports import Sampling, TextCodec, Verifier
from scope_rlvr.engines.loop import HELPERS, TrainingLoop
from scope_rlvr.engines.tinker.learner import TinkerLearner
from scope_rlvr.engines.tinker.policy import TinkerPolicy
from scope_rlvr.engines.tinker.service import Service
from scope_rlvr.formulas.readings import LogProb
from scope_rlvr.methods.loss import Objective
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.reading import ReadBy


@dataclass(frozen=True)
class Unsupported:
    """One thing that a Tinker server cannot do, by the key that asks for it."""

    key: str
    reason: str

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}"


def unsupported(method: Method, objective: Objective, sampling: Sampling, updates: int) -> list[Unsupported]:
    """What of a run cannot be done on a Tinker server, all of it. ``updates`` are the optimiser steps on one batch.

    >>> from scope_rlvr.methods import Grpo
    >>> [str(u) for u in unsupported(Grpo(), Objective(80, kl=0.1), Sampling(), 1)]
    ['objective.kl: there is no reference model on the server; set it to 0']
    """
    fixed = objective.of(method)
    found = [
        Unsupported(f"method {method.title}", f"needs {need.value}, which a Tinker server does not give")
        for need in sorted(method.needs - {*HELPERS})
    ]
    own = [r for r in method.readings if r.by is ReadBy.POLICY and not isinstance(r.reducer, LogProb)]
    found += [
        Unsupported(
            f"method {method.title}", f"reads {r.reducer.name} of the policy, and a server gives log-probabilities"
        )
        for r in own
    ]
    if method.has_side_updates:
        found.append(Unsupported(f"method {method.title}", "has an optimiser of its own, and a session has one"))
    for is_asked, key, reason in (
        (fixed.kl != 0, "objective.kl", "there is no reference model on the server; set it to 0"),
        (fixed.entropy != 0, "objective.entropy", "a server gives no entropies to the loss; set it to 0"),
        (
            updates != 1,
            "objective.updates_per_batch",
            "one optimiser step a batch is made; set it and mini_batches to 1",
        ),
        (sampling.temperature != 1, "sampling.temperature", "a server trains at temperature 1; set it to 1"),
        (
            (sampling.top_p, sampling.top_k, sampling.min_p) != (1, 0, 0),
            "sampling.top_p, top_k, min_p",
            "what is cut off has no log-probability to train with; leave them at 1, 0 and 0",
        ),
    ):
        if is_asked:
            found.append(Unsupported(key, reason))
    return found


def tinker_loop(
    service: Service,
    codec: TextCodec,
    method: Method,
    verifier: Verifier,
    objective: Objective,
    rate: Callable[[int], float],
    **helpers: Any,
) -> TrainingLoop:
    """The loop over a server. ``helpers`` are those of :class:`TrainingLoop`; ``rate`` gives the learning rate of a step."""
    policy = TinkerPolicy(service, codec)
    learner = TinkerLearner(service, method, objective, rate)
    return TrainingLoop(
        codec, method, verifier, objective, policy, learner, readers={ReadBy.POLICY.value: policy}, **helpers
    )
