"""InT: the policy finds its first mistake with the reference in sight and proposes one step in its place; then GRPO."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Role
from scope_rlvr.core.prompts import fill
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Outcome, Rollout, Segment, Verdict
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import NegativeLogLikelihood, TeacherTerm
from scope_rlvr.methods.guided.guided import GuidedMethod
from scope_rlvr.methods.imitation.sft_then_grpo import WARMUP_STEPS
from scope_rlvr.methods.memory import off_policy_after
from scope_rlvr.methods.parts.base import Need, Status, TokenAdvantages

INTERVENTION = (
    "{prompt}\n\nA right solution:\n\n{solution}\n\nAn attempt that is wrong, its steps numbered:\n\n{attempt}\n\nWrite the number of its first "
    "wrong step in a line of its own, and below it the right step in its place, and nothing else.\n\n"
)
_STAGE = "intervenes"


class Int(GuidedMethod):
    """Intervention training for the first ``intervention_share`` of the steps, then GRPO.

    For each failure the policy is shown the reference solution and its attempt with numbered steps, and writes the number of the
    first wrong step and one step in its place. Of ``num_tries`` continuations from there one must be right, or the intervention is
    thrown away. The policy then imitates its own start and the intervention, ``−log π`` on both, and not what follows. The reference
    is the problem's worked solution, or its answer where it has none. The optimiser starts anew before GRPO, with a short
    warm-up. Source: InT (2601.14209), its abstract and project page.

    >>> method = Int(intervention_share=0.2)
    >>> [(method.stage(step, 10), method.learning_rate_factor(step, 10)) for step in (1, 3, 9)]
    [(0, 1.0), (1, 0.2), (1, 1.0)]
    """

    title: ClassVar[str] = "InT"
    source: ClassVar[str] = "arXiv 2601.14209"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "the policy imitates its own one-step corrections of failures, then GRPO"
    formula: ClassVar[str] = "`−log π` on start and intervention, then `Â = r − mean(r)`; `S(Â)`"
    departures: ClassVar[str] = (
        "online, not on a data set made beforehand; the wording and the check by continuations are ours"
    )

    name: Literal["int"] = "int"
    teacher_term: TeacherTerm = NegativeLogLikelihood()
    intervention_share: float = Field(0.5, gt=0, lt=1, description="share of the steps that imitate interventions")
    intervention_rate: float = Field(
        1.0, gt=0, description="learning rate of the imitation, as a multiple of the run's"
    )
    num_tries: int = Field(1, ge=1, description="continuations of an intervention; one must be right")
    template: str = Field(
        INTERVENTION, pattern=r"\{attempt\}", description="asks for one, with `{prompt}`, `{solution}` and `{attempt}`"
    )

    @property
    def own_needs(self) -> frozenset[Need]:
        return frozenset()

    def stage(self, step: int, num_steps: int) -> int:
        return int(step > round(self.intervention_share * num_steps))

    def learning_rate_factor(self, step: int, num_steps: int) -> float:
        num_grpo_steps = step - round(self.intervention_share * num_steps)
        return self.intervention_rate if num_grpo_steps <= 0 else min(1.0, num_grpo_steps / WARMUP_STEPS)

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        if self.stage(tools.step, tools.num_steps):
            return list(groups)
        failures = [(g, m) for g, group in enumerate(groups) for m in group.members if _is_failure(m)]
        proposed = self._proposals([(groups[g], m) for g, m in failures], tools)
        found = [(g, rollout) for (g, _), rollout in zip(failures, proposed, strict=True) if rollout is not None]
        tries = [rollout for _, rollout in found for _ in range(self.num_tries)]
        continued = tools.extend(tries, "continuation", "after intervention")
        verdicts = iter(
            tools.verify([(groups[found[i // self.num_tries][0]].problem, r) for i, r in enumerate(continued)])
        )
        members: list[list[Member]] = [[] for _ in groups]
        for g, rollout in found:
            tried = [next(verdicts).is_right for _ in range(self.num_tries)]
            if any(tried):
                intervened = Member(rollout, Verdict(Outcome.RIGHT), Role.GUIDED, extras={_STAGE: 1.0})
                members[g].append(intervened)
        return [
            replace(group, members=tuple(new), replaced=(*group.replaced, *group.members))
            for group, new in zip(groups, members, strict=True)
        ]

    def _proposals(self, failures: Sequence[tuple[Group, Member]], tools: Toolbox) -> list[Rollout | None]:
        """Each failure up to its first wrong step, and the step that the policy proposes in its place."""
        starts, steps_of = [], []
        for group, member in failures:
            steps = tools.split(member.rollout)
            steps_of.append(steps)
            attempt = "".join(f"{n}. {step.text}" for n, step in enumerate(steps, 1))
            solution = group.problem.solution or group.problem.reference
            shown = fill(self.template, prompt=group.problem.prompt, solution=solution, attempt=attempt)
            starts.append(Rollout(tools.read_prompt(group.problem, shown), ()))
        written = tools.extend(starts, "continuation", "intervention", stop_texts=(tools.steps.separator,))
        found: list[Rollout | None] = []
        for (group, member), steps, reply in zip(failures, steps_of, written, strict=True):
            at = named_and_step(tools.codec.pieces(reply.token_ids), len(steps))
            if at is None:
                found.append(None)
                continue
            kept = member.rollout.cut(steps[at[0]].start)
            ids = [token for token in reply.token_ids[at[1] :] if token not in tools.codec.end_ids]
            logprobs = [p for p in reply.logprob_T[at[1] : at[1] + len(ids)] if p is not None]
            new = Segment(tuple(ids), reply.segments[0].origin, tuple(logprobs) if len(logprobs) == len(ids) else None)
            whole = off_policy_after(kept.then(new, is_truncated=True), group.prompt_ids, len(kept))
            found.append(whole if ids and len(whole) < tools.max_response_tokens else None)
        return found

    def advantages(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> TokenAdvantages:
        credited = super().advantages(groups, rewards_PG, normalisation)
        return [
            [
                [1.0] * len(m.rollout) if m.extras.get(_STAGE) else a_T
                for m, a_T in zip(group.members, a_GT, strict=True)
            ]
            for group, a_GT in zip(groups, credited, strict=True)
        ]


def _is_failure(member: Member) -> bool:
    return member.verdict.outcome is Outcome.WRONG and not member.rollout.is_truncated


def named_and_step(pieces: Sequence[str], num_steps: int) -> tuple[int, int] | None:
    """The step, from 0, that the first line of a reply names, and the token at which the line below it begins.

    >>> named_and_step(["2", "\\n", "3 + 5", " = 8"], num_steps=4)
    (1, 2)
    >>> named_and_step(["9\\n", "3"], num_steps=4) is named_and_step(["what?"], num_steps=4) is None
    True
    """
    end = next((i for i, piece in enumerate(pieces, 1) if "\n" in piece), len(pieces))
    number = re.search(r"\d{1,4}", "".join(pieces[:end]).partition("\n")[0])
    if number is None or end == len(pieces) or not 1 <= int(number.group()) <= num_steps:
        return None
    return int(number.group()) - 1, end
