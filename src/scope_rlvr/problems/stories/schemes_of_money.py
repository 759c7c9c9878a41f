"""Stories about money and about distances: shopping, earning, travelling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scope_rlvr.problems.stories.draft import Draft
from scope_rlvr.problems.stories.endings import State, finish
from scope_rlvr.problems.stories.plan import MisfitError
from scope_rlvr.problems.stories.tables import Journey, Person, Priced, Shop

_WEEKLY = (4, 20)
_WEEKS = (3, 12)
_MOST_LEGS = 4


# --- shopping -------------------------------------------------------------------------------------------------------


def shop(draft: Draft) -> int:
    """Somebody buys a few things and pays; the bill is asked, or the change, or each friend's part."""
    store = draft.choose(draft.tables.shops)
    (who,) = draft.people(1)
    slots = {"who": who, "place": store.place, "to_shop": store.to_shop}
    ending = draft.choose(["bill", "change", "friends"] if draft.level >= 3 else ["bill", "change"])
    num_ending = int(ending != "bill") + 2 * int(draft.has_percent)
    money = None
    if ending == "change" and draft.left >= num_ending + 3 and draft.chance(0.35):
        money = _savings(draft, slots)
    bill = _bill(draft, store, who, num_ending)
    if draft.has_percent:
        bill = _discount(draft, who, bill)
    if ending == "change":
        money = _round_sum(draft, slots, bill) if money is None else money
        left = draft.word(draft.plan.subtract(money, bill), "money_left", who=who)
        return finish(draft, State("end", left, who, "ask_money_left", {}))
    draft.tell_first("at_shop", **slots)
    if ending == "friends":
        count = draft.divisor(bill, 2, 8)
        each = draft.word(draft.plan.divide(bill, count), "each_paid")
        draft.tell("split_bill", who=who, n=draft.value(count))
        return finish(draft, State("end", each, who, "ask_each_paid", {}))
    return finish(draft, State("end", bill, who, "ask_cost", {}))


def _savings(draft: Draft, slots: Mapping[str, Any]) -> int:
    weekly, weeks = draft.given(*_WEEKLY), draft.given(*_WEEKS)
    draft.tell("saved_money", p=draft.value(weekly), t=draft.value(weeks), **slots)
    return draft.word(draft.plan.multiply(weekly, weeks), "saved", who=slots["who"])


def _round_sum(draft: Draft, slots: Mapping[str, Any], bill: int) -> int:
    """A round sum, somewhat more than the bill, that somebody takes to the shop."""
    money = draft.plan.given(_round_above(draft.value(bill) + draft.rng.randint(2, 30), 10))
    draft.tell_first("have_money", c=draft.value(money), **slots)
    return money


