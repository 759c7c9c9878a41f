"""Reinforcement learning from verifiable rewards that recycles failed rollouts.

The names below, and every method, can be imported from here: ``from scope_rlvr import ScopeTrainer, Scope``. Each is loaded
when it is first used, so importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scope_rlvr.core.errors import UserError as UserError
    from scope_rlvr.core.groups import Group as Group
    from scope_rlvr.core.groups import Member as Member
    from scope_rlvr.core.groups import Streams as Streams
    from scope_rlvr.core.ports import StepScorer as StepScorer
    from scope_rlvr.core.ports import Teacher as Teacher
    from scope_rlvr.core.ports import TeacherReply as TeacherReply
    from scope_rlvr.core.ports import TeacherRequest as TeacherRequest
    from scope_rlvr.core.ports import Verifier as Verifier
    from scope_rlvr.core.toolbox import Toolbox as Toolbox
    from scope_rlvr.core.types import Origin as Origin
    from scope_rlvr.core.types import Outcome as Outcome
    from scope_rlvr.core.types import Problem as Problem
    from scope_rlvr.core.types import Rollout as Rollout
    from scope_rlvr.core.types import Segment as Segment
    from scope_rlvr.core.types import Verdict as Verdict
    from scope_rlvr.engines.trl.trainer import ScopeTrainer as ScopeTrainer
    from scope_rlvr.formulas.losses import Clip as Clip
    from scope_rlvr.formulas.losses import Tokens as Tokens
    from scope_rlvr.grading.final_answer import FinalAnswerVerifier as FinalAnswerVerifier
    from scope_rlvr.grading.reward import RewardVerifier as RewardVerifier
    from scope_rlvr.methods import *  # noqa: F403
    from scope_rlvr.methods.parts.base import Advantage as Advantage
    from scope_rlvr.methods.parts.base import Decoding as Decoding
    from scope_rlvr.methods.parts.base import Estimator as Estimator
    from scope_rlvr.methods.parts.base import GroupEdit as GroupEdit
    from scope_rlvr.methods.parts.base import Loss as Loss
    from scope_rlvr.methods.parts.base import Need as Need
    from scope_rlvr.methods.parts.base import Part as Part
    from scope_rlvr.methods.parts.base import ProblemSource as ProblemSource
    from scope_rlvr.methods.parts.base import Reward as Reward
    from scope_rlvr.methods.parts.base import Status as Status
    from scope_rlvr.methods.parts.base import Term as Term
    from scope_rlvr.methods.parts.base import TokenWeight as TokenWeight
    from scope_rlvr.methods.registry import METHODS as METHODS
    from scope_rlvr.methods.registry import PARTS as PARTS
    from scope_rlvr.models.local import LocalModel as LocalModel
    from scope_rlvr.models.local import TokenizerCodec as TokenizerCodec
    from scope_rlvr.run.config import RunConfig as RunConfig
    from scope_rlvr.run.config import load_config as load_config
    from scope_rlvr.scorers.loading import load_scorer as load_scorer
    from scope_rlvr.scorers.settings import ScorerSection as ScorerSection
    from scope_rlvr.teachers.local import LocalTeacher as LocalTeacher
    from scope_rlvr.teachers.server import ServerTeacher as ServerTeacher

__version__ = "0.1.0"

_PLACES = {
    "core.errors": ("UserError",),
    "core.groups": ("Group", "Member", "Streams"),
    "core.ports": ("StepScorer", "Teacher", "TeacherReply", "TeacherRequest", "Verifier"),
    "core.toolbox": ("Toolbox",),
    "core.types": ("Origin", "Outcome", "Problem", "Rollout", "Segment", "Verdict"),
    "engines.trl.trainer": ("ScopeTrainer",),
    "formulas.losses": ("Clip", "Tokens"),
    "grading.final_answer": ("FinalAnswerVerifier",),
    "grading.reward": ("RewardVerifier",),
    "methods.parts.base": (
        "Advantage",
        "Decoding",
        "Estimator",
        "GroupEdit",
        "Loss",
        "Need",
        "Part",
        "ProblemSource",
        "Reward",
        "Status",
        "Term",
        "TokenWeight",
    ),
    "methods.registry": ("METHODS", "PARTS"),
    "models.local": ("LocalModel", "TokenizerCodec"),
    "run.config": ("RunConfig", "load_config"),
    "scorers.loading": ("load_scorer",),
    "scorers.settings": ("ScorerSection",),
    "teachers.local": ("LocalTeacher",),
    "teachers.server": ("ServerTeacher",),
}
"""Where the public names are, but for methods: :mod:`scope_rlvr.methods.registry` knows those."""

_PLACE_OF = {name: f"{__name__}.{module}:{name}" for module, names in _PLACES.items() for name in names}


if not TYPE_CHECKING:  # so that a type checker refuses a name that is not above

    def __getattr__(name: str) -> Any:
        from scope_rlvr.methods.registry import CLASS_PLACES, imported

        place = _PLACE_OF.get(name) or CLASS_PLACES.get(name)
        if place is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return imported(place)


def __dir__() -> list[str]:
    from scope_rlvr.methods.registry import CLASS_PLACES

    return sorted({*globals(), *_PLACE_OF, *CLASS_PLACES})
