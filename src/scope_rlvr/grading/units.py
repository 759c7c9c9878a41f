r"""Units and what was counted: what follows a value and is no part of it.

A unit has a key, one for all its spellings: ``m``, ``m/s``. Bare and squared units share one, so areas are not told from
lengths, and no unit is converted into another.
"""

from __future__ import annotations

import re

_UNITS = {
    "degree": "degree degrees deg circ",
    "radian": "radian radians rad",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "cm": "cm centimeter centimeters centimetre centimetres",
    "m": "m meter meters metre metres",
    "km": "km kilometer kilometers kilometre kilometres",
    "inch": "in inch inches",
    "foot": "ft foot feet",
    "yard": "yd yard yards",
    "mile": "mi mile miles",
    "mile/hour": "mph",
    "km/hour": "kph kmh",
    "second": "s sec secs second seconds",
    "minute": "min mins minute minutes",
    "hour": "h hr hrs hour hours",
    "day": "day days",
    "week": "week weeks",
    "month": "month months",
    "year": "yr yrs year years",
    "mg": "mg milligram milligrams",
    "g": "g gram grams",
    "kg": "kg kilogram kilograms",
    "pound": "lb lbs pound pounds",
    "ml": "ml milliliter milliliters",
    "liter": "l liter liters litre litres",
    "dollar": "dollar dollars usd",
    "cent": "cent cents",
    "": "unit units",
}
"""By key; units that are called units have none."""
_KEY_OF = {spelling: unit for unit, spellings in _UNITS.items() for spelling in spellings.split()}
PERCENT, DEGREE = "percent", "degree"