def _round_above(value: int, unit: int) -> int:
    """
    >>> _round_above(41, 10), _round_above(40, 10)
    (50, 40)
    """
    return -(-value // unit) * unit


def _bill(draft: Draft, store: Shop, who: Person, num_ending: int) -> int:
    """Buy until the operations that are not reserved are used, and add up."""
    goods = draft.rng.sample(store.goods, len(store.goods))
    first = goods.pop()
    price = draft.given(*first.price)
    bill = _several(draft, who, first, price, "buy")
    while draft.left > num_ending:
        if not goods:
            raise MisfitError("the shop has nothing else")
        good, room = goods.pop(), draft.left - num_ending
        if room >= 3 and draft.chance(0.5):
            cost = _several_dearer(draft, who, good, first, price)
        elif room >= 2:
            cost = _several(draft, who, good, draft.given(*good.price), "buy_also")
        else:
            cost = draft.given(*good.price)
            draft.tell("buy_one", who=who, good=good.noun, p=draft.value(cost))
        bill = draft.word(draft.plan.add(bill, cost), "bill")
    return bill


def _several(draft: Draft, who: Person, good: Priced, price: int, kind: str) -> int:
    count = draft.given(*draft.sizes.purchase)
    draft.tell(kind, who=who, good=good.noun, n=draft.value(count), p=draft.value(price))
    return draft.word(draft.plan.multiply(count, price), "cost", good=good.noun)


def _several_dearer(draft: Draft, who: Person, good: Priced, first: Priced, price: int) -> int:
    """The price is said by comparison with that of the first good; two operations."""
    slots = {"who": who, "good": good.noun, "reference": first.noun}
    if draft.chance(0.5):
        more = draft.given(2, 9)
        dearer = draft.word(draft.plan.add(price, more), "price", good=good.noun)
        kind, slots = "buy_dearer", slots | {"k": draft.value(more)}
    else:
        number, times = draft.times()
        dearer = draft.word(draft.plan.multiply(price, number), "price", good=good.noun)
        kind, slots = "buy_times_dearer", slots | {"times": times}
    low, high = good.price
    if not low <= draft.value(dearer) <= 2 * high:
        raise MisfitError("no such price")
    count = draft.given(*draft.sizes.purchase)
    draft.tell(kind, n=draft.value(count), **slots)
    return draft.word(draft.plan.multiply(count, dearer), "cost", good=good.noun)


def _discount(draft: Draft, who: Person, bill: int) -> int:
    share, percent = draft.percentage(bill, most=50)
    draft.word(share, "discount")
    draft.tell("coupon", who=who, percent=percent)
    return draft.word(draft.plan.subtract(bill, share), "after_discount", who=who)


# --- earning --------------------------------------------------------------------------------------------------------


def earning(draft: Draft) -> int:
    """Somebody earns money in one or more ways and does something with it."""
    (who,) = draft.people(1)
    ways = ["hours", "hours", "pieces", "gift"]
    first = draft.choose(ways[:3])
    ways.remove(first)
    money = _earned(draft, who, first, is_first=True)
    num_ending = draft.rng.randint(1, min(3, draft.left)) if draft.left else 0
    is_more = False
    while draft.left > num_ending:
        way = draft.choose(ways) if draft.left - num_ending >= 2 else "gift"
        if way not in ways:
            raise MisfitError("nothing else is left to earn money by")
        ways.remove(way)
        more = _earned(draft, who, way, is_first=False)
        money, is_more = draft.word(draft.plan.add(money, more), "money_now", who=who), True
    question = "ask_money_now" if is_more else "ask_earned"
    return finish(draft, State("money", money, who, question, {}, past=frozenset({"add_money"} if is_more else ())))


def _earned(draft: Draft, who: Person, way: str, *, is_first: bool) -> int:
    if way == "gift":
        gift = draft.given(*draft.sizes.start)
        draft.tell("gift", who=who, c=draft.value(gift))
        return gift
    if way == "hours":
        wage, hours = draft.given(6, 15), draft.given(*draft.sizes.work)
        earned = draft.plan.multiply(wage, hours)
        jobs = [job for job in draft.tables.jobs if all(beat.slots.get("job") != job for beat in draft.beats)]
        slots: dict[str, Any] = {"job": draft.choose(jobs), "t": draft.value(hours), "p": draft.value(wage)}
    else:
        piece = draft.choose(draft.tables.pieces)
        count, price = draft.given(*draft.sizes.work), draft.given(*piece.price)
        earned = draft.plan.multiply(count, price)
        slots = {"piece": piece.noun, "piece_verb": piece.verb, "n": draft.value(count), "p": draft.value(price)}
    draft.tell(f"earn_{way}" if is_first else f"earn_{way}_too", who=who, **slots)
    return draft.word(earned, "earned", who=who)


# --- travelling -----------------------------------------------------------------------------------------------------


def journey(draft: Draft) -> int:
    """Somebody travels in several parts; the distance is asked, or what is left of the way, or each of its parts."""
    way = draft.choose(draft.tables.journeys)
    (who,) = draft.people(1)
    num_ending = draft.choose([0, 1, 2][: draft.level])
    num_legs = 1
    distance = _leg(draft, way, who, draft.choose(["days", "rate"]), number=0)
    while draft.left > num_ending:
        num_legs += 1
        if num_legs > _MOST_LEGS:
            raise MisfitError("too long a journey")
        kinds = ["days", "rate"] if draft.left - num_ending >= 2 else []
        leg = _leg(draft, way, who, draft.choose([*kinds, "plain"]), number=1)
        distance = draft.word(draft.plan.add(distance, leg), "miles", who=who)
    if num_ending == 0:
        return finish(draft, State("end", distance, who, "ask_miles", {}))
    route = draft.plan.given(draft.value(distance) + 2 * draft.rng.randint(way.speeds[0], 5 * way.speeds[-1]))
    draft.tell("road", who=who, k=draft.value(route))
    left = draft.word(draft.plan.subtract(route, distance), "miles_left")
    if num_ending == 1:
        return finish(draft, State("end", left, who, "ask_miles_left", {}))
    count = draft.divisor(left, 2, 6)
    stage = draft.word(draft.plan.divide(left, count), "stage")
    if draft.value(stage) < way.daily[0] // 2:
        raise MisfitError("too short a stage")
    draft.tell("stages", who=who, n=draft.value(count))
    return finish(draft, State("end", stage, who, "ask_stage", {}))


def _leg(draft: Draft, way: Journey, who: Person, kind: str, number: int) -> int:
    slots: dict[str, Any] = {"who": who, "verb": way.verb}
    if kind == "plain":
        miles = draft.given(*way.daily)
        draft.tell("leg_plain", n=draft.value(miles), **slots)
        return miles
    each = draft.given(*way.daily) if kind == "days" else draft.plan.given(draft.choose(way.speeds))
    count = draft.given(*draft.sizes.journey)
    miles = draft.word(draft.plan.multiply(each, count), "leg", **slots)
    form = f"leg_{kind}" if number == 0 else f"leg_{kind}_more"
    draft.tell(form, n=draft.value(each), t=draft.value(count), **slots)
    return miles
