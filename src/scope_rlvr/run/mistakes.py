"""Mistakes in a configuration, in words: where, what was received, and what to write instead."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from scope_rlvr.core.settings import Settings
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part
from scope_rlvr.methods.registry import METHODS, PARTS

_LONGEST_VALUE = 100
"""Characters of a value that a message shows."""


def described(mistake: Mapping[str, Any], values: Mapping[str, Any], root: type[Settings]) -> str:
    """One mistake that pydantic found in ``values`` of the class ``root``, in one line."""
    path = _path_in(values, mistake["loc"])
    shown = ".".join(path) or "settings"
    match mistake["type"]:
        case "extra_forbidden":
            return f"{shown}: unknown key{_hint(path[-1], _known_keys(path[:-1], values, root))}"
        case "union_tag_not_found":
            return f"{shown}: no kind of rule is named, got {mistake['input']!r}; name it by kind = ..., or --set {shown}=..."
        case "union_tag_invalid":
            known = [tag.strip().strip("'") for tag in mistake["ctx"]["expected_tags"].split(",")]
            return f"{shown}: there is no {mistake['ctx']['tag']!r}{_hint(mistake['ctx']['tag'], known)}"
        case "tuple_type":
            return f"{shown}: this is a list, got {mistake['input']!r}; write {shown} = {_as_list(mistake['input'])}"
    received = "" if mistake["type"] in {"missing", "value_error"} else f", got {_abbreviated(mistake['input'])}"
    return f"{shown}: {mistake['msg'].removeprefix('Value error, ')}{received}"


def _abbreviated(value: Any) -> str:
    """A value as a message shows it, of which the beginning is enough.

    >>> _abbreviated("x" * 500) == repr("x" * 500)[:_LONGEST_VALUE] + "..."
    True
    """
    try:
        shown = repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits.
        return f"a number of {value.bit_length():,} bits"
    return shown if len(shown) <= _LONGEST_VALUE else f"{shown[:_LONGEST_VALUE]}..."


def _hint(word: str, known: Iterable[str]) -> str:
    """What may have been meant, or everything that could be."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(known)}" if known else ""


def _as_list(value: Any) -> str:
    return f"[{json.dumps(value)}]" if isinstance(value, bool | int | float | str) else "[...]"


def _path_in(values: Any, loc: Sequence[int | str]) -> list[str]:
    """The keys that lead to a mistake. Pydantic puts the chosen class of a union among them; the user never wrote that."""
    path: list[str] = []
    table = values
    for i, part in enumerate(loc):
        is_tag = i > 0 and isinstance(table, dict) and part in (table.get("kind"), table.get("name"))
        if not is_tag:
            path.append(str(part))
            table = _inside(table, str(part))
    return path


def _inside(table: Any, key: str) -> Any:
    if isinstance(table, list | tuple):
        return table[int(key)] if key.isdigit() and int(key) < len(table) else None
    return table.get(key) if isinstance(table, dict) else None


def _known_keys(path: Sequence[str], values: Any, root: type[Settings]) -> list[str]:
    """Keys that the table at ``path`` knows; none where that cannot be told."""
    annotation: Any = root
    table = values
    for key in path:
        if not isinstance(table, list | tuple):
            kind = _class_of(annotation, table)
            if kind is None or key not in kind.model_fields:
                return []
            annotation = kind.model_fields[key].annotation
        table = _inside(table, key)
    kind = _class_of(annotation, table)
    return [] if kind is None else list(kind.model_fields)


def _class_of(annotation: Any, table: Any) -> type[Settings] | None:
    """Which of the classes that a key allows a table in a configuration belongs to."""
    kinds = list(_classes_in(annotation))
    named = {key: table.get(key) for key in ("name", "kind")} if isinstance(table, dict) else {}
    for base, registry, key in ((Method, METHODS, "name"), (Part, PARTS, "kind")):
        if kinds == [base]:
            name = named.get(key)
            return registry.find(name) if isinstance(name, str) else base
    if len(kinds) == 1:
        return kinds[0]
    by_kind = {kind.model_fields["kind"].default: kind for kind in kinds if "kind" in kind.model_fields}
    return by_kind.get(named.get("kind"))


def _classes_in(annotation: Any) -> Iterator[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    else:
        for inner in get_args(annotation):
            yield from _classes_in(inner)
