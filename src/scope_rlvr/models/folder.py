"""A model folder, looked at before any library reads it: some go on for hours, or crash, on what no model has."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.store.files import read_json, require_file

_MOST_BYTES = 1 << 28
"""No description of a model is longer: a tokenizer has some megabytes, the header of many weights as much."""

_READ_AS_JSON = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json")


def require_sound_folder(folder: Path, key: str) -> None:
    """Raise :class:`UserError` where a file of a model folder is none, or its configuration does not fit its weights.

    ``key`` is where the folder is named in the configuration.
    """
    for path in folder.iterdir():
        if path.suffix in (".json", ".safetensors", ".jinja", ".txt", ".model"):
            require_file(path, f"{key}: the file")
    described = {name: _read_object(folder / name, key) for name in _READ_AS_JSON if (folder / name).exists()}
    names = set(_tensor_names(folder, key))
    layers = described["config.json"].get("num_hidden_layers")
    if isinstance(layers, int) and layers > len(names):
        raise UserError(
            f"{key}: {folder / 'config.json'} says num_hidden_layers = {layers}, and the weights hold {len(names)} tensors in "
            "all; give a folder as save_pretrained wrote it"
        )


def _read_object(file: Path, key: str) -> dict[str, Any]:
    if file.stat().st_size > _MOST_BYTES:
        raise UserError(f"{key}: {file} has {file.stat().st_size:,} bytes, more than any such file")
    value = read_json(file, f"{key}: the file")
    if not isinstance(value, dict):
        raise UserError(f"{key}: {file} holds {type(value).__name__} in the place of an object")
    return value


def _tensor_names(folder: Path, key: str) -> Iterator[str]:
    """The names of all tensors, from the headers of the files that hold them."""
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            start = stream.read(8)
            size = struct.unpack("<Q", start)[0] if len(start) == 8 else _MOST_BYTES
            header = stream.read(size) if size < _MOST_BYTES else b""
        try:
            yield from json.loads(header).keys() - {"__metadata__"}
        except (ValueError, AttributeError, RecursionError) as error:
            raise UserError(f"{key}: {file} holds no safetensors weights, or is cut off; copy it anew") from error
