"""From beats to English: picks sentences, decides between names and pronouns, writes amounts and numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from scope_rlvr.problems.stories.plan import MisfitError
from scope_rlvr.problems.stories.tables import Noun, Person

_PLACE = re.compile(r"(\$?)\{(\w+)\}")
_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_PERSON_PLACES = ("who", "whom", "whose", "he", "him", "his", "name")
_EVENTS = ("gain", "loss", "few", "transfer")
_JOINED = ("start", "gain", "loss", "few")
_LOWERED = re.compile(r"(?:An?|The|Another|At|From)\b")

_PRONOUN_SHARE = 0.75
_CONNECTIVE_SHARE = 0.35
_JOINED_SHARE = 0.2
_OF_THEM_SHARE = 0.4
_LONGEST_JOINED = 70


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount of things as a story words it: 5 apples, 3 bags of 4 apples, a third of the apples.

    ``is_part`` says that it is taken from the things that the story is about; ``owner`` whose things change, where several
    people have some.
    """

    number: int
    thing: Noun
    group: Noun | None = None
    each: int = 0
    share: str = ""
    is_part: bool = False
    owner: Person | None = None

    @property
    def is_plain(self) -> bool:
        return self.group is None and not self.share


@dataclass(frozen=True, slots=True)
class Beat:
    """One thing that a story says: which kind of sentence, and what stands in its places."""

    kind: str
    slots: Mapping[str, Any]


@dataclass
class Teller:
    """Tells one story. ``sentences`` are the forms by kind; ``has_words`` writes numbers up to ten as words."""

    sentences: Mapping[str, Sequence[str]]
    connectives: Sequence[str]
    rng: Random
    has_words: bool = False
    forms: list[str] = field(default_factory=list)
    """The forms that were used, in order."""
    _focus: Person | None = None
    _named: set[Person] = field(default_factory=set)
    _before: Beat | None = None

    def tell(self, beats: Sequence[Beat]) -> str:
        """The story as one paragraph; :class:`MisfitError` where no unused form is left for a beat."""
        told: list[str] = []
        for beat in beats:
            before = self.forms[-1] if self.forms else ""
            form = self._form(beat)
            if told and self._is_joined(beat, form, before, told[-1]):
                told[-1] = f"{told[-1].removesuffix('.')} and then {self._filled(form.removeprefix('{who} '), beat)}"
            else:
                told.append(self._sentence(form, beat))
            self._before = beat
        return " ".join(told)

    def _form(self, beat: Beat) -> str:
        amount = beat.slots.get("amount")
        fitting = [form for form in self.sentences[beat.kind] if form not in self.forms and _fits(form, amount)]
        if beat.kind.startswith("ask") and beat.slots["who"] not in self._named:
            fitting = [form for form in fitting if "{who}" not in form]
        if not fitting:
            raise MisfitError(f"no sentence is left for {beat.kind}")
        self.forms.append(self.rng.choice(fitting))
        return self.forms[-1]

    def _is_joined(self, beat: Beat, form: str, before: str, told: str) -> bool:
        """Whether a sentence becomes the second half of the one before, which is about the same person."""
        if self._before is None or beat.kind not in _EVENTS or self._before.kind not in _JOINED:
            return False
        is_same = self._before.slots["who"] == beat.slots["who"]
        fits = form.startswith("{who} ") and before.startswith("{who} ") and len(told) < _LONGEST_JOINED
        return is_same and fits and " and " not in told + form and self.rng.random() < _JOINED_SHARE

    def _sentence(self, form: str, beat: Beat) -> str:
        is_event = beat.kind in _EVENTS and self._before is not None and self._before.kind in (*_EVENTS, *_JOINED)
        if is_event and (form.startswith("{") or _LOWERED.match(form)) and self.rng.random() < _CONNECTIVE_SHARE:
            connective = self.rng.choice(self.connectives)
            form = f"{connective} {form if form.startswith('{') else form[0].lower() + form[1:]}"
        return _capitalised(self._filled(form, beat))

    def _filled(self, form: str, beat: Beat) -> str:
        """The form with its places filled in; what comes first decides whether a name or a pronoun stands there."""
        mentioned = self._mentioned(form, beat)
        parts, end = [], 0
        for place in _PLACE.finditer(form):
            ends_sentence = form[place.end() :] in (".", "?")
            parts.append(form[end : place.start()] + place[1])
            parts.append(self._place(place[2], beat, form, in_digits=bool(place[1]), is_last=ends_sentence))
            end = place.end()
        is_subject = "{who}" in form or "{he}" in form
        self._focus = next(iter(mentioned)) if is_subject and len(mentioned) == 1 else None
        return "".join(parts) + form[end:]

    def _mentioned(self, form: str, beat: Beat) -> set[Person]:
        """The people in a sentence."""
        places = [place[2] for place in _PLACE.finditer(form)]
        people = {beat.slots[_owner(place, beat.slots)] for place in places if place in _PERSON_PLACES}
        return people | ({beat.slots["other"]} if "other" in places else set())

    def _place(self, name: str, beat: Beat, form: str, *, in_digits: bool, is_last: bool) -> str:
        slots = beat.slots
        if name in _PERSON_PLACES:
            return self._person(name, beat, form)
        if name == "other":
            self._named.add(slots["other"])
            return str(slots["other"].name)
        if name in ("amount", "more", "count"):
            return self._amount(slots["amount"], is_more=name == "more", is_last=is_last)
        if name == "was":
            return "were" if slots["who"].is_plural else "was"
        if name == "before_bare":
            return str(slots["before"]).split(" ", 1)[1]
        if name == "times_number":
            return _NUMBER_WORDS[2] if slots["times"] == "twice" else str(slots["times"]).split()[0]
        value = _slot(name, slots)
        return self._number(value) if isinstance(value, int) and not in_digits else str(value)

    def _person(self, place: str, beat: Beat, form: str) -> str:
        owner = _owner(place, beat.slots)
        if owner == "who" and "{who}" not in form and place in ("he", "him", "his") and "{other}" in form:
            owner = "other"
        person: Person = beat.slots[owner]
        if place == "name":
            self._named.add(person)
            return person.name
        is_repeated = place in ("him", "his") or (place == "he" and _names(owner, form.split("{he}")[0]))
        if is_repeated or self._is_pronoun(person, beat, form):
            self._focus = person
            return {"who": person.subject, "he": person.subject, "whom": person.object, "him": person.object}.get(
                place, person.possessive
            )
        self._named.add(person)
        self._focus = person
        return f"{person.name}'s" if place == "whose" else person.name

    def _is_pronoun(self, person: Person, beat: Beat, form: str) -> bool:
        if self._focus != person or person not in self._named:
            return False
        rivals = self._mentioned(form, beat) - {person}
        is_clear = all(rival.subject != person.subject for rival in rivals)
        return is_clear and (person.is_plural or self.rng.random() < _PRONOUN_SHARE)

    def _amount(self, amount: Amount, *, is_more: bool, is_last: bool) -> str:
        things, more = amount.thing.many, " more" if is_more else ""
        can_be_them = (
            self._before is not None and self._before.kind == "start" and self._before.slots["amount"].is_plain
        )
        of_them = f"of {amount.owner.possessive if amount.owner else 'the'} {things}"
        if can_be_them and self.rng.random() < _OF_THEM_SHARE:
            of_them = "of them"
        if amount.share:
            return f"{amount.share} {of_them}"
        number = self._number(amount.number)
        if amount.group is not None:
            each = self._number(amount.each)
            holders = f"{number}{more} {amount.group.many}"
            forms = [f"{holders} of {each} {things}"]
            if is_last:
                forms += [f"{holders} of {each} {things} each", f"{holders} with {each} {things} in each"]
            return self.rng.choice(forms)
        if amount.is_part and self.rng.random() < 0.5:
            return f"{number} {of_them}"
        return f"{number}{more} {things}"

    def _number(self, value: int) -> str:
        return _NUMBER_WORDS[value] if self.has_words and value < len(_NUMBER_WORDS) else str(value)


