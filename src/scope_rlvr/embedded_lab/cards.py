"""The model cards of the embedded models, written from measured figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scope_rlvr.embedded_lab.build import Recipe
from scope_rlvr.store.files import write_text

_HEADER = """---
license: apache-2.0
library_name: transformers
pipeline_tag: {task}
tags: [tiny, process-supervision, rlvr]
---

# {title}

{summary}

Made from nothing by `python -m scope_rlvr.embedded_lab.build` (seed {build_seed}). The figures below were measured by
`python -m scope_rlvr.embedded_lab.figures` with torch {torch} and transformers {transformers}, at temperature
{temperature}, on {problems_per_level} problems a level that no embedded model has seen (level 2 has only 91 problems,
all of which are used). A level is how many numbers are to be reduced. A share of {problems_per_level} has a standard
error of up to {standard_error} points; shares of failures, and pass at 8 ({problems_for_pass_at_8} problems), have more.
"""

_POLICY = """The policy of the embedded problem family "reduction" (add numbers modulo 13, two at a time): a Llama
causal model with 2 layers of width 128. It was pre-trained on solutions in random order in which {gap_percent} % of the
91 unordered sums are wrong, always in the same way (its gaps); at a gap the right sum was shown
{slip_percent} % of the time. Pairs with a gap were chosen with weight {gap_weight} next to 1, so that what is
not known tends to come late. Its failures are therefore right solutions up to one wrong sum: what a step
scorer can find and a teacher can mend."""

_TEACHER = """The teacher of the embedded problem family "reduction" (add numbers modulo 13, two at a time): a Llama
causal model with 2 layers of width 128. It knows every sum and always adds the two smallest numbers, the smaller one
first. It was trained to continue prefixes that are in random order, as the policy writes them, and never to choose
like them: in the random part the loss leaves out the two chosen numbers."""

_SCORER = """The process reward model of the embedded problem family "reduction": a Llama token classifier with 3 layers
of width 128, the lower two started from the teacher's. Input: the prompt, then every step followed by the blank-line
token, also the last one; the logits at each of these tokens say whether the step is wrong (label 0) or right (label 1).
`scorer.json` holds the decision rule: the first step whose probability of being right is below the threshold {threshold:.3g}
is the first wrong one; the threshold was chosen on other problems (dev split). It was trained on the policy's own rollouts
at temperature 1, levels 4 to 10, labelled by an exact checker, and on right solutions with one sum or number altered, so
that it does not only learn the policy's habits: `right at every gap called right` says whether it will believe a policy
that has learned. Steps after the first wrong one have no label, and their scores mean nothing."""

_TOGETHER = """
## The three together

A failure of the policy is cut where the scorer says, the teacher writes one step (greedy), and the policy goes on:

"""


def write_cards(models: Path, figures: Mapping[str, Any]) -> None:
    """Write ``README.md`` into the three model folders under ``models``."""
    recipe = Recipe()
    policy = _POLICY.format(
        gap_percent=round(100 * recipe.gap_share),
        slip_percent=100 * recipe.gap_slip_right,
        gap_weight=recipe.gap_weight,
    )
    scorer = _SCORER.format(threshold=figures["step_scorer"]["threshold"])
    salvage = _table({f"salvage, {level} numbers": row for level, row in figures["salvage"].items()})
    cards = {
        "policy": ("text-generation", "Embedded policy", policy, _levels(figures["policy"]) + _TOGETHER + salvage),
        "teacher": ("text-generation", "Embedded teacher", _TEACHER, _levels(figures["teacher"])),
        "step_scorer": ("token-classification", "Embedded step scorer", scorer, _levels(figures["step_scorer"])),
    }
    for name, (task, title, summary, tables) in cards.items():
        header = _HEADER.format(
            task=task,
            title=title,
            summary=summary,
            build_seed=recipe.seed,
            standard_error=round(50 / figures["settings"]["problems_per_level"] ** 0.5, 1),
            **figures["settings"],
        )
        write_text(models / name / "README.md", f"{header}\n## Figures\n\n{tables}")


def _levels(rows: Mapping[str, Any]) -> str:
    return _table({f"{level} numbers": row for level, row in rows.items() if isinstance(row, Mapping)})


def _table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table with one row a key; nested figures become columns of their own.

    >>> print(_table({"2 numbers": {"pass_at_1": 0.75, "first_errors": {"gap": 0.9}}}))
    | | pass at 1 | first errors: gap |
    |---|---|---|
    | 2 numbers | 0.75 | 0.9 |
    <BLANKLINE>
    """
    flat = {name: _flat(row) for name, row in rows.items()}
    columns = list(dict.fromkeys(column for row in flat.values() for column in row))
    lines = [f"| | {' | '.join(columns)} |", f"|{'---|' * (len(columns) + 1)}"]
    lines += [f"| {name} | {' | '.join(str(row.get(c, '')) for c in columns)} |" for name, row in flat.items()]
    return "\n".join(lines) + "\n"


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        words = key.replace("_", " ")
        if isinstance(value, Mapping):
            flat |= {f"{words}: {inner}": inner_value for inner, inner_value in value.items()}
        else:
            flat[words] = value
    return flat
