"""From a solution to token ids, and to the positions at which its steps are scored.

Model text is data. What a tokenizer would read as one of its special tokens, or a scorer as the end of a step, is broken by
a space behind its first character, so that it is ordinary text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol, Self
from unicodedata import is_normalized

from transformers import PreTrainedTokenizerBase

from scope_rlvr.core.encodable import is_encodable
from scope_rlvr.core.types import Problem

_SHOWN = 80
"""Characters of a text that a message shows."""


@dataclass(frozen=True, slots=True)
class ScorerInput:
    """A sequence of token ids, and the positions in it, in rising order, at which scores are read."""

    token_ids: list[int]
    positions: list[int]

    def after(self, num_tokens: int) -> Self:
        """What is left of the sequence when its first tokens have been read; positions count from there on."""
        return replace(
            self,
            token_ids=self.token_ids[num_tokens:],
            positions=[position - num_tokens for position in self.positions],
        )


class InputWriter(Protocol):
    """How the solutions of a family are written."""

    def write(self, problem: Problem, steps: Sequence[str]) -> list[ScorerInput]:
        """One or more sequences whose positions together are one for each step, in order; ``steps`` is not empty.

        Raises :class:`ValueError` where the tokenizer cannot write a solution so that every step has its place.
        """
        ...


class Escape:
    """Breaks special tokens, and the markers given, where they occur in model text.

    :class:`ValueError` for a text that no tokenizer takes.

    >>> from scope_rlvr.embedded.tokenizer import make_tokenizer
    >>> Escape(make_tokenizer(), markers=["<extra_0>"])("so <extra_0> it is")
    'so < extra_0> it is'
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, markers: Sequence[str] = ()) -> None:
        special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        words = {word for word in [*special, *tokenizer.all_special_tokens, *markers] if len(word) > 1}
        longest_first = sorted(words, key=lambda word: (-len(word), word))
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if words else None

    def __call__(self, text: str) -> str:
        if not is_encodable(text):
            raise ValueError(f"half of a character (a lone surrogate) stands in the text {text[:_SHOWN]!r}")
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)


@lru_cache(maxsize=16)
def escape_of(tokenizer: PreTrainedTokenizerBase) -> Escape:
    """The escape of a tokenizer's special tokens, made once."""
    return Escape(tokenizer)


def plain_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a text without what a tokenizer puts around whole texts."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


def ids_and_places(
    tokenizer: PreTrainedTokenizerBase, text: str, characters: Sequence[int], *, add_special_tokens: bool
) -> ScorerInput:
    """Ids of a text, and the token that each of some characters lies in; of several such tokens, the last.

    ``characters`` are indices into ``text`` in rising order.

    >>> from scope_rlvr.embedded.tokenizer import make_tokenizer
    >>> written = ids_and_places(make_tokenizer(), "3 + 12 = 2", [0, 5], add_special_tokens=False)
    >>> [make_tokenizer().decode(written.token_ids[i]).strip() for i in written.positions]
    ['3', '12']
    """
    encoded = tokenizer(text, add_special_tokens=add_special_tokens, return_offsets_mapping=True)
    places: list[int] = []
    token, offsets = 0, encoded["offset_mapping"]
    for character in characters:
        while token < len(offsets) and offsets[token][1] <= character:
            token += 1
        found = token
        while found + 1 < len(offsets) and offsets[found + 1][0] <= character < offsets[found + 1][1]:
            found += 1
        if found == len(offsets) or not offsets[found][0] <= character < offsets[found][1]:
            # A tokenizer that composes characters names only the first of those that an accent, say, was composed with.
            if not token or is_normalized("NFC", text[offsets[token - 1][0] : character + 1]):
                raise ValueError(f"the tokenizer writes {text[character]!r} at character {character} without a token")
            found = token - 1
        places.append(found)
    return ScorerInput(list(encoded["input_ids"]), places)


def chat_text(tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]], *, asks: bool = False) -> str:
    """A conversation as the tokenizer's chat template writes it; ``asks`` adds the head of the assistant's answer."""
    if tokenizer.chat_template is None:
        raise ValueError("its tokenizer has no chat template; this family of scorers reads conversations")
    text: str = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=asks)
    return text
