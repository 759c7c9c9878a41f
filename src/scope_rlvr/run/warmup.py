"""A warm-up: the policy imitates whole solutions until reinforcement learning has something to work with.

A policy that is never right has groups without a gradient, and failures without a right beginning that could be kept.
Supervised fine-tuning on some hundred solutions changes that.

A warm-up is an ordinary run with the method ``sft``, made from the configuration of the run that is to follow. So there is
no second trainer: prompt, tokens, verifier, adapters, checkpoints, resuming, monitoring and the report are those of any run,
and what is warmed up is what will be trained. The loss covers the response alone, because a run's loss does, and only
solutions that the verifier calls right are imitated, because ``sft`` does that. The price is small: a group of at least two
rows is reserved for each problem, and the rows that stay empty are not computed.
"""

from __future__ import annotations

import math
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.formulas.losses import Aggregation
from scope_rlvr.problems.rows import ProblemTable
from scope_rlvr.run.config import RunConfig, validate_config
from scope_rlvr.teachers.settings import SOLUTIONS

_MIN_ROLLOUTS = 2
_SOLUTIONS_TRIED = 64


def warmup_config(config: RunConfig) -> RunConfig:
    """The run that warms the policy up for ``config``; :class:`UserError` where ``config`` does not allow one.

    >>> made = warmup_config(RunConfig())
    >>> made.method.name, made.teacher.model, made.run.steps, made.rows_per_step
    ('sft', 'solutions', 100, 32)
    """
    warmup = config.warmup
    values: dict[str, Any] = config.model_dump(mode="json")
    values["method"] = {"name": "sft"}
    num_rows = warmup.solutions_per_step * _MIN_ROLLOUTS
    of_run = config.run.micro_batch_rows
    values["run"] |= {
        "steps": warmup.steps,
        "problems_per_step": warmup.solutions_per_step,
        "rollouts_per_problem": _MIN_ROLLOUTS,
        "micro_batch_rows": None if of_run is None else math.gcd(num_rows, of_run),
        # A step without a single solution to imitate will not be followed by a better one.
        "flat_steps_limit": 1,
    }
    values["objective"] |= {
        "aggregation": Aggregation.TOKEN_MEAN.value,
        "kl": 0.0,
        "entropy": 0.0,
        "updates_per_batch": 1,
        "mini_batches": 1,
    }
    values["optimizer"]["learning_rate"] = warmup.learning_rate
    values["evaluation"] |= {"every": warmup.measure_every, "stop_at": warmup.stop_at}
    if warmup.solutions_from == "problems":
        values["teacher"]["model"] = SOLUTIONS
    return validate_config(values, "the warm-up of this configuration")


def require_solutions(config: RunConfig, training: ProblemTable) -> None:
    """Refuse a warm-up in which nothing would be imitated.

    Whether there are solutions, and whether the verifier calls them right, is looked at for every run that recites them.
    Raises :class:`UserError` where none of the first fits into ``sampling.max_response_tokens``. The policy's weights are
    not loaded for it, only its tokenizer.
    """
    # The library of the models comes late, so that mistakes are told at once.
    from scope_rlvr.models.loading import load_tokenizer

    if config.warmup.solutions_from != "problems":
        return
    solutions = [problem.solution for problem in training.problems if problem.solution is not None][:_SOLUTIONS_TRIED]
    tokenizer = load_tokenizer(config.model.policy, "model.policy")
    shortest = min(len(tokenizer.encode(solution, add_special_tokens=False)) for solution in solutions) + 1
    if shortest > (longest := config.sampling.max_response_tokens):
        raise UserError(
            f"the shortest of the first {len(solutions)} solutions has {shortest} tokens with its end, and "
            f"sampling.max_response_tokens = {longest}, so nothing would be imitated; raise that number"
        )
