"""What a method remembers, as every engine keeps it in its checkpoints."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from scope_rlvr.store.files import replacing, write_text

MEMORY_FILE = "method.json"
"""What the method remembers, in a checkpoint; ``figures`` of the last step lie beside it."""

TENSORS_FILE = "method.safetensors"
"""The tensors that the method remembers, in a checkpoint: buffers, trained heads, the average of the policies."""

FIGURES_FILE = "figures.json"


@dataclass(frozen=True)
class Remembered:
    """A method's memory, its tensors, and the figures of the last step."""

    memory: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)

    @classmethod
    def at(cls, checkpoint: Path | None) -> Remembered:
        """That of a checkpoint; nothing for ``None``, and of what it does not hold."""
        if checkpoint is None:
            return cls()
        memory, tensors, figures = (checkpoint / name for name in (MEMORY_FILE, TENSORS_FILE, FIGURES_FILE))
        return cls(
            json.loads(memory.read_text(encoding="utf-8")) if memory.is_file() else {},
            load_file(tensors) if tensors.is_file() else {},
            json.loads(figures.read_text(encoding="utf-8")) if figures.is_file() else {},
        )

    def save(self, checkpoint: Path) -> None:
        """Write it into a checkpoint's folder."""
        # In the order of the dictionaries, by which a buffer may tell what is oldest.
        write_text(checkpoint / MEMORY_FILE, json.dumps(self.memory) + "\n")
        write_text(checkpoint / FIGURES_FILE, json.dumps(self.figures, sort_keys=True) + "\n")
        if self.tensors:
            tensors = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
            with replacing(checkpoint / TENSORS_FILE) as beside:
                save_file(tensors, beside)


def require_text_keys(value: Any, where: str) -> None:
    """Refuse keys that would come back from JSON as texts, so that a resumed run would not find them."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(
                    f"{where} has the key {key!r}, which a checkpoint would give back as {str(key)!r}; use texts as keys"
                )
            require_text_keys(inner, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            require_text_keys(inner, f"{where}[{number}]")
