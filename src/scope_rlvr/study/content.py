"""What the report of a study says, from top to bottom, as tables and sentences; a page and a Markdown file show the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scope_rlvr.report.wording import duration, number, percent, signed
from scope_rlvr.study.analysis import Analysis, Comparison, at_tokens, budgets, is_share, measures_after, reach
from scope_rlvr.study.charts import measure_title
from scope_rlvr.study.plan import Cell
from scope_rlvr.study.statistics import EXACT_SIGN_FLIPS, Interval


@dataclass(frozen=True)
class TextTable:
    """Cells of text; the first column names the row."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class ReportSection:
    """A heading with a sentence or two and the tables below."""

    id: str
    title: str
    lead: str
    tables: tuple[TextTable, ...]


def facts(analysis: Analysis) -> list[tuple[str, str]]:
    """What tells this study from others."""
    results = analysis.all_results
    seeds = sorted({result.seed for result in results})
    reference = next(cell.label for cell in analysis.study.cells if cell.arm == analysis.study.reference)
    return [
        ("runs", f"{len(results)} of {len(analysis.study.runs)} finished"),
        ("seeds", f"{len(seeds)} ({', '.join(map(str, seeds))})"),
        ("steps", ", ".join(sorted({number(result.steps) for result in results}))),
        ("reference", reference),
        ("decided by", measure_title(analysis.study.primary)),
    ]


def notes(analysis: Analysis) -> list[str]:
    """What a reader must know before believing a table."""
    found = [f"{run} failed and is missing from every figure: {reason}" for run, reason in analysis.failed]
    for cell in analysis.study.cells:
        planned = [run.seed for run in analysis.study.runs_of(cell)]
        missing = [seed for seed in planned if seed not in analysis.results.get(cell, {})]
        missing = [seed for seed in missing if f"{cell.id}-seed{seed}" not in dict(analysis.failed)]
        if missing:
            found.append(f"{cell.title}: seeds {', '.join(map(str, missing))} have not finished.")
    if not any(analysis.study.primary in measures_after(result) for result in analysis.all_results):
        found.append(f"{analysis.study.primary}, the measure that is to decide, was measured in no run.")
    codes = {result.versions.get("code") for result in analysis.all_results}
    if len(codes) > 1:
        found.append(f"These runs were begun with {len(codes)} different states of this package's source code.")
    packages = {tuple(sorted(_packages(result.versions).items())) for result in analysis.all_results}
    if len(packages) > 1:
        found.append("These runs were made with different versions of packages, or on different machines.")
    return found


def _packages(versions: Mapping[str, str]) -> dict[str, str]:
    return {name: version for name, version in versions.items() if name != "code"}


def sections(analysis: Analysis) -> list[ReportSection]:
    """Every part of the report that there is something to say in."""
    parts = (_after, _differences, _equal_tokens, _steps_to_reach, _budgets, _other_differences, _diversity, _reach)
    return [section for part in parts if (section := part(analysis)) is not None]


# --- parts ----------------------------------------------------------------------------------------------------------


def _after(analysis: Analysis) -> ReportSection | None:
    measures = [m for s in analysis.sets for m in analysis.measures_of(s) if is_share(m)]
    table = analysis.table(measures_after)
    tables = [
        _cell_table(analysis, f"{name} ({about})", [m for m in measures if m.startswith(f"{name}/")], table)
        for name, about in _set_words(analysis).items()
    ]
    lead = (
        "At equal optimiser steps: the policy after its last step, never its best one, on held-out test problems and "
        "without help. Mean over seeds with its 95 % t interval."
    )
    return ReportSection("result", "After the last step", lead, tuple(tables))


def _differences(analysis: Analysis) -> ReportSection | None:
    """The comparison that decides, with every test."""
    found = analysis.comparisons(analysis.study.primary)
    if not found:
        return None
    write = _difference_writer(analysis.study.primary)
    header = ("arm", "pairs", "reference − arm", "p, t test", "Holm", "p, sign flips", "Holm")
    rows = [
        (
            _against(c),
            str(c.difference.interval.num_seeds),
            _spread(c.difference.interval, write),
            _p(c.difference.p_t),
            _p(c.holm_t),
            _p(c.difference.p_sign_flip),
            _p(c.holm_sign_flip),
        )
        for c in found
    ]
    pairs = max(c.difference.interval.num_seeds for c in found)
    least = f" {pairs} pairs cannot give less than {2 / 2**pairs:.3g}." if 1 < pairs <= EXACT_SIGN_FLIPS else ""
    lead = (
        'Differences seed by seed, since equal seeds see the same problems in the same order. Two tests of "no difference": '
        f"the paired t test, and the sign-flip permutation test, which needs no bell shape.{least} Holm's correction is over the "
        "rows of this table, the only one that is tested."
    )
    title = f"Is the reference different? {measure_title(analysis.study.primary)}"
    return ReportSection("differences", title, lead, (TextTable("", header, tuple(rows)),))


