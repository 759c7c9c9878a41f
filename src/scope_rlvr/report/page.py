"""The report as one HTML page: what is on it, from top to bottom. How it looks is in ``template.html``."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from scope_rlvr.report import wording
from scope_rlvr.report.cases import (
    Case,
    FailureIndex,
    cases_of,
    index_failures,
    spread,
    spread_over_outcomes,
)
from scope_rlvr.report.evaluations import evaluation_tables
from scope_rlvr.report.pages import page_environment
from scope_rlvr.report.reading import RecordedRun, method_name
from scope_rlvr.report.run_charts import moving_average, run_charts
from scope_rlvr.report.wording import duration, number, percent
from scope_rlvr.store.rollouts import Rollouts

_MAX_ADMITTED, _MAX_NOT_ADMITTED = 24, 16
_MAX_VALUE_CHARS = 400

_SECRET = re.compile(r"(api_?key|secret|password|credential|(^|_)token)s?$", re.IGNORECASE)

_FUNNEL = (
    ("salvage/failures", "failed rollouts"),
    ("salvage/located", "first wrong step found"),
    ("salvage/eligible", "prefix worth keeping"),
    ("salvage/attempted", "teacher asked"),
    ("salvage/passed_guards", "put before the verifier"),
    ("salvage/admitted", "accepted and admitted"),
)


def render_page(run: RecordedRun) -> str:
    """The whole page; every string that comes from the run is shown inert."""
    rollouts = run.rollouts
    found = index_failures(rollouts.heads())
    notes = [*run.notes, *rollouts.notes(), *_teacher_notes(run)]
    if found.num_foreign:
        notes.append(f"{found.num_foreign} rollouts are of another format version than this report reads.")
    admitted, not_admitted = choose_cases(rollouts, found)
    environment = page_environment("scope_rlvr.report")
    environment.filters |= {"percent": percent, "number": number, "meaning": wording.meaning}
    page = environment.get_template("template.html").render(
        run_name=run.path.resolve().name,
        method=method_name(run),
        facts=_facts(run),
        notes=notes,
        tiles=_tiles(run),
        evaluations=evaluation_tables(run.summary or {}),
        charts=run_charts(run),
        admitted=admitted,
        not_admitted=[(outcome, list(cases)) for outcome, cases in groupby(not_admitted, key=lambda c: c.outcome)],
        num_refused_shown=len(not_admitted),
        num_admitted=sum(entry.is_admitted for entry in found.entries),
        num_attempted=sum(entry.was_attempted for entry in found.entries),
        outcomes=found.outcomes,
        num_failures=len(found.entries),
        funnel=_funnel(run),
        config=_tables(run.config),
        environment=_tables(run.environment),
    )
    return page.lstrip()


def _teacher_notes(run: RecordedRun) -> list[str]:
    """That the teacher failed, where it did, and how often a worked solution went on from a prefix."""
    keys = {key for row in run.metrics for key in row if key.startswith("teacher/")}
    failures = wording.teacher_failures({key: run.total(key) for key in keys})
    notes = [f"{failures}. What it was asked about stayed as it was."] if failures else []
    asked = [(row["teacher/aligned"], row["teacher/asked"]) for row in run.metrics if "teacher/aligned" in row]
    if asked:
        share = sum(aligned * count for aligned, count in asked) / sum(count for _, count in asked)
        notes.append(f"Worked solutions went on from {percent(share)} of the beginnings that they were asked about.")
    return notes


def choose_cases(rollouts: Rollouts, found: FailureIndex) -> tuple[list[Case], list[Case]]:
    """The admitted and the other attempts that are shown, each spread over the run."""
    admitted = spread([entry for entry in found.entries if entry.is_admitted], _MAX_ADMITTED)
    others = [entry for entry in found.entries if entry.was_attempted and not entry.is_admitted]
    return cases_of(rollouts, admitted), cases_of(rollouts, spread_over_outcomes(others, _MAX_NOT_ADMITTED))


# --- head ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure to be seen first: its name, its value, and what it is made of."""

    name: str
    value: str
    detail: str


def _facts(run: RecordedRun) -> list[tuple[str, str]]:
    """What a reader needs to tell this run from others; what is not known is left out."""
    summary = run.summary or {}
    ended = summary.get("stopped_because") if run.has_ended else "still going or interrupted"
    seconds = summary.get("seconds") or run.total("seconds/step")
    seed = summary.get("seed", run.config.get("run", {}).get("seed"))
    facts = [
        ("seed", "" if seed is None else str(seed)),
        ("steps", str(run.last_step)),
        ("state", str(ended or "")),
        ("time", duration(seconds) if seconds else ""),
        ("last written", run.written.strftime("%Y-%m-%d %H:%M %Z") if run.written else ""),
    ]
    return [(name, value) for name, value in facts if value]


