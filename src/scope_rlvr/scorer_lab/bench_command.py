"""``scope scorer bench``: from a scorer and files by their names to figures and a folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import StepScorer
from scope_rlvr.formulas.estimators import LEVEL, NUM_RESAMPLES
from scope_rlvr.problems.family import ProblemFamily
from scope_rlvr.problems.labelled import LabelledFile, LabelledSolution
from scope_rlvr.run.config import RunConfig, apply_override, validate_config
from scope_rlvr.run.verifier import family_of
from scope_rlvr.salvage.rules import AnyRule
from scope_rlvr.scorer_lab.baselines import BASELINES
from scope_rlvr.scorer_lab.bench import BenchResult, ScoredSet, Scores, SetResult, bench, score_rows
from scope_rlvr.scorer_lab.first_error import FirstErrorFigures
from scope_rlvr.scorer_lab.sources import read_source
from scope_rlvr.scorers.settings import EXACT
from scope_rlvr.store.digests import bytes_digest, file_digest
from scope_rlvr.store.files import require_new_folder
from scope_rlvr.store.folder import environment
from scope_rlvr.store.journal import append_records, read_records, rewrite_records

BENCH_SCHEMA = 1
BENCH_FILE, SCORES_FILE, PLOTS = "bench.json", "scores.jsonl", "plots"


# --- what is named ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScorerSpec:
    """A scorer by its name, with keys of the run configuration that say more of it."""

    name: str
    config: RunConfig

    @classmethod
    def parse(cls, name: str, overrides: Sequence[str]) -> ScorerSpec:
        """Raises :class:`UserError` for overrides that are none, and for any with a baseline, which has no settings."""
        if name in BASELINES and any(o.lstrip().startswith("scorer.") for o in overrides):
            raise UserError(f"--scorer {name} is a baseline without settings; leave out --set {overrides[0]}")
        values: dict[str, Any] = {} if name in BASELINES else {"scorer": {"model": name}}
        for override in overrides:
            apply_override(values, override)
        return cls(name, validate_config(values, "--scorer with --set"))

    def load(self, solutions: Sequence[LabelledSolution]) -> StepScorer:
        """The scorer, ready for these solutions; :class:`UserError` where it cannot be used on them."""
        config = self.config
        if self.name in BASELINES:
            return BASELINES[self.name](config.run.seed)
        family = family_of(config)
        if self.name == EXACT:
            _require_problems_of(family, solutions)
        import torch

        from scope_rlvr.models.quiet import quiet_libraries
        from scope_rlvr.scorers.loading import load_scorer

        quiet_libraries([self.name])
        torch.set_num_threads(config.run.threads)
        problems = [solution.problem for solution in solutions]
        return load_scorer(config.scorer, problems=problems, problem_family=family, seed=config.run.seed)

    def record(self, rule: AnyRule) -> dict[str, Any]:
        """What tells this scorer from others: its name, its settings, its rule, digests of weights, and Hub revisions."""
        from scope_rlvr.scorers.origin import revisions_of, weights_of

        section = None if self.name in BASELINES else self.config.scorer
        return {
            "name": self.name,
            "seed": self.config.run.seed,
            "settings": {} if section is None else section.model_dump(mode="json", exclude={"model"}),
            "rule": rule.model_dump(mode="json"),
            "weights": {} if section is None else weights_of(section),
            "revisions": {} if section is None else revisions_of(section),
        }


def _require_problems_of(family: ProblemFamily, solutions: Sequence[LabelledSolution]) -> None:
    for solution in solutions:
        try:
            family.first_wrong_step(solution.problem, ())
        except ValueError as error:
            raise UserError(
                f"--scorer {EXACT} knows the problems of the family {family.name!r} alone: {error}; name a model"
            ) from error


def read_files(names: Sequence[str], *, tune_on: str | None, skip_bad_rows: bool) -> list[LabelledFile]:
    """The labelled files, each under a name of its own. ``tune_on`` is one of the names. Embedded data are of the test split."""
    files = [read_source(name, skip_bad_rows=skip_bad_rows, embedded_split="test") for name in names]
    called = [file.name for file in files]
    if repeated := sorted({name for name in called if called.count(name) > 1}):
        raise UserError(f"two files are called {repeated[0]!r}; results go by the name of the file: rename one of them")
    if tune_on is not None and tune_on not in called:
        raise UserError(f"--tune-on {tune_on!r} is none of the files; they are called {', '.join(called)}")
    return files


# --- scores, written as they come -------------------------------------------------------------------------------------


@dataclass
class ScoreJournal:
    """``scores.jsonl``: a line that says whose scores these are, then one line a row, in order.

    A bench that was broken off goes on behind its last line, if scorer and files are the same.
    """

    file: Path
    done: list[dict[str, Any]]

    @classmethod
    def open(cls, path: Path, whose: dict[str, Any]) -> ScoreJournal:
        """The journal of a new folder, or of one that holds scores of the same bench and no results yet."""
        file = path / SCORES_FILE
        first, *done = (list(read_records(file)) if file.is_file() else []) or [whose]
        if first != whose:
            changed = sorted(key for key in whose if first.get(key) != whose[key])
            raise UserError(
                f"{file} holds scores of another bench ({', '.join(changed)} differ); name another folder with --out"
            )
        path.mkdir(parents=True, exist_ok=True)
        # Written anew, so that the next line does not follow half a line.
        rewrite_records(file, (whose, *done))
        return cls(file, done)

    def take(self, name: str, count: int) -> list[Scores]:
        """The scores of a file's rows that were there already."""
        found = [line["scores"] for line in self.done if line["file"] == name][:count]
        return [None if scores is None else tuple(scores) for scores in found]

    def add(self, name: str, solutions: Sequence[LabelledSolution], scores: Sequence[Scores]) -> None:
        append_records(
            self.file,
            (
                {"file": name, "id": solution.problem.id, "first_wrong": solution.first_wrong, "scores": row}
                for solution, row in zip(solutions, scores, strict=True)
            ),
        )


