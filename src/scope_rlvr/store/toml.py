"""TOML that a person wrote."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from scope_rlvr.core.errors import UserError, first_line
from scope_rlvr.store.files import require_file

_MOST_BYTES = 1 << 20
"""No configuration is longer; what is, is another file."""


def read_toml(file: Path, what: str) -> dict[str, Any]:
    """The values in a TOML file; :class:`UserError` where it is none. ``what`` says in messages what it is."""
    require_file(file, what)
    try:
        with file.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise UserError(f"{what} {file} has more than {_MOST_BYTES:,} bytes; name the TOML file that is meant")
        return parse_toml(content.decode("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{what} {file} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{what} {file} is not TOML: {error}; save it as UTF-8") from error
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{what} {file} is not TOML: {first_line(error)}") from error


def parse_toml(text: str) -> dict[str, Any]:
    """The values in a text; ``ValueError`` where it is no TOML, is nested too deeply, or holds a number of thousands of digits.

    >>> parse_toml("a = 1"), parse_toml("a = {b = [true]}")
    ({'a': 1}, {'a': {'b': [True]}})
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("its tables or lists are nested too deeply") from error
