"""The families of parts, and what a part of each family does.

A part is one pure function with its settings. Parts of one family act in the order in which a method lists them; the order
of the families is fixed, and is that of :class:`Family`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.core.ports import Sampling
from scope_rlvr.core.settings import Settings
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Clip, Tokens
from scope_rlvr.formulas.readings import LogitReducer
from scope_rlvr.methods.reading import Reading

if TYPE_CHECKING:
    from torch import Tensor

Rewards = Sequence[Sequence[float | None]]
"""``(P, G)``: one reward a rollout, ``None`` where the verdict is unknown."""

TokenAdvantages = list[list[list[float]]]
"""``(P, G, T)``: one advantage for each token of each rollout."""


class Sampler(Protocol):
    """Samples as the method does: groups without members come back with their rollouts."""

    def __call__(self, groups: Sequence[Group], *names: int | str) -> list[Group]:
        """``names`` seed the draw; take names of their own for each."""
        ...


class Family(StrEnum):
    """Where in a step a part acts. The order here is the order in which the families act."""

    PROBLEM_SOURCE = "problem source"
    DECODING = "decoding"
    GROUP_EDIT = "group edit"
    REWARD = "reward"
    ESTIMATOR = "estimator"
    ADVANTAGE = "advantage"
    TOKEN_WEIGHT = "token weight"
    LOSS = "loss"
    TERM = "term"


class Status(StrEnum):
    """Where the formula of a method or part was read."""

    CODE = "code"
    """In the authors' released code."""
    TEXT = "text"
    """In the paper."""
    LIBRARY = "library"
    """In a library's code or documentation, which is not the authors'."""
    ABSTRACT = "abstract"
    """In the abstract alone; the rest is argued here."""
    OWN = "own"
    """Nowhere: it is of no paper."""

    @property
    def words(self) -> str:
        """As a person reads it."""
        return {
            Status.CODE: "the formula was read in the authors' released code",
            Status.TEXT: "the formula was read in the paper",
            Status.LIBRARY: "the formula was read in a library that is not the authors'",
            Status.ABSTRACT: "only the abstract was read; the rest is argued here",
            Status.OWN: "it is of no paper",
        }[self]


class Need(StrEnum):
    """What a run has to give to a method; an engine that lacks it refuses the method before it starts."""

    STEP_SCORER = "step scorer"
    TEACHER = "teacher"
    """Somebody who writes."""
    TEACHER_SCORES = "teacher that scores tokens"
    """A teacher that says how likely tokens are that it did not write."""
    JUDGE = "judge"
    REFERENCE = "reference model"
    AVERAGE = "average of the policies"
    LOGITS = "logits in the loss"
    PROBLEM_POOL = "all training problems"
    DECODING = "control of single decoding steps"


class Described(Settings):
    """What people read about a method or a part. A class of your own may leave all of it out.

    A title that is not given is the name of the class.

    >>> class Halved(Described): pass
    >>> Halved.title, Halved.status.value
    ('Halved', 'own')
    """

    title: ClassVar[str]
    source: ClassVar[str] = ""
    """Its paper."""
    status: ClassVar[Status] = Status.OWN
    """Where its formula was read."""
    changes: ClassVar[str] = ""
    """What it changes, in a few words."""
    formula: ClassVar[str] = ""
    """In one line, with the letters that docs/methods.md explains."""
    departures: ClassVar[str] = ""
    """What differs from its paper, in a few words; the docstring says more."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        if "title" not in vars(cls):
            cls.title = cls.__name__


class Part(Described):
    """What all parts have.

    ``readings`` are asked of models before credit; ``prepare`` runs after them and may leave extras on members, also from
    ``tools.memory``; ``learn`` is told the groups at the end of a step. A loss or a term reads ``tokens.extras``: the extras of
    members that ``carries`` names, the streams that ``mark`` adds, and what ``reducers`` make of the policy's logits, which
    have gradients.
    """

    kind: str

    family: ClassVar[Family]
    carries: ClassVar[tuple[str, ...]] = ()
    conflicts: ClassVar[tuple[str, ...]] = ()
    """Kinds of parts that contradict this one."""

    @classmethod
    def of(cls, method: Settings) -> Self:
        """The part with the options that a method gives it under the same names."""
        shared = (name for name in cls.model_fields if name != "kind" and name in type(method).model_fields)
        return cls(**{name: getattr(method, name) for name in shared})

    @property
    def needs(self) -> frozenset[Need]:
        """What the part needs of a run, beyond its readings."""
        return frozenset({Need.LOGITS}) if self.reducers else frozenset()

    @property
    def average_decay(self) -> float | None:
        """Decay of the moving average of the policy, for a part that reads it."""
        return None

    @property
    def num_reserved_rows(self) -> int:
        """Rows a group may need beyond the rollouts that are sampled for it."""
        return 0

    @property
    def readings(self) -> tuple[Reading, ...]:
        """What models are asked about the rollouts before credit is given."""
        return ()

    @property
    def reducers(self) -> tuple[LogitReducer, ...]:
        """What of the policy's logits the loss or the term needs beside the log-probability."""
        return ()

    def decoding(self, sampling: Sampling, tools: Toolbox) -> Sampling:
        """How the policy samples in this step."""
        return sampling

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        """The groups after the reading pass, with whatever extras credit or loss will want."""
        return list(groups)

    def mark(
        self, groups: Sequence[Group], rewards_PG: Rewards, streams_PG: Sequence[Sequence[Streams]]
    ) -> list[tuple[Streams, ...]]:
        """The streams after credit and weights, with further ones for the loss; every rollout gets the same ones."""
        return [tuple(streams_G) for streams_G in streams_PG]

    def learn(self, groups: Sequence[Group], tools: Toolbox) -> None:
        """Hear the results of the step; ``tools.memory`` is saved with every checkpoint."""


