"""``scope methods``: what there is to compare and to combine."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from scope_rlvr.cli.console import open_console, print_lines
from scope_rlvr.core.errors import UserError
from scope_rlvr.core.settings import as_toml
from scope_rlvr.methods.catalogue import (
    Catalogue,
    Entry,
    entry_of,
    fixed_by,
    options_of,
    own_parts_of,
    read_catalogue,
    text_of,
)
from scope_rlvr.methods.registry import METHODS, PARTS, Registry

NOTHING = "nothing"
"""What ``--need`` is given to find what runs without any help."""

_ARXIV = re.compile(r"\d{4}\.\d{5}")

_FILTERS: dict[str, Callable[[Entry], tuple[str, ...]]] = {
    "family": lambda entry: (entry.family,),
    "need": lambda entry: entry.needs or (NOTHING,),
    "status": lambda entry: (entry.status,),
}


def methods(
    name: Annotated[
        str | None, typer.Argument(help="explain this method or part, built in or your own, as module:Class")
    ] = None,
    family: Annotated[str | None, typer.Option(help="list only this family")] = None,
    need: Annotated[str | None, typer.Option(help="list only what needs this, such as teacher, or nothing")] = None,
    status: Annotated[
        str | None, typer.Option(help="list only formulas from code, text, library, abstract or own")
    ] = None,
    parts: Annotated[bool, typer.Option("--parts", help="list only parts")] = False,
) -> None:
    """List the methods and the parts, or explain one of them."""
    console = open_console()
    if name is not None:
        _explain(name, console)
        return
    catalogue = read_catalogue()
    chosen = [entry for entry in catalogue.entries if entry.what == "part" or not parts]
    for option, wanted in (("family", family), ("need", need), ("status", status)):
        if wanted is not None:
            value = _known(option, wanted, catalogue)
            chosen = [entry for entry in chosen if value in _FILTERS[option](entry)]
    for what in ("method", "part"):
        if entries := [entry for entry in chosen if entry.what == what]:
            console.print(*_tables(what, entries, catalogue), "", sep="\n")
    print_lines(console, "scope methods NAME explains one, with its options" if chosen else "nothing is all of that")


def _known(option: str, wanted: str, catalogue: Catalogue) -> str:
    """The value that a filter is asked for, as the catalogue writes it."""
    known = sorted({value for entry in catalogue.entries for value in _FILTERS[option](entry)})
    value = wanted.replace("_", " ").replace("-", " ").lower()
    if value not in known:
        raise UserError(f"--{option} {wanted!r} is unknown; {_guess(value, known)}known: {', '.join(known)}")
    return value


def _guess(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def _tables(what: str, entries: list[Entry], catalogue: Catalogue) -> Iterator[RenderableType]:
    """For each family what its members have in common, and the members."""
    width = max(len(entry.name) for entry in entries)
    for family in dict.fromkeys(entry.family for entry in entries):
        yield Text.assemble((f"{what}s, {family}: ", "bold"), catalogue.families[family].replace("`", ""))
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, expand=True)
        table.add_column(width=width + 2)
        table.add_column(ratio=1)
        table.add_column(width=12)
        table.add_column(width=10)
        table.add_column(width=8)
        for entry in entries:
            if entry.family == family:
                number = _ARXIV.search(entry.source)
                paper = number.group() if number else entry.source
                table.add_row(f"  {entry.name}", entry.changes, ", ".join(entry.needs), paper, entry.status)
        yield table


# --- one of them ------------------------------------------------------------------------------------------------------


def _explain(name: str, console: Console) -> None:
    """All that is known of a method, of a part, or of both where they share a name."""
    for registry in _registries_of(name):
        facts = Table.grid(padding=(0, 2, 0, 0))
        for label, value in _facts(registry, name):
            facts.add_row(Text(label, "bold"), Text(value))
        console.print(facts, "")
        kind = registry.find(name)
        if text := text_of(kind):
            print_lines(console, text.replace("``", ""), "")
        table = Table("option", "default", "meaning", box=None, padding=(0, 2, 0, 0), header_style="bold")
        for option, default, meaning in options_of(kind):
            table.add_row(Text(option), Text(default), Text(meaning))
        console.print(table if table.row_count else "it has no options")


def _registries_of(name: str) -> list[Registry[Any]]:
    """Where a name is known; :class:`UserError` where it is not."""
    found, refusals = [], []
    for registry in (METHODS, PARTS):
        try:
            registry.find(name)
            found.append(registry)
        except ValueError as error:
            refusals.append(error)
    if found:
        return found
    if ":" not in name:
        raise UserError(
            f"there is no method or part {name!r}; {_guess(name, [*METHODS, *PARTS])}scope methods lists them all"
        )
    could_not_import = refusals[0].__cause__ is not None
    raise UserError("; and ".join(map(str, refusals[:1] if could_not_import else refusals)))


def _facts(registry: Registry[Any], name: str) -> Iterator[tuple[str, str]]:
    entry, kind = entry_of(registry, name), registry.find(name)
    yield registry.what, f"{name}: {entry.title}" if entry.title != name.rpartition(":")[2] else name
    yield "family", entry.family
    for label, value in (("paper", entry.source), ("changes", entry.changes), ("formula", kind.formula)):
        if value:
            yield label, value.replace("`", "")
    yield "status", f"{kind.status.value}: {kind.status.words}"
    yield "needs", ", ".join(entry.needs) or NOTHING
    if registry is METHODS:
        yield "parts", ", ".join(own_parts_of(name)) or "none"
        yield "fixes", ", ".join(f"{key} = {as_toml(value)}" for key, value in fixed_by(kind).items()) or NOTHING
    elif kind.conflicts:
        yield "not with", ", ".join(kind.conflicts)
    if kind.departures:
        yield "differs", kind.departures.replace("`", "")
