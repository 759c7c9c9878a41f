"""A method: settings of a paper, parts of its own, and the hooks that are its own.

A method is an immutable value: its options are its fields. GRPO is the method without parts. The steps of a training step
call the hooks in the order in which they are written here; :mod:`scope_rlvr.methods.step` shows them together. What a method has
to remember between steps lies in ``Toolbox.memory``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar

from pydantic import Field, PlainValidator, SerializeAsAny, model_validator

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.advantages import Baseline, Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip, Tokens, clipped_policy_loss
from scope_rlvr.methods.parts.base import (
    Advantage,
    Described,
    Estimator,
    Family,
    GroupEdit,
    Loss,
    Need,
    Part,
    ProblemSource,
    Reward,
    Term,
    TokenAdvantages,
    TokenWeight,
)
from scope_rlvr.methods.reading import ReadBy, Reading
from scope_rlvr.methods.registry import method_of, part_of
from scope_rlvr.methods.streams import carrying, outcome_advantages, own_tokens, silent

if TYPE_CHECKING:
    from torch import Tensor

AnyPart = Annotated[SerializeAsAny[Part], PlainValidator(part_of)]
"""A part as a configuration says it: its ``kind``, or a table with ``kind`` and options."""

_Part = TypeVar("_Part", bound=Part)

_NEEDED_TO_READ = {ReadBy.REFERENCE: Need.REFERENCE, ReadBy.AVERAGE: Need.AVERAGE, ReadBy.TEACHER: Need.TEACHER_SCORES}

FIXABLE = ("normalisation", "aggregation", "clip", "kl", "entropy")
"""What of a run's objective a method may fix, by the names in both."""

_ONE_OF_A_KIND = (Family.PROBLEM_SOURCE, Family.ESTIMATOR, Family.LOSS)
"""Families whose part takes the place of something, so that there can only be one."""


