"""The families of step scorers as settings: what a scorer's input looks like, what its scores mean, how they are read.

No model library is needed here: a configuration can be checked without one. A scorer's folder may hold a ``scorer.json``,
written and read here, that names its family, its decision rule and its calibration.
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError, model_validator

from scope_rlvr.errors import UserError
from scope_rlvr.locate import AnyRule, Calibrated, CalibrationMap, Drop, Threshold
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


class TooLong(StrEnum):
    """What becomes of a solution that is longer than the scorer's context."""

    UNSCORED = "unscored"
    """It gets no scores, which is counted as a failure of the scorer."""
    FIRST_STEPS = "first_steps"
    """The steps that fit are scored; the others get the highest score, as nobody has read them."""


class LocalFamily(Family):
    """Models that run here."""

    too_long: TooLong = Field(
        TooLong.UNSCORED,
        description="what becomes of a longer solution: no scores, or scores of the steps that fit while the others count as right",
    )
    max_tokens: int | None = Field(
        None, ge=1, description="longest input in tokens; the context that the model's configuration names by default"
    )


class TokenClassifier(LocalFamily):
    """A token classifier with two labels, label 1 meaning right, read at the last token of the separator after a step."""

    kind: Literal["token_classifier"] = "token_classifier"
    separator: str = Field("\n\n", min_length=1, description="text between steps; a step is scored at its last token")
    after_prompt: bool = Field(False, description="the separator also stands between the problem and the first step")
    bos: bool = Field(False, description="begin with the tokenizer's begin-of-sequence token, where it has one")
    rule_source: ClassVar[str] = "the likelier label decides, as in TRL's process reward models"


class Trl(TokenClassifier):
    """As TRL's ``PRMTrainer`` trains: a newline as the separator, and a begin-of-sequence token where there is one."""

    kind: Literal["trl"] = "trl"  # type: ignore[assignment]
    separator: str = Field("\n", min_length=1, description="text between steps; a step is scored at its last token")
    bos: bool = Field(True, description="begin with the tokenizer's begin-of-sequence token, where it has one")


class Pure(TokenClassifier):
    """PURE-PRM-7B: a token classifier whose score is ``p(right) − p(wrong)``, between -1 and 1."""

    kind: Literal["pure"] = "pure"  # type: ignore[assignment]
    separator: str = Field("\n", min_length=1, description="text between steps; a step is scored at its last token")
    lowest: ClassVar[float] = -1.0
    default_rule: ClassVar[AnyRule] = Threshold(threshold=0.0)
    rule_source: ClassVar[str] = "the sign of the reward (PURE, arXiv 2504.15275)"


class Qwen(LocalFamily):
    """Qwen2.5-Math-PRM-7B and -72B, Qwen2.5-Math-7B-PRM800K: a two-class head read at a marker after every step."""

    kind: Literal["qwen"] = "qwen"
    system: str = Field(
        "Please reason step by step, and put your final answer within \\boxed{}.", description="the system prompt"
    )
    marker: str = Field("<extra_0>", min_length=2, description="the marker: one token of the tokenizer")
    rule_source: ClassVar[str] = "ProcessBench's figures of these models (arXiv 2501.07301)"
    flat_below: ClassVar[float] = 0.1


class MathShepherd(LocalFamily):
    """Math-Shepherd: a causal language model whose logits of "+" and "-" are read at a marker after every step."""

    kind: Literal["math_shepherd"] = "math_shepherd"
    marker: str = Field("ки", min_length=1, description="the marker behind a step: one token after a space")
    good: str = Field("+", min_length=1, description="the token for right")
    bad: str = Field("-", min_length=1, description="the token for wrong")
    rule_source: ClassVar[str] = "ProcessBench (arXiv 2412.06559); labels are hard Monte-Carlo estimates"
    flat_below: ClassVar[float] = 0.01


class ReadOut(StrEnum):
    """What is read from the logits of a causal language model."""

    TWO_TOKENS = "two_tokens"
    """The probability of the token for right among the two: the authors' own."""
    FULL_VOCABULARY = "full_vocabulary"
    """Its probability among all tokens, as PRMBench reads."""
    GREEDY = "greedy"
    """1 where it is the likeliest of all tokens, else 0, as ProcessBench reads."""


