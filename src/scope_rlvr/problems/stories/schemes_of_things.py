"""Stories about things: what one person has, what several have, day after day, and a whole with its parts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from scope_rlvr.problems.stories.draft import Draft, Given
from scope_rlvr.problems.stories.endings import State, finish
from scope_rlvr.problems.stories.plan import MisfitError
from scope_rlvr.problems.stories.tables import Noun, Person, Scene, Thing
from scope_rlvr.problems.stories.telling import Amount

_OPENING_SHARE = 0.35
_FEW = 6
_MOST_ENDING_MOVES = 4


# --- one person's things --------------------------------------------------------------------------------------------


def stock(draft: Draft) -> int:
    """Somebody has things, gets some, gives some away, and does something with the rest."""
    scene, thing = _scene_and_thing(draft)
    (who,) = draft.people(1)
    num_ending = draft.rng.randint(0, min(_MOST_ENDING_MOVES, draft.level - 1))
    if draft.chance(_OPENING_SHARE):
        draft.tell("opening_one", who=who, place=scene.place)
    index = _start(draft, scene, thing.noun, who, most_operations=draft.left - num_ending - 1)
    is_reduced = False
    while draft.left > num_ending:
        index, lost = _event(draft, scene, thing.noun, who, index, most_operations=draft.left - num_ending)
        is_reduced = is_reduced or lost
    question = "ask_left" if lost or scene.is_work_to_do else "ask_now"
    return finish(draft, State("things", index, who, question, {"thing": thing.noun}, is_reduced))


def _scene_and_thing(draft: Draft, *, is_kept: bool = False) -> tuple[Scene, Thing]:
    draft.scene = draft.choose([scene for scene in draft.tables.scenes if scene.keeps or not is_kept])
    return draft.scene, draft.choose(draft.scene.things)


def _start(draft: Draft, scene: Scene, thing: Noun, who: Person, most_operations: int) -> int:
    """What somebody has at first: a number, groups, or what was made in some time."""
    if most_operations >= 1 and scene.keeps and draft.chance(0.2):
        return _at_a_rate(draft, scene, thing, who, "rate_start")
    if most_operations >= 1 and scene.makes_groups and draft.chance(0.3):
        given = draft.grouped(draft.choose(scene.groups), thing, draft.sizes.most_things)
    else:
        given = draft.plain(*draft.sizes.start, thing)
    draft.tell("start", who=who, amount=given.amount)
    return given.index


def _at_a_rate(draft: Draft, scene: Scene, thing: Noun, who: Person, kind: str) -> int:
    each, periods = draft.given(*draft.sizes.each), draft.given(*draft.sizes.groups)
    total = draft.things(draft.plan.multiply(each, periods))
    period, verb = Noun(scene.period, f"{scene.period}s"), scene.verb
    slots = {"who": who, "thing": thing, "period": period, "verb": verb.past, "doing": verb.doing, "do": verb.do}
    draft.word(total, "rate", **slots)
    draft.tell(kind, n=draft.value(each), t=draft.value(periods), **slots)
    return total


def _event(
    draft: Draft, scene: Scene, thing: Noun, who: Person, index: int, most_operations: int, owner: Person | None = None
) -> tuple[int, bool]:
    """Something comes or goes. Returns what there is then, and whether something went."""
    value = draft.value(index)
    can_lose = value > draft.sizes.change[0] + 2
    if draft.has_percent and most_operations >= 2 and draft.chance(0.6):
        return _lose_share(draft, thing, who, index, is_percent=True, owner=owner), True
    if can_lose and draft.chance(0.15 if most_operations > 1 else 0.1):
        return _lose_share(draft, thing, who, index, is_percent=False, is_half=most_operations < 2, owner=owner), True
    if not can_lose or draft.chance(0.45):
        return _gain(draft, scene, thing, who, index, most_operations, owner=owner), False
    return _lose(draft, scene, thing, who, index, most_operations, owner=owner), True


def _gain(
    draft: Draft, scene: Scene, thing: Noun, who: Person, index: int, most_operations: int, owner: Person | None = None
) -> int:
    if most_operations >= 2 and scene.keeps and draft.chance(0.25):
        gained = _at_a_rate(draft, scene, thing, who, "rate_gain")
    else:
        if most_operations >= 2 and scene.makes_groups and draft.chance(0.4):
            given = draft.grouped(draft.choose(scene.groups), thing, draft.sizes.most_things, owner=owner)
        else:
            given = draft.plain(*draft.sizes.change, thing, owner=owner)
        draft.tell("gain", who=who, amount=given.amount)
        gained = given.index
    return draft.word(draft.things(draft.plan.add(index, gained)), "gained", who=who, thing=thing)


def _lose(
    draft: Draft, scene: Scene, thing: Noun, who: Person, index: int, most_operations: int, owner: Person | None = None
) -> int:
    most = draft.value(index) - 2
    if most_operations >= 2 and draft.chance(0.3):
        given = draft.grouped(draft.choose(scene.groups), thing, most, is_part=True, owner=owner)
    else:
        given = draft.plain(draft.sizes.change[0], min(draft.sizes.change[1], most), thing, is_part=True, owner=owner)
    is_few = given.amount.is_plain and given.amount.number <= _FEW and draft.chance(0.5)
    draft.tell("few" if is_few else "loss", who=who, amount=given.amount)
    return draft.word(draft.plan.subtract(index, given.index), "lost", who=who, thing=thing)


def _lose_share(
    draft: Draft,
    thing: Noun,
    who: Person,
    index: int,
    *,
    is_percent: bool,
    is_half: bool = False,
    owner: Person | None = None,
) -> int:
    """A fraction or a percentage goes. Of a half, what remains is as much as what went: one operation, not two."""
    if is_percent:
        share, words = draft.percentage(index, most=75)
        draft.word(share, "percent_of", thing=thing)
    else:
        number, words = draft.fraction() if not is_half else (draft.plan.word(2), "half")
        share = draft.plan.divide(index, number)
        draft.word(share, "share_of", thing=thing, half=words)
    draft.tell("loss", who=who, amount=Amount(draft.value(share), thing, share=words, is_part=True, owner=owner))
    if words == "half":
        return draft.word(share, "lost", who=who, thing=thing)
    return draft.word(draft.plan.subtract(index, share), "lost", who=who, thing=thing)


# --- several people -------------------------------------------------------------------------------------------------


def people(draft: Draft) -> int:
    """Several people get things; what each has is compared with another's; they are counted together."""
    scene, thing = _scene_and_thing(draft)
    count = draft.rng.choices([2, 3, 4], weights=[5, 3, 1 if draft.level >= 6 else 0])[0]
    everybody = draft.people(count)
    slots = {"thing": thing.noun, "verb": scene.verb.past, "do": scene.verb.do, "done": scene.verb.done}
    slots |= {"people": names(everybody), "place": scene.place}
    if draft.chance(_OPENING_SHARE):
        draft.tell("opening_many", who=everybody[0], doing=scene.verb.doing, **slots)
    ends_together = draft.chance(0.55)
    num_sums = count - 1 if ends_together else 0
    given = _first_amount(draft, scene, thing.noun, most_operations=draft.left - num_sums - 1)
    draft.tell("first_person", who=everybody[0], amount=given.amount, **slots)
    has = [given.index]
    for number, other in enumerate(everybody[1:], start=1):
        is_plain = ends_together and draft.chance(0.3)
        reference = draft.rng.choice([number - 1, 0]) if ends_together else number - 1
        if is_plain or draft.left - num_sums < 1:
            plain = draft.plain(*draft.sizes.start, thing.noun)
            draft.tell("next_person", other=other, amount=plain.amount, **slots)
            has.append(plain.index)
        else:
            has.append(_compared(draft, "person", has[reference], other=other, name=everybody[reference], **slots))
    if ends_together:
        return _together(draft, scene, thing.noun, everybody, has, slots)
    return _one_of_them(draft, scene, thing.noun, everybody, has, slots)


