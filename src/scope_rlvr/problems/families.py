"""The embedded problem families by name."""

from __future__ import annotations

from scope_rlvr.problems.family import ProblemFamily
from scope_rlvr.problems.reduction import Reduction
from scope_rlvr.problems.stories.family import VARIANTS, Stories

_ALL: tuple[ProblemFamily, ...] = (Reduction(), *map(Stories, VARIANTS))
_FAMILIES = {family.name: family for family in _ALL}


def names() -> list[str]:
    """The names that ``get`` knows.

    >>> names()
    ['reduction', 'stories', 'stories-big', 'stories-distractors', 'stories-percent', 'stories-unseen']
    """
    return sorted(_FAMILIES)


def get(name: str) -> ProblemFamily:
    """The family of this name; raises ``ValueError`` with the known names for any other.

    >>> get("reduction").sample(level=3, count=1, seed=0)[0].level
    3
    >>> get("reductoin")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: there is no embedded problem family 'reductoin'; known families: reduction, stories, ...
    """
    if name not in _FAMILIES:
        raise ValueError(f"there is no embedded problem family {name!r}; known families: {', '.join(names())}")
    return _FAMILIES[name]
