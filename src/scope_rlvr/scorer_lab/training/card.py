"""The model card of a trained step scorer: what it is, what it learned from, how good it is, and what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scope_rlvr.store.files import write_text

_CARD = """---
library_name: transformers
pipeline_tag: token-classification
tags: [process-supervision, process-reward-model, rlvr]
---

# {name}

A process reward model: a token classifier that says of each step of a solution whether it is right (label 1) or wrong
(label 0). It was trained from `{base}` by `scope scorer train`.

Input: {begin}the problem{after_prompt}, then every step followed by the separator `{separator}`, all tokenised piece by
piece, without a chat template; the logits at the last token of each separator are the word on that step.
The first step whose probability of being right is below **{threshold:.4g}** is the first wrong one; `scorer.json` holds this
rule. Steps after the first wrong one had no label in training: their scores mean nothing.

    [scorer]
    model = "{folder}"

## Data

| data | solutions | bad rows left out | left out for other reasons |
|---|---|---|---|
{sources}

{train} solutions were trained on; {cut} of them lost steps at their end and {too_long} more were left out altogether,
being longer than the model can read. The threshold was chosen on {num_threshold} solutions, the figures below are of
{num_test} others; no problem is in two parts.

## Figures

With the threshold above, 95 % bootstrap intervals over solutions in brackets.

| figure | value |
|---|---|
{figures}

## Training

{settings}

torch {torch}, transformers {transformers}, digest of the data {digest}. Whether the figures hold for solutions of another
model, other problems or other lengths than these data, nobody has measured.
"""


def write_card(folder: Path, record: Mapping[str, Any]) -> None:
    """Write ``README.md`` from the record that ``training.json`` holds."""
    settings, versions = record["settings"], record["environment"]
    card = _CARD.format(
        name=folder.resolve().name,
        folder=folder,
        base=record["base"],
        separator=settings["separator"].encode("unicode_escape").decode(),
        begin="the begin-of-sequence token, " if settings["bos"] else "",
        after_prompt=" and the separator" if settings["after_prompt"] else "",
        threshold=record["threshold"],
        sources="\n".join(_source_row(source) for source in record["sources"]),
        train=record["split"]["train"] - record["num_too_long"],
        cut=record["num_cut"],
        too_long=record["num_too_long"],
        num_threshold=record["split"]["threshold"],
        num_test=record["split"]["test"],
        figures="\n".join(f"| {name} | {value} |" for name, value in figure_rows(record["figures"])),
        settings=", ".join(f"{name} {value}" for name, value in settings.items() if name != "separator"),
        torch=versions["torch"],
        transformers=versions["transformers"],
        digest=record["data_digest"],
    )
    write_text(folder / "README.md", card)


def figure_rows(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures in words, as card and terminal show them."""
    wrong, right = f"of {figures['num_wrong']} with a wrong step", f"of {figures['num_right']} without"
    return [
        ("F1 (ProcessBench)", _with_interval(figures["f1"])),
        (f"first wrong step found exactly, {wrong}", _with_interval(figures["wrong"]["exact"])),
        ("too early", _with_interval(figures["wrong"]["too_early"])),
        ("too late", _with_interval(figures["wrong"]["too_late"])),
        ("missed", _with_interval(figures["wrong"]["missed"])),
        (f"left alone, {right}", _with_interval(figures["right"]["left_alone"])),
        (f"step accuracy, of {figures['num_labelled_steps']} labelled steps", _percent(figures["step_accuracy"])),
        ("step accuracy of calling every step right", _percent(figures["step_accuracy_constant"])),
        ("solutions too long to be scored", str(figures["num_unscored"])),
    ]


def _source_row(source: Mapping[str, Any]) -> str:
    left_out = ", ".join(f"{number} {reason}" for reason, number in source["left_out"].items()) or "0"
    return f"| {source['name']} | {source['num_solutions']} | {len(source['bad_rows'])} | {left_out} |"


def _with_interval(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return "unknown"
    low, high = estimate["interval"]
    return f"{_percent(estimate['value'])} [{_percent(low)}, {_percent(high)}]"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f} %"
