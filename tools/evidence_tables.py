"""Writes the tables of docs/evidence.md, docs/real-model.md and README.md from the result files of the studies, and the plots that they show.

python tools/evidence_tables.py            write them
python tools/evidence_tables.py --check    exit with 1 where a table is not up to date

A table stands between ``<!-- table: NAME -->`` and ``<!-- end of table -->``; the words around it are written by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from scope_rlvr.study.analysis import Analysis, Comparison, budgets, measures_after
from scope_rlvr.study.charts import charts_of
from scope_rlvr.study.folder import StudyFolder
from scope_rlvr.study.plan import load_study
from scope_rlvr.study.statistics import Interval, mean_interval

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "docs" / "evidence.md", ROOT / "docs" / "real-model.md", ROOT / "README.md")
PICTURES = ROOT / "docs" / "images" / "evidence"
STUDIES = ROOT / "recipes" / "studies"
RESULTS_OF_ANOTHER = {"second_round": "main"}
"""Studies whose runs lie in the folder of another one, because they have arms in common."""

DEVELOPMENT = STUDIES / "results" / "development.json"
TEMPERATURE = STUDIES / "results" / "temperature.json"

SETS = ("reduction-6", "reduction-9", "reduction-10")
SHOWN_CHARTS = (
    "reduction-6-accuracy-by-steps",
    "reduction-10-accuracy-by-steps",
    "reduction-6-diversity-distinct_right_solutions-by-steps",
    "policy-entropy-by-steps",
)
HEADLINE = {
    "grpo": "GRPO",
    "luffy_shaped": "LUFFY as published",
    "scope": "SCOPE",
    "scope_pair": "SCOPE with pairs (chosen later)",
    "luffy": "LUFFY with `-log π`, tuned",
    "sft_then_grpo": "SFT, then GRPO, tuned",
}
_BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
_DISTINCT = "reduction-6/diversity/distinct_right_solutions"

Rows = Iterable[Sequence[str]]


def renewed(page: Path) -> str:
    """The text of a page with every table made anew."""
    return _BLOCK.sub(lambda m: m[1] + TABLES[m[2]]() + m[3], page.read_text(encoding="utf-8"))


@cache
def analysis(name: str) -> Analysis:
    """A study with the results that lie in this repository."""
    study = load_study(STUDIES / f"{name}.toml")
    folder = StudyFolder.at(ROOT / "runs" / "studies" / name, STUDIES / "results" / RESULTS_OF_ANOTHER.get(name, name))
    return Analysis(study, folder.results_of(study))


# --- tables -----------------------------------------------------------------------------------------------------------


def results(study: Analysis) -> str:
    """What every arm came to."""
    after, spent = study.table(measures_after), study.table(budgets)
    header = ("arm", "seeds", *_levels("accuracy at {}"), "maj@8 at 10", "distinct right of 8, at 6", "teacher tokens")
    return _table(
        header,
        (
            (
                cell.label,
                str(len(study.results[cell])),
                *(_share(after[cell][f"{s}/accuracy"]) for s in SETS),
                _share(after[cell]["reduction-10/maj_at_8"]),
                _decimal(after[cell][_DISTINCT]),
                f"{spent[cell]['tokens/teacher'].mean:,.0f}",
            )
            for cell in study.cells
        ),
    )


def headline() -> str:
    """The means of the arms that a first reader asks for."""
    study = analysis("second_round")
    after, spent = study.table(measures_after), study.table(budgets)
    cells = {cell.arm: cell for cell in study.cells}
    header = ("", "6 numbers (trained)", "9 numbers", "10 numbers", "distinct right, at 6", "teacher tokens")
    return _table(
        header,
        (
            (
                words,
                *(_percent(after[cells[arm]][f"{s}/accuracy"].mean) for s in SETS),
                f"{after[cells[arm]][_DISTINCT].mean:.2f} of 8",
                f"{spent[cells[arm]]['tokens/teacher'].mean:,.0f}",
            )
            for arm, words in HEADLINE.items()
        ),
    )


def differences(study: Analysis) -> str:
    """The reference minus every other arm, seed by seed."""
    found = {m: {c.other: c for c in study.comparisons(m)} for m in (*(f"{s}/accuracy" for s in SETS), _DISTINCT)}
    reference = next(iter(found["reduction-6/accuracy"].values())).reference
    header = (
        f"{reference.label} minus",
        "pairs",
        "at 6",
        "p, Holm",
        *_levels("at {}", SETS[1:]),
        "distinct right, at 6",
    )
    return _table(
        header,
        (
            (
                other.label,
                str(tested.difference.interval.num_seeds),
                _points(tested.difference.interval),
                _p(tested.holm_sign_flip),
                *(_points(found[f"{s}/accuracy"][other].difference.interval) for s in SETS[1:]),
                _relative(found[_DISTINCT][other]),
            )
            for other, tested in found["reduction-6/accuracy"].items()
        ),
    )


def ablations() -> str:
    """Every arm, and its difference from SCOPE as tuned."""
    study = analysis("ablations")
    after, spent = study.table(measures_after), study.table(budgets)
    minus = {m: {c.other: c.difference.interval for c in study.comparisons(f"{m}/accuracy")} for m in SETS}
    header = (
        "what is changed",
        *_levels("accuracy at {}"),
        "difference at 6",
        "difference at 10",
        "distinct right of 8, at 6",
        "salvages admitted",
        "teacher tokens",
    )
    return _table(
        header,
        (
            (
                cell.label,
                *(_percent(after[cell][f"{s}/accuracy"].mean) for s in SETS),
                *(_points(_negated(minus[s][cell])) if cell in minus[s] else "" for s in (SETS[0], SETS[2])),
                f"{after[cell][_DISTINCT].mean:.2f}",
                _rate(spent[cell].get("salvage/rate")),
                f"{spent[cell]['tokens/teacher'].mean:,.0f}",
            )
            for cell in study.cells
        ),
    )


def robustness(name: str) -> str:
    """SCOPE at every value of the sweep, and what is left of its lead over GRPO."""
    study = analysis(name)
    after, spent = study.table(measures_after), study.table(budgets)
    leads = {s: {c.reference: c.difference.interval for c in study.comparisons(f"{s}/accuracy")} for s in SETS}
    header = ("arm", "share", *_levels("accuracy at {}"), *_levels("lead over GRPO at {}"), "salvages admitted")
    return _table(
        header,
        (
            (
                cell.label,
                "" if cell.value is None else f"{100 * float(cell.value):.0f} %",
                *(_percent(after[cell][f"{s}/accuracy"].mean) for s in SETS),
                *(_points(leads[s][cell]) if cell in leads[s] else "" for s in SETS),
                _rate(spent[cell].get("salvage/rate")),
            )
            for cell in study.cells
        ),
    )


def tuning(name: str) -> str:
    """Every setting that was tried on the development seed, best first."""
    runs: list[dict[str, Any]] = json.loads(DEVELOPMENT.read_text(encoding="utf-8"))[name]
    names = list(dict.fromkeys(run["method"] for run in runs))
    best = {name: max(run["mean"] for run in runs if run["method"] == name) for name in names}
    return _table(
        ("method", "changed from its default", "mean", "6", "9", "10"),
        (
            (
                f"`{run['method']}`",
                ", ".join(f"`{change.removeprefix('method.')}`" for change in run["changed"]) or "nothing",
                f"**{run['mean']:.3f}**" if run["mean"] == best[name] else f"{run['mean']:.3f}",
                *(f"{run['accuracy'][level]:.3f}" for level in ("6", "9", "10")),
            )
            for name in names
            for run in sorted((r for r in runs if r["method"] == name), key=lambda r: -r["mean"])
        ),
    )


def temperature() -> str:
    """The final policies of the main comparison, sampled at a lower temperature."""
    runs: list[dict[str, Any]] = json.loads(TEMPERATURE.read_text(encoding="utf-8"))["runs"]
    labels = {cell.arm: cell.label for name in ("second_round", "main") for cell in analysis(name).cells}

    def over_seeds(arm: str, measure: str, level: str) -> Interval:
        return mean_interval([run[measure][level] for run in runs if run["arm"] == arm])

    return _table(
        ("arm", "seeds", *_levels("accuracy at {}"), "maj@8 at 10", "distinct right of 8, at 6"),
        (
            (
                labels[arm],
                str(sum(run["arm"] == arm for run in runs)),
                *(_share(over_seeds(arm, "accuracy", level)) for level in ("6", "9", "10")),
                _share(over_seeds(arm, "maj_at_8", "10")),
                _decimal(over_seeds(arm, "distinct_right_solutions", "6")),
            )
            for arm in dict.fromkeys(run["arm"] for run in runs)
        ),
    )


def real_model() -> str:
    """What every arm came to on English stories, set by set, with what was run so far.

    The policy of the study is made by a warm-up and is not in this repository, so the result files are read without the study.
    """
    by_arm: dict[str, list[dict[str, Any]]] = {}
    for file in sorted((STUDIES / "results" / "smollm2").glob("*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        by_arm.setdefault(result["arm"], []).append(result)
    sets = list(next(iter(by_arm.values()))[0]["after"])
    sets.sort(key=lambda name: name != TRAINED_STORIES)

    def mean(results: Sequence[dict[str, Any]], name: str, measure: str) -> str:
        return _percent(fmean(result["after"][name][measure] for result in results))

    header = ("arm", "seeds", *sets, f"pass@4 on {sets[0]}", "truncated", "teacher tokens", "minutes of training")
    return _table(
        header,
        (
            (
                f"`{arm}`",
                str(len(results)),
                *(mean(results, name, "accuracy") for name in sets),
                mean(results, sets[0], "pass_at_4"),
                f"{fmean(result['after'][sets[0]]['num_truncated'] / _num_samples(result) for result in results):.0%}",
                f"{fmean(result['tokens']['teacher'] for result in results):,.0f}",
                f"{fmean(result['seconds']['training'] for result in results) / 60:.0f}",
            )
            for arm, results in by_arm.items()
        ),
    )


def _num_samples(result: dict[str, Any]) -> int:
    record = result["after"][TRAINED_STORIES]
    return int(record["num_problems"] * record["samples_per_problem"])


TRAINED_STORIES = "stories-2-4"


TABLES: dict[str, Callable[[], str]] = {
    "headline": headline,
    "main-results": lambda: results(analysis("main")),
    "main-differences": lambda: differences(analysis("main")),
    "ablations": ablations,
    "scorer-noise": lambda: robustness("scorer_noise"),
    "teacher-noise": lambda: robustness("teacher_noise"),
    "tuning": lambda: tuning("runs"),
    "second-round-tuning": lambda: tuning("second_round"),
    "temperature": temperature,
    "real-model": real_model,
    "second-round": lambda: differences(analysis("second_round")),
}


# --- cells ------------------------------------------------------------------------------------------------------------


def _table(header: Sequence[str], rows: Rows) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _levels(words: str, sets: Sequence[str] = SETS) -> list[str]:
    return [words.format(name.removeprefix("reduction-")) for name in sets]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _share(interval: Interval) -> str:
    return f"{_percent(interval.mean)}{_ends(interval, lambda end: f'{100 * end:.1f}')}"


def _decimal(interval: Interval) -> str:
    return f"{interval.mean:.2f}{_ends(interval, lambda end: f'{end:.2f}')}"


def _ends(interval: Interval, write: Callable[[float], str]) -> str:
    if interval.low is None or interval.high is None:
        return ""
    return f" [{write(interval.low)}, {write(interval.high)}]"


def _points(interval: Interval) -> str:
    return _signed(interval.mean) + _ends(interval, _signed)


def _relative(comparison: Comparison) -> str:
    found = comparison.relative
    return "–" if found is None else f"{_whole(found.mean)} %{_ends(found, _whole)}"


def _rate(interval: Interval | None) -> str:
    return "" if interval is None else f"{100 * interval.mean:.0f} %"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _whole(share: float) -> str:
    return f"{100 * share:+.0f}".replace("-", "−")


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _negated(interval: Interval) -> Interval:
    low, high = interval.low, interval.high  # subtracted from 0.0, because the negative of a zero has a sign
    return Interval(
        0.0 - interval.mean,
        None if high is None else 0.0 - high,
        None if low is None else 0.0 - low,
        interval.num_seeds,
    )


def _draw() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    for chart in charts_of(analysis("main")):
        if chart.name in SHOWN_CHARTS:
            chart.save(PICTURES)
            (PICTURES / f"{chart.name}.png").unlink()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write the tables and plots of the studies into the pages.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 where a table is not up to date"
    )
    is_check = parser.parse_args().check
    if not is_check:
        _draw()
    texts = {path: renewed(path) for path in PAGES}
    stale = [path for path, text in texts.items() if path.read_text(encoding="utf-8") != text]
    for path in stale:
        if not is_check:
            path.write_text(texts[path], encoding="utf-8")
        print(f"{path.relative_to(ROOT)} {'is not up to date' if is_check else 'written'}")
    sys.exit(int(is_check and bool(stale)))


if __name__ == "__main__":
    main()
