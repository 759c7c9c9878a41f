"""Settings as tables of Markdown: each key with its type, default and meaning.

A key is explained in one place: by the ``description`` of its field, or in :mod:`tools.meanings`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Collection, Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from scope_rlvr.core.settings import Settings, as_toml, description_of
from scope_rlvr.methods.parts.base import Part
from tools.meanings import MEANINGS

LONG_LINE = 120


class ReferenceGap(Exception):
    """A key is explained nowhere, or twice, or an explanation belongs to no key."""


Row = tuple[str, FieldInfo, str]
"""A key, its field and its meaning."""


def rows(
    path: str, kind: type[Settings], used: set[str], prefix: str = "", without: Collection[str] = ()
) -> Iterator[Row]:
    """The keys of a section, those of tables in it after them; ``used`` takes up what was found in ``MEANINGS``."""
    for name, field in kind.model_fields.items():
        if name in without:
            continue
        yield prefix + name, field, meaning_of(f"{path}.{name}", kind, name, used)
        inner = table_of(field)
        if inner is not None:
            yield from rows(f"{path}.{name}", inner, used, f"{prefix}{name}.")


def table(of: Iterable[Row]) -> Iterator[str]:
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for key, field, meaning in of:
        yield f"| `{key}` | {type_text(field)} | {default_text(field)} | {meaning} |"


def rule_lines(name: str, rules: Iterable[type[Settings]], used: set[str]) -> Iterator[str]:
    """The rules that a key chooses between, each with its fields."""
    yield f"### Rules of `{name}`"
    yield ""
    yield "| kind | meaning | fields |"
    yield "|---|---|---|"
    for rule in rules:
        kind = kind_of(rule)
        fields = [
            f"`{key}` ({type_text(option)}, default {default_text(option)}): {meaning_of(f'{kind}.{key}', rule, key, used)}"
            for key, option in rule.model_fields.items()
            if key != "kind"
        ]
        # One name may mean two things in two sections.
        named = f"{name}={kind}" if f"{name}={kind}" in MEANINGS else kind
        yield f"| `{kind}` | {meaning_of(named, None, '', used)} | {' '.join(fields) or 'none'} |"
    yield ""


def meaning_of(key: str, kind: type[Settings] | None, name: str, used: set[str]) -> str:
    """What a key means; raises :class:`ReferenceGap` where that is said nowhere or twice."""
    described = "" if kind is None else description_of(kind, name)
    if bool(described) == (key in MEANINGS):
        where = "in its description and in MEANINGS" if described else "nowhere"
        raise ReferenceGap(f"{key} is explained {where}; explain it once")
    if not described:
        used.add(key)
        return MEANINGS[key]
    return described[0].upper() + described[1:] + "."


# --- in words ---------------------------------------------------------------------------------------------------------


def rules_of(field: FieldInfo) -> list[type[Settings]]:
    """The rules that a key chooses between; empty where it is not such a choice."""
    members = _members(field.annotation)
    rules = [m for m in members if isinstance(m, type) and issubclass(m, Settings) and "kind" in m.model_fields]
    return rules if len(rules) > 1 else []


def table_of(field: FieldInfo) -> type[Settings] | None:
    """The class of a key that is a table with fixed fields, or a list of such tables; also of a table that may be absent,
    where its keys explain themselves."""
    kind, *others = [member for member in _members(field.annotation) if member is not type(None)]
    if typing.get_origin(kind) is tuple:
        kind = typing.get_args(kind)[0]
    if others or not (isinstance(kind, type) and issubclass(kind, Settings)):
        return None
    is_explained = all(option.description for option in kind.model_fields.values())
    return kind if is_explained or not _is_union(field.annotation) else None


def kind_of(rule: type[Settings]) -> str:
    return rule.model_fields["kind"].default


def type_text(field: FieldInfo) -> str:
    """The type of a key in words."""
    if rules_of(field):
        return "rule: " + ", ".join(f"`{kind_of(rule)}`" for rule in rules_of(field))
    return _annotation_text(field.annotation) + _bounds_text(field)


def default_text(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None:
        return "none"
    if rules_of(field):
        return f"`{kind_of(type(field.default))}`"
    if is_long_table(field.default):
        return "the defaults of its keys"
    return f"`{value_text(field.default)}`".replace("|", "\\|")


def value_text(value: Any) -> str:
    """A value as TOML; of a table in a list only what it says beside its defaults."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_entry, value))}]"
    return as_toml(value)


def is_long_table(value: Any) -> bool:
    """Whether a value is a table that is better written below the other keys."""
    return isinstance(value, Settings) and "kind" not in type(value).model_fields and len(as_toml(value)) > LONG_LINE


def _entry(value: Any) -> str:
    if not isinstance(value, Settings):
        return as_toml(value)
    fields = type(value).model_fields
    return as_toml({k: getattr(value, k) for k in fields if getattr(value, k) != fields[k].default})


def _members(annotation: Any) -> list[Any]:
    """The classes that a type chooses between, whatever they are wrapped in."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    return [m for a in typing.get_args(annotation) for m in _members(a)] if _is_union(annotation) else [annotation]


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _annotation_text(annotation: Any) -> str:
    if _is_union(annotation):
        return " or ".join(_annotation_text(a) for a in typing.get_args(annotation) if a is not type(None))
    if typing.get_origin(annotation) is typing.Literal:
        return "one of " + ", ".join(f"`{value}`" for value in typing.get_args(annotation))
    if typing.get_origin(annotation) is typing.Annotated:
        return _annotation_text(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) is tuple:
        inner = _annotation_text(typing.get_args(annotation)[0])
        return f"list of {'tables' if inner == 'table' else f'{inner}s'}"
    if typing.get_origin(annotation) is dict:
        return "table of any fields"
    if issubclass(annotation, Enum):
        return "one of " + ", ".join(f"`{member.value}`" for member in annotation)
    if issubclass(annotation, Settings):
        return "part" if issubclass(annotation, Part) else "table"
    return {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path"}[annotation]


def _bounds_text(field: FieldInfo) -> str:
    signs = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
    bounds = [f"{sign} {getattr(m, name)}" for m in field.metadata for name, sign in signs if hasattr(m, name)]
    bounds += ["not empty" for m in field.metadata if getattr(m, "min_length", 0)]
    return f", {' and '.join(bounds)}" if bounds else ""
