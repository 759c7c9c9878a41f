"""Where the model lies that a name in a configuration stands for."""

from __future__ import annotations

from pathlib import Path
from typing import cast, get_args

from scope_rlvr.core.errors import UserError
from scope_rlvr.embedded import AdapterName, ModelName, adapter_path, model_path
from scope_rlvr.models.adapters import adapted_folder
from scope_rlvr.models.folder import require_sound_folder
from scope_rlvr.models.gguf import SMOLLM2, as_folder, gguf_file

EMBEDDED = "embedded:"


def resolve_model(name: str, key: str) -> str:
    """The folder that a model name stands for, or the name itself where it can only be a Hub name.

    A GGUF file is dequantised the first time. Raises :class:`UserError` for a folder that holds no model. ``key`` is where
    the name stands in the configuration.
    """
    if name.startswith(EMBEDDED):
        return str(_embedded(name.removeprefix(EMBEDDED), key))
    file = gguf_file(name, key)
    if file is not None:
        return str(as_folder(file, key))
    if Path(name).exists() or name.startswith((".", "/", "~")):
        return str(_model_folder(Path(name).expanduser(), key))
    if name.count("/") != 1:
        raise UserError(
            f"{key} = {name!r} is neither a model folder, nor a GGUF file, nor embedded:policy / teacher / step_scorer / "
            f"stories_policy, nor {SMOLLM2}, nor a Hub name of the form owner/name"
        )
    return name


def _embedded(name: str, key: str) -> Path:
    """The folder of a model that ships with the package, whole or as an adapter of SmolLM2."""
    if name in get_args(AdapterName):
        return adapted_folder(Path(resolve_model(SMOLLM2, key)), adapter_path(cast(AdapterName, name)), key)
    try:
        return _model_folder(model_path(cast(ModelName, name)), key)
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{key}: {error}") from error


def _model_folder(folder: Path, key: str) -> Path:
    if (folder / "adapter_config.json").is_file():
        raise UserError(
            f"{key}: {folder} holds adapters and not the model that they belong to; give the folder 'model' of a run that has "
            "ended, where they are merged"
        )
    if not (folder / "config.json").is_file():
        raise UserError(f"{key}: {folder} holds no model (no config.json); give the folder that save_pretrained wrote")
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{key}: {folder} holds no safetensors weights; other formats are not loaded: write it anew by save_pretrained"
        )
    require_sound_folder(folder, key)
    return folder
