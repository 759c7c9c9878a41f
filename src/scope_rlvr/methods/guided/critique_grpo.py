"""Critique-GRPO: the policy refines its failures, told what the right answer is."""

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
from scope_rlvr.core.types import Outcome, Problem, Rollout
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.guided.guided import GuidedMethod
from scope_rlvr.methods.guided.traces import put_in_place
from scope_rlvr.methods.memory import off_policy
from scope_rlvr.methods.parts.base import Need, Status

REFINEMENT = (
    "{prompt}\n\nA previous attempt:\n\n{attempt}\n\nThis attempt is wrong; the right answer is {reference}. "
    "Find the mistake, and then write the whole solution anew, with its steps.\n\n"
)


class CritiqueGrpo(GuidedMethod):
    """Self-refinement with the reference answer in sight, trained under the plain prompt.

    For every failure the policy is shown the problem, its attempt and the reference answer, and writes a whole solution.
    Of those that the verifier calls right, up to ``max_refinements`` in a group, drawn at random, take the places of the
    failures they refine. Under the plain prompt they are off-policy: ``Â_i = r_i − mean(r)`` over the edited group, refined
    tokens ``−Â · π/(π+γ)`` without a clip, all others the clipped surrogate.
    Source: Critique-GRPO (arXiv 2506.03106), token loss and merging of refinements.

    Different here: no critic; the critique is the word that the attempt is wrong, and the reference answer, as in InT
    (arXiv 2601.14209), whose correction of a single step is SCOPE's concern. Only failures are refined, and a refinement that
    is not right never joins; the released code refines every rollout, and one refinement always joins, a wrong one where
    none is right. The policy's own tokens keep their clip, which the released code leaves out. The wording is ours. A policy that cannot follow the instruction gains nothing; one that
    writes the shown answer below a wrong derivation is not found out by a verifier that reads answers alone.

    >>> from scope_rlvr.formulas.losses import Clip, example_tokens
    >>> CritiqueGrpo().teacher_term.loss(example_tokens(0.3, advantage=0.75), Clip())
    tensor([[-0.5625]])
    """

    title: ClassVar[str] = "Critique-GRPO"
    source: ClassVar[str] = "arXiv 2506.03106"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "the policy's own refinements of failures, with the answer in sight"
    formula: ClassVar[str] = "`Â = r − mean(r)`; `S(Â)`, refined tokens `−Â·π/(π+γ)`"

    departures: ClassVar[str] = "no critic; only right refinements of failures join; the clip stays"

    name: Literal["critique_grpo"] = "critique_grpo"
    normalisation: Normalisation | None = Normalisation.NONE
    max_refinements: int = Field(1, ge=1, description="refinements that may join a group")
    template: str = Field(
        REFINEMENT,
        pattern=r"\{attempt\}",
        description="what the policy is shown, of `{prompt}`, `{attempt}` and `{reference}`",
    )

    @property
    def own_needs(self) -> frozenset[Need]:
        return frozenset()

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        rng = random.Random(derive_seed(tools.seed, "refinements"))
        return [
            put_in_place(group, {i: right[i] for i in rng.sample(sorted(right), min(len(right), self.max_refinements))})
            for group, right in zip(groups, self._refined(groups, tools), strict=True)
        ]

    def _refined(self, groups: Sequence[Group], tools: Toolbox) -> list[dict[int, Member]]:
        """The right refinements of each group's failures, by the places of those."""
        failures = [
            (g, i)
            for g, group in enumerate(groups)
            for i, member in enumerate(group.members)
            if member.verdict.outcome is Outcome.WRONG
        ]
        starts = [Rollout(self._prompt(groups[g].problem, groups[g].members[i], tools), ()) for g, i in failures]
        rollouts = tools.extend(starts, "continuation", "refinements")
        judged = tools.verified(
            [(groups[g].problem, rollout) for (g, _), rollout in zip(failures, rollouts, strict=True)]
        )
        refined: list[dict[int, Member]] = [{} for _ in groups]
        for (g, i), member in zip(failures, judged, strict=True):
            if member.verdict.is_right:
                rollout = off_policy(member.rollout, groups[g].prompt_ids)
                refined[g][i] = replace(member, rollout=rollout, role=Role.GUIDED)
        return refined

    def _prompt(self, problem: Problem, failure: Member, tools: Toolbox) -> tuple[int, ...]:
        attempt = tools.text(failure.rollout)
        shown = fill(self.template, prompt=problem.prompt, attempt=attempt, reference=problem.reference)
        return tools.read_prompt(problem, shown)
