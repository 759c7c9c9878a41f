"""The reading pass: what methods want to know of models about the rollouts of a step, asked all at once.

A method or a part names its :class:`Reading` values. Between edit and credit each model runs forward once for each text
that anybody wants read, and what the reducers keep lies on the members under the readings' names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.lazy import torch
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.readings import HiddenReducer, LogitReducer, LogProb, TopK

Text = tuple[tuple[int, ...], tuple[int, ...]]
"""Prompt ids and response ids."""


class ReadBy(StrEnum):
    """Who reads. ``REFERENCE`` is the policy as it was before training, or the model that ``model.reference`` names.
    ``AVERAGE`` is the exponential moving average of the policies so far. A ``TEACHER`` gives log-probabilities and its
    likeliest tokens, at temperature 1."""

    POLICY = "policy"
    REFERENCE = "reference"
    AVERAGE = "average"
    TEACHER = "teacher"


def as_written(group: Group, member: Member, tools: Toolbox) -> Text | None:
    """The response after the prompt that it was written to."""
    return member.rollout.prompt_ids, member.rollout.token_ids


Place = Callable[[Group, Member, Toolbox], Text | None]


@dataclass(frozen=True)
class Reading:
    """What to keep of what a model says about each rollout.

    ``text`` gives the prompt and the response that are read, by default the rollout as it was written; ``None`` leaves a
    member out. The result has one entry for each token of that response and lies in ``member.extras[name]``: a tuple of
    numbers, or a tensor on the CPU where the reducer keeps more than one number a token. Raises ``ValueError`` for what a
    teacher cannot say.

    >>> Reading("ref_logprob", by=ReadBy.REFERENCE).reducer.name
    'logprob'
    """

    name: str
    reducer: LogitReducer | HiddenReducer = field(default_factory=LogProb)
    by: ReadBy = ReadBy.POLICY
    text: Place = as_written

    def __post_init__(self) -> None:
        if self.by is ReadBy.TEACHER and not isinstance(self.reducer, LogProb | TopK):
            raise ValueError(
                f"the reading {self.name!r} wants {self.reducer.name!r} of the teacher, which gives log-probabilities and its "
                "likeliest tokens alone; take the reducer LogProb or TopK, or another model"
            )


def read(groups: Sequence[Group], readings: Sequence[Reading], tools: Toolbox) -> list[Group]:
    """The groups with every reading on their members; readings of one model and one ``text`` share a forward pass."""
    for by, text in dict.fromkeys((reading.by, reading.text) for reading in readings):
        groups = _read_by(groups, by, text, [r for r in readings if (r.by, r.text) == (by, text)], tools)
    return list(groups)


def _read_by(
    groups: Sequence[Group], by: ReadBy, text: Place, readings: Sequence[Reading], tools: Toolbox
) -> list[Group]:
    places = [(g, m) for g, group in enumerate(groups) for m in range(len(group.members))]
    texts = {(g, m): found for g, m in places if (found := text(groups[g], groups[g].members[m], tools)) is not None}
    reducers = list({reading.reducer.name: reading.reducer for reading in readings}.values())
    if by is ReadBy.TEACHER:
        asked = [(groups[g].members[m].problem or groups[g].problem, *found) for (g, m), found in texts.items()]
        top_k = max(reducer.k if isinstance(reducer, TopK) else 0 for reducer in reducers)
        kept = [_as_reduced(said) for said in tools.score_tokens(asked, top_k=top_k)]
    else:
        kept = tools.read(by.value, list(texts.values()), reducers)
    kept_of = dict(zip(texts, kept, strict=True))
    return [
        replace(
            group,
            members=tuple(_with(member, kept_of.get((g, m)), readings) for m, member in enumerate(group.members)),
        )
        for g, group in enumerate(groups)
    ]


def _as_reduced(said: dict[str, Any]) -> dict[str, Any]:
    """A teacher's words under the names, and in the shapes, of the reducers."""
    if said.get("top_ids") is None:
        return said
    top_2TK = torch.tensor([said["top_logprobs"], said["top_ids"]])
    return {**said, TopK.title: top_2TK.transpose(0, 1)}


def _with(member: Member, kept: dict[str, Any] | None, readings: Sequence[Reading]) -> Member:
    """The member with what was read; nothing where nobody could read it."""
    if kept is None:
        return member
    return member.having(**{r.name: _plain(kept[r.reducer.name]) for r in readings if r.reducer.name in kept})


def _plain(value: Any) -> Any:
    """One number for each token as a tuple of numbers; anything else as it is."""
    return tuple(value.tolist()) if getattr(value, "ndim", 1) == 1 and hasattr(value, "tolist") else value