class RlhFlow(LocalFamily):
    """RLHFlow's Llama3.1-8B-PRM: a conversation in which the user says a step and the assistant "+", also after a wrong one."""

    kind: Literal["rlhflow"] = "rlhflow"
    read_out: ReadOut = Field(
        ReadOut.TWO_TOKENS,
        description="what is read: the chance of + against -, its chance among all tokens, or whether it is the likeliest",
    )
    good: str = Field("+", min_length=1, description="the token for right")
    bad: str = Field("-", min_length=1, description="the token for wrong")
    rule_source: ClassVar[str] = "the likelier of the two tokens decides, as its authors label"
    flat_below: ClassVar[float] = 0.01


class Skywork(LocalFamily):
    """Skywork-o1-Open-PRM: a scalar head with a sigmoid, read at the newline after every step."""

    kind: Literal["skywork"] = "skywork"
    step_end: str = Field("\n", min_length=1, description="text after a step; its last token is where a step is scored")
    default_rule: ClassVar[AnyRule] = Drop(drop=0.05)
    rule_source: ClassVar[str] = "PRMBench (arXiv 2501.03124) reads these scores by their change, valid above -0.05"
    flat_below: ClassVar[float] = 0.01


class Universal(LocalFamily):
    """Universal-PRM-7B: a scalar head with a sigmoid on every prefix by itself; may be shown the reference answer."""

    kind: Literal["universal"] = "universal"
    system: str = Field("You are a helpful assistant.", description="the system prompt")
    show_reference: bool = Field(
        False,
        description="show it the problem's reference answer, as in its model card: the answer then leaks into scores",
    )
    rule_source: ClassVar[str] = (
        "the middle of the sigmoid; the card's right steps all score near 0.73, so calibrate it before use"
    )
    flat_below: ClassVar[float] = 0.001


AnyFamily = Annotated[
    Auto | TokenClassifier | Trl | Pure | Qwen | MathShepherd | RlhFlow | Skywork | Universal, BARE_NAME, BY_KIND
]
"""Every family of scorers, told apart by ``kind``."""


class ScorerSection(Settings):
    """The step scorer of a run."""

    model: str = "embedded:step_scorer"
    family: AnyFamily = Auto()
    rule: AnyRule | None = None
    calibration: Path | None = None
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
        return _read(cls, file, "describes no step scorer")

    def write(self, folder: Path) -> None:
        """Write ``scorer.json`` into a model folder."""
        text = json.dumps(self.model_dump(mode="json", exclude_none=True), indent=2)
        (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")


class ChosenRule(Settings):
    """What a run takes from a file of ``scope scorer calibrate``; the rest of the file says how it was chosen."""

    model_config = ConfigDict(extra="ignore")

    rule: AnyRule
    calibration: CalibrationMap

    @classmethod
    def read(cls, file: Path) -> ChosenRule:
        """Raises :class:`UserError` for a file that cannot be read or is no calibration."""
        return _read(cls, file, "is no file of 'scope scorer calibrate'")


_SettingsT = TypeVar("_SettingsT", bound=Settings)


def _read(settings: type[_SettingsT], file: Path, what_else: str) -> _SettingsT:
    try:
        return settings.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        mistake = error.errors()[0]
        where = ".".join(str(part) for part in mistake["loc"])
        raise UserError(f"{file} {what_else}: {where or 'it'}: {mistake['msg']}") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{file} cannot be read as JSON: {error}") from error


def rule_of(section: ScorerSection, family: Family, description: ScorerDescription | None) -> AnyRule:
    """The decision rule: the section's, else that of its calibration file, else the description's, else the family's own.

    >>> rule_of(ScorerSection(), TokenClassifier(), None).threshold
    0.5
    """
    chosen = ChosenRule.read(section.calibration) if section.calibration is not None else None
    named = [source.rule for source in (section, chosen, description) if source is not None and source.rule is not None]
    rule = named[0] if named else family.default_rule
    if isinstance(rule, Calibrated) and rule.map is None:
        maps = [source.calibration for source in (chosen, description) if source is not None]
        if not any(maps):
            raise UserError(
                f"scorer.rule = 'calibrated', and there is no calibration in the rule, in scorer.calibration, or in the "
                f"{DESCRIPTION} of {section.model!r}; make one by 'scope scorer calibrate', or name another rule"
            )
        rule = rule.model_copy(update={"map": next(map_ for map_ in maps if map_ is not None)})
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
