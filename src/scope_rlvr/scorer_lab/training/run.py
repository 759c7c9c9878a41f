"""``scope scorer train``: from labelled solutions and a base model to the folder of a step scorer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.models.resolve import resolve_model
from scope_rlvr.problems.labelled import LabelledFile, LabelledSolution
from scope_rlvr.salvage.rules import Threshold
from scope_rlvr.scorer_lab.bench import ScoredSet, score_rows
from scope_rlvr.scorer_lab.sources import read_source
from scope_rlvr.scorer_lab.training.card import write_card
from scope_rlvr.scorer_lab.training.corpus import Corpus, split_corpus
from scope_rlvr.scorer_lab.training.measure import best_threshold, held_out_figures
from scope_rlvr.scorer_lab.training.settings import ScorerTraining
from scope_rlvr.scorers.description import ScorerDescription
from scope_rlvr.store.checkpoints import step_of
from scope_rlvr.store.files import give_usual_rights, require_new_folder, writing
from scope_rlvr.store.folder import RunFolder, environment

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from scope_rlvr.scorer_lab.training.examples import Example
    from scope_rlvr.scorer_lab.training.trainer import ScorerTrainingMonitor

REQUEST = "request.json"
RECORD = "training.json"
TRAINING_SCHEMA = 1


@dataclass(frozen=True)
class ScorerTrainingRequest:
    """A training as the command line asks for it."""

    data: tuple[str, ...]
    base: str
    settings: ScorerTraining
    skip_bad_rows: bool = False


@dataclass(frozen=True)
class ScorerTrainingPlan:
    """A request whose data were read and found good."""

    request: ScorerTrainingRequest
    base_source: str
    sources: tuple[LabelledFile, ...]
    corpus: Corpus

    def lines(self) -> list[str]:
        """What is going to be learned from, with everything that was left out."""
        corpus = self.corpus
        lines = [f"base      {self.request.base}"]
        for source in self.sources:
            left_out = [f"{number} left out: {reason}" for reason, number in source.left_out.items()]
            left_out += [f"{len(source.bad_rows)} bad row(s) left out"] if source.bad_rows else []
            lines.append("; ".join([f"data      {source.path}: {len(source.solutions)} solutions", *left_out]))
            lines += [f"            {mistake}" for mistake in source.bad_rows[:_BAD_ROWS_SHOWN]]
        num_wrong = sum(solution.first_wrong is not None for solution in corpus.train)
        return [
            *lines,
            f"split     {len(corpus.train)} to train on ({num_wrong} with a wrong step), {len(corpus.threshold)} to choose "
            f"the threshold with, {len(corpus.test)} to measure with; by problem",
        ]

    def record(self) -> dict[str, Any]:
        """What decides the result, to be compared when the training is to go on."""
        return {
            "schema": TRAINING_SCHEMA,
            "data": list(self.request.data),
            "data_digest": self.corpus.digest,
            "base": self.request.base,
            "settings": self.request.settings.model_dump(),
        }


_BAD_ROWS_SHOWN = 5


@dataclass(frozen=True)
class TrainedScorer:
    """How a training ended: by a signal, or with a rule and figures of the held-out solutions."""

    interrupted_by: str = ""
    rule: Threshold | None = None
    figures: dict[str, Any] | None = None
    num_cut: int = 0
    num_too_long: int = 0


def plan_training(request: ScorerTrainingRequest) -> ScorerTrainingPlan:
    """Read all data and find every mistake that can be found without loading a model; raises :class:`UserError`."""
    base_source = resolve_model(request.base, "--base")
    sources = tuple(read_source(name, skip_bad_rows=request.skip_bad_rows) for name in request.data)
    solutions = [solution for source in sources for solution in source.solutions]
    return ScorerTrainingPlan(
        request, base_source, sources, split_corpus(solutions, request.settings.held_out, request.settings.seed)
    )


def check_folder(out: Path, plan: ScorerTrainingPlan, *, resume: bool) -> None:
    """Refuse a folder that holds something else, and a training that would not go on with what it began."""
    if not resume:
        remedy = "name another with --out, or go on with an interrupted training by the same command with --resume"
        require_new_folder(out, remedy)
        return
    if not (out / REQUEST).is_file():
        raise UserError(f"{out} holds no training to go on with (no {REQUEST}); leave --resume out to begin one")
    if (out / RECORD).is_file():
        raise UserError(f"the training in {out} is finished; there is nothing left to resume")
    before, now = json.loads((out / REQUEST).read_text(encoding="utf-8")), plan.record()
    differing = _differences(before, now)
    if differing:
        raise UserError(
            f"the training in {out} was begun differently: {'; '.join(differing)}. Give the same command as then, or begin "
            "a new training in another folder"
        )


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    flat_before, flat_now = ({**record, **record.get("settings", {})} for record in (before, now))
    names = [name for name in flat_now if name != "settings" and flat_before.get(name) != flat_now[name]]
    return [f"{name} was {flat_before.get(name)!r} and is {flat_now[name]!r}" for name in names]


def run(plan: ScorerTrainingPlan, out: Path, monitor: ScorerTrainingMonitor, *, resume: bool) -> TrainedScorer:
    """Train (or go on), measure, and write the scorer's folder; :class:`UserError` where the base cannot be used."""
    import torch

    from scope_rlvr.models.precision import require_hardware
    from scope_rlvr.scorer_lab.training.base import load_base, train_upper_layers

    settings = plan.request.settings
    require_hardware(settings.dtype, "--dtype")
    torch.set_num_threads(settings.threads)
    model, tokenizer = load_base(plan.base_source, plan.request.base, plan.corpus.train, settings.seed)
    if settings.train_layers is not None:
        train_upper_layers(model, settings.train_layers)
    folder = RunFolder(out)
    checkpoint = folder.last_checkpoint(monitor.note) if resume else None
    if resume:
        monitor.note(f"resume    from step {step_of(checkpoint)}; later steps are done again")
    record = None if resume else plan.record()
    trained = train_step_scorer(model, tokenizer, plan.corpus, settings, folder, monitor, checkpoint, record)
    if trained.figures is not None:
        _finish(plan, folder, model, tokenizer, trained)
    return trained