def filled_wording(form: str, slots: Mapping[str, Any]) -> str:
    """A sentence of a solution, where people are always named and ``{eq}`` stays.

    >>> filled_wording("{name} then had {eq} {things}.", {"who": Person("Mia", "she", "her", "her"), "thing": Noun("egg", "eggs")})
    'Mia then had {eq} eggs.'
    """

    def fill(place: re.Match[str]) -> str:
        name = place[2]
        if name == "eq":
            return place[0]
        if name in ("name", "other"):
            return str(slots[name if name in slots else "who"].name)
        return str(_slot(name, slots))

    return _capitalised(_PLACE.sub(fill, form))


def _names(owner: str, beginning: str) -> bool:
    """Whether the beginning of a form has said who somebody is."""
    places = ("{other}",) if owner == "other" else ("{who}", "{whom}", "{whose}")
    return any(place in beginning for place in places)


def _owner(place: str, slots: Mapping[str, Any]) -> str:
    """The slot of the person that a place speaks of."""
    if place == "name" and "name" in slots:
        return "name"
    return "who" if "who" in slots else "other"


def _slot(name: str, slots: Mapping[str, Any]) -> Any:
    """What stands for a place that is no person and no amount: nouns in both numbers, with and without article."""
    if name.startswith("a_"):
        return slots[name.removeprefix("a_")].with_article
    if name in slots:
        value = slots[name]
        return value.one if isinstance(value, Noun) else value
    return slots[name.removesuffix("s")].many


def _fits(form: str, amount: Amount | None) -> bool:
    """Whether a form has room for an amount of this kind."""
    if amount is None:
        return True
    if amount.owner is not None and not any(place in form for place in ("{who}", "{whom}", "{whose}")):
        return False
    if amount.is_plain:
        return True
    return "{amount}" in form or ("{more}" if amount.group is not None else "{count}") in form


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]
