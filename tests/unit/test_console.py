"""What the commands print stands there as it was given."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from rich.table import Table

import scope_rlvr
from scope_rlvr.cli.console import open_console

SOURCE = Path(scope_rlvr.__file__).parent


def test_a_word_between_colons_is_no_picture(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(":cat:")
    table.add_row(":dog:")
    for shown in (":warning: runs/:rocket:", table):
        open_console().print(shown)
    open_console().print("a:b:c", markup=False)
    open_console(stderr=True).print(":bug:")
    printed = capsys.readouterr()
    assert all(word in printed.out for word in (":warning: runs/:rocket:", ":cat:", ":dog:", "a:b:c"))
    assert printed.err == ":bug:\n"


def test_no_command_opens_another_console() -> None:
    opening = []
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Console":
                opening.append(file.name)
    assert opening == ["console.py"]