def _create(folder: RunFolder, record: dict[str, Any]) -> None:
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.write_json(REQUEST, record)
    except OSError as error:
        raise UserError(f"the output folder {folder.path} cannot be written: {error.strerror or error}") from error


def train_step_scorer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    settings: ScorerTraining,
    folder: RunFolder,
    monitor: ScorerTrainingMonitor,
    resume_from: Path | None = None,
    record: dict[str, Any] | None = None,
) -> TrainedScorer:
    """Train a token classifier on a corpus, choose its threshold, and measure it: what every step scorer is made by.

    ``record`` is written into a new folder once nothing can be found wrong any more.
    """
    from scope_rlvr.scorer_lab.training.trainer import fit
    from scope_rlvr.scorers.token_classifier import TokenClassifierScorer

    examples, num_cut, num_too_long = _examples(model, tokenizer, corpus.train, settings)
    if record is not None:
        _create(folder, record)
    interrupted_by = fit(model, tokenizer, examples, settings, folder, monitor, resume_from)
    if interrupted_by:
        return TrainedScorer(interrupted_by)
    monitor.note("measuring on held-out solutions")
    scorer = TokenClassifierScorer(model, tokenizer, Threshold(), settings.family, settings.micro_rows)
    parts = {"threshold": corpus.threshold, "test": corpus.test}
    scored = {
        name: ScoredSet(name, part, tuple(scores for some in score_rows(scorer, part) for scores in some))
        for name, part in parts.items()
    }
    rule = best_threshold(scored["threshold"])
    return TrainedScorer("", rule, held_out_figures(scored["test"], rule), num_cut, num_too_long)


def _examples(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    solutions: Sequence[LabelledSolution],
    settings: ScorerTraining,
) -> tuple[list[Example], int, int]:
    """Examples to train on, how many of them lost steps at the end, and how many solutions were too long altogether."""
    from scope_rlvr.models.loading import can_read
    from scope_rlvr.scorer_lab.training.examples import IGNORED, make_example

    limits = (settings.max_tokens, getattr(model.config.get_text_config(), "max_position_embeddings", None))
    max_tokens = min((limit for limit in limits if limit is not None), default=None)
    if not can_read(tokenizer, settings.separator):
        raise UserError(f"the base has no token for the separator {settings.separator!r}; name another by --separator")
    try:
        made = [(s, make_example(tokenizer, s, settings.family, max_tokens)) for s in solutions]
    except ValueError as error:
        raise UserError(f"a solution cannot be written for the base: {error}") from error
    examples = [example for _, example in made if example is not None]
    num_cut = sum(e is not None and sum(label != IGNORED for label in e.labels) < len(s.step_labels) for s, e in made)
    if not examples:
        raise UserError(
            f"none of the {len(solutions)} solutions to train on has a step that ends within {max_tokens} tokens; raise "
            "--max-tokens, or take a base with a longer context"
        )
    return examples, num_cut, len(solutions) - len(examples)


def _finish(
    plan: ScorerTrainingPlan,
    folder: RunFolder,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    trained: TrainedScorer,
) -> None:
    """Write the scorer; the record comes last, and says that all the rest is there."""
    assert trained.rule is not None
    with writing(folder.path):
        model.save_pretrained(folder.path)
        tokenizer.save_pretrained(folder.path)
        give_usual_rights(folder.path)
    ScorerDescription(family=plan.request.settings.family, rule=trained.rule).write(folder.path)
    record = plan.record() | {
        "sources": [
            {
                "name": str(source.path),
                "num_solutions": len(source.solutions),
                "left_out": source.left_out,
                "bad_rows": list(source.bad_rows),
            }
            for source in plan.sources
        ],
        "split": {
            "train": len(plan.corpus.train),
            "threshold": len(plan.corpus.threshold),
            "test": len(plan.corpus.test),
        },
        "num_cut": trained.num_cut,
        "num_too_long": trained.num_too_long,
        "threshold": trained.rule.threshold,
        "figures": trained.figures,
        "environment": environment(),
    }
    write_card(folder.path, record)
    folder.write_json(RECORD, record)
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
