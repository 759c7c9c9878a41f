"""Which weights a step scorer is made of: what tells whether a bench or a calibration is of this scorer or of another."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download

from scope_rlvr.core.errors import UserError, first_line
from scope_rlvr.models.resolve import resolve_model
from scope_rlvr.scorers.description import ChosenRule
from scope_rlvr.scorers.settings import ScorerSection
from scope_rlvr.store.digests import file_digest

_READ_FROM_THE_HUB = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
"""Neither code nor pickles."""


def model_folder(name: str, key: str) -> Path:
    """The folder of a model, fetched from the Hub where it has to be; ``key`` is the setting that names it."""
    source = resolve_model(name, key)
    if Path(source).is_dir():
        return Path(source)
    try:
        return Path(snapshot_download(source, allow_patterns=_READ_FROM_THE_HUB))
    except Exception as error:  # the client raises errors of many kinds
        raise UserError(f"{key} = {name!r} cannot be fetched from the Hub: {first_line(error)}") from error


def weights_of(section: ScorerSection) -> dict[str, str]:
    """SHA-256 of every weight file that a scorer reads here, by the file's name.

    Files of models beside ``scorer.model`` (a reference, members) have the key of the model before their name.
    """
    return {
        file.name if key == "scorer.model" else f"{key}/{file.name}": file_digest(file)
        for key, name in section.folders
        for file in sorted(model_folder(name, key).glob("*.safetensors"))
    }


def revisions_of(section: ScorerSection) -> dict[str, str]:
    """The commit of every model that comes from the Hub, by the key of the setting that names it."""
    from_the_hub = [(key, name) for key, name in section.folders if not Path(resolve_model(name, key)).is_dir()]
    return {key: model_folder(name, key).name for key, name in from_the_hub}


def require_made_for(section: ScorerSection, chosen: ChosenRule) -> None:
    """Refuse a calibration of another scorer, whose levels mean nothing for this one.

    The weights tell, whatever they are called; names do where a scorer's weights are not here. A file that does not say whose it is
    is taken for this scorer's.
    """
    if chosen.scorer is None:
        return
    weights = weights_of(section)
    if chosen.scorer.weights and weights:
        is_same, differs = chosen.scorer.weights == weights, "has other weights"
    else:
        is_same, differs = chosen.scorer.name == section.model, "is another one"
    if not is_same:
        raise UserError(
            f"scorer.calibration = {str(section.calibration)!r} was made for the step scorer {chosen.scorer.name!r}, and "
            f"scorer.model = {section.model!r} {differs}: the scores of one say nothing of the other's. Calibrate this one by "
            "'scope scorer calibrate', or leave scorer.calibration out and state a rule in scorer.rule"
        )
