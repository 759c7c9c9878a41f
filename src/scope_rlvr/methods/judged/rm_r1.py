"""RM-R1: a judge is trained by verifiable rewards."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.verdict_tag import VerdictTag


class RmR1(Method):
    """GRPO that trains a judge: problems show two answers, and the response must end with the tag of the better one.

    ``r`` is 1 or −1, ``Â = (r − mean)/std``, a KL penalty of 0.001. The problems and their prompts, which ask for a rubric or a solution first,
    are the user's: their reference is the better answer's letter. A judge so trained can serve ``arena``. Source: RM-R1 (2505.02387).

    >>> RmR1(choices=("1", "2")).own_parts[0].choices
    ('1', '2')
    """

    title: ClassVar[str] = "RM-R1"
    source: ClassVar[str] = "arXiv 2505.02387"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "trains a judge, paid for the right verdict at its response's end"
    formula: ClassVar[str] = "`r = ±1`, `Â = (r − mean)/std`; `S(Â)`, KL penalty 0.001"
    departures: ClassVar[str] = "no distillation before; prompts and pairs of answers are the user's"

    name: Literal["rm_r1"] = "rm_r1"
    choices: tuple[str, ...] = Field(("A", "B"), min_length=2, description="what a verdict may name")
    tag: str = Field("[[{choice}]]", pattern=r"\{choice\}", description="how a verdict is written, with `{choice}`")
    window: int = Field(80, ge=1, description="characters at the end of a response that are looked at")
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    kl: float | None = Field(0.001, ge=0)

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (VerdictTag.of(self),)
