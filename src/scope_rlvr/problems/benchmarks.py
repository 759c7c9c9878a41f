"""Well-known benchmarks by name: where they lie on the Hub, and how their rows become problems.

A local copy comes first: ``<name>.jsonl`` (training problems: ``<name>-train.jsonl``) in the folder that
``problems.folder`` or the environment variable ``SCOPE_DATA`` names, in the format that docs/problems.md describes.

UNVERIFIED: the names, subsets, splits and columns below were put together without access to the Hub. They are checked
when they are first loaded, and no revision is pinned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from scope_rlvr.core.seeds import derive_seed

Values = Mapping[str, Any]


def _as_it_is(row: Values) -> Values:
    return row


def _with_context(row: Values) -> Values:
    """OlympiadBench: some problems have a common beginning; the answer is a list, whose entries all belong to it."""
    answer = row.get("final_answer")
    text = ", ".join(map(str, answer)) if isinstance(answer, list) else answer
    question = "\n\n".join(part for part in (row.get("context"), row.get("question")) if part)
    return {"id": row.get("id"), "problem": question, "answer": _without_formula_signs(text)}


def _without_formula_signs(text: Any) -> Any:
    """A gold that is one formula, ``$...$``, without its signs."""
    if isinstance(text, str) and text.startswith("$") and text.endswith("$") and text.count("$") == 2:
        return text[1:-1]
    return text


def _after_hashes(row: Values) -> Values:
    """GSM8K: a worked solution whose last line is ``#### answer``, with commas between thousands."""
    solution, hashes, answer = str(row.get("answer") or "").rpartition("####")
    answer = answer.replace(",", "").strip() if hashes else ""
    return {"problem": row.get("question"), "answer": answer, "solution": solution}


def _arc(row: Values) -> Values:
    """ARC: choices with labels, which are letters or numbers."""
    choices = row.get("choices") or {}
    labels, texts = list(choices.get("label") or ()), list(choices.get("text") or ())
    key = row.get("answerKey")
    letter = LETTERS[labels.index(key)] if key in labels else None
    return {"id": row.get("id"), "problem": multiple_choice(row.get("question"), texts), "answer": letter}


def _gpqa(row: Values) -> Values:
    """GPQA: one right and three wrong answers, put into an order that depends on the question alone."""
    question, right = row.get("Question"), row.get("Correct Answer")
    choices = [right, *(row.get(f"Incorrect Answer {i}") for i in (1, 2, 3))]
    Random(derive_seed("gpqa", str(question))).shuffle(choices)
    letter = LETTERS[choices.index(right)] if right else None
    return {"id": row.get("Record ID"), "problem": multiple_choice(question, choices), "answer": letter}


def _mmlu_pro(row: Values) -> Values:
    problem = multiple_choice(row.get("question"), row.get("options") or ())
    return {"id": row.get("question_id"), "problem": problem, "answer": row.get("answer")}


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def multiple_choice(question: Any, choices: Any) -> str | None:
    """A question with its choices below it, each with its letter; ``None`` where there are none.

    >>> print(multiple_choice("2 + 2?", ["3", "4"]))
    2 + 2?
    <BLANKLINE>
    (A) 3
    (B) 4
    """
    if not question or not choices:
        return None
    lettered = [f"({letter}) {str(choice).strip()}" for letter, choice in zip(LETTERS, choices, strict=False)]
    return "\n".join([str(question).strip(), "", *lettered])


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark: its data set on the Hub, the split that is measured on, and how a row is read.

    ``train_split`` is the split that one may train on, where there is one.
    """

    hub: str
    split: str
    subset: str | None = None
    train_split: str | None = None
    read: Callable[[Values], Values] = _as_it_is


BENCHMARKS: dict[str, Benchmark] = {
    "aime24": Benchmark("HuggingFaceH4/aime_2024", "train"),
    "aime25": Benchmark("math-ai/aime25", "test"),
    "amc23": Benchmark("math-ai/amc23", "test"),
    "math500": Benchmark("HuggingFaceH4/MATH-500", "test"),
    "minerva": Benchmark("math-ai/minervamath", "test"),
    "olympiadbench": Benchmark("Hothan/OlympiadBench", "train", "OE_TO_maths_en_COMP", read=_with_context),
    "gsm8k": Benchmark("openai/gsm8k", "test", "main", train_split="train", read=_after_hashes),
    "arc_c": Benchmark("allenai/ai2_arc", "test", "ARC-Challenge", train_split="train", read=_arc),
    "gpqa_diamond": Benchmark("Idavidrein/gpqa", "train", "gpqa_diamond", read=_gpqa),
    "mmlu_pro": Benchmark("TIGER-Lab/MMLU-Pro", "test", read=_mmlu_pro),
}
