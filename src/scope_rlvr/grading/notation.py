r"""Other ways to write formulas, rewritten as LaTeX that a parser reads: shorthand, programs, and signs beyond ASCII.

Every rule is a function from text to text; nothing is evaluated.
"""

from __future__ import annotations

import re
import unicodedata

from scope_rlvr.grading.boxes import braced

_SIGNS = {
    **dict.fromkeys("−–—‒‐‑﹣", "-"),
    "×": r"\times ",
    "⋅": r"\cdot ",
    "·": r"\cdot ",
    "÷": "/",
    "π": r"\pi ",
    "θ": r"\theta ",
    "α": r"\alpha ",
    "β": r"\beta ",
    "γ": r"\gamma ",
    "λ": r"\lambda ",
    "μ": r"\mu ",
    "φ": r"\phi ",
    "ω": r"\omega ",
    "∞": r"\infty ",
    "≤": r"\le ",
    "≥": r"\ge ",
    "≠": r"\ne ",
    "≈": r"\approx ",
    "≡": r"\equiv ",
    "±": r"\pm ",
    "∓": r"\mp ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "∠": r"\angle ",
    "⇒": r"\Rightarrow ",
    "°": r"^{\circ}",
    "²": "^{2}",
    "³": "^{3}",
    "½": r"\frac{1}{2}",
    "⅓": r"\frac{1}{3}",
    "⅔": r"\frac{2}{3}",
    "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}",
    "′": "'",
    r"\varnothing": r"\emptyset",
    r"\langle": "(",
    r"\rangle": ")",
}
_NATURAL_LOGARITHM = re.compile(r"\\log\s*_\s*(?:\{\s*e\s*\}|e)(?![A-Za-z])")
_FULLWIDTH = re.compile("[\uff01-\uff5e\u3000]")
_ARGUMENTS_OF = re.compile(r"\\(frac|binom|sqrt)(?![A-Za-z])\s*")
_INDEX = re.compile(r"\[[^\[\]{}]{1,10}\]\s*")
_ONE_ARGUMENT = re.compile(r"\\sqrt\s*\{|\\[A-Za-z]+|[^\s\\{}]")
_ROOT = re.compile(r"(?:(?<![A-Za-z\\])(?:np\.|math\.)?(?P<name>sqrt|cbrt)|(?P<sign>[√∛]))\s*")
_RADICAND = re.compile(r"\d+(?:\.\d+)?|\\[A-Za-z]+|[A-Za-z]")
_WORDS = {
    **{name: rf"\{name}" for name in ("pi", "theta", "alpha", "beta", "gamma", "lambda", "omega")},
    **dict.fromkeys(("infinity", "infty", "oo"), r"\infty"),
}
_WORD = re.compile(rf"(?<![A-Za-z\\{{])(?:{'|'.join(_WORDS)})(?![A-Za-z])")
_MIXED = re.compile(r"(?<![\d.,/^_{}\\A-Za-z] )(?<![\d.,/^_{}\\A-Za-z])(\d{1,9}) (\d{1,9})/(\d{1,9})(?![\d.,/])")


_LONGEST = 1000
"""Longer texts keep their shorthand: looking for the ends of brackets takes time that grows with the square of the length."""


def signs_as_commands(text: str) -> str:
    r"""Signs beyond ASCII as LaTeX commands, fullwidth signs as ordinary ones, and every percent sign escaped.

    >>> signs_as_commands("−3×10"), signs_as_commands("50%"), signs_as_commands(r"50\%"), signs_as_commands("－１２％")
    ('-3\\times 10', '50\\%', '50\\%', '-12\\%')
    """
    text = _FULLWIDTH.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    for sign, latex in _SIGNS.items():
        text = text.replace(sign, latex)
    return re.sub(r"(?<!\\)%", r"\\%", text)


def braced_arguments(text: str) -> str:
    r"""Braces around the arguments of fractions, binomials and roots, which TeX reads without them.

    >>> braced_arguments(r"\frac 1 2"), braced_arguments(r"\frac \pi 2"), braced_arguments(r"\frac12 x")
    ('\\frac{1}{2}', '\\frac{\\pi}{2}', '\\frac{1}{2} x')
    >>> braced_arguments(r"\sqrt[3] 2"), braced_arguments(r"\sqrt (2)"), braced_arguments(r"\frac\sqrt3 2")
    ('\\sqrt[3]{2}', '\\sqrt{2}', '\\frac{\\sqrt{3}}{2}')
    """
    if len(text) > _LONGEST:
        return text
    pieces, done = [], 0
    for found in _ARGUMENTS_OF.finditer(text):
        if found.start() < done:
            continue
        read = _arguments(text, found)
        if read is None:
            continue
        pieces += [text[done : found.start()], read[0]]
        done = read[1]
    return "".join([*pieces, text[done:]])


