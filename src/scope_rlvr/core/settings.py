"""Typed settings: every option is a small immutable value that checks itself.

An option that is a choice between rules is a union of classes told apart by ``kind``; in TOML and on the command
line a bare name means the rule with its defaults (``"shaped"`` for ``{kind = "shaped"}``).
"""

from __future__ import annotations

import json
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, LiteralString, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

_LARGEST = 2**53
"""Beyond it, a float no longer knows every whole number."""


class Settings(BaseModel):
    """Base of all settings: immutable, unknown keys and numbers that are not finite refused, defaults checked too.

    A number must be written as a number, and a switch as ``true`` or ``false``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _is_written_plainly(cls, values: Any) -> Any:
        given = values.items() if isinstance(values, dict) else ()
        expected = [
            (name, value, cls.model_fields[name].annotation) for name, value in given if name in cls.model_fields
        ]
        complaints = [
            InitErrorDetails(type=PydanticCustomError("not_plain", complaint), loc=(name,), input=value)
            for name, value, kind in expected
            if value is not None and (complaint := _complaint(kind, value))
        ]
        if complaints:
            raise ValidationError.from_exception_data(cls.__name__, complaints)
        return values


def _complaint(expected: Any, value: Any) -> LiteralString | None:
    """What pydantic would let pass: ``true`` as 1, ``"7"`` as 7, ``"yes"`` as ``true``, a whole number of any size."""
    kinds = _kinds(expected)
    others = {kind for kind in kinds if isinstance(kind, type)} - {int, float, bool, NoneType}
    if bool in kinds:
        return None if isinstance(value, bool) or others else "expected true or false"
    if not kinds & {int, float}:
        return None
    if isinstance(value, bool) or (isinstance(value, str) and not others and value not in kinds):
        return "expected a number"
    if isinstance(value, int) and abs(value) > _LARGEST:
        return "no option has a value of this size"
    return None


def _kinds(annotation: Any) -> set[Any]:
    """The types that an annotation allows, and the words.

    >>> sorted(map(str, _kinds(int | Literal["auto"] | None)))
    ["<class 'NoneType'>", "<class 'int'>", 'auto']
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kinds(inner[0])
    if origin in (Union, UnionType):
        return set().union(*map(_kinds, inner))
    return set(inner) if origin is Literal else {origin or annotation}


def description_of(kind: type[Settings], name: str) -> str:
    """What an option means: the description of its field, here or, where only the default is another, in a class above."""
    owners = (base for base in kind.__mro__ if issubclass(base, Settings) and name in base.model_fields)
    return next((text for base in owners if (text := base.model_fields[name].description)), "")


def _bare_name_to_rule(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


BARE_NAME = BeforeValidator(_bare_name_to_rule)
"""Annotates a union of rules so that a bare name is accepted for one of them."""

BY_KIND = Discriminator("kind")


def as_toml(value: Any) -> str:
    """A value as TOML, tables inline; what is absent in a table is left out.

    >>> as_toml({"low": 0.2, "high": None}), as_toml(("a", "b")), as_toml(True)
    ('{low = 0.2}', '["a", "b"]', 'true')
    """
    if isinstance(value, Settings):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {as_toml(item)}" for key, item in value.items() if item is not None) + "}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, Enum):
        value = value.value
    return json.dumps(value if isinstance(value, bool | int | float) else str(value), ensure_ascii=False)
