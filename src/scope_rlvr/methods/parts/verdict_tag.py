"""A reward for judges in training: the right verdict, in the last words of the response."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.methods.parts.base import Reward, Status


class VerdictTag(Reward):
    """1 if the last ``window`` characters have the tag of the right choice and no other choice's, else −1.

    The right choice is the problem's reference. Source: RM-R1 (2505.02387), and its released code, github.com/RM-R1-UIUC/RM-R1 at d4c2542:
    ``rm_r1/verl/utils/reward_score/lm_as_judge.py``.

    >>> part = VerdictTag()
    >>> [part.paid("B is longer, but [[A]]", "A"), part.paid("[[A]] or [[B]]", "A"), part.paid("[[A]]" + 80 * ".", "A")]
    [1.0, -1.0, -1.0]
    """

    title: ClassVar[str] = "RM-R1 reward"
    source: ClassVar[str] = "arXiv 2505.02387"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "a judge in training is paid for the right tag at its response's end"
    formula: ClassVar[str] = "1 for the reference's tag and no other in the last 80 characters, else −1"

    kind: Literal["verdict_tag"] = "verdict_tag"
    choices: tuple[str, ...] = Field(("A", "B"), min_length=2, description="what a verdict may name")
    tag: str = Field("[[{choice}]]", pattern=r"\{choice\}", description="how a verdict is written, with `{choice}`")
    window: int = Field(80, ge=1, description="characters at the end of a response that are looked at")

    def paid(self, text: str, reference: str) -> float:
        """What a response with this text is paid."""
        end = text.rstrip()[-self.window :]
        found = {choice for choice in self.choices if self.tag.replace("{choice}", choice) in end}
        return 1.0 if found == {reference} else -1.0

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        return self.paid(tools.text(member.rollout), group.problem.reference.strip())
