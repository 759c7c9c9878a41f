"""The families of step scorers as settings: what a scorer's input looks like, what its scores mean, how they are read.

No model library is needed here: a configuration can be checked without one. A scorer's folder may hold a ``scorer.json``,
written and read here, that names its family, its decision rule and its calibration.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationError, model_validator

from scope_rlvr.errors import UserError
from scope_rlvr.locate import AnyRule, Calibrated, CalibrationMap, Threshold
from scope_rlvr.settings import BARE_NAME, BY_KIND, Settings

NONE = "none"
"""As a model name: no such helper."""

EXACT = "exact"
"""As a step scorer's name: the problem family's own exact checker."""

DESCRIPTION = "scorer.json"


class Family(Settings):
    """What all families have: the range of their scores, and the rule that reads them unless another is named."""

    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 1.0
    default_rule: ClassVar[AnyRule] = Threshold(threshold=0.5)
    rule_source: ClassVar[str] = ""
    """Where the default rule comes from."""

    flat_below: ClassVar[float] = 1e-4
    """A spread of scores over the self-test's solutions that no working scorer of the family stays below."""


class Auto(Family):
    """The family that ``scorer.json`` names, else the one that the model's name or class belongs to."""

    kind: Literal["auto"] = "auto"


class TokenClassifier(Family):
    """A token classifier with two labels, label 1 meaning right, read at the last token of the separator after a step."""

    kind: Literal["token_classifier"] = "token_classifier"
    separator: str = Field("\n\n", min_length=1, description="text between steps; a step is scored at its last token")
    rule_source: ClassVar[str] = "the likelier label decides, as in TRL's process reward models"


AnyFamily = Annotated[Auto | TokenClassifier, BARE_NAME, BY_KIND]
"""Every family of scorers, told apart by ``kind``."""


class ScorerSection(Settings):
    """The step scorer of a run."""

    model: str = "embedded:step_scorer"
    family: AnyFamily = Auto()
    rule: AnyRule | None = None
    noise: float = Field(
        0.0, ge=0, le=1, description="share of the solutions whose first wrong step is moved at random"
    )

    @model_validator(mode="after")
    def _threshold_is_in_range(self) -> ScorerSection:
        if not isinstance(self.family, Auto) and self.rule is not None:
            require_in_range(self.rule, self.family)
        return self


class ScorerDescription(Settings):
    """``scorer.json``: what belongs to a scorer's weights and is not in them."""

    family: AnyFamily
    rule: AnyRule | None = None
    calibration: CalibrationMap | None = None

    @classmethod
    def read(cls, folder: Path) -> ScorerDescription | None:
        """The description in a model folder, ``None`` where there is none; :class:`UserError` where it is wrong."""
        file = folder / DESCRIPTION
        if not file.is_file():
            return None
        try:
            return cls.model_validate(json.loads(file.read_text(encoding="utf-8")))
        except ValidationError as error:
            mistake = error.errors()[0]
            where = ".".join(str(part) for part in mistake["loc"])
            raise UserError(f"{file} describes no step scorer: {where or 'it'}: {mistake['msg']}") from error
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise UserError(f"{file} cannot be read as JSON: {error}") from error

    def write(self, folder: Path) -> None:
        """Write ``scorer.json`` into a model folder."""
        text = json.dumps(self.model_dump(mode="json", exclude_none=True), indent=2)
        (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def rule_of(section: ScorerSection, family: Family, description: ScorerDescription | None) -> AnyRule:
    """The decision rule: the section's, else the description's, else the family's own.

    >>> rule_of(ScorerSection(), TokenClassifier(), None).threshold
    0.5
    """
    described = description.rule if description is not None else None
    rule = section.rule or described or family.default_rule
    if isinstance(rule, Calibrated) and rule.map is None:
        if description is None or description.calibration is None:
            raise UserError(
                f"scorer.rule = 'calibrated', and neither the rule nor the {DESCRIPTION} of {section.model!r} holds a "
                "calibration; calibrate the scorer on labelled steps first, or name another rule"
            )
        rule = rule.model_copy(update={"map": description.calibration})
    require_in_range(rule, family)
    return rule


def require_in_range(rule: AnyRule, family: Family) -> None:
    """Refuse a threshold that no score of the family can lie on both sides of."""
    if isinstance(rule, Calibrated):
        return
    for name in ("threshold", "below", "first_below"):
        value = getattr(rule, name, None)
        if value is not None and not family.lowest < value <= family.highest:
            raise UserError(
                f"scorer.rule.{name} = {value}: scores of this family lie between {family.lowest} and {family.highest}; "
                "give a number above the one and not above the other"
            )
