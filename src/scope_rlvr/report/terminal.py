"""Salvaged rollouts in a terminal: the same story as in the HTML report, for one step of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from scope_rlvr.core.visible import visible
from scope_rlvr.report.cases import (
    Case,
    FailureEntry,
    FailureIndex,
    ShownStep,
    TextPart,
    cases_of,
    count_outcomes,
    index_failures,
    spread,
)
from scope_rlvr.report.palette import COLOURS, PARTS
from scope_rlvr.report.reading import ReportError, method_name, read_run
from scope_rlvr.report.wording import GROUP_CLASSES, meaning
from scope_rlvr.store.rollouts import Rollouts

_COLOURS = {part: COLOURS[colour].terminal for part, colour in PARTS.items()}
PART_STYLE = {
    TextPart.KEPT: _COLOURS["kept"],
    TextPart.REJECTED: _COLOURS["rejected"],
    TextPart.CUT: "bold",
    TextPart.TEACHER: f"bold {_COLOURS['teacher']}",
    TextPart.CONTINUATION: _COLOURS["continuation"],
    TextPart.DROPPED: "dim",
    TextPart.GIVEN_UP: "dim",
    TextPart.OMITTED: "dim italic",
}
"""Told apart by any eye, readable on a dark and on a light terminal; every line says its part in words, too."""

_LABEL = {
    TextPart.KEPT: "✓ kept",
    TextPart.REJECTED: "✗ first wrong",
    TextPart.CUT: "✂ cut here",
    TextPart.TEACHER: "◆ teacher",
    TextPart.CONTINUATION: "▸ policy",
    TextPart.DROPPED: "  dropped",
    TextPart.GIVEN_UP: "  given up",
    TextPart.OMITTED: "  …",
}


def show_run(run: Path, step: int | None, console: Console, limit: int = 5) -> None:
    """Print one step of a run: its groups, what became of its failures, and up to ``limit`` attempts at a salvage.

    Without ``step``, the last one with an admitted salvage is shown, else the last one with an attempt, else the last.
    Raises ``ReportError`` when the run has nothing to show, or no rollouts of that step.
    """
    data = read_run(run)
    rollouts = data.rollouts
    step = _chosen_step(rollouts, step, run)
    found = index_failures(rollouts.heads(step))
    entries = found.entries
    console.print(
        Text.assemble((visible(run.resolve().name), "bold"), f" · {visible(method_name(data))} · step {step}")
    )
    for note in rollouts.notes():
        console.print(Text(f"! {note}", style="yellow"))
    console.print(_class_line(found))
    console.print(_outcome_table(entries))
    attempts = [entry for entry in entries if entry.was_attempted]
    admitted = spread([entry for entry in attempts if entry.is_admitted], limit)
    refused = spread([entry for entry in attempts if not entry.is_admitted], limit - len(admitted))
    for case in cases_of(rollouts, [*admitted, *refused]):
        console.print()
        console.print(_case_view(case))
    hidden = len(attempts) - len(admitted) - len(refused)
    if hidden:
        console.print(Text(f"\nnot shown: {hidden} of {len(attempts)} attempts at this step", style="dim"))


def _chosen_step(rollouts: Rollouts, step: int | None, run: Path) -> int:
    steps = rollouts.steps
    if not steps:
        raise ReportError(f"no rollouts are recorded in {run}; wait for the first step, or see its report instead")
    if step is None:
        attempted = None
        for earlier in reversed(steps):
            entries = index_failures(rollouts.heads(earlier)).entries
            if any(entry.is_admitted for entry in entries):
                return earlier
            if attempted is None and any(entry.was_attempted for entry in entries):
                attempted = earlier
        return steps[-1] if attempted is None else attempted
    if step not in steps:
        raise ReportError(
            f"no rollouts of step {step} are recorded in {run}; there are {len(steps)} steps, "
            f"from {steps[0]} to {steps[-1]}"
        )
    return step


def _class_line(found: FailureIndex) -> Text:
    counts = Counter(found.class_of_group.values())
    known = [group_class.value for group_class in GROUP_CLASSES]
    names = [*(name for name in known if counts[name]), *sorted(counts.keys() - set(known))]
    return Text("groups: ", style="dim").append(" · ".join(f"{counts[n]} {visible(n)}" for n in names), style="not dim")


def _outcome_table(entries: Sequence[FailureEntry]) -> Table | Text:
    if not entries:
        return Text("no failure of this step went through a salvage", style="dim")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right", style="bold")
    table.add_column(no_wrap=True)
    table.add_column(style="dim")
    for name, count in count_outcomes(entries):
        table.add_row(str(count), Text(visible(name)), meaning(name))
    return table


def _case_view(case: Case) -> Group:
    level = "" if case.level is None else f" · level {case.level}"
    kept = f"{case.num_kept_tokens} of {case.num_tokens} tokens kept, {case.num_teacher_tokens} by the teacher"
    head = Text.assemble(
        (visible(case.prompt), "bold"), (f"\nright answer {visible(case.reference)}{level} · {kept}", "dim")
    )
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    _add_rows(table, case.kept)
    _add_rows(table, case.failed)
    table.add_row(*_verdict("wrong", case.failed_answer, PART_STYLE[TextPart.REJECTED]))
    table.add_row(Text("instead", style="dim"))
    _add_rows(table, case.attempted)
    if case.is_admitted:
        table.add_row(*_verdict("admitted", case.attempt_answer, f"bold {PART_STYLE[TextPart.CONTINUATION]}"))
    else:
        table.add_row(*_verdict(case.outcome, case.attempt_answer, PART_STYLE[TextPart.REJECTED]))
    return Group(head, table)


def _verdict(outcome: str, answer: str | None, style: str) -> tuple[Text, Text]:
    answered = "" if answer is None else f"answered {visible(answer)}"
    return Text(f"= {visible(outcome)}", style=style), Text(answered, style=style)


def _add_rows(table: Table, rows: tuple[ShownStep, ...]) -> None:
    for row in rows:
        style = PART_STYLE[row.part]
        label = _LABEL[row.part] if row.number is None else f"{_LABEL[row.part]} {row.number}"
        score = "" if row.score is None else f"{row.score:.2f}"
        table.add_row(Text(label, style=style), Text(visible(row.text), style=style), Text(score, style=style))
