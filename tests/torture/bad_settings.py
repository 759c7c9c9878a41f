"""Bad values for every key of a run's configuration, made from the configuration's own classes."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from scope_rlvr.core.settings import Settings
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.registry import METHODS, PARTS
from scope_rlvr.run.config import RunConfig
from scope_rlvr.run.sections import EvaluationSetSection

NO_NUMBER = ("true", '"7"', '"seven"', "[]", "{}", "[1, 2]", "1979-05-27", "inf", "-inf", "nan")
NO_WHOLE_NUMBER = (*NO_NUMBER, "1.5", "1e400")
FAR = ("9223372036854775807", "9223372036854775808", "-9223372036854775809", f"1{'0' * 400}")
"""No option of a run means anything at such a size, and one of them is more than 64 bits hold."""
NO_TEXT = ("7", "true", "[]", "{}", "1979-05-27")
NO_SWITCH = ("7", '"maybe"', "[]", "{}", "2.0", '"true"')
NO_TABLE = ("7", "true", "[7]", "1979-05-27", "{no_such_key = 1}", '"no such rule"')
NO_CHOICE = ("7", "true", "[]", "{}", '"no such choice"', '""')
NO_LIST = ("7", "true", "{}", '"text"')
ODD_TEXTS = ('""', '"\\u0000"', '"\\u001b[2J"', f'"{"x" * 100_000}"', '"os:system"', '"../../etc/passwd"')
"""Texts that no name is: a run may begin with one where any text will do, and must end in one message elsewhere."""


@dataclass(frozen=True, slots=True)
class BadValue:
    """A value that a key of the configuration is set to, by arguments of ``scope train``.

    ``may_begin``: a run may begin with it all the same, as any text may be a prompt.
    """

    name: str
    arguments: tuple[str, ...]
    may_begin: bool


def bad_values() -> Iterator[BadValue]:
    """Every bad value of every key, of the options of all methods and parts, and of the entries of lists."""
    for key, field in _keys(RunConfig):
        for value, may_begin in _bad_values_of(field):
            yield _bad(f"{key} = {value}", may_begin, f"{key}={value}")
    for key, field in _keys(EvaluationSetSection):
        for value, may_begin in _bad_values_of(field):
            source = "" if key in ("level", "source") else ", level = 6" if key != "role" else ""
            role = "" if key == "role" else "role = 'trained', "
            entry = f"{{{role}{key} = {value}{source}}}"
            yield _bad(f"evaluation.sets.0.{key} = {value}", may_begin, f"evaluation.sets=[{entry}]")
    for name in METHODS:
        for key, field in _keys(METHODS[name], of_method=True):
            for value, may_begin in _bad_values_of(field):
                yield _bad(f"{name}.{key} = {value}", may_begin, f"method.name={name}", f"method.{key}={value}")
    for name in PARTS:
        for key, field in _keys(PARTS[name]):
            for value, may_begin in _bad_values_of(field) if key != "kind" else ():
                part = f'method={{name = "grpo", parts = [{{kind = "{name}", {key} = {value}}}]}}'
                yield _bad(f"part {name}.{key} = {value}", may_begin, part)


def _bad(name: str, may_begin: bool, *overrides: str) -> BadValue:
    return BadValue(name[:100], tuple(part for o in overrides for part in ("--set", o)), may_begin)


def _keys(kind: type[Settings], prefix: str = "", *, of_method: bool = False) -> Iterator[tuple[str, FieldInfo]]:
    """The keys of a table and of the tables in it, but not of tables in a list or of a choice of tables."""
    for name, field in kind.model_fields.items():
        if of_method and (name == "name" or name in Method.model_fields):
            continue
        yield prefix + name, field
        tables = _tables_of(field.annotation)
        if len(tables) == 1 and tables[0] is not Method and tuple not in _plain_kinds(field.annotation):
            yield from _keys(tables[0], f"{prefix}{name}.")


def _bad_values_of(field: FieldInfo) -> Iterator[tuple[str, bool]]:
    kinds, tables = _plain_kinds(field.annotation), _tables_of(field.annotation)
    if tables and tuple not in kinds:
        yield from ((value, False) for value in NO_TABLE)
    elif tuple in kinds or dict in kinds or typing.Any in kinds:
        yield from (
            (value, False) for value in (NO_LIST if tuple in kinds else NO_LIST[:2]) if int not in kinds or value != "7"
        )
    elif bool in kinds:
        yield from ((value, False) for value in NO_SWITCH)
    elif int in kinds and float not in kinds:
        yield from ((value, False) for value in (*NO_WHOLE_NUMBER, *FAR))
    elif int in kinds or float in kinds:
        yield from ((value, False) for value in NO_NUMBER)
        yield from ((value, True) for value in (*FAR, "-1e300", "1e300"))
    elif any(isinstance(kind, type) and issubclass(kind, Enum) for kind in kinds) or field.default in _literals(field):
        yield from ((value, False) for value in NO_CHOICE)
    else:
        yield from ((value, False) for value in NO_TEXT)
        yield from ((value, True) for value in ODD_TEXTS)


def _plain_kinds(annotation: Any) -> set[Any]:
    """``int``, ``float``, ``bool``, ``str``, ``tuple``, ``dict``, an enumeration: what a key may hold beside tables."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        arguments = typing.get_args(annotation)
        return set().union(*map(_plain_kinds, arguments[:1] if origin is typing.Annotated else arguments))
    if origin is typing.Literal:
        return {str}
    return {Path if origin is None and annotation is Path else origin or annotation} - {type(None)}


def _tables_of(annotation: Any) -> list[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [table for inner in typing.get_args(annotation) for table in _tables_of(inner)]


def _literals(field: FieldInfo) -> tuple[Any, ...]:
    return typing.get_args(field.annotation) if typing.get_origin(field.annotation) is typing.Literal else ()
