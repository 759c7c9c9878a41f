"""One training step, as data flows: choose → sample → verify → edit → read → credit → loss → update.

Every engine runs these stages and has no order of its own. :func:`training_step` is the definition and runs as it is, with
any :class:`Learner`; an engine that its own framework calls back in the middle of a step calls :func:`make_groups` and
:func:`give_credit`.

    offered problems
      │ choose     the method's problem source: which problems
      │ sample     the policy writes, the verifier judges: groups of rollouts
      │ edit       the method changes groups: salvage, guidance, filters
      │ read       models read the rollouts once: log-probabilities, entropies, hidden states
      │ prepare    parts leave extras on members and say what verdicts pay
      ▼
    groups ── credit ──▶ streams, token by token ── loss ──▶ update ──▶ side updates, where the method asks for any
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from scope_rlvr.core.accounting import TeacherLog
from scope_rlvr.core.groups import Group, Streams
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method, SideUpdate
from scope_rlvr.methods.metrics import why_no_gradient
from scope_rlvr.methods.parts.base import GroupEdit
from scope_rlvr.methods.reading import read


@dataclass(frozen=True)
class StepResult:
    """What one batch of rollouts came to, as soon as credit is given.

    ``step`` is the optimiser step it begins with, from 1; ``batch`` tells apart several of one step. ``rewards_PG`` is
    ``None`` where a verdict is unknown; ``no_gradient_because`` says why nothing can be learned, ``None`` where something can.
    ``side_updates`` are made once the step's own are.
    """

    step: int
    batch: int
    groups: tuple[Group, ...]
    rewards_PG: tuple[tuple[float | None, ...], ...]
    streams_PG: tuple[tuple[Streams, ...], ...]
    no_gradient_because: str | None
    teacher_log: TeacherLog = field(default_factory=TeacherLog)
    side_updates: tuple[SideUpdate, ...] = ()

    @classmethod
    def of(
        cls,
        batch: int,
        groups: Sequence[Group],
        rewards_PG: Sequence[Sequence[float | None]],
        streams_PG: Sequence[tuple[Streams, ...]],
        side_updates: Sequence[SideUpdate],
        tools: Toolbox,
    ) -> StepResult:
        """What the step that these tools served came to."""
        learns_aside = any(group.members for update in side_updates for group in update.groups)
        because = None if learns_aside else why_no_gradient(groups, streams_PG)
        rewards = tuple(map(tuple, rewards_PG))
        log, sides = tools.teacher_log, tuple(side_updates)
        return cls(tools.step, batch, tuple(groups), rewards, tuple(streams_PG), because, log, sides)


class Learner(Protocol):
    """Whoever holds the policy's weights and moves them."""

    def update(
        self, groups: Sequence[Group], streams_PG: Sequence[Sequence[Streams]], term_weights: Mapping[str, float]
    ) -> dict[str, float]:
        """One optimiser step, or several on disjoint parts, on the loss of :mod:`scope_rlvr.methods.loss`; figures of it."""
        ...

    def update_aside(self, update: SideUpdate) -> dict[str, float]:
        """One step of the side update's own optimiser; figures of it."""
        ...


def make_groups(method: Method, offered: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
    """From problems to groups that are ready for credit: choose, sample, verify, edit, read, prepare.

    ``offered`` are groups without members; ``num_rollouts`` are sampled for each, the rows that the method reserves aside.
    """
    sampling = tools.sampling
    for part in method.all_parts:
        sampling = part.decoding(sampling, tools)
    groups = method.choose(offered, tools)
    groups = sample_groups(method, groups, num_rollouts, replace(tools, sampling=sampling))
    groups = edit_groups(method, groups, tools)
    groups = read(groups, method.readings, tools)
    return method.prepare(groups, tools)


def sample_groups(method: Method, bare: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
    """Each group with its rollouts, as the method samples them, or another one that a part put in its place."""

    def sample(groups: Sequence[Group], *names: int | str) -> list[Group]:
        seed = derive_seed(tools.seed, *names) if names else tools.seed
        return method.sample(groups, num_rollouts, replace(tools, seed=seed))

    sampled = sample(bare)
    for part in method.parts_of(GroupEdit):
        sampled = part.resample(sampled, sample, tools)
    return sampled


def edit_groups(method: Method, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
    """The groups that train, edited by the method and then by its parts."""
    edited = method.edit_groups(groups, tools)
    for part in method.parts_of(GroupEdit):
        edited = part.edit(edited, tools)
    return edited


def give_credit(
    method: Method,
    groups: Sequence[Group],
    rewards_PG: Sequence[Sequence[float | None]],
    normalisation: Normalisation,
    tools: Toolbox,
) -> list[tuple[Streams, ...]]:
    """From rewards to streams; then the method hears the results."""
    streams_PG = method.credit(groups, rewards_PG, normalisation)
    method.learn(groups, tools)
    return streams_PG


def training_step(
    method: Method,
    offered: Sequence[Group],
    num_rollouts: int,
    normalisation: Normalisation,
    tools: Toolbox,
    learner: Learner,
) -> tuple[StepResult, dict[str, float]]:
    """The whole step. What it came to, and the figures of the update."""
    groups = make_groups(method, offered, num_rollouts, tools)
    rewards_PG = tuple(tuple(member.verdict.pay for member in group.members) for group in groups)
    streams_PG = give_credit(method, groups, rewards_PG, normalisation, tools)
    side_updates = method.side_updates(groups, tools)
    figures = learner.update(groups, streams_PG, method.term_weights(tools.figures, tools))
    for update in side_updates:
        figures |= learner.update_aside(update)
    return StepResult.of(0, groups, rewards_PG, streams_PG, side_updates, tools), figures