class ProblemSource(Part):
    """Decides which problems a step trains on; has a memory and is told the results."""

    family = Family.PROBLEM_SOURCE

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.PROBLEM_POOL})

    def choose(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        """As many groups without members as are offered: those, or others out of ``tools.pool``."""
        raise NotImplementedError


class Decoding(Part):
    """Changes how the policy samples, token by token."""

    family = Family.DECODING

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.DECODING})


class GroupEdit(Part):
    """Changes what a group is made of: draws again, corrects, replaces, filters."""

    family = Family.GROUP_EDIT

    @property
    def draws_problems(self) -> bool:
        """Whether ``resample`` may give groups of other problems than it is given."""
        return False

    def resample(self, groups: Sequence[Group], sample: Sampler, tools: Toolbox) -> list[Group]:
        """The sampled groups, or others in their place, which ``sample`` fills with rollouts."""
        return list(groups)

    def edit(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        """The groups that train, made of those that were sampled."""
        return list(groups)

    def counts(self, group: Group) -> bool:
        """Whether the group enters baselines and the loss."""
        return True

    def credit_aside(self, member: Member) -> Streams | None:
        """The streams of a member whose verdict is unknown, if this part brought it along to train outside the baseline."""
        return None


class Reward(Part):
    """Changes what verdicts pay. The verdicts stay: what is right is the verifier's to say."""

    family = Family.REWARD

    def pay(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        """The groups with other rewards; an unknown verdict stays unknown."""
        return [
            replace(group, members=tuple(self._paid(group, member, tools) for member in group.members))
            for group in groups
        ]

    def _paid(self, group: Group, member: Member, tools: Toolbox) -> Member:
        if member.verdict.pay is None:
            return member
        reward = self.reward(group, member, tools)
        if reward == member.verdict.pay:
            return member
        return replace(member, verdict=replace(member.verdict, reward=reward))

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        """What a member with a known verdict is paid."""
        raise NotImplementedError


class Estimator(Part):
    """Takes the place of ``reward − baseline``: an advantage for every token."""

    family = Family.ESTIMATOR

    def advantages(self, groups: Sequence[Group], rewards_PG: Rewards, normalisation: Normalisation) -> TokenAdvantages:
        """The advantage of each token, `(P, G, T)`; what it is where the reward is unknown makes no difference."""
        raise NotImplementedError


class Advantage(Part):
    """Reshapes advantages, with the whole batch in sight."""

    family = Family.ADVANTAGE

    def shape(
        self, groups: Sequence[Group], rewards_PG: Rewards, streams_PG: Sequence[Sequence[Streams]]
    ) -> list[tuple[Streams, ...]]:
        """The streams with other advantages."""
        return [
            tuple(
                replace(streams, advantage_T=tuple(self.reshaped(group, member, streams)))
                for member, streams in zip(group.members, streams_G, strict=True)
            )
            for group, streams_G in zip(groups, streams_PG, strict=True)
        ]

    def reshaped(self, group: Group, member: Member, streams: Streams) -> Sequence[float]:
        """The advantages of one rollout's tokens; the simplest parts need no more than this."""
        raise NotImplementedError


class TokenWeight(Part):
    """Says how much each token counts in the loss and in its normaliser, with the whole batch in sight."""

    family = Family.TOKEN_WEIGHT

    def weigh(
        self, groups: Sequence[Group], rewards_PG: Rewards, streams_PG: Sequence[Sequence[Streams]]
    ) -> list[tuple[Streams, ...]]:
        """The streams with other weights."""
        return [
            tuple(
                replace(streams, weight_T=tuple(self.weights(group, member, streams)))
                for member, streams in zip(group.members, streams_G, strict=True)
            )
            for group, streams_G in zip(groups, streams_PG, strict=True)
        ]

    def weights(self, group: Group, member: Member, streams: Streams) -> Sequence[float]:
        """The weights of one rollout's tokens; the simplest parts need no more than this."""
        raise NotImplementedError


class Loss(Part):
    """Takes the place of the clipped surrogate on the policy's own tokens."""

    family = Family.LOSS
    learns_without_advantage: ClassVar[bool] = False
    """Whether tokens without an advantage have a loss, or a gradient, too: then every rollout is read."""

    def loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        """The loss of each token, ``(B, T)``."""
        raise NotImplementedError


class Term(Part):
    """A differentiable term beside the loss, a mean over the tokens with weight."""

    family = Family.TERM

    weight: float = Field(1.0, description="factor on the term")

    def weight_after(self, figures: Mapping[str, float], tools: Toolbox) -> float:
        """The weight in a step, which may follow the figures of the steps before (see docs/metrics.md for their names)."""
        return self.weight

    def loss(self, tokens: Tokens) -> Tensor:
        """The term of each token, ``(B, T)``, before its weight."""
        raise NotImplementedError
