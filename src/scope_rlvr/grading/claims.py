r"""What one answer claims: a value, perhaps with a name for the asked quantity, perhaps along a chain of equations.

``\angle APC = 74^\circ``, ``m + n = 5 + 8 = 13`` and ``N \equiv 5 \pmod 7`` state a value and name what has it. A name is
whatever has no value of its own: letters, points, functions, words. What has one must have the value that is stated, so
``4 = 5`` does not hold.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from latex2sympy2_extended import is_expr_of_only_symbols
from sympy import Expr

from scope_rlvr.grading.algebra import Parser, are_equal
from scope_rlvr.grading.brackets import outside_brackets, split
from scope_rlvr.grading.values import contradict, is_known, is_rounding_of

_NAME = re.compile(
    r"(?!\\(?:pi|infty)(?![A-Za-z]))\\?[A-Za-z]+(?:_(?:\{[^{}]*\}|\w))?'*"
    r"|[A-Za-z](?:_\w|\^\{?-1\}?)?'*\s*\([\w\s,.+-]*\)|\([A-Za-z](?:\s*,\s*[A-Za-z])*\)|\\text\{[^{}]*\}"
)
"""A plain name: ``x``, ``x_1``, ``\\theta``, ``f(2)``, ``(x, y)``, upright text."""
_MEMBER = re.compile(rf"^(?:{_NAME.pattern})\s*\\in(?![A-Za-z])\s*")
_FUNCTION = re.compile(r"[A-Za-z]'*\s*\(\s*[A-Za-z](?:\s*,\s*[A-Za-z])*\s*\)")
_IN_WORDS = re.compile(r"\\text\{[^{}]*[A-Za-z]{3}[^{}]*\}|[a-z]{4,}|[A-Z]?[a-z]{3,}")
_ORNAMENT = re.compile(
    r"\\(?:overline|overrightarrow|vec|hat|m?angle|triangle|measuredangle|text|[lr]?vert)(?![A-Za-z])"
    r"|m\s*(?=\\angle)|[|{}\s]|\\\|"
)
_POINTS = re.compile("[A-Z]{2,}")
_ARROW = re.compile(
    r"\\(?:implies|Rightarrow|Longrightarrow|therefore|iff|Leftrightarrow|Longleftrightarrow)(?![A-Za-z])|=>"
)
_RELATION = re.compile(r"[=<>]|\\(?:le|ge|leq|geq|ne|neq|equiv|lt|gt)(?![A-Za-z])")
_ABOUT = re.compile(r"\\(?:approx|simeq|doteq)(?![A-Za-z])")
_CONGRUENT = re.compile(r"\\equiv(?![A-Za-z])")
_MODULUS = re.compile(
    r"\s*\(?\s*(?:\\[pb]?mod|\\text\{\s*\(?\s*mod\s*\}|mod)(?![A-Za-z])\s*(\{[^{}]*\}|[^\s{}()]+)\s*\)?$"
)


@dataclass(frozen=True, slots=True)
class Claim:
    """The ``names`` that a quantity is given, and the ``values`` that are stated for it, each of them a formula.

    There are several values where one is stated exactly and rounded. ``holds`` is false for a chain that contradicts
    itself, and ``modulus`` is that of a congruence.
    """

    values: tuple[str, ...]
    names: tuple[str, ...] = ()
    holds: bool = True
    modulus: str = ""

    @property
    def equation(self) -> str:
        """The claim as an equation of two sides, or its value where it names nothing."""
        return f"{self.names[0]}={self.values[0]}" if self.names else self.values[0]


def read_claim(latex: str, parse: Parser, *, of_letter: bool = False) -> Claim:
    r"""What an answer claims; ``of_letter`` says that its value may be a plain letter.

    >>> parse = Parser(is_real=True, ignores_case=True)
    >>> read_claim("m + n = 5 + 8 = 13", parse)
    Claim(values=('13',), names=('m + n',), holds=True, modulus='')
    >>> read_claim("4 = 5", parse).holds, read_claim(r"x = \frac{2}{3} \approx 0.667", parse).values
    (False, ('\\frac{2}{3}', '0.667'))
    >>> read_claim(r"N \equiv 5 \pmod{7}", parse).modulus, read_claim("2 = x", parse).equation
    ('7', 'x=2')
    """
    latex, modulus = _split_modulus(latex)
    exact, rounded = _sections(latex)
    known = [part for part in exact if is_known(part, parse)]
    value = known[-1] if known else exact[-1] if of_letter else _stated(exact)
    names = tuple(part for part in exact if part not in known and part != value)
    conflicts = [(a, b) for a, b in pairwise(known) if contradict(a, b, parse, modulus)]
    roundings = [(a, b) for a, b in conflicts if is_rounding_of(b, a, parse)]
    holds = len(conflicts) == len(roundings) and not _is_impossible(exact, known, value, parse)
    # ``\pi r^2 \approx 78.5`` says what the letters come to.
    is_open = not known and not _RELATION.search(value)
    also = [part for part in rounded if is_rounding_of(part, value, parse) or (is_open and is_known(part, parse))]
    return Claim((value, *(a for a, _ in roundings), *also), names, holds, modulus)


def _sections(latex: str) -> tuple[list[str], list[str]]:
    """The parts of a chain before the first ``\\approx``, and those behind it; a mere name before it is no value."""
    sections = [[p for p in split(text, "=") if p] for text in _ABOUT.split(_CONGRUENT.sub("=", latex))]
    first, *rest = [section for section in sections if section] or [[latex]]
    if rest and all(map(is_name, first)):
        first, rest = first + rest[0], rest[1:]
    return first, [part for section in rest for part in section]


def _is_impossible(parts: list[str], known: list[str], value: str, parse: Parser) -> bool:
    """Whether a chain equates relations, or formulas with letters that are never equal."""
    if len(parts) > 1 and any(_RELATION.search(outside_brackets(part)) for part in parts):
        return True
    return not known and any(_differ_by_number(part, value, parse) for part in parts)


def is_name(latex: str) -> bool:
    r"""Whether a formula is a plain name.

    >>> [is_name(text) for text in ("x", "f(2)", r"\theta", r"\pi", "m+n", "2x")]
    [True, True, True, False, False, False]
    """
    return bool(_NAME.fullmatch(latex))


def is_relation(claim: Claim, parse: Parser) -> bool:
    """Whether the claim is an equation between letters, as of a line or a circle, rather than a value with a name."""
    if not claim.names or is_name(claim.names[0]):
        return False
    parsed = parse(claim.names[0])
    return parsed is not None and not is_expr_of_only_symbols(parsed)


def names_agree(gold: Claim, answer: Claim, parse: Parser) -> bool:
    r"""Whether two names can belong to the same quantity: where one is left out, or in words, nothing says otherwise.

    >>> parse = Parser(is_real=True, ignores_case=True)
    >>> def agree(one, other): return names_agree(Claim(("5",), (one,)), Claim(("5",), (other,)), parse)
    >>> agree(r"\angle ABC", r"m\angle CBA"), agree("m+n", "n + m"), agree("x", "y"), agree("S", r"\text{Area}")
    (True, True, False, True)
    """
    if not gold.names or not answer.names:
        return True
    if any(_IN_WORDS.fullmatch(name) for name in (*gold.names, *answer.names)):
        return True
    return any(_same_name(a, b, gold.values[0], parse) for a in gold.names for b in answer.names)


def name_key(name: str) -> str:
    """A name without ornaments; points from A to B are those from B to A."""
    plain = _ORNAMENT.sub("", name)
    return min(plain, plain[::-1]) if _POINTS.fullmatch(plain) else plain


def without_member(latex: str) -> str:
    r"""``x \in [0, 1]`` as ``[0, 1]``."""
    return _MEMBER.sub("", latex)


def conclusion(latex: str) -> str:
    r"""What follows the last arrow, where relations come before it.

    >>> conclusion(r"2x = 4 \implies x = 2"), conclusion(r"p \Rightarrow q")
    ('x = 2', 'p \\Rightarrow q')
    """
    *before, last = _ARROW.split(latex)
    return last.strip() if before and last.strip() and all(map(_RELATION.search, before)) else latex


def _split_modulus(latex: str) -> tuple[str, str]:
    found = _MODULUS.search(latex)
    if found is None or not latex[: found.start()].strip():
        return latex, ""
    return latex[: found.start()].strip(), found[1].strip("{} ")


def _stated(parts: list[str]) -> str:
    """What a chain of letters alone arrives at; a plain name behind it is its name: ``2x + 3 = y``."""
    return parts[-2] if len(parts) > 1 and is_name(parts[-1]) and not is_name(parts[-2]) else parts[-1]


def _differ_by_number(one: str, other: str, parse: Parser) -> bool:
    """Whether two formulas cannot be equal whatever their letters are: ``2x + 5`` and ``2x + 3``."""
    a, b = parse(one), parse(other)
    if not isinstance(a, Expr) or not isinstance(b, Expr) or is_name(one):
        return False
    difference = (a - b).expand()
    return bool(difference.is_number and difference.is_zero is False)


def _same_name(one: str, other: str, value: str, parse: Parser) -> bool:
    if name_key(one) == name_key(other):
        return True
    if bool(_FUNCTION.fullmatch(one)) != bool(_FUNCTION.fullmatch(other)) and is_name(one) and is_name(other):
        return not is_known(value, parse)
    parsed = parse(one), parse(other)
    return parsed[0] is not None and parsed[1] is not None and are_equal(*parsed)
