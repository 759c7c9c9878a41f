"""SSB: the policy, shown a right and a wrong solution, explains; then it learns to explain without them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Outcome, Rollout
from scope_rlvr.methods.correction.rewriting import Rewriting, rewrite, verified_rewrites
from scope_rlvr.methods.guided.guided import NewcomersAlone
from scope_rlvr.methods.parts.base import Need, Status

EXPLANATION = (
    "{prompt}\n\nA right solution:\n\n{right}\n\nA wrong one:\n\n{wrong}\n\nWrite a whole solution of your own, step by step, that avoids the mistake. "
    "Do not mention these two.\n\n"
)


class Ssb(NewcomersAlone):
    """Semantic soft bootstrapping: the policy teaches itself by explanations that it gives with solutions in sight.

    In groups with right and wrong rollouts the policy is shown its first right one and one with the commonest wrong answer, and
    writes a solution. If the verifier calls it right, the policy imitates it from the bare problem, ``−log π`` on every token. Nothing
    else trains. Source: SSB (2512.05105), and its released code, github.com/purbeshmitra/semantic-soft-bootstrapping at f153382:
    ``logit_gen.py`` 74-224. There the student has the teacher's distribution at temperature 2 for a target, not its sampled tokens.

    >>> Ssb().needs_teacher
    False
    """

    title: ClassVar[str] = "SSB"
    source: ClassVar[str] = "arXiv 2512.05105"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "the policy imitates solutions that it wrote with a right and a wrong one in sight"
    formula: ClassVar[str] = "`−log π` on right solutions written with others in sight"
    departures: ClassVar[str] = "the sampled tokens, not the distribution at temperature 2; online, with all weights"

    name: Literal["ssb"] = "ssb"
    template: str = Field(
        EXPLANATION,
        pattern=r"\{right\}",
        description="what the policy is shown, of `{prompt}`, `{right}` and `{wrong}`",
    )

    @property
    def own_needs(self) -> frozenset[Need]:
        return frozenset()

    @property
    def num_reserved_rows(self) -> int:
        return super().num_reserved_rows + 1

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        chosen = [(g, pair) for g, group in enumerate(groups) if (pair := contrast(group)) is not None]
        places = [
            Rewriting(
                groups[g],
                {"right": tools.text(right.rollout), "wrong": tools.text(wrong.rollout)},
                Rollout(groups[g].prompt_ids, ()),
            )
            for g, (right, wrong) in chosen
        ]
        explained = verified_rewrites(places, rewrite(places, self.template, tools, "explanation"), tools)
        edited = list(groups)
        for (g, _), member in zip(chosen, explained, strict=True):
            if member.verdict.is_right:
                edited[g] = replace(edited[g], members=(*edited[g].members, member))
        return edited


def contrast(group: Group) -> tuple[Member, Member] | None:
    """The first right member, and the first with the commonest wrong answer; ``None`` without either."""
    right = [m for m in group.members if m.verdict.is_right]
    wrong = [m for m in group.members if m.verdict.outcome is Outcome.WRONG and m.verdict.answer is not None]
    if not right or not wrong:
        return None
    (commonest, _), *_ = Counter(m.verdict.answer for m in wrong).most_common(1)
    return right[0], next(m for m in wrong if m.verdict.answer == commonest)
