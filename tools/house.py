"""The architecture as the source has it: rooms on their floors, circles, upward imports, names that several classes have,
long functions, long files.

    python tools/house.py

A room is a folder of ``src/scope_rlvr``. ``ROOMS`` lists them from the ground up, and a room may import only rooms that
come before it. Exit code 1 where that does not hold, or where two classes share a name; what is long is only listed.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

PACKAGE = "scope_rlvr"
SOURCE = Path(__file__).parent.parent / "src" / PACKAGE

ROOMS = {
    "core": "nouns, ports, steps, settings, seeds, errors, prompts, processes",
    "formulas": "pure functions: advantages, losses, diversity, estimators",
    "store": "run folder, journals, atomic writes, digests, interruption",
    "servers": "talking to a server that may be slow, busy, broken or gone",
    "salvage": "SCOPE's algorithm, free of any engine",
    "methods": "parts, one folder a family, and the step that all of them take",
    "grading": "verifiers and the processes that they run in",
    "problems": "families, files, Hub, benchmarks, labelled solutions",
    "embedded": "the shipped problems and models",
    "models": "language models in this process: load, sample, read, adapt",
    "teachers": "who writes, and who scores, in the policy's place",
    "scorers": "process reward models at work",
    "engines": "who trains: Hugging Face TRL",
    "evaluation": "measures of a policy",
    "report": "page, live view, terminal, charts",
    "run": "from a configuration to a finished run",
    "check": "what can fail, tried before anyone pays",
    "measure": "a policy, or a file of responses, measured by itself",
    "scorer_lab": "train, label, bench and calibrate step scorers",
    "offline": "saved rollouts of any origin, salvaged without training",
    "study": "methods by seeds: plan, runner, statistics, tables",
    "embedded_lab": "how the shipped models are made",
    "cli": "one thin file a command",
}
"""The rooms from the ground up, each with what it is for."""

MAX_FUNCTION_LINES = 50
MAX_FILE_LINES = 400


@dataclass(frozen=True)
class House:
    """The rooms of a source tree and what each imports of the others: room -> room -> the files that do so."""

    source: Path = SOURCE

    @cached_property
    def files(self) -> list[Path]:
        return sorted(self.source.rglob("*.py"))

    @cached_property
    def imports(self) -> dict[str, dict[str, list[str]]]:
        found: dict[str, dict[str, list[str]]] = {}
        for file in self.files:
            room = self.room_of(file)
            if room is None:
                continue
            own = found.setdefault(room, {})
            for imported in sorted(set(_imported_rooms(file))):
                if imported != room and (self.source / imported).is_dir():
                    own.setdefault(imported, []).append(str(file.relative_to(self.source)))
        return found

    def room_of(self, file: Path) -> str | None:
        """The folder that a file lies in; ``None`` for the package's own two files."""
        parts = file.relative_to(self.source).parts
        return parts[0] if len(parts) > 1 else None

    @cached_property
    def upward(self) -> list[str]:
        """Every import that does not go down, with the files that hold it."""
        order = list(ROOMS)
        return [
            f"{room} imports {imported} in {', '.join(files)}"
            for room, others in self.imports.items()
            for imported, files in others.items()
            if order.index(imported) >= order.index(room)
        ]

    @cached_property
    def circles(self) -> list[str]:
        """The rooms that reach themselves by their imports."""
        return sorted(room for room in self.imports if room in _reached(room, self.imports))

    @cached_property
    def floors(self) -> dict[str, int]:
        """How many rooms lie under each, one above the other; only where there is no circle."""
        floors: dict[str, int] = {}

        def floor(room: str) -> int:
            if room not in floors:
                floors[room] = 1 + max((floor(other) for other in self.imports.get(room, {})), default=0)
            return floors[room]

        for room in self.imports:
            floor(room)
        return floors

    @cached_property
    def repeated_classes(self) -> list[str]:
        """Every public name that two classes have, with the files that define them."""
        found: dict[str, list[str]] = {}
        for file in self.files:
            for node in _parsed(file).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found.setdefault(node.name, []).append(str(file.relative_to(self.source)))
        return [f"{name} in {', '.join(files)}" for name, files in found.items() if len(files) > 1]

    @cached_property
    def long_functions(self) -> list[str]:
        return [
            f"{file.relative_to(self.source)}:{node.lineno} {node.name} ({node.end_lineno - node.lineno + 1} lines)"
            for file in self.files
            for node in ast.walk(_parsed(file))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.end_lineno is not None
            and node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES
        ]

    @cached_property
    def long_files(self) -> list[str]:
        lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in self.files}
        return [f"{f.relative_to(self.source)} ({n} lines)" for f, n in lengths.items() if n > MAX_FILE_LINES]


@cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _imported_rooms(file: Path) -> Iterator[str]:
    for node in ast.walk(_parsed(file)):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            package, *parts = name.split(".")
            if package == PACKAGE and parts:
                yield parts[0]


def _reached(room: str, imports: Mapping[str, Mapping[str, object]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(imports.get(room, {}))
    while waiting:
        other = waiting.pop()
        if other not in seen:
            seen.add(other)
            waiting += imports.get(other, {})
    return seen


def main() -> int:
    house = House()
    if house.circles:
        print(f"rooms in a circle of imports: {', '.join(house.circles)}")
    else:
        for room, floor in sorted(house.floors.items(), key=lambda item: (item[1], list(ROOMS).index(item[0]))):
            print(f"floor {floor:2}  {room:13} {ROOMS[room]}; imports {', '.join(house.imports[room]) or 'nothing'}")
    broken = {
        "circle": house.circles,
        "import upwards": house.upward,
        "name of several classes": house.repeated_classes,
    }
    to_shorten = {
        f"function over {MAX_FUNCTION_LINES} lines": house.long_functions,
        f"file over {MAX_FILE_LINES} lines": house.long_files,
    }
    for what, found in {**broken, **to_shorten}.items():
        print(f"{len(found)} x {what}", *found, sep="\n    ")
    return int(any(broken.values()))


if __name__ == "__main__":
    sys.exit(main())
