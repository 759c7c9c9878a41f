"""Rooms import downwards only, and the ground floors need no engine and no model library, directly or indirectly."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import scope_rlvr
from tools.house import ROOMS, House
from tools.house_drawing import DRAWING, drawing

PACKAGE = "scope_rlvr"
SOURCE = Path(scope_rlvr.__file__).parent


def modules_of(room: str) -> list[str]:
    """Every module of a room, but for those that are named."""
    return sorted(f"{room}.{file.stem}" for file in (SOURCE / room).rglob("*.py") if file.stem != "__init__")


TENSORS = {"core.lazy", "formulas.features", "formulas.losses", "formulas.readings"}
"""What of the ground floors knows tensors."""
CORE = sorted({*modules_of("core"), *modules_of("salvage"), *modules_of("formulas")} - TENSORS)
TENSOR_CORE = [*sorted(TENSORS), "methods"]
ARRAYS = {"formulas.estimators", "formulas.diagnostics"}
ARRAY_CORE = ["evaluation.measures", "evaluation.evaluate", *sorted(ARRAYS)]
CORE = [module for module in CORE if module not in ARRAYS]
ENGINES = frozenset({"trl", "transformers", "verl", "vllm", "ray", "datasets", "accelerate"})
FREE_OF = dict.fromkeys(CORE, ENGINES | {"torch", "numpy"}) | dict.fromkeys(TENSOR_CORE, ENGINES)
FREE_OF |= dict.fromkeys(ARRAY_CORE, ENGINES | {"torch"})


def file_of(module: str) -> Path | None:
    """The source of ``scope_rlvr.<module>``; ``None`` where there is no such module."""
    path = SOURCE.joinpath(*module.split(".")) if module else SOURCE
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()), None)


@cache
def imports_of(file: Path) -> frozenset[str]:
    """Every module that a file imports anywhere in it, as full names; names taken from a module count as modules."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = list(file.relative_to(SOURCE.parent).parts[: -node.level]) if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            found |= {name, *(f"{name}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def reached_from(module: str) -> dict[str, tuple[str, ...]]:
    """Every outside package that importing a module reaches, with the chain of our files that leads there."""
    outside: dict[str, tuple[str, ...]] = {}
    seen: set[str] = set()
    waiting = [(module, ())]
    while waiting:
        name, chain = waiting.pop(0)
        file = file_of(name)
        if file is None or name in seen:
            continue
        seen.add(name)
        chain = (*chain, str(file.relative_to(SOURCE.parent)))
        for imported in imports_of(file):
            first, _, rest = imported.partition(".")
            if first != PACKAGE:
                outside.setdefault(first, chain)
                continue
            # Importing a module runs the __init__ of every package above it. The outermost one loads nothing by itself.
            parts = rest.split(".") if rest else []
            waiting += [(".".join(parts[:depth]), chain) for depth in range(1, len(parts) + 1)]
    return outside


@pytest.mark.parametrize("module", FREE_OF)
def test_core_modules_reach_no_engine(module):
    assert file_of(module) is not None, f"{PACKAGE}.{module} is gone: say in this test what took its place"
    reached = reached_from(module)
    broken = {package: reached[package] for package in sorted(FREE_OF[module] & set(reached))}
    assert not broken, "\n".join(
        f"{chain[-1]} imports {package}, and {PACKAGE}.{module} must not need it (by way of {' -> '.join(chain)})"
        for package, chain in broken.items()
    )


def test_the_walk_finds_what_is_there():
    assert "torch" in reached_from("formulas.losses")
    assert reached_from("methods.outcome.grpo")["torch"][0] == f"{PACKAGE}/methods/outcome/grpo.py"
    engine = reached_from("engines.trl.trainer")
    assert {"trl", "transformers", "torch"} <= set(engine)
    assert "pydantic" in reached_from("salvage.salvage")


def test_every_folder_is_a_room():
    folders = {file.parent.name for file in SOURCE.glob("*/__init__.py")}
    assert folders == set(ROOMS), "name the room in tools/house.py, where it stands among the others and what it is for"


HOUSE = House()
"""Reads each file once."""


def test_no_room_is_in_a_circle():
    assert not HOUSE.circles


def test_every_import_goes_down():
    assert not HOUSE.upward


def test_a_class_name_means_one_thing():
    assert not HOUSE.repeated_classes


def test_there_are_few_floors():
    assert max(HOUSE.floors.values()) <= 12


def test_the_drawing_shows_the_rooms_as_they_are():
    assert DRAWING.read_text(encoding="utf-8") == drawing(HOUSE), "run: python -m tools.house_drawing"


def test_a_room_is_drawn_above_those_that_it_imports():
    height = {name: -int(y) for y, name in re.findall(r'y="(\d+)">(\w+)/</text>', drawing(HOUSE))}
    assert set(height) == set(ROOMS)
    assert all(height[room] > height[other] for room, others in HOUSE.imports.items() for other in others)