def _other_differences(analysis: Analysis) -> ReportSection | None:
    measures = [m for m in analysis.headlines if m != analysis.study.primary]
    table = _comparison_table(
        analysis, measures, lambda c: _spread(c.difference.interval, _difference_writer(c.measure))
    )
    if table is None:
        return None
    lead = "Reference − arm, mean of the paired differences with its 95 % t interval. Not corrected for being many: read them together."
    return ReportSection("other-differences", "Other differences", lead, (table,))


def _diversity(analysis: Analysis) -> ReportSection | None:
    table = analysis.table(measures_after)
    tables = []
    for name, about in _set_words(analysis).items():
        measures = [m for m in analysis.measures_of(name) if "/diversity/" in m]
        if not measures:
            continue
        tables.append(_cell_table(analysis, f"{name} ({about})", measures, table))
        relative = _comparison_table(analysis, measures, _relative, f"{name}: reference compared with each arm")
        tables += [relative] if relative is not None else []
    lead = (
        "Of the policy's own samples after the last step. The relative change is exp(mean ln(reference / arm)) − 1 over pairs of equal "
        "seeds. All measures but the distinct right solutions fall when fewer kinds of mistakes are made: read them beside the accuracy."
    )
    return ReportSection("diversity", "Diversity", lead, tuple(tables)) if tables else None


def _reach(analysis: Analysis) -> ReportSection | None:
    table = analysis.table(reach)
    shares = sorted(
        {key for row in table.values() for key in row if key.endswith(("/retention", "/discovery", "/net"))}
    )
    titles = {
        "entropy/slope": "a",
        "entropy/ceiling": "b − a",
        "entropy/r_squared": "R²",
        "collapsed": "collapsed",
    } | {key: "support of " + key.replace("/", ", ") for key in shares}
    known = [key for key in titles if any(key in row for row in table.values())]
    if not known:
        return None
    rows = [
        (
            cell.title,
            *(_written(table[cell].get(k), percent if k in {*shares, "collapsed"} else _decimal) for k in known),
        )
        for cell in analysis.cells
    ]
    lead = (
        "Mean over seeds. The accuracy of the training rollouts is fitted as b − a·exp(H) over the policy's entropy H; b − a is what the "
        "fit gives to a policy without entropy. A run has collapsed if its accuracy fell below 1 %. Support counts problems solved at "
        "least once: retention is the share of those solved before that still are, discovery the share of those solved now that were not."
    )
    header = ("arm", *(titles[key] for key in known))
    return ReportSection("entropy-and-support", "Entropy and support", lead, (TextTable("", header, tuple(rows)),))


def _equal_tokens(analysis: Analysis) -> ReportSection | None:
    budget = analysis.common_tokens(analysis.sampling_cells)
    if budget is None:
        return None
    table = analysis.table(at_tokens(budget))
    measures = [m for m in analysis.headlines if any(m in row for row in table.values())]
    tables = [_cell_table(analysis, f"At {_count(budget)} tokens", measures, table, with_set=True)]
    rows = []
    primary = analysis.study.primary
    for c in analysis.comparisons(primary, at_equal_tokens=True):
        spread = _spread(c.difference.interval, _difference_writer(primary))
        rows.append((_against(c), str(c.difference.interval.num_seeds), _count(c.tokens or 0), spread))
    header = ("arm", "pairs", "tokens", "reference − arm")
    tables += [TextTable(f"{measure_title(primary)}, at as many as both came to", header, tuple(rows))] if rows else []
    lead = (
        "Evaluations during training, on development problems, read straight between two of them where runs had sampled equally many "
        "tokens (rollouts and continuations): as many as every run came to, and for differences as many as both arms came to. An arm that "
        "sampled nothing is not compared here."
    )
    return ReportSection("equal-tokens", "At equal sampled tokens", lead, tuple(tables))


def _steps_to_reach(analysis: Analysis) -> ReportSection | None:
    reached = analysis.steps_to_reach(analysis.study.primary)
    if len(reached) < 2:
        return None
    cells = list(reached)
    first = {cell: curve.xs[0] for cell in cells if (curve := analysis.curve(cell, analysis.study.primary)) is not None}
    rows = [(cell.title, *(_steps(reached[target].get(cell), first[cell]) for target in cells)) for cell in cells]
    lead = (
        f"The step at which the mean curve of an arm (a row), smoothed over three evaluations, first reaches where the curve of "
        f"another (a column) ends; {measure_title(analysis.study.primary)}, development problems. Nothing is "
        "known before the first evaluation."
    )
    table = TextTable("", ("arm", *(f"reaches {cell.title}" for cell in cells)), tuple(rows))
    return ReportSection("reach", "Steps to reach another arm's final accuracy", lead, (table,))