def _arguments(text: str, command: re.Match[str]) -> tuple[str, int] | None:
    """A command with its arguments in braces, and where the last one ends; ``None`` where one is missing."""
    end, index = command.end(), ""
    if command[1] == "sqrt":
        found = _INDEX.match(text, end)
        index, end = (found[0].strip(), found.end()) if found else ("", end)
        inner = _parenthesised(text, end)
        if inner is not None:
            return rf"\sqrt{index}{{{braced_arguments(inner)}}}", end + len(inner) + 2
    written = rf"\{command[1]}{index}"
    for _ in range(1 if command[1] == "sqrt" else 2):
        read = _argument(text, end)
        if read is None:
            return None
        written, end = f"{written}{{{braced_arguments(read[0])}}}", read[1]
    return written, end


def _argument(text: str, start: int) -> tuple[str, int] | None:
    """The argument that begins at ``start``, without its braces, and where it ends."""
    while text.startswith(" ", start):
        start += 1
    content = braced(text, start)
    if content is not None:
        return content, start + len(content) + 2
    found = _ONE_ARGUMENT.match(text, start)
    if found is None:
        return None
    if found[0].endswith("{"):
        content = braced(text, found.end() - 1)
        return None if content is None else (rf"\sqrt{{{content}}}", found.end() + len(content) + 1)
    if found[0] == r"\sqrt":
        read = _argument(text, found.end())
        return None if read is None else (rf"\sqrt{{{read[0]}}}", read[1])
    return found[0], found.end()


def _parenthesised(text: str, start: int) -> str | None:
    """What is between the bracket at ``start`` and the one that closes it."""
    if not text.startswith("(", start):
        return None
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] == "(") - (text[at] == ")")
        if not depth:
            return text[start + 1 : at]
    return None


def program_notation(text: str) -> str:
    r"""Formulas as programs and keyboards write them.

    >>> program_notation("-1 + sqrt(3)"), program_notation("√3"), program_notation("6*pi"), program_notation("2**(1/4)")
    ('-1 + \\sqrt{3}', '\\sqrt{3}', '6*\\pi', '2^{1/4}')
    >>> program_notation(r"\log_e 2"), program_notation(r"\log_{e}(x)")
    ('\\ln  2', '\\ln (x)')
    >>> program_notation("x^-12"), program_notation("1 1/2"), program_notation("14 + -2i"), program_notation("5*[1+x]")
    ('x^{-12}', '1\\frac{1}{2}', '14 - 2i', '5*(1+x)')
    """
    if len(text) > _LONGEST:
        return text
    text = _NATURAL_LOGARITHM.sub(r"\\ln ", text.replace("**", "^"))
    text = _roots(text)
    text = _WORD.sub(lambda found: _WORDS[found[0]], text)
    text = _exponents(text)
    text = re.sub(r"\^-(\d{1,9})", r"^{-\1}", text)
    text = re.sub(r"\+ ?- ?(?=[\d\\A-Za-z(])", "- ", text)
    text = re.sub(r"\*\[([^\[\]()]*)\]", r"*(\1)", text)
    return _MIXED.sub(r"\1\\frac{\2}{\3}", text)


def _roots(text: str) -> str:
    pieces, done = [], 0
    for found in _ROOT.finditer(text):
        if found.start() < done:
            continue
        command = r"\sqrt[3]" if found["name"] == "cbrt" or found["sign"] == "∛" else r"\sqrt"
        inner = _parenthesised(text, found.end())
        single = _RADICAND.match(text, found.end()) if found["sign"] else None
        content = braced(text, found.end())
        if inner is None and content is not None:
            inner = content
        if inner is None and single is None:
            continue
        written = _roots(inner) if inner is not None else single[0] if single else ""
        pieces += [text[done : found.start()], f"{command}{{{written}}}"]
        done = found.end() + len(inner) + 2 if inner is not None else single.end() if single else found.end()
    return "".join([*pieces, text[done:]])


def _exponents(text: str) -> str:
    """Round brackets around a whole exponent as braces."""
    pieces, done = [], 0
    for found in re.finditer(r"\^\s*(?=\()", text):
        if found.start() < done:
            continue
        inner = _parenthesised(text, found.end())
        if inner is None:
            break
        pieces += [text[done : found.start()], f"^{{{_exponents(inner)}}}"]
        done = found.end() + len(inner) + 2
    return "".join([*pieces, text[done:]])