def require_free(out: Path) -> None:
    """Refuse, before anything is loaded, a folder that cannot be written or holds anything but unfinished scores."""
    is_unfinished = (out / SCORES_FILE).is_file() and not (out / BENCH_FILE).exists()
    if not is_unfinished:
        require_new_folder(out, "name another with --out, or remove it")
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"the output folder {out} cannot be written: no right to write in {there}")


@dataclass(frozen=True)
class Throughput:
    """What was scored in this process, and in how many seconds."""

    solutions: int
    steps: int
    seconds: float

    @property
    def steps_per_second(self) -> float | None:
        return self.steps / self.seconds if self.seconds else None

    @property
    def solutions_per_second(self) -> float | None:
        return self.solutions / self.seconds if self.seconds else None


def score_files(
    scorer: StepScorer,
    files: Sequence[LabelledFile],
    journal: ScoreJournal | None = None,
    on_scored: Callable[[int], None] = lambda num_rows: None,
) -> tuple[list[ScoredSet], Throughput]:
    """Score every solution that is not in the journal; ``on_scored`` is called with the number of new rows."""
    sets, num_solutions, num_steps, seconds = [], 0, 0, 0.0
    for file in files:
        scores = journal.take(file.name, len(file.solutions)) if journal is not None else []
        on_scored(len(scores))
        started = time.perf_counter()
        for some in score_rows(scorer, file.solutions[len(scores) :]):
            solutions = file.solutions[len(scores) : len(scores) + len(some)]
            scores += some
            seconds += time.perf_counter() - started
            num_solutions += len(some)
            num_steps += sum(len(solution.steps) for solution in solutions)
            if journal is not None:
                journal.add(file.name, solutions, some)
            on_scored(len(some))
            started = time.perf_counter()
        sets.append(ScoredSet(file.name, file.solutions, tuple(scores)))
    return sets, Throughput(num_solutions, num_steps, seconds)


# --- bench ------------------------------------------------------------------------------------------------------------


def journal_of(out: Path, spec: ScorerSpec, scorer: StepScorer, files: Sequence[LabelledFile]) -> ScoreJournal:
    """The journal of this scorer's scores for these files."""
    whose = {"schema": BENCH_SCHEMA, "scorer": spec.record(own_rule(scorer)), "files": [file_record(f) for f in files]}
    return ScoreJournal.open(out, whose)


def own_rule(scorer: StepScorer) -> AnyRule:
    """The rule that a scorer carries; every scorer that can be named carries one of the known ones."""
    return cast(AnyRule, scorer.rule)


def judged(sets: Sequence[ScoredSet], scorer: StepScorer, tune_on: str | None) -> BenchResult:
    """The figures of all sets, the rule tuned on the one of this name, or on the first."""
    return bench(sets, own_rule(scorer), tune_on or sets[0].name)


def bench_record(
    spec: ScorerSpec, files: Sequence[LabelledFile], found: BenchResult, throughput: Throughput
) -> dict[str, Any]:
    """The content of ``bench.json``, as docs/formats.md describes it."""
    return {
        "schema": BENCH_SCHEMA,
        "scorer": spec.record(found.own_rule),
        "tuned": {"on": found.tuned_on, "rule": found.tuned_rule.model_dump(mode="json")},
        "mean_f1": found.mean_f1,
        "mean_tuned_f1": found.mean_tuned_f1,
        "files": [
            {**file_record(file), **_result_record(result)} for file, result in zip(files, found.results, strict=True)
        ],
        "throughput": asdict(throughput)
        | {"solutions_per_second": throughput.solutions_per_second, "steps_per_second": throughput.steps_per_second},
        "interval": interval(),
        "environment": environment(),
    }


def file_record(file: LabelledFile) -> dict[str, Any]:
    return {
        "name": file.name,
        "path": str(file.path),
        "sha256": _digest(file),
        "num_rows": len(file.solutions),
        "num_bad_rows": len(file.bad_rows),
        "bad_rows": list(file.bad_rows),
        "left_out": file.left_out,
    }


def _digest(file: LabelledFile) -> str:
    """Of the file's content, or of the solutions that come from no file."""
    if file.path.is_file():
        return file_digest(file.path)
    rows = [[solution.problem.prompt, solution.steps, solution.first_wrong] for solution in file.solutions]
    return bytes_digest([json.dumps(rows).encode()])


def _result_record(result: SetResult) -> dict[str, Any]:
    return {
        "num_unscored": result.num_unscored,
        "own": figures_record(result.own),
        "tuned": figures_record(result.tuned),
        "on_wrong_answers": None if result.on_wrong_answers is None else figures_record(result.on_wrong_answers),
        "reliability": None if result.reliability is None else asdict(result.reliability),
    }


def figures_record(figures: FirstErrorFigures) -> dict[str, Any]:
    return asdict(figures) | {"distances": {str(steps): count for steps, count in figures.distances.items()}}


def interval() -> dict[str, Any]:
    return {"kind": "percentile bootstrap over rows", "level": LEVEL, "num_resamples": NUM_RESAMPLES}
