"""Files about a scorer: ``scorer.json`` beside its weights, and the file that ``scope scorer calibrate`` writes."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ConfigDict, Field, ValidationError

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.settings import Settings
from scope_rlvr.salvage.rules import AnyRule, CalibrationMap
from scope_rlvr.scorers.families import AnyFamily
from scope_rlvr.store.files import read_json, write_json

DESCRIPTION = "scorer.json"


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
        write_json(folder / DESCRIPTION, self.model_dump(mode="json", exclude_none=True))


class CalibratedScorer(Settings):
    """The scorer that a calibration was made for: its name, and the SHA-256 of its weight files where they were available."""

    model_config = ConfigDict(extra="ignore")

    name: str
    weights: dict[str, str] = Field(default_factory=dict)


class ChosenRule(Settings):
    """What a run takes from a file of ``scope scorer calibrate``; the rest of the file says how it was chosen."""

    model_config = ConfigDict(extra="ignore")

    rule: AnyRule
    calibration: CalibrationMap
    scorer: CalibratedScorer | None = None

    @classmethod
    def read(cls, file: Path) -> ChosenRule:
        """Raises :class:`UserError` for a file that cannot be read or is no calibration."""
        return _read(cls, file, "is no file of 'scope scorer calibrate'")


_SettingsT = TypeVar("_SettingsT", bound=Settings)


def _read(settings: type[_SettingsT], file: Path, what_else: str) -> _SettingsT:
    try:
        return settings.model_validate(read_json(file, "the file"))
    except ValidationError as error:
        mistake = error.errors()[0]
        where = ".".join(str(part) for part in mistake["loc"])
        raise UserError(f"{file} {what_else}: {where or 'it'}: {mistake['msg']}") from error
