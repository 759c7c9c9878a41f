"""How varied the stories are: distinct sentence skeletons, by split, and those that two splits share (there should be none).

    python tools/story_diversity.py [--count 1000] [--family stories]

A skeleton is a sentence whose names, pronouns, numbers and nouns are masked: ``Mia sold 5 muffins.`` and ``He sold 12 eggs.``
are one. It is read off the text, without the tables' sentences.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import combinations

from scope_rlvr.problems import families
from scope_rlvr.problems.family import Split
from scope_rlvr.problems.stories.family import MAX_LEVEL, MIN_LEVEL
from scope_rlvr.problems.stories.tables import Noun, Tables, tables

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
_PEOPLE = ("she", "he", "her", "him", "his", "they", "them", "their")
_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_SHARES = ("half", "a third", "a quarter", "twice", "N times")


def skeletons(text: str) -> list[str]:
    """The skeletons of a text's sentences.

    >>> skeletons("Mia sold 5 muffins. Then he sold nine of the eggs for $2 each.")
    ['WHO sold N X.', 'WHO sold N of the X for $N each.']
    """
    return [_masked(sentence) for sentence in re.split(r"(?<=[.?]) ", text.strip())]


def _masked(sentence: str) -> str:
    for connective in tables("train").connectives:
        sentence = sentence.removeprefix(f"{connective} ")
    for mark, pattern in _masks().items():
        sentence = pattern.sub(mark, sentence)
    # Red apples, and Mia, Tom and Ana.
    sentence = re.sub(r"X(?: of)? X", "X", sentence)
    sentence = re.sub(r"WHO(?:, WHO)* and WHO", "WHO", sentence)
    return sentence[0].upper() + sentence[1:]


@cache
def _masks() -> dict[str, re.Pattern[str]]:
    every = [tables("train"), tables("train", unseen=True)]
    nouns = {text for found in every for text in _nouns(found)}
    names = {name for found in every for name in (*found.women, *found.men)}
    return {
        "WHO": _any_of([*names, *_PEOPLE], r"(?:'s)?"),
        "X": _any_of(nouns),
        "N": _any_of([*_NUMBERS, r"\d+%?"]),
        "SHARE": _any_of(_SHARES),
    }


def _any_of(words: Iterable[str], after: str = "") -> re.Pattern[str]:
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(longest_first)})(?!\w){after}", re.IGNORECASE)


def _nouns(found: Tables) -> Iterator[str]:
    """All nouns and phrases that stand in the places of sentences."""
    counted: list[Noun] = []
    for scene in found.scenes:
        counted += [
            *(thing.noun for thing in scene.things),
            *scene.groups,
            *scene.packs,
            *scene.friends,
            *scene.helpers,
        ]
        counted.append(Noun(scene.period, f"{scene.period}s"))
        yield from (
            *scene.supplies,
            *scene.events,
            scene.place,
            *(kind for thing in scene.things for kind in thing.kinds),
        )
    for shop in found.shops:
        counted += [good.noun for good in shop.goods]
        yield from (shop.place, shop.to_shop)
    counted += [priced.noun for priced in (*found.pieces, *found.treats)]
    for noun in counted:
        yield from (noun.one, noun.many, noun.with_article)
    yield from (*found.jobs, *found.dreams, *found.supplies, *(time for times in found.times for time in times))


def measured(name: str, count: int) -> dict[Split, set[str]]:
    """The skeletons of so many stories of each split, of all levels in turn."""
    family, found = families.get(name), {}
    levels = range(MIN_LEVEL, MAX_LEVEL + 1)
    for split in SPLITS:
        drawn = [family.sample(level, -(-count // len(levels)), seed=0, split=split) for level in levels]
        stories = [problem for problems in zip(*drawn, strict=True) for problem in problems][:count]
        found[split] = {skeleton for problem in stories for skeleton in skeletons(problem.prompt)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--family", default="stories")
    arguments = parser.parse_args()
    found = measured(arguments.family, arguments.count)
    for split in SPLITS:
        print(f"{split:<6}{len(found[split])} distinct sentence skeletons in {arguments.count} stories")
    for one, other in combinations(SPLITS, 2):
        shared = sorted(found[one] & found[other])
        print(f"{one} and {other} share {len(shared)}{''.join(f'{chr(10)}    {text}' for text in shared)}")


if __name__ == "__main__":
    main()
