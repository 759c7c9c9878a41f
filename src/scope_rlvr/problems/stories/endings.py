"""How a story goes on when its things are counted: they are shared, packed or sold, and then something is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from scope_rlvr.problems.stories.draft import Draft
from scope_rlvr.problems.stories.plan import MisfitError
from scope_rlvr.problems.stories.tables import Noun, Person

_FRIENDS = (2, 9)
_PACK_SIZES = (2, 12)


@dataclass(frozen=True, slots=True)
class State:
    """What the story has come to: a quantity of something, whose it is, and how it would be asked for."""

    unit: str
    """things, each (what everybody got), packs, or money"""
    index: int
    who: Person
    question: str
    slots: Mapping[str, Any]
    is_reduced: bool = False
    """Something was taken away before, so that this is what remained."""
    past: frozenset[str] = frozenset()
    """The moves that were made."""

    def after(self, move: str, **changes: Any) -> State:
        return replace(self, past=self.past | {move}, **changes)


def finish(draft: Draft, state: State) -> int:
    """Use up the operations that are left, ask the question, and return what is asked."""
    if draft.left < 0:
        raise MisfitError("too many operations")
    while draft.left:
        move = draft.choose(sorted(_moves(draft, state)))
        state = _MOVES[move](draft, state).after(move)
    draft.tell(state.question, who=state.who, **state.slots)
    return state.index


def _moves(draft: Draft, state: State) -> set[str]:
    """The moves that make sense; those with which a story ends only as the last one."""
    scene, is_last = draft.scene, draft.left == 1
    found: set[str] = set()
    if state.unit == "things" and scene is not None:
        found |= {"share"} if scene.friends else set()
        found |= {"pack"} if scene.packs else set()
        found |= {"sell"} if scene.price else set()
        found |= {"goal"} if scene.events and is_last else set()
    elif state.unit == "each" and scene is not None and not scene.is_work_to_do:
        found = {"each_loses", "each_had"}
    elif state.unit == "packs" and scene is not None:
        found = {"give_packs"} | ({"sell_packs"} if scene.pack_price else set())
    elif state.unit == "money":
        found = {"spend", "add_money"} | ({"split_money", "spend_all", "wants"} if is_last else set())
    return found - state.past


# --- moves with things ----------------------------------------------------------------------------------------------


def _rest(draft: Draft, state: State) -> str:
    """What is left, as a noun phrase."""
    things = state.slots["thing"].many
    return f"the remaining {things}" if state.is_reduced else draft.choose((f"the {things}", f"all the {things}"))


def _share(draft: Draft, state: State) -> State:
    assert draft.scene is not None
    friend, thing = draft.choose(draft.scene.friends), state.slots["thing"]
    count = draft.divisor(state.index, *_FRIENDS)
    each = draft.word(draft.plan.divide(state.index, count), "each", friend=friend, thing=thing)
    draft.tell("share", who=state.who, thing=thing, rest=_rest(draft, state), n=draft.value(count), friend=friend)
    return replace(state, unit="each", index=each, question="ask_each", slots={"thing": thing, "friend": friend})


def _each_loses(draft: Draft, state: State) -> State:
    lost = draft.given(2, min(draft.value(state.index) - 2, 9))
    left = draft.word(draft.plan.subtract(state.index, lost), "each_lost", **state.slots)
    draft.tell("each_loses", who=state.who, k=draft.value(lost), **state.slots)
    return replace(state, unit="end", index=left, question="ask_each_left")


def _each_had(draft: Draft, state: State) -> State:
    had = draft.given(*draft.sizes.change)
    now = draft.word(draft.things(draft.plan.add(state.index, had)), "each_now", **state.slots)
    draft.tell("each_had", who=state.who, k=draft.value(had), **state.slots)
    return replace(state, unit="end", index=now, question="ask_each_now")


def _pack(draft: Draft, state: State) -> State:
    assert draft.scene is not None
    told = {beat.slots["amount"].group for beat in draft.beats if "amount" in beat.slots}
    packs = [pack for pack in draft.scene.packs if pack not in told]
    pack, thing = draft.choose(packs), state.slots["thing"]
    size = draft.divisor(state.index, *_PACK_SIZES)
    number = draft.word(draft.plan.divide(state.index, size), "packs", who=state.who, pack=pack)
    draft.tell("pack", who=state.who, thing=thing, rest=_rest(draft, state), m=draft.value(size), pack=pack)
    return replace(state, unit="packs", index=number, question="ask_packs", slots={"pack": pack})


def _give_packs(draft: Draft, state: State) -> State:
    given = draft.given(2, min(draft.value(state.index) - 2, 9))
    left = draft.word(draft.plan.subtract(state.index, given), "packs_left", **state.slots)
    draft.tell("give_packs", who=state.who, k=draft.value(given), **state.slots)
    return replace(state, index=left, question="ask_packs_left", is_reduced=True)


def _sell(draft: Draft, state: State) -> State:
    assert draft.scene is not None
    assert draft.scene.price is not None
    price = draft.given(*draft.scene.price)
    money = draft.word(draft.plan.multiply(state.index, price), "earned", who=state.who)
    draft.tell("sell", who=state.who, rest=_rest(draft, state), p=draft.value(price), **state.slots)
    return _money(state, money)


def _sell_packs(draft: Draft, state: State) -> State:
    assert draft.scene is not None
    assert draft.scene.pack_price is not None
    price = draft.given(*draft.scene.pack_price)
    money = draft.word(draft.plan.multiply(state.index, price), "earned", who=state.who)
    draft.tell("sell_packs", who=state.who, p=draft.value(price), **state.slots)
    return _money(state, money)


def _goal(draft: Draft, state: State) -> State:
    assert draft.scene is not None
    value = draft.value(state.index)
    wanted = draft.given(value + 2, min(value + draft.sizes.start[1], draft.sizes.most_things))
    missing = draft.word(draft.plan.subtract(wanted, state.index), "missing", who=state.who, **state.slots)
    event = draft.choose(draft.scene.events)
    draft.tell("goal", who=state.who, k=draft.value(wanted), event=event, **state.slots)
    return replace(state, unit="end", index=missing, question="ask_goal")


# --- moves with money -----------------------------------------------------------------------------------------------


def _money(state: State, index: int) -> State:
    return replace(state, unit="money", index=index, question="ask_earned", slots={})


def _all_money(state: State) -> str:
    return "the rest of the money" if "spend" in state.past else "all the money"


def _spend(draft: Draft, state: State) -> State:
    value = draft.value(state.index)
    spent = draft.given(10 if value >= 20 else 2, min(value - 2, draft.sizes.start[1]))
    left = draft.word(draft.plan.subtract(state.index, spent), "money_left", who=state.who)
    supplies = (draft.scene and draft.scene.supplies) or draft.tables.supplies
    draft.tell("spend", who=state.who, c=draft.value(spent), supplies=draft.choose(supplies))
    return replace(state, index=left, question="ask_money_left")


def _add_money(draft: Draft, state: State) -> State:
    had = draft.given(*draft.sizes.start)
    now = draft.word(draft.plan.add(state.index, had), "money_now", who=state.who)
    draft.tell("add_money", who=state.who, c=draft.value(had))
    return replace(state, index=now, question="ask_money_now")


def _split_money(draft: Draft, state: State) -> State:
    helper = draft.choose(
        (draft.scene and draft.scene.helpers) or (Noun("cousin", "cousins"), Noun("friend", "friends"))
    )
    count = draft.divisor(state.index, *_FRIENDS)
    each = draft.word(draft.plan.divide(state.index, count), "each_money", helper=helper)
    draft.tell("split_money", who=state.who, money=_all_money(state), n=draft.value(count), helper=helper)
    return replace(state, unit="end", index=each, question="ask_each_money", slots={"helper": helper})


def _spend_all(draft: Draft, state: State) -> State:
    treat = draft.choose(draft.tables.treats)
    price = draft.divisor(state.index, *treat.price)
    number = draft.word(draft.plan.divide(state.index, price), "treats", who=state.who, good=treat.noun)
    if draft.value(number) > draft.sizes.start[1]:
        raise MisfitError("too many treats")
    draft.tell("spend_all", who=state.who, money=_all_money(state), p=draft.value(price), good=treat.noun)
    return replace(state, unit="end", index=number, question="ask_treats", slots={"good": treat.noun})


def _wants(draft: Draft, state: State) -> State:
    value = draft.value(state.index)
    price = draft.plan.given(-(-(value + draft.rng.randint(2, 2 * draft.sizes.start[1])) // 5) * 5)
    missing = draft.word(draft.plan.subtract(price, state.index), "missing_money", who=state.who)
    draft.tell("wants", who=state.who, c=draft.value(price), dream=draft.choose(draft.tables.dreams))
    return replace(state, unit="end", index=missing, question="ask_wants", slots={})


_MOVES: Mapping[str, Callable[[Draft, State], State]] = {
    "share": _share,
    "each_loses": _each_loses,
    "each_had": _each_had,
    "pack": _pack,
    "give_packs": _give_packs,
    "sell": _sell,
    "sell_packs": _sell_packs,
    "goal": _goal,
    "spend": _spend,
    "add_money": _add_money,
    "split_money": _split_money,
    "spend_all": _spend_all,
    "wants": _wants,
}
