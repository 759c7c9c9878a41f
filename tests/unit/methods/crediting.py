"""A group of texts through a method's hooks: what every token gets."""

from __future__ import annotations

from scope_rlvr.core.groups import Group, Streams
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods import Method
from scope_rlvr.methods.reading import read
from scope_rlvr.methods.step import edit_groups
from tests.doubles import group, toolbox


def pays(groups: list[Group]) -> list[list[float | None]]:
    return [[member.verdict.pay for member in g.members] for g in groups]


def credited(
    method: Method, *texts: str, tools: Toolbox | None = None, normalisation: Normalisation = Normalisation.NONE
) -> tuple[Group, tuple[Streams, ...]]:
    """The edited, read and prepared group of some responses, and its streams."""
    tools = tools or toolbox()
    groups = read(edit_groups(method, [group(*texts)], tools), method.readings, tools)
    groups = method.prepare(groups, tools)
    return groups[0], method.credit(groups, pays(groups), normalisation)[0]


def runs(values: tuple[float, ...]) -> list[tuple[float, int]]:
    """Values with how often each comes in a row: ``[(0.5, 3), (-0.5, 2)]``."""
    found: list[tuple[float, int]] = []
    for value in values:
        same = bool(found) and abs(found[-1][0] - value) < 1e-9
        found = [*found[:-1], (value, found[-1][1] + 1)] if same else [*found, (value, 1)]
    return [(round(value, 6), count) for value, count in found]


def is_silent(streams: tuple[Streams, ...]) -> bool:
    """Nothing trains and nothing counts."""
    return not any(any(s.advantage_T) or any(s.weight_T) for s in streams)