def names(everybody: Sequence[Person]) -> str:
    """Mia, Tom and Ana."""
    return f"{', '.join(person.name for person in everybody[:-1])} and {everybody[-1].name}"


def _first_amount(draft: Draft, scene: Scene, thing: Noun, most_operations: int) -> Given:
    if most_operations >= 1 and scene.makes_groups and draft.chance(0.2):
        return draft.grouped(draft.choose(scene.groups), thing, draft.sizes.most_things)
    return draft.plain(*draft.sizes.start, thing)


def _compared(draft: Draft, kind: str, reference: int, /, **slots: Any) -> int:
    """A quantity that is said by comparison with another one; one operation. ``kind`` is person, day or part."""
    value = draft.value(reference)
    ways = ["more", "times"] + ["fewer"] * (value > draft.sizes.change[0] + 2) + ["half"] * (value > 5)
    way = draft.choose(ways)
    if way in ("more", "fewer"):
        most = draft.sizes.change[1] if way == "more" else min(draft.sizes.change[1], value - 2)
        change = draft.given(draft.sizes.change[0], most)
        calculate = draft.plan.add if way == "more" else draft.plan.subtract
        index = calculate(reference, change)
        words: dict[str, Any] = {"k": draft.value(change)}
    elif way == "times":
        number, times = draft.times()
        index, words = draft.plan.multiply(reference, number), {"times": times}
    else:
        number, half = draft.fraction()
        index, words = draft.plan.divide(reference, number), {"half": half, "half_of": half + " of" * (half != "half")}
    draft.tell(f"{kind}_{way}", **words, **slots)
    return draft.word(draft.things(index), "kind" if kind == "part" else kind, **slots)


