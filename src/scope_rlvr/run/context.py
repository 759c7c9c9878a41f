"""How long prompts are, and whether prompt and response fit into a model's context, before anything is sampled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import TextCodec
from scope_rlvr.core.types import Problem
from scope_rlvr.run.config import RunConfig
from scope_rlvr.run.data import RunData, require_enough


@dataclass(frozen=True, slots=True)
class MeasuredPrompts:
    """Problems, and how many tokens each one's prompt has as the policy is shown it, template included.

    >>> long, short = Problem("a", "1 + 1 + 1?", "3"), Problem("b", "1?", "1")
    >>> prompts = MeasuredPrompts((short, long), (2, 10))
    >>> prompts.longest, [problem.id for problem in prompts.at_most(5).problems], prompts.longest_first()[0].id
    (10, ['b'], 'a')
    """

    problems: tuple[Problem, ...]
    tokens_P: tuple[int, ...]

    @classmethod
    def of(cls, problems: Sequence[Problem], codec: TextCodec) -> MeasuredPrompts:
        return cls(tuple(problems), tuple(len(codec.encode_prompt(problem.prompt)) for problem in problems))

    @property
    def longest(self) -> int:
        return max(self.tokens_P)

    def at_most(self, limit: int | None) -> MeasuredPrompts:
        """The problems whose prompt has at most ``limit`` tokens; all of them for ``None``."""
        kept = [i for i, tokens in enumerate(self.tokens_P) if limit is None or tokens <= limit]
        return MeasuredPrompts(tuple(self.problems[i] for i in kept), tuple(self.tokens_P[i] for i in kept))

    def longest_first(self) -> list[Problem]:
        """The problems in the order of their prompts' lengths."""
        order = sorted(range(len(self.problems)), key=lambda i: -self.tokens_P[i])
        return [self.problems[i] for i in order]


@dataclass(frozen=True, slots=True)
class ContextFit:
    """The longest prompt of some problems and the longest response, beside the positions that a model has.

    ``positions`` is ``None`` where a model does not say how many it has.

    >>> ContextFit(prompt=120, response=24, positions=100).fits, ContextFit(120, 24, positions=None).fits
    (False, True)
    """

    prompt: int
    response: int
    positions: int | None

    @classmethod
    def of(cls, model: Any, prompts: MeasuredPrompts, max_response_tokens: int) -> ContextFit:
        """What a model, a ``PreTrainedModel``, needs for these prompts."""
        positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        return cls(prompts.longest, max_response_tokens, positions)

    @property
    def fits(self) -> bool:
        return self.positions is None or self.prompt + self.response <= self.positions

    def __str__(self) -> str:
        """The arithmetic in words."""
        said = f"a prompt of {self.prompt} tokens and a response of {self.response} are {self.prompt + self.response}"
        if self.positions is None:
            return said
        return (
            f"{said} of {self.positions} positions"
            if self.fits
            else f"{said}, more than the {self.positions} positions"
        )


def context_fits(
    config: RunConfig, model: Any, codec: TextCodec, training: MeasuredPrompts, data: RunData
) -> Iterator[tuple[str, ContextFit, str]]:
    """For the training problems and each evaluation set: its name, its fit, and what to do where it does not fit."""
    fit = ContextFit.of(model, training, config.sampling.max_response_tokens)
    yield "training", fit, "lower sampling.max_response_tokens or problems.max_prompt_tokens"
    for held_out in data.test_sets:
        prompts = MeasuredPrompts.of(held_out.problems, codec)
        yield (
            f"evaluation set {held_out.name}",
            ContextFit.of(model, prompts, config.evaluation.max_response_tokens),
            "lower evaluation.max_response_tokens, or measure on other problems",
        )


def prompts_that_fit(config: RunConfig, model: Any, codec: TextCodec, data: RunData) -> MeasuredPrompts:
    """The training problems that ``problems.max_prompt_tokens`` admits.

    Raises :class:`UserError` where too few are left, and where a prompt and a response may not fit into the context:
    beyond its positions a model writes nonsense.
    """
    limit = config.problems.max_prompt_tokens
    admitted = MeasuredPrompts.of(data.training.problems, codec).at_most(limit)
    require_enough(len(admitted.problems), config, f"after problems.max_prompt_tokens = {limit}, ")
    for where, fit, remedy in context_fits(config, model, codec, admitted, data):
        if not fit.fits:
            raise UserError(f"{where}: {fit} of {config.model.policy}; {remedy}")
    return admitted
