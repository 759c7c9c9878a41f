"""A file that a command is to write: refused before any work is done if it could not be written."""

from __future__ import annotations

import os
from pathlib import Path

from scope_rlvr.core.errors import UserError


def require_writable(out: Path) -> None:
    """Nothing that was measured before is overwritten, and nothing is measured that could not be written."""
    if out.exists():
        raise UserError(f"the output file {out} exists; name another with --out, or remove it")
    if not out.parent.is_dir():
        raise UserError(f"the output file {out} cannot be written: there is no folder {out.parent}; make it first")
    if not os.access(out.parent, os.W_OK):
        raise UserError(f"the output file {out} cannot be written: no right to write in {out.parent}")
