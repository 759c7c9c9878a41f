"""How long a run takes at most, from its longest step."""

from __future__ import annotations

from scope_rlvr.check.longest_step import LongestStep
from scope_rlvr.methods.parts.base import Need
from scope_rlvr.report.wording import duration
from scope_rlvr.run.config import RunConfig
from scope_rlvr.run.data import RunData


def run_duration(config: RunConfig, data: RunData, step: LongestStep) -> str:
    """The time that the whole run takes if every step is as long as the longest, and every response that is measured as well.

    Helpers (a step scorer, a teacher, a judge) are not in it: the longest step asks none.
    """
    num_batches = -(-config.run.steps // config.objective.steps_per_batch)
    seconds = num_batches * step.seconds
    needs_helpers = config.method.needs & {Need.STEP_SCORER, Need.TEACHER, Need.TEACHER_SCORES, Need.JUDGE}
    said = f"{num_batches} such steps take {duration(seconds)}{', helpers aside' if needs_helpers else ''}"
    if not step.sampling_seconds:
        return said
    tokens_per_second = config.rows_per_step * config.sampling.max_response_tokens / step.sampling_seconds
    measuring = _measured_tokens(config, data) / tokens_per_second
    return f"{said}, measuring the policy {duration(measuring)}: {duration(seconds + measuring)} in all, at most"


def _measured_tokens(config: RunConfig, data: RunData) -> int:
    """Tokens that all evaluations of a run sample if no response ends before its budget."""
    section, steps = config.evaluation, config.run.steps
    during = -(-steps // section.every) if section.every else 0
    sets = [(data.test_sets, section.before + 1), (data.dev_sets, during)]
    return section.max_response_tokens * sum(
        times * len(held_out.problems) * (held_out.samples_per_problem or section.samples_per_problem)
        for held_outs, times in sets
        for held_out in held_outs
    )
