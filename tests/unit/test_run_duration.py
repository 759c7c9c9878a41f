"""What the longest step says of a whole run, by hand."""

from __future__ import annotations

from scope_rlvr.check.duration import run_duration
from scope_rlvr.check.longest_step import LongestStep
from scope_rlvr.run.config import load_config
from scope_rlvr.run.data import read_data

SMALL = (
    "run.steps=10",
    "run.problems_per_step=2",
    "run.rollouts_per_problem=4",
    "run.checkpoint_every=2",
    "objective.updates_per_batch=2",
    "sampling.max_response_tokens=50",
    "evaluation.sets=[{role='trained', level=4}]",
    "evaluation.num_problems=4",
    "evaluation.samples_per_problem=3",
    "evaluation.max_response_tokens=60",
)
STEP = LongestStep(seconds=8.0, sampling_seconds=2.0, peak_bytes=0, where="memory")


def said(*overrides: str) -> str:
    config = load_config(overrides=[*SMALL, *overrides])
    return run_duration(config, read_data(config), STEP)


def test_steps_and_evaluations_are_added_up():
    # 5 batches of 8 s; 8 x 50 tokens in 2 s; before and after, 4 x 3 x 60 tokens each.
    assert said("method.name=grpo") == "5 such steps take 40 s, measuring the policy 7.2 s: 47 s in all, at most"


def test_evaluations_during_the_run_are_measured_too():
    during = ("evaluation.every=4", "evaluation.num_problems_during=2", "evaluation.before=false")
    # After steps 4, 8 and 10, 2 x 3 x 60 tokens each, and once 4 x 3 x 60.
    assert "measuring the policy 9 s" in said("method.name=grpo", *during)


def test_helpers_are_not_in_it():
    assert said("method.name=scope").startswith("5 such steps take 40 s, helpers aside, measuring")