def _tiles(run: RecordedRun) -> list[Tile]:
    makers = (_accuracy_tile, _salvage_tile, _gradient_tile, _teacher_tile, _scored_tile)
    return [tile for make in makers if (tile := make(run))]


def _accuracy_tile(run: RecordedRun) -> Tile | None:
    tables = evaluation_tables(run.summary or {})
    trained = next((t for t in tables if t.role == "trained"), tables[0] if tables else None)
    if trained is not None and trained.measures and trained.measures[0].before and trained.measures[0].after:
        first = trained.measures[0]
        return Tile("accuracy", f"{first.before} → {first.after}", f"{trained.name}, before and after training")
    points = run.series("accuracy")
    if not points:
        return None
    average = moving_average(points)
    return Tile("accuracy", f"{percent(average[0][1])} → {percent(average[-1][1])}", "of plain rollouts, smoothed")


def _salvage_tile(run: RecordedRun) -> Tile | None:
    counts = (run.summary or {}).get("salvage") or {}
    attempted = counts.get("attempted", run.total("salvage/attempted"))
    admitted = counts.get("admitted", run.total("salvage/admitted"))
    if not attempted:
        return None
    return Tile("salvages admitted", number(admitted), f"of {number(attempted)} tried: {percent(admitted / attempted)}")


def _gradient_tile(run: RecordedRun) -> Tile | None:
    shares = [share for _, share in run.series("gradient/token_share")]
    if not shares:
        return None
    return Tile("tokens with gradient", percent(sum(shares) / len(shares)), "mean share of response tokens")


def _teacher_tile(run: RecordedRun) -> Tile | None:
    tokens = (run.summary or {}).get("tokens") or {}
    sampled = tokens.get("sampled") or max((n for _, n in run.series("tokens/sampled")), default=0)
    teacher = tokens.get("teacher") or max((n for _, n in run.series("tokens/teacher")), default=0)
    if not teacher:
        return None
    total = sampled + teacher + tokens.get("continuation", 0)
    return Tile("written by the teacher", percent(teacher / total), f"{number(teacher)} of {number(total)} tokens")


def _scored_tile(run: RecordedRun) -> Tile | None:
    tokens = (run.summary or {}).get("tokens") or {}
    scored = tokens.get("scored") or max((n for _, n in run.series("tokens/scored")), default=0)
    return Tile("scored by the teacher", number(scored), "tokens that the policy wrote") if scored else None


# --- salvage and plan ---------------------------------------------------------------------------------------------


def _funnel(run: RecordedRun) -> list[tuple[str, float, float]]:
    """From failures to admitted salvages: name, count, share of all failures; empty without these metrics.

    A stage that a later one exceeds was left out in this run: no scorer was asked where to cut.
    """
    counts = [(name, run.total(key)) for key, name in _FUNNEL if run.series(key)]
    counts = [counted for i, counted in enumerate(counts) if all(counted[1] >= later for _, later in counts[i:])]
    widest = max((count for _, count in counts), default=0)
    return [(name, count, count / widest) for name, count in counts] if widest else []


def _tables(nested: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Nested settings as titled lists of keys and values, plain values of the top first; secrets are masked."""
    top: list[tuple[str, str]] = []
    tables: list[tuple[str, list[tuple[str, str]]]] = []
    for key, value in nested.items():
        if isinstance(value, dict):
            tables += [(key, _flat(value))] if value else []
        else:
            top.append((key, _setting(key, value)))
    return [("", top), *tables] if top else tables


def _flat(table: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        rows += _flat(value, f"{name}.") if isinstance(value, dict) else [(name, _setting(key, value))]
    return rows


def _setting(key: str, value: Any) -> str:
    if isinstance(value, str) and value and _SECRET.search(key):
        return "•••• (not shown)"
    text = _plain_value(key, value)
    return text if len(text) <= _MAX_VALUE_CHARS else f"{text[:_MAX_VALUE_CHARS]} …"


def _plain_value(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_setting(name, item)}" for name, item in value.items())
    if isinstance(value, list):
        between = "; " if any(isinstance(item, dict) for item in value) else ", "
        return between.join(_setting(key, item) for item in value) or "none"
    is_blank = isinstance(value, str) and (not value or value != " ".join(value.split()))
    return json.dumps(value) if is_blank else str(value)