def _total(draft: Draft, indices: Sequence[int], thing: Noun) -> int:
    """All quantities added up, in their order."""
    total = indices[0]
    for number, index in enumerate(indices[1:], start=2):
        total = draft.things(draft.plan.add(total, index))
        draft.word(total, "total" if number == len(indices) else "so_far", thing=thing)
    return total


def _together(
    draft: Draft, scene: Scene, thing: Noun, everybody: Sequence[Person], has: list[int], slots: dict[str, Any]
) -> int:
    """Everybody's things are counted together, after some changes."""
    num_sums = len(has) - 1
    question = "ask_together"
    num_changes, is_reduced = 0, False
    while scene.keeps and draft.left > num_sums and num_changes < 2 and draft.chance(0.5):
        chosen = draft.rng.randrange(len(has))
        who = everybody[chosen]
        has[chosen], lost = _event(draft, scene, thing, who, has[chosen], draft.left - num_sums, owner=who)
        question, num_changes, is_reduced = "ask_have_together", num_changes + 1, is_reduced or lost
    total = _total(draft, has, thing)
    if not scene.keeps and draft.left:
        raise MisfitError("nothing can be done with what people do not keep")
    group = Person(names(everybody), "they", "them", "their")
    return finish(draft, State("things", total, group, question, slots, is_reduced))


def _one_of_them(
    draft: Draft, scene: Scene, thing: Noun, everybody: Sequence[Person], has: list[int], slots: dict[str, Any]
) -> int:
    """The last one's things, or how far two are apart."""
    last = everybody[-1]
    if scene.keeps and draft.left >= 2 and len(everybody) == 2 and draft.chance(0.6):
        return _difference(draft, scene, thing, everybody, has)
    if draft.left == 0:
        draft.tell("ask_person", who=last, other=last, **slots)
        return has[-1]
    if not scene.keeps:
        raise MisfitError("nothing can be done with what people do not keep")
    num_ending = draft.rng.randint(0, draft.left - 1)
    index, lost = has[-1], False
    while draft.left > num_ending:
        index, lost = _event(draft, scene, thing, last, index, draft.left - num_ending, owner=last)
    if draft.left == 0:
        draft.tell("ask_person_has", who=last, other=last, **slots)
        return index
    return finish(draft, State("things", index, last, "ask_left", {"thing": thing}, lost))


def _difference(draft: Draft, scene: Scene, thing: Noun, everybody: Sequence[Person], has: list[int]) -> int:
    """After a gift or other changes, how much more one has than the other."""
    while draft.left > 1:
        if draft.left >= 3 and draft.chance(0.6):
            _give(draft, thing, everybody, has)
        else:
            chosen = draft.rng.randrange(2)
            who = everybody[chosen]
            has[chosen], _ = _event(draft, scene, thing, who, has[chosen], draft.left - 1, owner=who)
    ahead = 0 if draft.value(has[0]) > draft.value(has[1]) else 1
    slots = {"name": everybody[ahead], "other": everybody[1 - ahead], "thing": thing}
    index = draft.word(draft.plan.subtract(has[ahead], has[1 - ahead]), "difference", **slots)
    draft.tell("ask_difference", who=everybody[ahead], **slots)
    return index


def _give(draft: Draft, thing: Noun, everybody: Sequence[Person], has: list[int]) -> None:
    giver = draft.rng.randrange(2)
    who, other = everybody[giver], everybody[1 - giver]
    most = min(draft.sizes.change[1], draft.value(has[giver]) - 2)
    gift = draft.plain(2, most, thing, is_part=True, owner=who)
    draft.tell("transfer", who=who, other=other, amount=gift.amount)
    has[giver] = draft.word(draft.plan.subtract(has[giver], gift.index), "lost", who=who, thing=thing)
    has[1 - giver] = draft.things(draft.plan.add(has[1 - giver], gift.index))
    draft.word(has[1 - giver], "received", other=other, thing=thing)


# --- day after day --------------------------------------------------------------------------------------------------


