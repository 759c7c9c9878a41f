"""The tables that stories are made of, read from the folder ``data``, and how they are shared out to the splits.

Every list of sentences is divided: its last quarter belongs to the test split, the fifth before it to the dev split, and
the others to the training split. So no two splits share the form of a sentence. Nouns and names are shared.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from scope_rlvr.problems.family import Split

DATA = Path(__file__).parent / "data"

_SCENE_SENTENCES = ("start", "gain", "loss", "few", "asides")
_VOWELS = "aeiou"


@dataclass(frozen=True, slots=True)
class Noun:
    """A countable thing in both numbers.

    >>> Noun.read("box of nails/boxes of nails").with_article
    'a box of nails'
    """

    one: str
    many: str

    @classmethod
    def read(cls, text: str) -> Noun:
        one, many = text.split("/")
        return cls(one, many)

    @property
    def with_article(self) -> str:
        return f"{'an' if self.one[0] in _VOWELS else 'a'} {self.one}"

    def of_kind(self, kind: str) -> Noun:
        """The red apples among the apples."""
        return Noun(f"{kind} {self.one}", f"{kind} {self.many}")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in a story, or several people as one."""

    name: str
    subject: str
    object: str
    possessive: str

    @property
    def is_plural(self) -> bool:
        return self.subject == "they"


@dataclass(frozen=True, slots=True)
class Thing:
    """What a scene is about; ``kinds`` are adjectives that divide it."""

    noun: Noun
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Priced:
    """Something that is bought or done for money, with its range of prices in dollars; ``verb`` is how it is done."""

    noun: Noun
    price: tuple[int, int]
    verb: str = ""


@dataclass(frozen=True, slots=True)
class Verb:
    """bake, baked, baking, baked."""

    do: str
    past: str
    doing: str
    done: str


@dataclass(frozen=True, slots=True)
class Scene:
    """A place where people get and give away things.

    ``keeps`` says that what people do with the verb of the scene leaves them with the things: baked muffins can be sold, sold
    tickets cannot. ``makes_groups`` says that one can do it to groups: nobody knits boxes of hats. ``is_work_to_do`` says that the things are what somebody still has to do. ``sentences`` has the scene's own sentences by kind, of one split.
    """

    place: str
    verb: Verb
    period: str
    things: tuple[Thing, ...]
    groups: tuple[Noun, ...]
    packs: tuple[Noun, ...]
    friends: tuple[Noun, ...]
    helpers: tuple[Noun, ...]
    supplies: tuple[str, ...]
    events: tuple[str, ...]
    price: tuple[int, int] | None
    pack_price: tuple[int, int] | None
    keeps: bool
    makes_groups: bool
    is_work_to_do: bool
    sentences: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Shop:
    place: str
    to_shop: str
    goods: tuple[Priced, ...]


@dataclass(frozen=True, slots=True)
class Journey:
    """How somebody travels; ``speeds`` in miles an hour, ``daily`` is a range of miles a day."""

    verb: str
    speeds: tuple[int, ...]
    daily: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Tables:
    """Everything that stories of one split may use."""

    phrases: Mapping[str, tuple[str, ...]]
    connectives: tuple[str, ...]
    scenes: tuple[Scene, ...]
    shops: tuple[Shop, ...]
    women: tuple[str, ...]
    men: tuple[str, ...]
    jobs: tuple[str, ...]
    pieces: tuple[Priced, ...]
    dreams: tuple[str, ...]
    supplies: tuple[str, ...]
    treats: tuple[Priced, ...]
    journeys: tuple[Journey, ...]
    times: tuple[tuple[str, ...], ...]

    def sentences(self) -> list[str]:
        """Every form of a sentence that this split has."""
        own = [text for scene in self.scenes for texts in scene.sentences.values() for text in texts]
        return own + [text for texts in self.phrases.values() for text in texts]


