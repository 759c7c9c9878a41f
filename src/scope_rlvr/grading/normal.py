r"""One way to write an answer: what golds and predictions are turned into before anything compares them.

Every rule is a function from text to text; nothing is evaluated. The rules take away what is no part of the value
(formula signs, spacing, typefaces, units) and rewrite what a LaTeX parser would misread (``4.5e33``, ``1{,}000``).
Golds and predictions go through the same rules, once each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from scope_rlvr.grading.boxes import braced
from scope_rlvr.grading.brackets import split
from scope_rlvr.grading.notation import braced_arguments, program_notation, signs_as_commands
from scope_rlvr.grading.times import seconds_of_day
from scope_rlvr.grading.units import split_unit

_UPRIGHT = re.compile(r"\\(?:mbox|mathrm|textrm|textnormal|textbf|textit|mathbf|mathit|operatorname|text)\s*(?=\{)")
_E_NOTATION = re.compile(r"(?<![\w.\\^{])([+-]?(?:\d+(?:\.\d*)?|\.\d+))[eE]([+-]?\d{1,6})(?![\w.])")
_FUNCTIONS = re.compile(
    r"(?<![\\A-Za-z])(?:np\.|math\.)?(arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|log|ln|exp)(?=\s*[({\\])"
)

_MAGNITUDES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_MAGNITUDE = re.compile(
    r"(?<=[\d}])\s*(?:\\text\{\s*(?P<upright>MAGNITUDES)(?![A-Za-z])\s*(?P<unit>[^{}]*)\}|(?<=\s)(?P<plain>MAGNITUDES)(?![A-Za-z]))".replace(
        "MAGNITUDES", "|".join(_MAGNITUDES)
    )
)
_PER_CENT = re.compile(r"(?<=[\d}])\s*(?:\\text\{\s*(?:per ?cent|pct)\s*\}|(?<=\s)(?:per ?cent|pct)(?![A-Za-z]))")
_REPEATING = re.compile(r"(\d{0,20})\.(\d{0,20})\\(?:overline|bar)\s*(?:\{(\d{1,20})\}|(\d))")
_PLAIN_WORDS = re.compile(r"(?:the )?(?:[A-Za-z]{4,}|yes|no|odd)(?: [A-Za-z]{2,})*", re.IGNORECASE)
"""Three letters may be a product; more are a word."""
_FOR_ALL = re.compile(r"(?<=[^\s,]),? ?\\text\{ ?for (?:any|all|every|each)[^{}]{0,60}\} ?[A-Za-z]?$")
_INTRODUCTION = re.compile(
    r"^\s*(?:(?:\\text\{\s*)?(?:(?:so|thus|therefore),? )?(?:the )?(?:final )?answer(?: is:?|:)\s*\}?"
    r"|\\text\{[A-Za-z ]{1,40}:\s*\})\s*(?=[^\s}])",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"^(?:the|an?) (?=[a-z]{3})")


@dataclass(frozen=True, slots=True)
class Normal:
    """An answer in its normal form.

    ``latex`` is the value without its unit; ``unit`` one name for each unit that is known, or empty; ``words`` is the
    text, in small letters, of an answer that is a word and no formula (``\\text{Evelyn}``, ``\\text{(C)}``).
    """

    latex: str
    unit: str = ""
    words: str | None = None

    @property
    def key(self) -> str:
        """Equal for answers that differ in nothing but spaces, other than those between digits."""
        return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", self.latex)


@lru_cache(maxsize=4096)
def normal(answer: str) -> Normal:
    r"""The normal form of a gold or of a prediction.

    >>> normal("$4.5e33$").latex, normal(r"\text{(C)}").words, normal(r"\$36").unit
    ('4.5\\times 10^{33}', 'c', 'dollar')
    >>> normal(r"864 \mbox{ inches}^2")
    Normal(latex='864', unit='inch', words=None)
    """
    text = answer
    for rule in _RULES:
        text = rule(text)
    words = words_of(text)
    if words is not None:
        return Normal(text, words=words)
    # In a list every value has a unit of its own.
    is_whole = len(split(text, ",")) > 1 or seconds_of_day(text) is not None
    text, unit = (text, "") if is_whole else split_unit(text)
    return Normal(text, unit or ("dollar" if r"\$" in answer else ""))


def formula_signs(text: str) -> str:
    r"""Without what opens and closes formulas or bold text, without dollars of either kind, what is left of one (``\15``), and a full
    stop at the end.

    >>> formula_signs("$\\frac12.$"), formula_signs(r"\(x.\)"), formula_signs(r"\$36"), formula_signs("a+$ $b")
    ('\\frac12', 'x', '36', 'a+ b')
    """
    text = re.sub(r"^\s*\*\*([^*]+)\*\*\.?\s*$", r"\1", text)
    text = text.replace(r"\$", "").replace("$", "").strip()
    text = text.removesuffix(".").strip()
    for opening, closing in ((r"\(", r"\)"), (r"\[", r"\]")):
        if text.startswith(opening) and text.endswith(closing) and text.count(opening) == 1:
            text = text[2:-2].strip().removesuffix(".").strip()
    return re.sub(r"^\\(?=\d)", "", text)


def spacing(text: str) -> str:
    r"""Without what only moves things. Thin spaces and braced commas between groups of three digits join a number.

    >>> spacing(r"12\,000"), spacing(r"1{,}000"), spacing(r"10,\! 080"), spacing(r"\left( 3,\; 4 \right)"), spacing("12 000")
    ('12000', '1,000', '10,080', '( 3, 4 )', '12000')
    """
    text = re.sub(r",\s*\\!\s*(?=\d{3}(?!\d))", ",", text.replace("{,}", ",")).replace(r"\!", "")
    text = re.sub(r"(?<=\d)(?:\\[, ]|~)(?=\d{3}(?!\d))", "", text)
    if re.fullmatch(r"\s*[+-]?\d{1,3}(?: \d{3})+\s*", text):
        text = text.replace(" ", "")
    text = re.sub(r"\\(?:left|right)(?![A-Za-z])\s*\.?", "", text)
    text = re.sub(r"\\(?:displaystyle|q?quad)(?![A-Za-z])|(?<!\\)\\[,;:> ]|~", " ", text)
    return re.sub(r"\s+", " ", text).strip()


def typefaces(text: str) -> str:
    r"""One command for fractions and one for upright text, apart from an "and" at its end; empty text is nothing.

    >>> typefaces(r"\dfrac{1}{2} \mathrm{ cm}"), typefaces(r"5\text{ }"), typefaces(r"1+\mathrm{e}"), typefaces(r"3\text{ m and }4")
    ('\\frac{1}{2} \\text{ cm}', '5', '1+e', '3\\text{ m}\\text{and}4')
    """
    text = re.sub(r"\\[dtc](frac|binom)(?![A-Za-z])", r"\\\1", text)
    text = _UPRIGHT.sub(r"\\text", text)
    text = re.sub(r"\\text\{([^{}]{1,40}) (and|or) ?\}", r"\\text{\1}\\text{\2}", text)
    if not text.startswith(r"\text{") or text.find("}") < len(text) - 1:
        text = re.sub(r"\\text\{ ?([ei]) ?\}", r"\1 ", text)
    return re.sub(r"\\text\{\s*\}", "", text).strip()


def decimal_points(text: str) -> str:
    r"""No decimal point without digits on both sides.

    >>> decimal_points(".5"), decimal_points("-1./3"), decimal_points("4."), decimal_points("a.b")
    ('0.5', '-1/3', '4', 'a.b')
    """
    text = re.sub(r"(?<![\d.A-Za-z])\.(?=\d)", "0.", text)
    return re.sub(r"(?<=\d)\.(?![\d.A-Za-z])", "", text)


def e_notation(text: str) -> str:
    r"""``4.5e33`` as ``4.5\times 10^{33}``: a LaTeX parser reads the e as Euler's number.

    >>> e_notation("4.5e33"), e_notation("1e-5, 2E+3"), e_notation("2e^{x}"), e_notation("3ex")
    ('4.5\\times 10^{33}', '1\\times 10^{-5}, 2\\times 10^{3}', '2e^{x}', '3ex')
    """
    return _E_NOTATION.sub(lambda found: rf"{found[1]}\times 10^{{{int(found[2])}}}", text)


def function_names(text: str) -> str:
    r"""Functions as they are written in programs, as LaTeX commands.

    >>> function_names("np.arcsin(10/13)"), function_names(r"\sin(x)"), function_names("cosine")
    ('\\arcsin(10/13)', '\\sin(x)', 'cosine')
    """
    return _FUNCTIONS.sub(r"\\\1", text)


def repeating_decimals(text: str) -> str:
    r"""Decimals with a bar over what repeats, as fractions.

    >>> repeating_decimals(r"0.\overline{3}"), repeating_decimals(r"2.1\overline{6}"), repeating_decimals(r"\overline{AB}")
    ('\\frac{3}{9}', '\\frac{195}{90}', '\\overline{AB}')
    """

    def fraction(found: re.Match[str]) -> str:
        fixed, repeated = found[1] + found[2], found[3] or found[4]
        above = int(fixed + repeated) - int(fixed or "0")
        return rf"\frac{{{above}}}{{{(10 ** len(repeated) - 1) * 10 ** len(found[2])}}}"

    return _REPEATING.sub(fraction, text)


def number_words(text: str) -> str:
    r"""Per cent, thousands and millions behind a number, and the "to" of a ratio, as signs; upright text that
    begins with a digit, or lists capitals, is no word.

    >>> number_words(r"2.5\text{ million dollars}"), number_words("12 thousand"), number_words(r"10\text{ percent}")
    ('2.5\\times 10^{6}\\text{dollars}', '12\\times 10^{3}', '10\\%')
    >>> number_words(r"\text{10 apples}"), number_words("millions")
    ('10 apples', 'millions')
    """
    text = re.sub(r"^\\text\{\s*([+-]?\.?\d[^{}]*)\}$", r"\1", text)
    text = re.sub(r"^\\text\{ ?([A-J](?:(?:, ?| and |, and | or )[A-J]){1,9}) ?\}$", r"\1", text)
    text = re.sub(r"(?<=\d) ?(?:\\text\{ ?to ?\}|(?<= )to(?= )) ?(?=\d)", ":", text)
    text = _PER_CENT.sub(r"\\%", text)
    return _MAGNITUDE.sub(_power_of_ten, text)


def _power_of_ten(found: re.Match[str]) -> str:
    unit = rf"\text{{{found['unit']}}}" if found["unit"] else ""
    return rf"\times 10^{{{_MAGNITUDES[found['upright'] or found['plain']]}}}{unit}"


def qualifiers(text: str) -> str:
    r"""Without a remark at the end that a formula holds for all values of a letter.

    >>> qualifiers(r"2x^3 \text{ for any real } x"), qualifiers(r"5 \text{ for } x > 0")
    ('2x^3', '5 \\text{ for } x > 0')
    """
    return _FOR_ALL.sub("", text)


def without_introduction(answer: str) -> str:
    r"""An answer without words that introduce it.

    >>> without_introduction("The answer is 5"), without_introduction(r"\text{Area: } 5"), without_introduction("answer = 5")
    ('5', '5', 'answer = 5')
    """
    return _INTRODUCTION.sub("", answer)


_RULES = (
    formula_signs,
    signs_as_commands,
    spacing,
    typefaces,
    braced_arguments,
    repeating_decimals,
    decimal_points,
    e_notation,
    function_names,
    number_words,
    program_notation,
    qualifiers,
)


def words_of(text: str) -> str | None:
    r"""The words of an answer that is nothing but upright text or long words, in small letters; ``None`` for a formula.

    >>> words_of(r"\text{Evelyn}"), words_of(r"\text{(C)}"), words_of(r"(\text{C})"), words_of(r"5\text{ cm}")
    ('evelyn', 'c', 'c', None)
    >>> words_of("Evelyn"), words_of("yes"), words_of("no solution"), words_of("abc"), words_of("x + y")
    ('evelyn', 'yes', 'no solution', None, None)
    """
    if _PLAIN_WORDS.fullmatch(text):
        return plain_words(text)
    inner = text[1:-1].strip() if text.startswith("(") and text.endswith(")") else text
    if not inner.startswith(r"\text{"):
        return None
    content = braced(inner, len(r"\text"))
    if content is None or len(content) + len(r"\text{}") != len(inner) or not re.search("[A-Za-z]", content):
        return None
    return plain_words(content)


def plain_words(text: str) -> str:
    r"""Small letters, single spaces, no command for upright text around it, no brackets around them, no article.

    >>> plain_words(r"\text{No  solution}."), plain_words("(B)"), plain_words(r"\text{(b)}"), plain_words("The median")
    ('no solution', 'b', 'b', 'median')
    """
    text = re.sub(r"\\text\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\s+", " ", text.lower()).strip(" .'\"")
    return _ARTICLE.sub("", re.sub(r"^\( ?([a-z ]{1,200}?) ?\)$", r"\1", text))
