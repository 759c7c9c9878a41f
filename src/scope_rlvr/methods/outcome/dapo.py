"""DAPO: no step without groups that can teach, a wider upper clip, a mean over tokens, a soft penalty on length."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.edits import RedrawFlatGroups
from scope_rlvr.methods.parts.rewards import OverlongPenalty


class Dapo(Method):
    """GRPO with decoupled clip and dynamic sampling.

    1. A group whose known verdicts are all right or all wrong is exchanged for one of a freshly drawn problem, up to
       ``max_rounds`` times. What is still flat then stays in its place and counts nowhere, unless ``drop_flat_groups`` is off.
    2. ``r + overlong_penalty · R(|y|)`` with ``R = 0`` up to ``L − C`` tokens, ``−1`` at ``L``, linear between: ``L``
       the longest allowed response, ``C = overlong_share · L``. An unknown verdict stays unknown.
    3. ``(r − mean) / std`` in the group; ratio clipped to ``[0.8, 1.28]``; mean over all tokens of the batch.

    The paper's outcome rewards are ±1 and its penalty goes to −1; rewards here are 1 and 0, so the penalty is ½.
    Its sampling has no bound. Redrawn problems come from all training problems; figures of a step, its accuracy too, are
    those of the groups that were kept, and the tokens of the others are counted.
    Source: Yu et al. 2025, equations 8 to 13; ``C`` is 4096 of 20480 tokens there.

    >>> dapo = Dapo()
    >>> [dapo.length_penalty(n, max_tokens=100) for n in (80, 90, 100)]
    [0.0, -0.25, -0.5]
    """

    title: ClassVar[str] = "DAPO"
    source: ClassVar[str] = "arXiv 2503.14476"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "flat groups drawn anew, wider upper clip, token mean, length penalty"
    formula: ClassVar[str] = "`Â = (r + ½R(|y|) − mean) / std`; `S(Â)` with ratios in `[0.8, 1.28]`; mean over tokens"
    departures: ClassVar[str] = "redraws are bounded"

    name: Literal["dapo"] = "dapo"
    max_rounds: int = Field(3, ge=0, description="redraws of flat groups in one step")
    overlong_share: float = Field(
        0.2, gt=0, le=1, description="share of the longest response, at its end, that is charged for"
    )
    overlong_penalty: float = Field(0.5, ge=0, description="what a response of the full length is charged")
    drop_flat_groups: bool = True
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    clip: Clip | None = Clip(low=0.2, high=0.28)

    @property
    def own_parts(self) -> tuple[Part, ...]:
        redraw = RedrawFlatGroups(max_rounds=self.max_rounds, train_flat_groups=not self.drop_flat_groups)
        return redraw, OverlongPenalty.of(self)

    def length_penalty(self, num_tokens: int, max_tokens: int) -> float:
        """What a response of this length is charged: 0 or less."""
        return OverlongPenalty.of(self).charge(num_tokens, max_tokens)
