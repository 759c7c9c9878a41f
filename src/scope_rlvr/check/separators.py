"""Whether the policy's own responses fall into steps at the separator that is configured, and at which one they would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from scope_rlvr.core.findings import Finding, ok, warning
from scope_rlvr.core.steps import split_steps
from scope_rlvr.core.types import Problem
from scope_rlvr.models.local import LocalModel
from scope_rlvr.run.config import RunConfig

CANDIDATES = ("\n\n", "\n", ". ")
"""What ends a step in one family of models or another, the surest first."""

_NUM_RESPONSES = 8
_MOST_TOKENS = 256


def separator_findings(config: RunConfig, policy: LocalModel, problems: Sequence[Problem]) -> Iterator[Finding]:
    """Sample a few responses and split them. A response that is one step has no right prefix to keep."""
    if not config.method.needs_step_scorer:
        return
    prompts = [policy.codec.encode_prompt(problem.prompt) for problem in problems[:_NUM_RESPONSES]]
    budget = min(config.sampling.max_response_tokens, _MOST_TOKENS)
    written = policy.extend(
        prompts, config.sampling.sampling(), max_tokens=[budget] * len(prompts), seed=config.run.seed
    )
    pieces = [policy.codec.pieces(response.token_ids) for response in written]
    own = config.steps.separator
    counts = {separator: num_steps(config, pieces, separator) for separator in dict.fromkeys((own, *CANDIDATES))}
    said = f"of {len(pieces)} responses of the policy, split at {own!r}, the middle one has {counts[own]:g} step(s)"
    better = next((separator for separator in CANDIDATES if counts[separator] >= 2), None)
    if counts[own] >= 2 or better is None:
        yield ok("steps", said)
        return
    yield warning(
        "steps",
        f"{said}, so there is no step before the first wrong one to keep; split at {better!r} it has {counts[better]:g}",
        f"set steps.separator = {better!r}, or ask for such steps in prompt.template",
    )


def num_steps(config: RunConfig, pieces: Sequence[Sequence[str]], separator: str) -> float:
    """The median number of steps of some responses, given the texts of their tokens, at this separator."""
    rule = config.steps.model_copy(update={"separator": separator})
    return median(len(split_steps(list(of_one), rule)) for of_one in pieces)
