"""Guide-GRPO: answers found with a hint, learned without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Origin, Rollout
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip, ShapedRatio, TeacherTerm
from scope_rlvr.methods.guided.guided import GuidedMethod
from scope_rlvr.methods.guided.traces import (
    PROMPT_THEN_HINT,
    hinted_prompt,
    put_in_place,
    rescue_unsolved,
    sample_with_hints,
)
from scope_rlvr.methods.memory import off_policy
from scope_rlvr.methods.parts.base import Status


class Guide(GuidedMethod):
    """All-wrong groups are sampled again with a hint in the prompt and trained under the plain prompt.

    If a hinted rollout is right, the hinted group takes the place of the plain one. Its tokens are off-policy with known
    probabilities: with ``ρ = π(y|x) / π_old(y|x, hint)`` each has the loss ``−Â · ρ/(ρ+γ)``, γ the 0.9-quantile of ρ
    without gradient, at least 1e-4, no clip; ``Â_i = (r_i − mean r) / std r`` of either sign. All other tokens have the
    clipped surrogate. Mean over all tokens, neither KL penalty nor entropy bonus; flat groups count nowhere.
    Source: Nath et al. 2025 (Guide-GRPO), and its released code, github.com/vaskar-open-source-research/guide_rl at 2f27715:
    ``verl/verl/trainer/config/ppo_trainer.yaml`` 37 (mean over tokens) and 208 (deviation),
    ``verl/verl/trainer/ppo/core_algos.py`` 279-394 (the loss),
    ``verl/experiments/math_reasoning/configs/guide_paper_experiments/guide_grpo_qwen.sh``.

    Left open, or different here: the hint is the first ``hint_share`` of a verified teacher trace instead of advice written
    beforehand. By default its ids follow the prompt's and the policy goes on from there. Alone, what it writes would begin
    in the middle; so the hint stays at the head of the response, which with it is a whole solution, and does not train. What
    follows it was sampled from the very ids that it is trained after, so that ρ is 1 on fresh rollouts and the shaping is a
    factor of ¼. A ``template`` that offers the hint as advice is the paper's case: the hint stays in the prompt alone, and ρ
    says what it did. γ is taken over the trained tokens of a response, where the released code takes those of a micro-batch. The
    released run makes two updates of a step's rollouts (``objective.mini_batches = 2``), and its reward wants a format. ``mixin``, an option of the released code, keeps the
    plain failure wherever the hinted rollout is not right; its tokens are then on-policy. Journals call hinted tokens
    ``teacher``, and count them as the policy's.

    >>> from scope_rlvr.formulas.losses import Clip, example_tokens
    >>> term = Guide().teacher_term
    >>> [round(term.loss(example_tokens(p, teacher=0.8, advantage=a), Clip()).item(), 3) for p, a in ((0.2, 0.5), (0.9, -0.25))]
    [-0.25, 0.125]
    """

    title: ClassVar[str] = "Guide-GRPO"
    source: ClassVar[str] = "arXiv 2506.13923"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "hinted rollouts where all fail, trained under the plain prompt"
    formula: ClassVar[str] = (
        "`Â = (r − mean(r)) / std(r)`; `S(Â)`, hinted tokens, of either sign, `−Â·ρ/(ρ+γ)` with "
        "`ρ = π(y|x) / π_old(y|x, hint)`; mean over tokens"
    )
    departures: ClassVar[str] = (
        "the hint is the start of a teacher's trace; γ is that of a response; one update a batch"
    )

    name: Literal["guide"] = "guide"
    drop_flat_groups: bool = True
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    clip: Clip | None = Clip(low=0.2, high=0.2)
    kl: float | None = 0.0
    entropy: float | None = 0.0
    teacher_term: TeacherTerm = ShapedRatio()
    hint_share: float = Field(0.5, gt=0, lt=1, description="share of a teacher trace that is the hint")
    template: str = Field(
        PROMPT_THEN_HINT,
        pattern=r"\{hint\}",
        description="prompt with a hint, of `{prompt}` and `{hint}`; the default keeps the ids of both",
    )
    mixin: bool = Field(False, description="keep a plain failure where the hinted rollout in its place is not right")

    def teacher_advantage(self, advantage: float) -> float:
        """Hinted tokens are the policy's own and may be pushed away."""
        return self.teacher_weight * advantage

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return rescue_unsolved(groups, lambda unsolved: self._hinted(unsolved, tools))

    def _hinted(self, unsolved: Sequence[Group], tools: Toolbox) -> list[Group]:
        def begin(group: Group, hint: Rollout) -> Rollout:
            # The start of a solution is the start of the response; anything else stands in the prompt alone.
            return hint if self.template == PROMPT_THEN_HINT else hinted_prompt(group, hint, self.template, tools)

        edited = []
        for group, members in zip(unsolved, sample_with_hints(unsolved, [self.hint_share], begin, tools), strict=True):
            newcomers = {
                i: _under_plain_prompt(member, group)
                for i, member in enumerate(members or ())
                if member.verdict.is_right or not self.mixin
            }
            edited.append(put_in_place(group, newcomers))
        return edited


def _under_plain_prompt(hinted: Member, group: Group) -> Member:
    """The response as one to the problem's own prompt; a hint that it begins with does not train."""
    num_hint_tokens = hinted.rollout.num_tokens_from(Origin.TEACHER)
    return replace(hinted, rollout=off_policy(hinted.rollout, group.prompt_ids), num_shared_tokens=num_hint_tokens)
