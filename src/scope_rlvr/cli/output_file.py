"""A JSON file that a command writes: refused before any work where it could not be written, and there whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from scope_rlvr.core.errors import UserError


def require_writable(out: Path) -> None:
    """Nothing that was measured before is overwritten, and nothing is measured that could not be written."""
    if out.exists():
        raise UserError(f"the output file {out} exists; name another with --out, or remove it")
    if not out.parent.is_dir():
        raise UserError(f"the output file {out} cannot be written: there is no folder {out.parent}; make it first")
    if not os.access(out.parent, os.W_OK):
        raise UserError(f"the output file {out} cannot be written: no right to write in {out.parent}")


def write_json(out: Path, record: dict[str, Any]) -> None:
    """Write the file beside its place and move it there."""
    beside = out.with_name(f".{out.name}.tmp")
    beside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    beside.replace(out)