def series(draft: Draft) -> int:
    """Somebody does something several times; each time is compared with the one before."""
    scene, thing = _scene_and_thing(draft)
    (who,) = draft.people(1)
    count = draft.rng.randint(2, min(4, draft.level + 1))
    times = draft.choose(draft.tables.times)[:count]
    slots = {"who": who, "thing": thing.noun, "verb": scene.verb.past, "do": scene.verb.do}
    asks_total = count == 2 or draft.chance(0.75)
    num_sums = count - 1 if asks_total else 0
    given = _first_amount(draft, scene, thing.noun, most_operations=draft.left - num_sums - 1)
    draft.tell("day_first", time=times[0], amount=given.amount, **slots)
    done = [given.index]
    for before, time in pairwise(times):
        if draft.left > num_sums and not (asks_total and draft.chance(0.2)):
            done.append(_compared(draft, "day", done[-1], time=time, before=before, **slots))
        elif asks_total:
            number = draft.given(*draft.sizes.start)
            draft.tell("day_plain", time=time, n=draft.value(number), **slots)
            done.append(number)
        else:
            raise MisfitError("a day without need")
    if not asks_total:
        draft.tell("ask_day", time=times[-1], **slots)
        return done[-1]
    return _after_days(draft, scene, thing.noun, who, _total(draft, done, thing.noun), slots)


def _after_days(draft: Draft, scene: Scene, thing: Noun, who: Person, index: int, slots: dict[str, Any]) -> int:
    if draft.left and not scene.keeps:
        raise MisfitError("nothing can be done with what people do not keep")
    question, lost = "ask_days", False
    if draft.left and draft.chance(0.6):
        index, lost = _lose(draft, scene, thing, who, index, draft.left), True
        question = "ask_left"
    return finish(draft, State("things", index, who, question, {k: v for k, v in slots.items() if k != "who"}, lost))


# --- a whole and its parts ------------------------------------------------------------------------------------------


def parts(draft: Draft) -> int:
    """Things of several kinds: the last kind is what the others leave, or all kinds are counted together."""
    able = [(scene, thing) for scene in draft.tables.scenes for thing in scene.things if len(thing.kinds) >= 3]
    draft.scene, thing = draft.choose(able)
    (who,) = draft.people(1)
    kinds = draft.rng.sample(thing.kinds, 3)
    if draft.chance(0.6):
        return _what_is_left(draft, draft.scene, thing.noun, who, kinds)
    return _all_kinds(draft, draft.scene, thing.noun, who, kinds)


def _what_is_left(draft: Draft, scene: Scene, thing: Noun, who: Person, kinds: Sequence[str]) -> int:
    low, high = draft.sizes.start
    if draft.left >= 3 and draft.chance(0.4):
        whole = draft.grouped(draft.choose(scene.groups), thing, draft.sizes.most_things)
    else:
        whole = draft.plain(2 * low, min(2 * high, draft.sizes.most_things), thing)
    draft.tell("whole", who=who, amount=whole.amount, place=scene.place)
    index = whole.index
    seen: list[int] = []
    for number, kind in enumerate(kinds[:-1]):
        slots = {"who": who, "thing": thing, "kind": kind}
        if number and draft.left >= 2 and draft.chance(0.8):
            seen.append(_compared(draft, "part", seen[-1], reference=kinds[number - 1], **slots))
        else:
            seen.append(draft.given(draft.sizes.change[0], draft.sizes.change[1]))
            draft.tell("part_plain" if number else "part_first", n=draft.value(seen[-1]), **slots)
    for number, (part, kind) in enumerate(zip(seen, kinds, strict=False)):
        index = draft.plan.subtract(index, part)
        is_last = number == len(seen) - 1
        draft.word(index, "kind" if is_last else "without", thing=thing, kind=kinds[-1] if is_last else kind)
    draft.tell("rest_are", who=who, thing=thing, kind=kinds[-1])
    if draft.left == 0:
        draft.tell("ask_kind", who=who, thing=thing, kind=kinds[-1])
        return index
    if not scene.keeps:
        raise MisfitError("nothing can be done with what people do not keep")
    return finish(draft, State("things", index, who, "ask_left", {"thing": thing.of_kind(kinds[-1])}))


def _all_kinds(draft: Draft, scene: Scene, thing: Noun, who: Person, kinds: Sequence[str]) -> int:
    count = 2 if draft.level == 2 or draft.chance(0.3) else 3
    counted = [draft.given(*draft.sizes.start)]
    draft.tell("part_start", who=who, thing=thing, kind=kinds[0], place=scene.place, n=draft.value(counted[0]))
    for number, kind in enumerate(kinds[1:count], start=1):
        slots = {"who": who, "thing": thing, "kind": kind}
        if draft.left > count - 1 and draft.chance(0.85):
            counted.append(_compared(draft, "part", counted[-1], reference=kinds[number - 1], **slots))
        else:
            counted.append(draft.given(*draft.sizes.start))
            draft.tell("part_also", n=draft.value(counted[-1]), **slots)
    total = _total(draft, counted, thing)
    if draft.left and not scene.keeps:
        raise MisfitError("nothing can be done with what people do not keep")
    return finish(draft, State("things", total, who, "ask_kinds", {"thing": thing}))