def _budgets(analysis: Analysis) -> ReportSection | None:
    table = analysis.table(budgets)
    writers: dict[str, tuple[str, Callable[[float], str]]] = {
        "steps": ("optimiser steps", number),
        "tokens/policy": ("tokens sampled", _count),
        "tokens/teacher": ("tokens by the teacher", _count),
        "tokens/scored": ("tokens the teacher scored", _count),
        "seconds/training": ("time in training", duration),
        "salvage/rate": ("salvages admitted", percent),
    }
    known = [key for key in writers if any(key in row for row in table.values())]
    rows = [
        (cell.title, *(_written(table[cell].get(key), writers[key][1]) for key in known)) for cell in analysis.cells
    ]
    at_once = sorted({result.runs_at_once for result in analysis.all_results if result.runs_at_once})
    shared = f" The machine was shared by {' or '.join(map(str, at_once))} runs at once." if at_once else ""
    lead = (
        "What a run has spent, mean over seeds. Tokens sampled are the policy's own: rollouts, and continuations after "
        f"corrections. Tokens that a teacher scored are none that it wrote. Time is that of training steps alone, without evaluation and loading.{shared}"
    )
    header = ("arm", *(writers[key][0] for key in known))
    return ReportSection("budgets", "What it cost", lead, (TextTable("", header, tuple(rows)),))


# --- tables ---------------------------------------------------------------------------------------------------------


def _cell_table(
    analysis: Analysis,
    title: str,
    measures: Sequence[str],
    table: Mapping[Cell, Mapping[str, Interval]],
    *,
    with_set: bool = False,
) -> TextTable:
    """One row a cell, one column a measure."""
    names = [measure_title(m) if with_set else measure_title(m).partition(", ")[2] for m in measures]
    rows = [
        (cell.title, str(len(analysis.results[cell])), *(_spread_of(table[cell].get(m), m) for m in measures))
        for cell in analysis.cells
    ]
    return TextTable(title, ("arm", "seeds", *names), tuple(rows))


def _comparison_table(
    analysis: Analysis,
    measures: Sequence[str],
    write: Callable[[Comparison], str],
    title: str = "",
) -> TextTable | None:
    """One row for each arm that the reference is compared with, one column a measure."""
    by_measure = {m: {_against(c): write(c) for c in analysis.comparisons(m)} for m in measures}
    names = list(dict.fromkeys(name for found in by_measure.values() for name in found))
    if not names:
        return None
    several = len({m.partition("/")[0] for m in measures}) > 1
    header = [measure_title(m) if several else measure_title(m).partition(", ")[2] for m in measures]
    rows = [(name, *(by_measure[m].get(name, "–") for m in measures)) for name in names]
    return TextTable(title, ("arm", *header), tuple(rows))


def _set_words(analysis: Analysis) -> dict[str, str]:
    return {
        name: f"{record['role']}, {record['num_problems']} problems × {record['samples_per_problem']} samples"
        for name, record in analysis.sets.items()
    }


def _against(comparison: Comparison) -> str:
    """Which cells were compared, as the name of a row."""
    reference, other = comparison.reference, comparison.other
    if reference.value is None or reference.value == other.value:
        return other.title
    return f"{other.title} (reference: {reference.title})"


# --- numbers --------------------------------------------------------------------------------------------------------


def _spread_of(interval: Interval | None, measure: str) -> str:
    if interval is None:
        return "–"
    return _spread(interval, _percentage if is_share(measure) else _decimal, " %" if is_share(measure) else "")


def _spread(interval: Interval, write: Callable[[float], str], unit: str = "") -> str:
    """A mean with its interval.

    >>> _spread(Interval(0.5, 0.42, 0.58, 5), _percentage, " %")
    '50.0 % [42.0, 58.0]'
    """
    if interval.low is None or interval.high is None:
        return f"{write(interval.mean)}{unit}"
    return f"{write(interval.mean)}{unit} [{write(interval.low)}, {write(interval.high)}]"


def _percentage(share: float) -> str:
    return f"{100 * share:.1f}".replace("-", "−")


def _decimal(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")


def _difference_writer(measure: str) -> Callable[[float], str]:
    """Differences of shares are percentage points."""
    return lambda d: signed(round(100 * d, 1)) if is_share(measure) else signed(round(d, 3))


def _relative(comparison: Comparison) -> str:
    if comparison.relative is None:
        return "–"
    return _spread(comparison.relative, lambda share: signed(round(100 * share, 1)), " %")


def _p(value: float | None) -> str:
    """A p-value as it is usually written.

    >>> _p(0.0004), _p(0.0312), _p(None)
    ('< 0.001', '0.031', '–')
    """
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.9995 else "1"


def _written(interval: Interval | None, write: Callable[[float], str]) -> str:
    return "–" if interval is None else write(interval.mean)


def _count(value: float) -> str:
    return number(round(value))


def _steps(step: float | None, first: float) -> str:
    """
    >>> _steps(None, 20), _steps(20, 20), _steps(33.3, 20)
    ('not reached', '≤ 20', '33')
    """
    if step is None:
        return "not reached"
    return f"≤ {number(round(step))}" if step <= first else number(round(step))
