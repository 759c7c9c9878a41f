"""Low-rank adapters as files: added once to the weights of the model that they were trained for, an ordinary folder ever after.

``W`` becomes ``W + (alpha / rank) * B A``, in float32, as :mod:`scope_rlvr.models.lora` trains them. Files are as ``peft`` writes
them: ``adapter_config.json`` and ``adapter_model.safetensors``.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from scope_rlvr.core.errors import UserError
from scope_rlvr.models.gguf import cache_folder
from scope_rlvr.store.digests import file_digest
from scope_rlvr.store.files import making_folder, read_json

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_MODEL = "model.safetensors"
_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
_DIGITS = 12


def adapted_folder(base: Path, adapter: Path, key: str) -> Path:
    """The folder of ``base`` with an adapter in its weights, which is made now if it was not made before.

    Raises :class:`UserError` for an adapter of another model, and for a cache that cannot be written. ``key`` is where the
    model is named in the configuration.
    """
    folder = cache_folder().with_name("adapted") / f"{adapter.name}-{_digest(adapter)}-{base.name}"
    if folder.is_dir():
        return folder
    from safetensors.torch import load_file, save_file

    settings = read_json(adapter / CONFIG, f"{key}: the adapter")
    try:
        weights = load_file(base / _MODEL)
        add(weights, load_file(adapter / WEIGHTS), settings["lora_alpha"] / settings["r"])
    except ValueError as error:
        raise UserError(f"{key}: the adapter {adapter} does not belong to the model in {base}: {error}") from error
    try:
        with making_folder(folder) as beside:
            for file in base.iterdir():
                if file.name != _MODEL:
                    shutil.copy(file, beside)
            save_file(weights, beside / _MODEL, metadata={"format": "pt"})
    except OSError as error:
        raise UserError(
            f"{key}: the model is written into {folder}, which cannot be done: {error.strerror or error}; name another place by "
            "the environment variable XDG_CACHE_HOME"
        ) from error
    return folder


def add(weights: dict[str, Tensor], adapter: Mapping[str, Tensor], scale: float) -> None:
    """Add ``scale * B A`` to each weight that the adapter names, ``(outputs, inputs)``, in place.

    Raises ``ValueError`` where the model has no such weight, or one of another shape.

    >>> import torch
    >>> weights = {"up.weight": torch.zeros(2, 3)}
    >>> a, b = torch.ones(1, 3), torch.tensor([[1.0], [2.0]])
    >>> add(weights, {"base_model.model.up.lora_A.weight": a, "base_model.model.up.lora_B.weight": b}, 0.5)
    >>> weights["up.weight"].tolist()
    [[0.5, 0.5, 0.5], [1.0, 1.0, 1.0]]
    """
    for place in sorted({name.removesuffix(_A) for name in adapter if name.endswith(_A)}):
        a_RI, b_OR, name = (
            adapter[place + _A].float(),
            adapter[place + _B].float(),
            f"{place.removeprefix(_PREFIX)}.weight",
        )
        if name not in weights or weights[name].shape != (len(b_OR), a_RI.size(1)):
            raise ValueError(f"it changes {name!r}, {len(b_OR)} x {a_RI.size(1)}, which that model does not have")
        weights[name] = weights[name] + scale * (b_OR @ a_RI)


def _digest(adapter: Path) -> str:
    return file_digest(adapter / WEIGHTS)[:_DIGITS]