@cache
def tables(split: Split, *, unseen: bool = False) -> Tables:
    """The tables of a split; ``unseen`` takes the scenes and shops that no other set has."""
    people, shops = _read("people.toml"), _read("shops.toml")
    phrases = _read("phrases.toml")
    connectives = phrases.pop("connectives")
    folder = DATA / ("unseen" if unseen else "scenes")
    return Tables(
        phrases={kind: _of_split(texts, split) for kind, texts in phrases.items()},
        connectives=tuple(connectives),
        scenes=tuple(_scene(tomllib.loads(f.read_text("utf-8")), split) for f in sorted(folder.glob("*.toml"))),
        shops=tuple(_shop(entry) for entry in shops["unseen" if unseen else "shops"]),
        women=tuple(people["she"]),
        men=tuple(people["he"]),
        jobs=tuple(people["jobs"]),
        pieces=tuple(_priced(entry) for entry in people["pieces"]),
        dreams=tuple(people["dreams"]),
        supplies=tuple(people["supplies"]),
        treats=tuple(_priced(entry) for entry in people["treats"]),
        journeys=tuple(_journey(entry) for entry in people["journeys"]),
        times=tuple(tuple(times) for times in people["times"]),
    )


@cache
def wordings() -> Mapping[str, tuple[str, ...]]:
    """How solutions word each kind of step; the same for all splits."""
    return {kind: tuple(texts) for kind, texts in _read("wordings.toml").items()}


def _of_split(texts: Sequence[str], split: Split) -> tuple[str, ...]:
    """The part of a list that belongs to a split.

    >>> [_of_split("abcdefgh", split) for split in ("train", "dev", "test")]
    [('a', 'b', 'c', 'd', 'e'), ('f',), ('g', 'h')]
    >>> [_of_split("abc", split) for split in ("train", "dev", "test")]
    [('a',), ('b',), ('c',)]
    """
    first_test = len(texts) - (len(texts) + 2) // 4
    first_dev = first_test - max(1, len(texts) // 5)
    parts = {"train": texts[:first_dev], "dev": texts[first_dev:first_test], "test": texts[first_test:]}
    return tuple(parts[split])


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((DATA / name).read_text("utf-8"))


def _scene(entry: Mapping[str, Any], split: Split) -> Scene:
    def nouns(key: str) -> tuple[Noun, ...]:
        return tuple(Noun.read(text) for text in entry.get(key, ()))

    return Scene(
        place=entry["place"],
        verb=Verb(*entry["verb"]),
        period=entry["period"],
        things=tuple(Thing(Noun.read(one["noun"]), tuple(one["kinds"])) for one in entry["things"]),
        groups=nouns("groups"),
        packs=nouns("packs"),
        friends=nouns("friends"),
        helpers=nouns("helpers"),
        supplies=tuple(entry.get("supplies", ())),
        events=tuple(entry.get("events", ())),
        price=_range(entry.get("price")),
        pack_price=_range(entry.get("pack_price")),
        keeps=entry.get("keeps", True),
        makes_groups=entry.get("makes_groups", True),
        is_work_to_do=entry.get("is_work_to_do", False),
        sentences={kind: _of_split(entry[kind], split) for kind in _SCENE_SENTENCES},
    )


def _range(entry: Sequence[int] | None) -> tuple[int, int] | None:
    return None if entry is None else (entry[0], entry[1])


def _priced(entry: Mapping[str, Any]) -> Priced:
    return Priced(Noun.read(entry["noun"]), (entry["price"][0], entry["price"][1]), entry.get("verb", ""))


def _shop(entry: Mapping[str, Any]) -> Shop:
    return Shop(entry["place"], entry["to_shop"], tuple(_priced(good) for good in entry["goods"]))


def _journey(entry: Mapping[str, Any]) -> Journey:
    return Journey(entry["verb"], tuple(entry["speeds"]), (entry["daily"][0], entry["daily"][1]))