_POWER = r"(?:\s*\^\s*(?:\{\s*-?\d\s*\}|-?\d))?"
_UPRIGHT = rf"\\text\{{[^{{}}]{{0,40}}\}}{_POWER}"
_UPRIGHT_TAIL = re.compile(
    rf"(?:\s*\\frac\{{\s*(?P<above>{_UPRIGHT})\s*\}}\{{\s*(?P<below>{_UPRIGHT})\s*\}}"
    rf"|(?P<product>{_UPRIGHT}(?:\s*(?:/|\\cdot|\\times)?\s*{_UPRIGHT}){{0,3}}))$"
)
_NEGATIVE_POWER = re.compile(r"\^\s*\{?\s*-")
_UNIT_TEXT = re.compile(r"[A-Za-z/.^\s~\d-]{1,40}")
_TAIL_CHARS = 200
"""A unit is no longer than this: searching no further keeps the time for long texts in proportion to their length."""
_CHANGING = (
    "or and but not maybe to than if is either possibly percent percentage pct "
    "more less fewer times plus minus over half squared cubed factorial base mod modulo dozen hundred "
    "sqrt theta alpha beta gamma delta lambda sigma omega infinity infty"
)
_NO_UNITS = frozenset(_CHANGING.split())
"""Words behind a number that change it, leave it open, or are formulas without a backslash."""
_COUNTED = re.compile(
    r"(?P<value>[+-]?(?:[\d.,]+(?:/[\d.,]+)?|\\frac\{[\d.,]+\}\{[\d.,]+\})) (?P<things>(?:[A-Za-z]{2,} ){0,3}[A-Za-z]{4,})"
)
_FUNCTION_OF_LETTER = re.compile(r"(?:sin|cos|tan|log|exp)[a-z]")
_DEGREES = re.compile(r"\s*\^\s*(?:\{\s*\\(?:circ|degree)\s*\}|\\(?:circ|degree)(?![A-Za-z]))\s*$|\s*\\degree\s*$")
OF_AN_ANGLE = re.compile(r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_SPELLINGS = sorted(_KEY_OF, key=len, reverse=True)
_LONG = "|".join(spelling for spelling in _SPELLINGS if len(spelling) > 1)
_PLAIN_UNIT = re.compile(rf"(?<=[\d}}\s])\s*(?<![A-Za-z\\])((?i:{_LONG})){_POWER}$")
_SHORT_UNIT = re.compile(rf"(?P<value>[+-]?[\d.,]+) (?P<unit>[mshgl]){_POWER}")
_ANY = "|".join(_SPELLINGS)
_PLAIN_QUOTIENT = re.compile(rf"(?<=[\d}}\s])\s*(?<![A-Za-z\\])(?P<above>{_ANY})\s*/\s*(?P<below>{_ANY}){_POWER}$")


def split_unit(text: str) -> tuple[str, str]:
    r"""The value, and the key of the unit behind it.

    Upright text behind a value is a unit where it is made of letters and powers alone and lists no alternative. Plain
    letters are one where they spell a unit of more than one letter, a quotient of two units, or, after a number and a
    space, ``m s h g l``. Other words behind a number, the last one of four letters or more, are what was counted.

    >>> split_unit(r"15\text{ cm}^2"), split_unit(r"90^\circ"), split_unit("10 m"), split_unit("5t")
    (('15', 'cm'), ('90', 'degree'), ('10', 'm'), ('5t', ''))
    >>> split_unit(r"5\text{ or 6}"), split_unit(r"\frac{270}7\text{ degrees}"), split_unit("3 red apples")
    (('5\\text{ or 6}', ''), ('\\frac{270}7', 'degree'), ('3', ''))
    >>> split_unit(r"9\text{ m/s}^2"), split_unit(r"9\text{m}\text{s}^{-1}"), split_unit(r"9\frac{\text{m}}{\text{s}}")
    (('9', 'm/second'), ('9', 'm/second'), ('9', 'm/second'))
    >>> split_unit(r"\frac{200}{3}\%"), split_unit(r"\sin 30^\circ")
    (('\\frac{200}{3}', 'percent'), ('\\sin 30^\\circ', ''))
    """
    if text.endswith(r"\%"):
        return text.removesuffix(r"\%").strip(), PERCENT
    degrees = _DEGREES.search(text, max(0, len(text) - _TAIL_CHARS))
    if degrees and degrees.start() and not OF_AN_ANGLE.search(text):
        return text[: degrees.start()].strip(), "degree"
    value, unit = _split_upright(text)
    if value is not None:
        return value, unit
    return _split_plain(text)


def units_differ(one: str, other: str) -> bool:
    """Whether two keys name different units. A unit, or the lower part of one, that is left out is never a mistake: the
    problem names it.

    >>> units_differ("m/second", "m"), units_differ("m/second", "m/hour"), units_differ("", "m"), units_differ("cm", "m")
    (False, True, False, True)
    """
    return any(a and b and a != b for a, b in zip(_parts(one), _parts(other), strict=True))


def _parts(key: str) -> tuple[str, str]:
    above, _, below = key.partition("/")
    return above, below


def _split_plain(text: str) -> tuple[str, str]:
    start = max(0, len(text) - _TAIL_CHARS)
    quotient = _PLAIN_QUOTIENT.search(text, start)
    if quotient and re.search(r"[\d}]", text[: quotient.start()]):
        return text[: quotient.start()].strip(), f"{_KEY_OF[quotient['above']]}/{_KEY_OF[quotient['below']]}"
    plain = _PLAIN_UNIT.search(text, start)
    if plain and re.search(r"[\d}]", text[: plain.start()]):
        return text[: plain.start()].strip(), _KEY_OF[plain[1].lower()]
    short = _SHORT_UNIT.fullmatch(text)
    if short:
        return short["value"], _KEY_OF[short["unit"]]
    counted = _COUNTED.fullmatch(text)
    return (counted["value"], "") if counted and _are_things(counted["things"]) else (text, "")


def _are_things(words: str) -> bool:
    """Whether words behind a number can be what was counted."""
    found = words.lower().split()
    return not _NO_UNITS & set(found) and not any(map(_FUNCTION_OF_LETTER.fullmatch, found))


def _split_upright(text: str) -> tuple[str | None, str]:
    found = _UPRIGHT_TAIL.search(text, max(0, len(text) - _TAIL_CHARS))
    if found is None or not re.search(r"[\d}]|\\pi|\\infty", text[: found.start()]):
        return None, ""
    value = text[: found.start()].strip()
    # A subscript or an exponent that is a word belongs to its variable.
    if value.endswith(("_", "^", "{")):
        return None, ""
    quotient = f"{found['above']}/{found['below']}" if found["above"] else found["product"]
    pieces = re.findall(_UPRIGHT, quotient)
    if not all(map(_can_be_unit, pieces)):
        return None, ""
    return value, _key(quotient, pieces)


def _can_be_unit(piece: str) -> bool:
    content = piece[len(r"\text{") : piece.index("}")]
    words = set(re.findall("[a-z]+", content.lower()))
    is_text = bool(words) and not _NO_UNITS & words and bool(_UNIT_TEXT.fullmatch(content))
    return is_text and not re.search(r"(?<!\^)(?<!\^-)\d", content)


def _key(quotient: str, pieces: list[str]) -> str:
    above = " ".join(piece for piece in pieces if not _NEGATIVE_POWER.search(piece))
    below = " ".join(piece for piece in pieces if _NEGATIVE_POWER.search(piece))
    if not below:
        above, _, below = re.sub(r"(?<![A-Za-z])per(?![A-Za-z])", "/", quotient).partition("/")
    keys = [_known(part) for part in (above, below)]
    return "/".join(keys) if keys[1] else keys[0]


def _known(text: str) -> str:
    """The key of the first word that is a unit."""
    words = re.findall("[a-z]+", text.replace(r"\text", "").lower())
    return next((_KEY_OF[word] for word in words if word in _KEY_OF), "")