class Method(Described):
    """Outcome rewards against a baseline, the same advantage for every token of a rollout.

    ``drop_flat_groups`` leaves groups in which every advantage is zero out of the normaliser as well. A method whose
    paper fixes something of the objective (see ``fixed``) has it as the default here; ``None`` is what the run's objective
    says. ``parts`` are added to the method's own.
    """

    without_helpers: ClassVar[str] = ""
    """What to set to run it without step scorer and teacher, where that is possible."""

    name: str = ""
    parts: tuple[AnyPart, ...] = Field((), description="parts added to the method's own, by kind; see `docs/parts.md`")
    baseline: Baseline = Field(
        Baseline.GROUP_MEAN,
        description="what a reward is compared with: the mean of the group, the mean of the others, or the mean of what "
        "the policy sampled unaided (replaced failures included)",
    )
    drop_flat_groups: bool = Field(
        False, description="leave groups in which every advantage is zero out of the loss's normaliser, too"
    )
    normalisation: Normalisation | None = Field(None, description="takes the place of `objective.normalisation`")
    aggregation: Aggregation | None = Field(None, description="takes the place of `objective.aggregation`")
    clip: Clip | None = Field(None, description="takes the place of `objective.clip`")
    kl: float | None = Field(None, ge=0, description="takes the place of `objective.kl`")
    entropy: float | None = Field(None, description="takes the place of `objective.entropy`")

    @property
    def fixed(self) -> dict[str, Any]:
        """What the method fixes of the objective, by the names that it has there."""
        values = {name: getattr(self, name) for name in FIXABLE}
        return {name: value for name, value in values.items() if value is not None}

    # --- parts ------------------------------------------------------------------------------------------------

    @property
    def own_parts(self) -> tuple[Part, ...]:
        """The parts that the method itself is made of."""
        return ()

    @property
    def all_parts(self) -> tuple[Part, ...]:
        """Its own parts and the added ones, in the order in which they act."""
        order = list(Family)
        return tuple(sorted((*self.own_parts, *self.parts), key=lambda part: order.index(part.family)))

    def parts_of(self, family: type[_Part]) -> list[_Part]:
        return [part for part in self.all_parts if isinstance(part, family)]

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        if not self.parts:
            return self
        own = {part.kind for part in self.own_parts}
        kinds = [part.kind for part in self.parts]
        for part in self.parts:
            if part.kind in own:
                raise ValueError(f"parts: {self.name} has {part.kind!r} already, with options of its own; leave it out")
            if kinds.count(part.kind) > 1:
                raise ValueError(f"parts: {part.kind!r} is there twice; leave one out")
            for other in self.all_parts:
                whose = f" of {self.name}" if other.kind in own else ""
                if other.kind in part.conflicts or part.kind in other.conflicts:
                    raise ValueError(
                        f"parts: {part.kind!r} and {other.kind!r}{whose} contradict each other; leave one out"
                    )
                if other != part and other.family is part.family and part.family in _ONE_OF_A_KIND:
                    raise ValueError(
                        f"parts: {part.kind!r} and {other.kind!r}{whose} both take the place of the {part.family.value}; "
                        f"{'take another method' if whose else 'leave one out'}"
                    )
        self._require_one_meaning("readings", ((r.name, r) for r in self.readings))
        self._require_one_meaning(
            "reducers", ((f"{r.reducer.name} by the {r.by.value}", r.reducer) for r in self.readings)
        )
        self._require_one_meaning("reducers", ((r.name, r) for part in self.all_parts for r in part.reducers))
        decays = sorted({part.average_decay for part in self.all_parts if part.average_decay is not None})
        if len(decays) > 1:
            raise ValueError(f"parts: there is one average of the policies, and it cannot have the decays {decays}")
        return self

    @staticmethod
    def _require_one_meaning(what: str, named: Iterable[tuple[str, object]]) -> None:
        """Refuse two things of one name: the results of one would stand in the place of the other's."""
        known: dict[str, object] = {}
        for name, thing in named:
            if known.setdefault(name, thing) != thing:
                raise ValueError(f"parts: two {what} are called {name!r} and differ; give one of them another name")

    # --- needs ------------------------------------------------------------------------------------------------

    @property
    def own_needs(self) -> frozenset[Need]:
        """What the method itself needs of a run, its parts aside."""
        return frozenset()

    @property
    def needs(self) -> frozenset[Need]:
        """Everything without which the method cannot run."""
        read = {_NEEDED_TO_READ[reading.by] for reading in self.readings if reading.by in _NEEDED_TO_READ}
        return self.own_needs.union(read, *(part.needs for part in self.all_parts))

    def refuse_without(self, abilities: Collection[Need], engine: str) -> None:
        """Raise ``ValueError`` where the method needs what an engine cannot give."""
        lacking = sorted(need.value for need in self.needs if need not in abilities)
        if lacking:
            raise ValueError(
                f"method {self.title} needs {', '.join(lacking)}, which {engine} cannot give; take another engine"
            )

    @property
    def needs_step_scorer(self) -> bool:
        return Need.STEP_SCORER in self.needs

    @property
    def needs_teacher(self) -> bool:
        return bool(self.needs & {Need.TEACHER, Need.TEACHER_SCORES})

    @property
    def average_decay(self) -> float | None:
        """Decay of the moving average of the policy that is read; ``None`` without one."""
        return next((decay for part in self.all_parts if (decay := part.average_decay) is not None), None)

    @property
    def readings(self) -> tuple[Reading, ...]:
        """What models are asked about the rollouts before credit is given."""
        return tuple(reading for part in self.all_parts for reading in part.readings)

    @property
    def draws_problems(self) -> bool:
        """Whether groups may be of other problems than those that are offered."""
        return any(part.draws_problems for part in self.parts_of(GroupEdit)) or bool(self.parts_of(ProblemSource))

    @property
    def num_reserved_rows(self) -> int:
        """Rows a group may need beyond the rollouts that are sampled for it."""
        return sum(part.num_reserved_rows for part in self.all_parts)

    @property
    def has_variable_rows(self) -> bool:
        """Whether a group may take more rows than another, as long as the whole batch has no more than the trainer."""
        return False

    def stage(self, step: int, num_steps: int) -> int:
        """Which part of the run a step (from 1) belongs to; the optimiser starts anew where a part begins."""
        return 0

    def learning_rate_factor(self, step: int, num_steps: int) -> float:
        """What the run's learning rate is multiplied by at a step (from 1)."""
        return 1.0

    @property
    def steers_optimizer(self) -> bool:
        """Whether the method has stages or learning rates of its own."""
        own = type(self)
        return own.stage is not Method.stage or own.learning_rate_factor is not Method.learning_rate_factor

    # --- the stages of a step -----------------------------------------------------------------------------------

    def choose(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        """The problems of a step, as groups without members: those that are offered, or as many others."""
        chosen = list(groups)
        for part in self.parts_of(ProblemSource):
            chosen = part.choose(chosen, tools)
        return chosen

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        """The verified rollouts of each group, at most ``num_rollouts``; the groups given have no members yet."""
        return tools.sample(groups, num_rollouts)

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        """The groups that train, made from the groups that were sampled; parts edit them further."""
        return list(groups)

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        """The groups after the reading pass, with what credit will want, and paid."""
        prepared = list(groups)
        for part in self.all_parts:
            prepared = part.prepare(prepared, tools)
            if isinstance(part, Reward):
                prepared = part.pay(prepared, tools)
        return prepared

    def credit(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> list[tuple[Streams, ...]]:
        """Streams for every member of every group. ``None`` is the reward of an unknown verdict."""
        counted_PG = [
            rewards_G if all(part.counts(group) for part in self.parts_of(GroupEdit)) else [None] * len(rewards_G)
            for group, rewards_G in zip(groups, rewards_PG, strict=True)
        ]
        advantage_PGT = self.advantages(groups, counted_PG, normalisation)
        streams_PG = [
            self._streams(group, rewards_G, advantage_GT)
            for group, rewards_G, advantage_GT in zip(groups, counted_PG, advantage_PGT, strict=True)
        ]
        for reshaping in self.parts_of(Advantage):
            streams_PG = reshaping.shape(groups, counted_PG, streams_PG)
        for weighing in self.parts_of(TokenWeight):
            streams_PG = weighing.weigh(groups, counted_PG, streams_PG)
        for part in self.all_parts:
            streams_PG = part.mark(groups, counted_PG, streams_PG)
        return self._carried(groups, streams_PG)

    def advantages(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> TokenAdvantages:
        """The advantage of every token of every member: the estimator's, or reward minus baseline on all of them."""
        for part in self.parts_of(Estimator):
            return part.advantages(groups, rewards_PG, normalisation)
        outcome_PG = outcome_advantages(groups, rewards_PG, self.baseline, normalisation)
        return [
            [[advantage] * len(member.rollout) for member, advantage in zip(group.members, advantage_G, strict=True)]
            for group, advantage_G in zip(groups, outcome_PG, strict=True)
        ]

    def _streams(
        self, group: Group, rewards_G: Sequence[float | None], advantage_GT: Sequence[Sequence[float]]
    ) -> tuple[Streams, ...]:
        """Streams of a group: silent for unknown verdicts and, where flat groups are dropped, for a flat group."""
        streams_G = tuple(
            self._aside(member) if reward is None else self.credit_tokens(member, advantage_T)
            for member, reward, advantage_T in zip(group.members, rewards_G, advantage_GT, strict=True)
        )
        judged = (streams for streams, reward in zip(streams_G, rewards_G, strict=True) if reward is not None)
        if self.drop_flat_groups and not any(any(streams.advantage_T) for streams in judged):
            return tuple(self._aside(member) for member in group.members)
        return streams_G

    def _aside(self, member: Member) -> Streams:
        """What a member trains whose verdict is unknown: what the part says that brought it along, else nothing."""
        found = (part.credit_aside(member) for part in self.parts_of(GroupEdit))
        return next((streams for streams in found if streams is not None), silent(member))

    def _carried(self, groups: Sequence[Group], streams_PG: Sequence[tuple[Streams, ...]]) -> list[tuple[Streams, ...]]:
        names = tuple(dict.fromkeys(name for part in self.all_parts for name in part.carries))
        return [
            tuple(carrying(streams, member, names) for member, streams in zip(group.members, streams_G, strict=True))
            for group, streams_G in zip(groups, streams_PG, strict=True)
        ]

    def credit_member(self, member: Member, advantage: float) -> Streams:
        """The streams of a rollout all of whose tokens have one advantage."""
        return self.credit_tokens(member, [advantage] * len(member.rollout))

    def credit_tokens(self, member: Member, advantage_T: Sequence[float]) -> Streams:
        """The streams of a rollout whose tokens have these advantages."""
        return own_tokens(member, advantage_T)

    def token_loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        """The loss of each token, ``(B, T)``."""
        for part in self.parts_of(Loss):
            return part.loss(tokens, clip)
        return clipped_policy_loss(tokens.logp_BT, tokens.old_logp_BT, tokens.advantage_BT, clip)

    def side_updates(self, groups: Sequence[Group], tools: Toolbox) -> list[SideUpdate]:
        """Updates of their own, made after the step's in this order; called once credit is given."""
        return []

    @property
    def has_side_updates(self) -> bool:
        """Whether the method may ask for updates beside the step's."""
        return type(self).side_updates is not Method.side_updates

    def term_weights(self, figures: Mapping[str, float], tools: Toolbox) -> dict[str, float]:
        """The weight of each extra term in this step, by the term's kind."""
        return {part.kind: part.weight_after(figures, tools) for part in self.parts_of(Term)}

    def learn(self, groups: Sequence[Group], tools: Toolbox) -> None:
        """Hear the results of a step, once credit is given."""
        for part in self.all_parts:
            part.learn(groups, tools)


@dataclass(frozen=True)
class SideUpdate:
    """An update beside the step's: rollouts that another method trains on, by an optimiser of its own.

    ``groups`` have members, which get ``method``'s credit and token loss. What ``method`` does not fix of the objective is as
    in the step, but for the KL penalty, which there is none of. The optimiser is an AdamW with the run's settings, whose
    learning rate is always ``rate`` times the run's; all side updates by one method share it. Gradients are clipped as in
    the step. Where no token has weight, there is no update.
    """

    method: Method
    groups: tuple[Group, ...]
    rate: float = 1.0


AnyMethod = Annotated[SerializeAsAny[Method], PlainValidator(method_of)]
"""A method as a run's configuration says it: its ``name``, or a table with ``name`` and options."""
