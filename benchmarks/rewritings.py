r"""Ways to write an answer once more: some keep its meaning, some change it.

Each takes a reference and returns another text, or ``None`` where it does not apply. The references are those of data sets, in
LaTeX, without a name or a remark.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

Rewriting = Callable[[str], str | None]

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_INTEGER = re.compile(r"-?\d+")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_PLAIN = re.compile(r"[-+*/^_{}()\d.A-Za-z\\ ]+")
_LETTER = re.compile(r"\\?[A-Za-z]+(?:\([a-z\d]\))?")
_LIST = re.compile(r"[^()\[\]{},;]+(?:, [^()\[\]{},;]+)+")
_TUPLE = re.compile(r"\((?P<inside>[^()\[\]{},;]+(?:,\s*[^()\[\]{},;]+)+)\)")
_UNUSUAL = re.compile(
    r"\\(?:text|mbox|textbf|mathrm|begin|in|le|ge|leq|geq|neq?|circ|pm|cup|cap|approx)(?![A-Za-z])|[<>=:%$&,;]|\d_\d|\d[eE][-+\d]|(?<![\\A-Za-z])[A-Za-z]{3}"
)


def is_value(gold: str) -> bool:
    r"""Whether a reference is one formula: no words, lists, relations, units or matrices.

    >>> [is_value(gold) for gold in (r"\frac{1}{2}", "x+1", "1, 2", "x=2", r"5\text{ cm}", "")]
    [True, True, False, False, False, False]
    """
    return bool(_PLAIN.fullmatch(gold)) and not _UNUSUAL.search(gold)


def _of_values(form: str) -> Rewriting:
    return lambda gold: form.replace("GOLD", gold) if is_value(gold) else None


def _of_numbers(write: Callable[[str], str | None]) -> Rewriting:
    return lambda gold: write(gold) if _NUMBER.fullmatch(gold) else None


def _of_fractions(write: Callable[[str, int, int], str]) -> Rewriting:
    def rewrite(gold: str) -> str | None:
        found = _FRACTION.fullmatch(gold)
        return write(found[1], int(found[2]), int(found[3])) if found and int(found[3]) else None

    return rewrite


def _thousands(gold: str) -> str | None:
    return f"{int(gold):,}" if _INTEGER.fullmatch(gold) and abs(int(gold)) > 999 else None


def _with_spaces(gold: str) -> str | None:
    return re.sub(r"(?<=[\w})])([-+])(?=[\w\\({])", r" \1 ", gold) if is_value(gold) else None


def _as_decimal(sign: str, above: int, below: int) -> str:
    return f"{sign}{float(Fraction(above, below)):.12g}"


def _turned(gold: str) -> str | None:
    return ", ".join(reversed(gold.split(", "))) if _LIST.fullmatch(gold) and is_listed(gold) else None


def _replaced(pattern: str, by: str) -> Rewriting:
    found = re.compile(pattern)
    return lambda gold: found.sub(by, gold) if found.search(gold) else None


def _large_brackets(gold: str) -> str | None:
    if "(" not in gold or gold.count("(") != gold.count(")") or r"\left" in gold:
        return None
    return gold.replace("(", r"\left(").replace(")", r"\right)")


def is_listed(gold: str) -> bool:
    """Whether a reference is a list of formulas, such as the roots of an equation."""
    return bool(_LIST.fullmatch(gold)) and all(is_value(entry) for entry in gold.split(", "))


def _named_point(gold: str) -> str | None:
    found = _TUPLE.fullmatch(gold)
    if found is None:
        return None
    entries = [entry.strip() for entry in found["inside"].split(",")]
    return (
        ", ".join(f"{name} = {entry}" for name, entry in zip("abcd", entries, strict=False))
        if len(entries) < 5
        else None
    )


def _coordinates_turned(gold: str) -> str | None:
    found = _TUPLE.fullmatch(gold)
    if found is None:
        return None
    entries = [entry.strip() for entry in found["inside"].split(",")]
    return f"({', '.join(reversed(entries))})" if entries != entries[::-1] else None


PRESERVING: dict[str, dict[str, Rewriting]] = {
    "typesetting": {
        "in dollar signs": lambda gold: f"${gold}$",
        "in LaTeX's brackets": lambda gold: rf"\({gold}\)",
        "full stop": lambda gold: f"{gold}.",
        "spaces": _with_spaces,
        "display style": lambda gold: rf"\displaystyle {gold}",
        "large fractions": _replaced(r"\\frac(?![A-Za-z])", r"\\dfrac"),
        "large brackets": _large_brackets,
        "bold": _replaced(r"\\text\{", r"\\textbf{"),
    },
    "names of the quantity": {
        "x =": _of_values("X = GOLD"),
        "an angle": _of_values(r"\angle APC = GOLD"),
        "a length": _of_values(r"|AB| = GOLD"),
        "a probability": _of_values(r"P(A \cap B) = GOLD"),
        "a function": _of_values("f(f(2)) = GOLD"),
        "a sum": _of_values("m + n = GOLD"),
        "words": _of_values(r"\text{Answer} = GOLD"),
        "behind": lambda gold: f"{gold} = X" if is_value(gold) and not _LETTER.fullmatch(gold) else None,
    },
    "unfinished": {
        "brackets": _of_values("(GOLD)"),
        "many brackets": _of_values("((((GOLD))))"),
        "plus nothing": _of_values("GOLD + 0"),
        "times one": _of_values(r"1 \cdot (GOLD)"),
    },
    "units": {
        "centimetres": _of_numbers(lambda gold: rf"{gold}\text{{ cm}}"),
        "a quotient": _of_numbers(lambda gold: rf"{gold}\,\mathrm{{m/s}}"),
        "apples": lambda gold: f"{gold} apples" if _INTEGER.fullmatch(gold) else None,
        "degrees": _of_numbers(lambda gold: rf"{gold}^\circ"),
        "per cent": _of_fractions(lambda sign, a, b: rf"{sign}\frac{{{100 * a}}}{{{b}}}\%"),
    },
    "numbers": {
        "thousands": _thousands,
        "braced thousands": lambda gold: (_thousands(gold) or "").replace(",", "{,}") or None,
        "decimal places": lambda gold: f"{gold}.0" if _INTEGER.fullmatch(gold) else None,
        "expanded fraction": _of_fractions(lambda sign, a, b: rf"{sign}\frac{{{6 * a}}}{{{6 * b}}}"),
        "decimal": _of_fractions(_as_decimal),
    },
    "other signs": {
        "minus sign": lambda gold: gold.replace("-", "−") if "-" in gold and is_value(gold) else None,
        "em dash": lambda gold: f"—{gold[1:]}" if gold.startswith("-") and is_value(gold) else None,
        "slash": _of_fractions(lambda sign, a, b: f"{sign}{a}/{b}"),
        "shorthand fraction": _replaced(r"\\frac\{(\d)\}\{(\d)\}", r"\\frac \1 \2"),
        "root sign": _replaced(r"\\sqrt\{(\d+)\}", r"√\1"),
        "root as in programs": _replaced(r"\\sqrt\{([^{}]+)\}", r" sqrt(\1)"),
        "pi as a sign": _replaced(r"\\pi(?![A-Za-z])", "π"),
        "pi in letters": _replaced(r"(?<=\d)\\pi(?![A-Za-z])", "*pi"),
        "powers as in programs": _replaced(r"\^(\d)(?!\d)", r"**\1"),
    },
    "lists and points": {
        "turned": _turned,
        "a set": lambda gold: rf"\{{{gold}\}}" if is_listed(gold) else None,
        "and": lambda gold: gold.replace(", ", r" \text{ and } ") if is_listed(gold) else None,
        "named roots": lambda gold: (
            ", ".join(f"x = {entry}" for entry in gold.split(", ")) if is_listed(gold) else None
        ),
        "named coordinates": _named_point,
    },
}
"""What a person may write for a reference, by group and name."""

CHANGING: dict[str, Rewriting] = {
    "one more": _of_values("(GOLD) + 1"),
    "a name and one more": _of_values("m + n = (GOLD) + 1"),
    "a chain that does not hold": _of_values("(GOLD) + 1 = GOLD"),
    "doubled": lambda gold: f"2({gold})" if is_value(gold) and not re.fullmatch(r"-?0+(\.0+)?", gold) else None,
    "negative": lambda gold: f"-({gold})" if is_value(gold) and not re.fullmatch(r"-?0+(\.0+)?", gold) else None,
    "another one behind": lambda gold: f"{gold}, 987654" if is_value(gold) or is_listed(gold) else None,
    "another choice": _of_values(r"GOLD \text{ or } 987654"),
    "hedged": _of_values(r"GOLD \text{ or not}"),
    "relation": _of_values("X < GOLD"),
    "one left out": lambda gold: gold.rpartition(", ")[0] if is_listed(gold) else None,
    "coordinates turned": _coordinates_turned,
    "name in words alone": _of_values(r"\text{the answer}"),
    "inverted": _of_fractions(lambda sign, a, b: rf"{sign}\frac{{{b + 1}}}{{{a + 2}}}"),
    "tenfold": _of_numbers(lambda gold: rf"{gold} \times 10" if float(gold) else None),
    "digit": _of_numbers(lambda gold: gold[:-1] + str((int(gold[-1]) + 1) % 10) if len(gold) < 7 else None),
}
"""What is not the reference, by name."""
