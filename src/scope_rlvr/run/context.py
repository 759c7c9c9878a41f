"""Whether prompts and responses fit into a model's context, looked at before anything is sampled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import TextCodec
from scope_rlvr.core.types import Problem
from scope_rlvr.run.config import RunConfig
from scope_rlvr.run.sources import evaluation_sets


@dataclass(frozen=True, slots=True)
class Room:
    """The longest prompt of some problems and the longest response, beside the positions that a model has.

    ``positions`` is ``None`` where a model does not say how many it has.

    >>> Room(prompt=120, response=24, positions=100).is_enough, Room(prompt=120, response=24, positions=None).is_enough
    (False, True)
    """

    prompt: int
    response: int
    positions: int | None

    @classmethod
    def of(cls, model: Any, codec: TextCodec, problems: Sequence[Problem], max_response_tokens: int) -> Room:
        """What a model, a ``PreTrainedModel``, needs for these problems."""
        positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        return cls(max(len(codec.encode_prompt(p.prompt)) for p in problems), max_response_tokens, positions)

    @property
    def is_enough(self) -> bool:
        """Whether both fit."""
        return self.positions is None or self.prompt + self.response <= self.positions

    def __str__(self) -> str:
        """The arithmetic in words."""
        said = f"a prompt of {self.prompt} tokens and a response of {self.response} are {self.prompt + self.response}"
        if self.positions is None:
            return said
        return (
            f"{said} of {self.positions} positions"
            if self.is_enough
            else f"{said}, more than the {self.positions} positions"
        )


def context_rooms(
    config: RunConfig, model: Any, codec: TextCodec, training: Sequence[Problem]
) -> Iterator[tuple[str, Room, str]]:
    """Of the training problems and of each evaluation set: its name, the room that it needs, and what to do for more."""
    room = Room.of(model, codec, training, config.sampling.max_response_tokens)
    yield "training", room, "lower sampling.max_response_tokens or problems.max_prompt_tokens"
    for held_out in evaluation_sets(config):
        room = Room.of(model, codec, held_out.problems, config.evaluation.max_response_tokens)
        yield (
            f"evaluation set {held_out.name}",
            room,
            "lower evaluation.max_response_tokens, or measure on other problems",
        )


def require_room(config: RunConfig, model: Any, codec: TextCodec, training: Sequence[Problem]) -> None:
    """Raise :class:`UserError` where a prompt and a response may not fit: beyond its positions a model writes nonsense."""
    for where, room, remedy in context_rooms(config, model, codec, training):
        if not room.is_enough:
            raise UserError(f"{where}: {room} of {config.model.policy}; {remedy}")
