"""What there is, in a few words: every method and part with its family, paper and needs.

``catalogue.json`` has the built-in ones, so that a listing need not import a hundred classes. It is written from the classes by
tools/method_reference.py.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scope_rlvr.core.settings import as_toml, description_of
from scope_rlvr.methods.registry import METHOD_FAMILIES, METHODS, PARTS, Registry, method_of, part_of

if TYPE_CHECKING:
    from scope_rlvr.methods.method import Method
    from scope_rlvr.methods.parts.base import Described

CATALOGUE = Path(__file__).with_name("catalogue.json")

OWN_FAMILY = "own"
"""The family of a user's own methods."""


@dataclass(frozen=True)
class Entry:
    """A method or a part, which ``what`` tells apart. ``name`` is the method's name, or the part's kind."""

    what: str
    name: str
    family: str
    title: str
    source: str
    status: str
    changes: str
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Catalogue:
    """All entries, in the order of their families, and for each family what its members have in common."""

    families: dict[str, str]
    entries: tuple[Entry, ...]


def read_catalogue() -> Catalogue:
    """The built-in methods and parts, and those of installed packages."""
    written = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    known = {(e["what"], e["name"]): Entry(**{**e, "needs": tuple(e["needs"])}) for e in written["entries"]}
    names = [
        (r, name) for r in (METHODS, PARTS) for name in (*r, *(point.name for point in entry_points(group=r.group)))
    ]
    entries = [known.get((r.what, name)) or entry_of(r, name) for r, name in names]
    return _sorted({**written["families"], OWN_FAMILY: "Methods of installed packages."}, entries)


def built_in() -> Catalogue:
    """The built-in methods and parts, from their classes."""
    from scope_rlvr.methods.parts import base

    acting = {kind.family.value: kind for kind in base.Part.__subclasses__() if kind.__module__ == base.__name__}
    parts = {family.value: str(acting[family].__doc__).partition("\n")[0].replace("``", "`") for family in base.Family}
    return _sorted({**METHOD_FAMILIES, **parts}, [entry_of(r, name) for r in (METHODS, PARTS) for name in r])


def as_json(catalogue: Catalogue) -> str:
    """The text of ``catalogue.json``, an entry a line."""
    families = json.dumps(catalogue.families, ensure_ascii=False, indent=2)
    entries = ",\n".join(json.dumps(asdict(entry), ensure_ascii=False) for entry in catalogue.entries)
    return f'{{"families": {families},\n"entries": [\n{entries}\n]}}\n'


def _sorted(families: dict[str, str], entries: list[Entry]) -> Catalogue:
    order = list(families)
    return Catalogue(families, tuple(sorted(entries, key=lambda entry: (order.index(entry.family), entry.name))))


def entry_of(registry: Registry[Any], name: str) -> Entry:
    """What a listing says of one method or part; raises ``ValueError`` where there is none of that name."""
    kind = registry.find(name)
    return Entry(
        registry.what,
        name,
        family_of(registry, name),
        kind.title,
        kind.source,
        kind.status.value,
        kind.changes,
        needs_of(registry, name),
    )


def family_of(registry: Registry[Any], name: str) -> str:
    """A part says its family itself; a method's is the folder that it is in."""
    if registry.what == PARTS.what:
        return str(registry.find(name).family.value)
    return registry.place_of(name).split(".")[2] if name in registry else OWN_FAMILY


def needs_of(registry: Registry[Any], name: str) -> tuple[str, ...]:
    """What it needs of a run with its default options; a class with an option that has no default tells nothing yet."""
    from pydantic import ValidationError

    from scope_rlvr.methods.method import Method
    from scope_rlvr.methods.parts.base import Need

    try:
        method = method_of(name) if registry.what == METHODS.what else Method(parts=(part_of(name),))
    except ValidationError:
        return ()
    return tuple(need.value for need in Need if need in method.needs)


# --- more about one ---------------------------------------------------------------------------------------------------


def text_of(kind: type[Described]) -> str:
    """What a class says of itself, without the example."""
    return inspect.cleandoc(vars(kind).get("__doc__") or "").partition("\n>>>")[0].rstrip()


def fixed_by(kind: type[Method]) -> dict[str, Any]:
    """What a method decides of the settings that all methods share, by default."""
    from scope_rlvr.methods.method import Method

    shared = {name: field.default for name, field in Method.model_fields.items() if name not in ("name", "parts")}
    own = {name: kind.model_fields[name].default for name in shared}
    return {name: value for name, value in own.items() if value != shared[name]}


def own_parts_of(name: str) -> tuple[str, ...]:
    """The kinds of the parts that a method is made of with its default options."""
    return tuple(part.kind for part in method_of(name).own_parts)


def options_of(kind: type[Described]) -> Iterator[tuple[str, str, str]]:
    """The options of a method or part, its own before those that all methods share: name, default as TOML, meaning."""
    from scope_rlvr.methods.method import Method

    fields = kind.model_fields.items()
    for name, field in sorted(fields, key=lambda item: item[0] in Method.model_fields and issubclass(kind, Method)):
        if name not in ("name", "kind"):
            is_absent = field.is_required() or field.default is None
            yield name, "" if is_absent else _short(field.default), description_of(kind, name)


def _short(value: Any) -> str:
    """A default as TOML; a rule by its name alone."""
    return as_toml(getattr(value, "kind", value))
