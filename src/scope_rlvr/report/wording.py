"""How things are said and written for a person: labels, explanations, numbers, and text that a model wrote."""

from __future__ import annotations

from collections.abc import Mapping

from scope_rlvr.core.groups import GroupClass, SalvageOutcome
from scope_rlvr.core.ports import Fault

OUTCOME_MEANING = {
    SalvageOutcome.GROUP_NOT_MARKED: "the rule that chooses groups leaves this one out",
    SalvageOutcome.TRUNCATED: "the response reached the length budget",
    SalvageOutcome.SCORER_FAILED: "the step scorer gave no usable scores",
    SalvageOutcome.NO_ERROR_FOUND: "the answer is wrong, but the scorer calls every step right",
    SalvageOutcome.PREFIX_TOO_SHORT: "the cut comes too early: there is too little to keep",
    SalvageOutcome.NO_ROOM: "the length budget leaves no room for a correction",
    SalvageOutcome.NOT_CHOSEN: "other failures of the group came first",
    SalvageOutcome.TEACHER_FAILED: "the teacher did not answer",
    SalvageOutcome.EMPTY_STEP: "the teacher's step is empty",
    SalvageOutcome.UNFINISHED_STEP: "the teacher's step did not end within its budget",
    SalvageOutcome.REPEATED_STEP: "the teacher wrote the rejected step again",
    SalvageOutcome.ANSWER_LEAK: "the teacher's step states the right answer, and the policy's own step stated none",
    SalvageOutcome.LOW_SCORE: "the step scorer calls the teacher's step wrong",
    SalvageOutcome.STILL_WRONG: "the policy continued from the correction and ended wrong again",
    SalvageOutcome.VERDICT_UNKNOWN: "the verifier could not judge the result",
    SalvageOutcome.ADMITTED: "the result joined its group and trains",
}

FAULT_MEANING = {
    Fault.CONNECTION: "the connection was refused or broke off",
    Fault.TIMEOUT: "no whole reply came in time",
    Fault.RATE_LIMIT: "the server asks for fewer requests",
    Fault.SERVER: "the server says that it failed",
    Fault.REFUSED: "the server calls the request wrong",
    Fault.REPORTED: "the reply holds an error",
    Fault.MALFORMED: "the reply is not what was asked for",
    Fault.EMPTY: "the reply is empty",
    Fault.PAUSED: "not asked, after too many failures in a row",
    Fault.BUDGET: "not asked, the budget is spent",
    Fault.NO_SOLUTION: "the problem has no worked solution",
    Fault.UNALIGNED: "the worked solution does not go on from the prefix",
    Fault.OTHER: "for another reason",
}

GROUP_CLASSES = {
    GroupClass.ALL_RIGHT: "groups/all_right",
    GroupClass.MIXED: "groups/mixed",
    GroupClass.SALVAGED: "groups/salvaged",
    GroupClass.ALL_WRONG: "groups/all_wrong",
    GroupClass.UNUSABLE: "groups/unusable",
}
"""Group classes in the order in which they are stacked, with the metric that counts each."""


def teacher_failures(counts: Mapping[str, float]) -> str:
    """How many questions a teacher did not answer and why, from counts by metric; empty where it answered all.

    >>> teacher_failures({"teacher/asked": 40, "teacher/errors": 12, "teacher/errors/timeout": 12})
    '12 of 40 questions to the teacher unanswered: no whole reply came in time (timeout) 12'
    """
    if not counts.get("teacher/errors"):
        return ""
    kinds = [(fault, counts.get(f"teacher/errors/{fault}", 0)) for fault in Fault]
    kinds = sorted((kind for kind in kinds if kind[1]), key=lambda kind: -kind[1])
    why = ", ".join(f"{FAULT_MEANING[fault]} ({fault}) {number(count)}" for fault, count in kinds)
    total = f"{number(counts['teacher/errors'])} of {number(counts['teacher/asked'])}"
    return f"{total} questions to the teacher unanswered: {why}"


def meaning(outcome: str) -> str:
    """One clause that explains an outcome; empty for one that this version does not know."""
    return OUTCOME_MEANING[SalvageOutcome(outcome)] if outcome in list(SalvageOutcome) else ""


def percent(share: float) -> str:
    """A share with as many digits as it deserves.

    >>> percent(0.4217), percent(0.034), percent(0.0), percent(1.0)
    ('42.2 %', '3.4 %', '0 %', '100 %')
    """
    if share in (0.0, 1.0):
        return f"{share * 100:.0f} %"
    return f"{share * 100:.1f} %" if abs(share) >= 0.001 else f"{share * 100:.2g} %"


def number(value: float) -> str:
    """A number for people: thousands apart, three significant digits for fractions.

    >>> number(1234567), number(3.14159), number(412.7), number(2.0)
    ('1,234,567', '3.14', '413', '2')
    """
    if float(value).is_integer() or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """A time span in its two largest useful units.

    >>> duration(0.25), duration(42), duration(754), duration(7384)
    ('0.25 s', '42 s', '12 min 34 s', '2 h 3 min')
    """
    if seconds < 10:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def signed(value: float, unit: str = "") -> str:
    """A difference with its sign; a zero has none.

    >>> signed(0.034), signed(-2.0, " points"), signed(0)
    ('+0.034', '−2 points', '0')
    """
    return f"{'+' if value > 0 else '−' if value < 0 else ''}{number(abs(value))}{unit}"


def plain(key: str) -> str:
    """A key as words.

    >>> plain("distinct_right_solutions")
    'distinct right solutions'
    """
    return key.replace("_", " ")
