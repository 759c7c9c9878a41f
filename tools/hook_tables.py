"""Writes the tables of hooks in docs/write-a-method.md from the classes themselves.

python -m tools.hook_tables            write them
python -m tools.hook_tables --check    exit with 1 where one of them is not up to date
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Family, Part
from tools.settings_tables import ReferenceGap
from tools.written_pages import ROOT, keep_up_to_date

PAGE = ROOT / "docs" / "write-a-method.md"

STAGES = {
    "choose": "choose",
    "decoding": "before sample",
    "sample": "sample",
    "resample": "sample",
    "edit_groups": "edit",
    "edit": "edit",
    "prepare": "prepare",
    "pay": "prepare",
    "reward": "prepare",
    "credit": "credit",
    "counts": "credit",
    "credit_aside": "credit",
    "advantages": "credit",
    "credit_tokens": "credit",
    "credit_member": "credit",
    "shape": "credit",
    "reshaped": "credit",
    "weigh": "credit",
    "weights": "credit",
    "mark": "credit",
    "learn": "after credit",
    "side_updates": "after credit",
    "term_weights": "before the loss",
    "weight_after": "before the loss",
    "token_loss": "loss, for each micro-batch",
    "loss": "loss, for each micro-batch",
    "stage": "before the optimiser steps",
    "learning_rate_factor": "before the optimiser steps",
}
"""When each hook is called, in the order of a step."""

DERIVED = {
    "Method": (
        "parts_of",
        "refuse_without",
        "all_parts",
        "fixed",
        "needs",
        "needs_step_scorer",
        "needs_teacher",
        "steers_optimizer",
        "has_side_updates",
    ),
    "Part": (),
}
"""What follows from the rest, and is not there to be overridden."""


def page() -> str:
    """The text of docs/write-a-method.md with its tables renewed."""
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in TABLES.items():
        pattern = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, lambda m, of=lines: m[1] + "\n".join(of()) + "\n" + m[2], text, flags=re.DOTALL)
        if count != 1:
            raise ReferenceGap(f"{PAGE.name} has {count} places for the table {name!r}; it needs one")
    return text


def hooks_of(kind: type) -> dict[str, Callable[..., Any]]:
    """The functions that a class itself defines for others to override or call, in the order of a step."""
    found = {name: value for name, value in _public(kind) if inspect.isfunction(value)}
    order = list(STAGES)
    return dict(sorted(found.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))


def properties_of(kind: type) -> dict[str, property]:
    return {name: value for name, value in _public(kind) if isinstance(value, property)}


def _public(kind: type) -> Iterator[tuple[str, Any]]:
    left_out = DERIVED.get(kind.__name__, ())
    return ((n, value) for n, value in vars(kind).items() if not n.startswith("_") and n not in left_out)


def _hook_table(kind: type) -> Iterator[str]:
    yield "| hook | when | what |"
    yield "|---|---|---|"
    for name, hook in hooks_of(kind).items():
        yield f"| `{signature(name, hook)}` | {when(name)} | {told(hook, name)} |"


def _families_table() -> Iterator[str]:
    yield "| family | hook | when | what |"
    yield "|---|---|---|---|"
    kinds = {kind.family: kind for kind in Part.__subclasses__() if kind.__module__ == Part.__module__}
    for family in Family:
        shown = f"{family.value}: `{kinds[family].__name__}`"
        for name, hook in hooks_of(kinds[family]).items():
            yield f"| {shown} | `{signature(name, hook)}` | {when(name)} | {told(hook, name)} |"
        for name, value in properties_of(kinds[family]).items():
            if not hasattr(Part, name):
                yield f"| {shown} | `{name}`, a property | before the run | {told(value, name)} |"


def _properties_table() -> Iterator[str]:
    yield "| property | of | what |"
    yield "|---|---|---|"
    for owner, kind in (("methods", Method), ("parts", Part)):
        for name, value in properties_of(kind).items():
            yield f"| `{name}` | {owner} | {told(value, name)} |"


def _toolbox_table() -> Iterator[str]:
    yield "| call | what |"
    yield "|---|---|"
    for name, call in hooks_of(Toolbox).items():
        yield f"| `tools.{signature(name, call)}` | {told(call, name)} |"
    for name, value in properties_of(Toolbox).items():
        yield f"| `tools.{name}` | {told(value, name)} |"


TABLES = {
    "Method": partial(_hook_table, Method),
    "properties": _properties_table,
    "Part": partial(_hook_table, Part),
    "families": _families_table,
    "Toolbox": _toolbox_table,
}


def signature(name: str, function: Callable[..., Any]) -> str:
    """A function as one calls it: without ``self``."""
    found = inspect.signature(function)
    shown = found.replace(parameters=[p for p in found.parameters.values() if p.name != "self"])
    return f"{name}{shown}".replace("'", "").replace("|", "\\|")


def when(name: str) -> str:
    if name not in STAGES:
        raise ReferenceGap(f"nothing says when {name} is called; add it to STAGES, or to DERIVED where it is no hook")
    return STAGES[name]


def told(value: Any, name: str) -> str:
    """The first paragraph of a docstring, in one line."""
    text = inspect.cleandoc(value.__doc__ or "").partition("\n\n")[0]
    if not text:
        raise ReferenceGap(f"{name} has no docstring")
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    keep_up_to_date({PAGE: page})
