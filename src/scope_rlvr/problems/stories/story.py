"""A whole story: its text, its plan, and the wordings of its solution; made from a level and a source of randomness."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from scope_rlvr.problems.family import Split
from scope_rlvr.problems.stories import schemes_of_money, schemes_of_things
from scope_rlvr.problems.stories.algebra import essential_symbols, formula_fingerprints
from scope_rlvr.problems.stories.draft import Draft, Sizes
from scope_rlvr.problems.stories.plan import MisfitError, Operation, Plan
from scope_rlvr.problems.stories.tables import Noun, tables, wordings
from scope_rlvr.problems.stories.telling import Beat, Teller, filled_wording

_TRIES = 20_000
_WORDS_SHARE = 0.3
_CAN_FOLLOW_ANYTHING = (
    *("gain", "loss", "few", "transfer", "next_person", "person", "day", "share", "pack", "goal", "buy", "coupon"),
    *("earn", "gift", "leg", "road", "ask_now", "ask_left", "ask_together", "ask_days", "ask_cost", "ask_miles"),
)
"""The kinds of sentences that never speak of "them" or "it" in the sentence before."""

_SCHEMES: Mapping[Callable[[Draft], int], int] = {
    schemes_of_things.stock: 8,
    schemes_of_things.people: 5,
    schemes_of_things.series: 3,
    schemes_of_things.parts: 3,
    schemes_of_money.shop: 3,
    schemes_of_money.earning: 2,
    schemes_of_money.journey: 2,
}
_WITH_PERCENT = (schemes_of_things.stock, schemes_of_money.shop)


@dataclass(frozen=True, slots=True)
class Variant:
    """What sets one set of stories apart from another: sizes of numbers, facts that do not matter, percentages, scenes."""

    sizes: Sizes = field(default_factory=Sizes)
    num_distractors: tuple[int, int] = (0, 0)
    has_percent: bool = False
    is_unseen: bool = False


@dataclass(frozen=True, slots=True)
class Story:
    """``wordings`` has the sentences with which a solution may word each calculated quantity; ``{eq}`` is the calculation.
    ``forms`` are the sentence forms of the text, in order."""

    text: str
    plan: Plan
    wordings: Mapping[int, tuple[str, ...]]
    forms: tuple[str, ...]


def make_story(level: int, split: Split, variant: Variant, rng: Random) -> Story:
    """A story that takes ``level`` operations; draws again until the numbers make sense."""
    for _ in range(_TRIES):
        try:
            return _attempt(level, split, variant, rng)
        except MisfitError:
            continue
    raise RuntimeError(f"no story of level {level} was found in {_TRIES} tries")


def _attempt(level: int, split: Split, variant: Variant, rng: Random) -> Story:
    found = tables(split, unseen=variant.is_unseen)
    draft = Draft(level, found, variant.sizes, rng, has_percent=variant.has_percent)
    schemes = {s: w for s, w in _SCHEMES.items() if not variant.has_percent or s in _WITH_PERCENT}
    (scheme,) = rng.choices(list(schemes), weights=list(schemes.values()))
    plan = draft.plan.finished(scheme(draft))
    _require_sense(plan, level, variant)
    beats = _with_distractors(draft, rng.randint(*variant.num_distractors))
    sentences = dict(found.phrases)
    if draft.scene is not None:
        sentences |= {("aside" if kind == "asides" else kind): texts for kind, texts in draft.scene.sentences.items()}
    teller = Teller(sentences, found.connectives, rng, has_words=rng.random() < _WORDS_SHARE)
    text = teller.tell(beats)
    worded = {
        index: tuple(filled_wording(form, beat.slots) for form in wordings()[beat.kind])
        for index, beat in draft.worded.items()
    }
    return Story(text, plan, worded, tuple(teller.forms))


def _require_sense(plan: Plan, level: int, variant: Variant) -> None:
    """Refuse plans with numbers that cancel out, and steps whose result was known before."""
    if len(plan.operations) != level:
        raise MisfitError("another number of operations")
    if essential_symbols(plan) != {i for i, quantity in enumerate(plan.quantities) if quantity.is_given}:
        raise MisfitError("a number cancels out")
    marks = [m for m, q in zip(formula_fingerprints(plan), plan.quantities, strict=True) if not q.is_word]
    if len(set(marks)) < len(marks):
        raise MisfitError("two steps come to the same thing")
    if variant.has_percent and all(quantity.operation is not Operation.PERCENT for quantity in plan.quantities):
        raise MisfitError("no percentage")


def _with_distractors(draft: Draft, count: int) -> list[Beat]:
    """The beats with sentences between them whose numbers are not needed, where no sentence refers to the one before."""
    beats = list(draft.beats)
    first = 2 if beats[0].kind.startswith("opening") else 1
    for number in range(count):
        places = [place for place in range(first, len(beats)) if beats[place].kind.startswith(_CAN_FOLLOW_ANYTHING)]
        place = draft.choose(places)
        value = draft.choose([n for n in range(3, 31) if n not in draft.plan.values])
        before = beats[place - 1].slots
        who = before.get("other", before.get("who"))
        extras = _extras(draft)
        if extras is not None and number == 0 and draft.chance(0.5):
            beats.insert(place, Beat("aside_things", {"who": who, "n": value, "extra": extras}))
        else:
            beats.insert(place, Beat("aside", {"who": who, "n": value}))
    return beats


def _extras(draft: Draft) -> Noun | None:
    """Other things of the same scene."""
    if draft.scene is None:
        return None
    told = {beat.slots["thing"] for beat in draft.beats if "thing" in beat.slots}
    told |= {beat.slots["amount"].thing for beat in draft.beats if "amount" in beat.slots}
    others = [thing.noun for thing in draft.scene.things if thing.noun not in told]
    return draft.choose(others) if others else None
