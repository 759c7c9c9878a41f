"""The ``[scorer]`` section of a configuration: a model, how it is read, and by which rule."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.settings import Settings
from scope_rlvr.salvage.rules import AnyRule, Calibrated
from scope_rlvr.scorers.description import DESCRIPTION, ChosenRule, ScorerDescription
from scope_rlvr.scorers.families import (
    AnyFamily,
    Auto,
    Calculator,
    Ensemble,
    Function,
    Implicit,
    MonteCarlo,
    ScorerFamily,
    ServerFamily,
)

NONE = "none"
"""As a model name: no such helper."""

EXACT = "exact"
"""As a step scorer's name: the problem family's own exact checker."""

THE_POLICY = "policy"
"""As a step scorer's name: the policy itself, whose continuations decide."""

CALCULATOR = "calculator"
"""As a step scorer's name: equations are worked out, and no model is needed."""

FUNCTION = "function"
"""As a step scorer's name: the function of the user's that the family names."""

MEMBERS = "ensemble"
"""As a step scorer's name: the members that the family names."""


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
    def _fits_together(self) -> ScorerSection:
        require_fitting(self.model, self.family)
        if self.model == EXACT and (self.rule is not None or self.calibration is not None):
            given = "rule" if self.rule is not None else "calibration"
            raise ValueError(f"model = {EXACT!r} knows which step is wrong and needs no rule; leave scorer.{given} out")
        if not isinstance(self.family, Auto) and self.rule is not None:
            require_in_range(self.rule, self.family)
        return self

    @property
    def folders(self) -> list[tuple[str, str]]:
        """The keys of the configuration that name model folders or Hub models, and these names."""
        if isinstance(self.family, Ensemble):
            parts = [(f"scorer.family.members.{i}", m.model, m.family) for i, m in enumerate(self.family.members)]
        else:
            parts = [("scorer", self.model, self.family)]
        found = []
        for key, model, family in parts:
            if not is_address(model) and model not in _NO_FOLDERS:
                found.append((f"{key}.model", model))
            if isinstance(family, Implicit):
                found.append((f"{key}.family.reference", family.reference))
        return found


_FITTING = {THE_POLICY: "monte_carlo", MEMBERS: "ensemble", FUNCTION: "function"}

_NO_FOLDERS = (NONE, EXACT, CALCULATOR, FUNCTION, THE_POLICY)


def rule_of(section: ScorerSection, family: ScorerFamily, description: ScorerDescription | None) -> AnyRule:
    """The decision rule: the section's, else that of its calibration file, else the description's, else the family's own.

    >>> from scope_rlvr.scorers.families import TokenClassifier
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


def is_address(model: str) -> bool:
    """Whether a scorer's name is the address of a server."""
    return model.startswith(("http://", "https://"))


def require_fitting(model: str, family: ScorerFamily) -> None:
    """Refuse a family that reads another kind of thing than the one named."""
    wants: tuple[str, bool] | None = None
    if isinstance(family, ServerFamily):
        wants = "the address of a server, such as http://localhost:8000/v1", is_address(model)
    elif isinstance(family, MonteCarlo):
        wants = repr(THE_POLICY), model == THE_POLICY
    elif isinstance(family, Calculator):
        wants = repr(CALCULATOR), model == CALCULATOR
    elif isinstance(family, Function):
        wants = repr(FUNCTION), model == FUNCTION
    elif isinstance(family, Ensemble):
        wants = repr(MEMBERS), model == MEMBERS
    elif is_address(model) or model in _FITTING:
        fitting = "critic or vllm_pooling" if is_address(model) else _FITTING[model]
        # An address may hold a password, and error messages are shown and kept: it is not repeated.
        named = "an address" if is_address(model) else repr(model)
        raise ValueError(f"model is {named}: name the family, {fitting}, in family")
    elif model == CALCULATOR and not isinstance(family, Auto):
        raise ValueError(f"model = {model!r} is of the family 'calculator'; leave family out, or name this one")
    if wants is not None and not wants[1]:
        raise ValueError(f"the family {getattr(family, 'kind', '')!r} wants {wants[0]} as its model")
    if is_address(model) and any(mark in model for mark in "@?#"):
        raise ValueError(
            "model is to be a plain address without a user, a password or a query; name the environment variable of an API "
            "key in family.server.api_key_env"
        )


def require_in_range(rule: AnyRule, family: ScorerFamily) -> None:
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
