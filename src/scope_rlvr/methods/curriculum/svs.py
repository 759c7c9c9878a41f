"""SvS: the policy writes variants of problems that it half solves, and solves them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Role
from scope_rlvr.core.prompts import fill
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Outcome, Rollout, Verdict
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Status

TEMPLATE = """Below is the solution of a problem. Write another problem, in other words and as hard, whose answer is the same. Write
the problem alone.

{solution}

"""


class Svs(Method):
    """Self-play with variational problem synthesis.

    Of each problem whose solve rate is in ``[lowest, highest]`` the policy is shown one of its right solutions and
    writes ``num_variants`` variants of the problem, as far as the batch has room for them, which have the same
    reference answer. It solves each ``num_solutions`` times. A variant's writer is right where the variant's solve rate
    is in ``[variant_lowest, variant_highest]``: neither hopeless nor given away. Three kinds of groups train, each with
    its own mean: ordinary rollouts, writers of variants of one problem, and solutions of one variant. ``Â = (r − mean)
    / std``. Source: SvS (2508.14029), "Beyond Pass@1"; its bands are as we remember them, and its template is not this
    one. A policy that follows no instructions, as the embedded one, writes nothing of use here.

    >>> svs = Svs()
    >>> [svs.is_worth_it(rate) for rate in (0.0, 0.25, 1.0)], svs.num_reserved_rows
    ([False, True, False], 3)
    """

    title: ClassVar[str] = "SvS"
    source: ClassVar[str] = "arXiv 2508.14029"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "the policy writes variants of half-solved problems, and solves them"
    formula: ClassVar[str] = (
        "`Â = (r − mean) / std`; `S(Â)`; a variant's writer has `r = 1` where its solve rate is in `[⅛, ⅝]`"
    )
    departures: ClassVar[str] = "few variants and solutions, for which rows are reserved; the template is ours"

    name: Literal["svs"] = "svs"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    lowest: float = Field(0.125, gt=0, le=1, description="solve rate from which on a problem gets variants")
    highest: float = Field(0.5, gt=0, le=1, description="solve rate up to which a problem gets variants")
    variant_lowest: float = Field(
        0.125, gt=0, le=1, description="solve rate of a variant from which on its writer is right"
    )
    variant_highest: float = Field(
        0.625, gt=0, le=1, description="solve rate of a variant up to which its writer is right"
    )
    extra_rows: int = Field(
        3, ge=1, description="rows for variants of a problem that the batch has room for, on average"
    )
    num_variants: int = Field(2, ge=2, description="variants of a problem")
    num_solutions: int = Field(2, ge=2, description="rollouts of each variant")
    template: str = Field(
        TEMPLATE, pattern=r"\{solution\}", description="prompt of a writer, of `{problem}` and `{solution}`"
    )

    @property
    def num_reserved_rows(self) -> int:
        return super().num_reserved_rows + self.extra_rows

    @property
    def has_variable_rows(self) -> bool:
        return True

    def is_worth_it(self, variant_rate: float) -> bool:
        """Whether the writer of a variant with this solve rate is right."""
        return self.variant_lowest <= variant_rate <= self.variant_highest

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        sampled = super().sample(groups, num_rollouts, tools)
        half = [group for group in sampled if self.lowest <= _rate(group.members) <= self.highest]
        half = half[: self.extra_rows * len(groups) // (self.num_variants * (1 + self.num_solutions))]
        writers = self._written(half, tools)
        variants = [
            self._variant(group, i, rollout, tools)
            for group, rollouts in zip(half, writers, strict=True)
            for i, rollout in enumerate(rollouts)
        ]
        posed = [variant for variant in variants if variant is not None]
        solved = dict(zip(map(id, posed), tools.sample(posed, self.num_solutions, "variants"), strict=True))
        judged = iter([self._verdict(solved.get(id(variant))) for variant in variants])
        writing = [
            Group(
                group.problem,
                tuple(Member(rollout, next(judged), Role.GUIDED) for rollout in rollouts),
                prompt_ids=rollouts[0].prompt_ids,
            )
            for group, rollouts in zip(half, writers, strict=True)
        ]
        return [*sampled, *writing, *map(_guided, solved.values())]

    def _written(self, groups: Sequence[Group], tools: Toolbox) -> list[list[Rollout]]:
        """The variants that the policy writes of each problem."""
        rng, starts = random.Random(derive_seed(tools.seed, self.name)), []
        for group in groups:
            right = rng.choice([member for member in group.members if member.verdict.is_right])
            text = fill(self.template, problem=group.problem.prompt, solution=tools.text(right.rollout))
            starts += [Rollout(tools.read_prompt(group.problem, text), ())] * self.num_variants
        written = tools.extend(starts, "continuation", "writing variants")
        return [written[i : i + self.num_variants] for i in range(0, len(written), self.num_variants)]

    @staticmethod
    def _variant(group: Group, number: int, rollout: Rollout, tools: Toolbox) -> Group | None:
        """The variant as a problem to be solved; ``None`` for what was not finished, or is empty."""
        text = tools.text(rollout).strip()
        if rollout.is_truncated or not text:
            return None
        name = f"{group.problem.id}/variant-{tools.step}-{number}"
        problem = replace(group.problem, id=name, prompt=text, solution=None)
        return Group(problem, (), prompt_ids=tools.read_prompt(group.problem, text))

    def _verdict(self, solved: Group | None) -> Verdict:
        """What the writer of a variant is worth, by how often the variant was solved."""
        if solved is None:
            return Verdict(Outcome.WRONG, reason="no variant")
        if not any(member.verdict.is_known for member in solved.members):
            return Verdict(Outcome.UNKNOWN, reason="no solution of the variant could be judged")
        rate = _rate(solved.members)
        reason = f"the variant was solved at a rate of {rate:.2f}"
        return Verdict(Outcome.RIGHT if self.is_worth_it(rate) else Outcome.WRONG, reason=reason)


def _rate(members: Sequence[Member]) -> float:
    """The share of right rollouts among those with a known verdict; 0 without any."""
    known = [member.verdict.is_right for member in members if member.verdict.is_known]
    return sum(known) / len(known) if known else 0.0


def _guided(group: Group) -> Group:
    """Solutions of a variant say nothing of how the policy does on the problems of the run."""
    return replace(group, members=tuple(replace(member, role=Role.GUIDED) for member in group.members))
