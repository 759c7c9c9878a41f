"""An evaluation as it is asked for, with every number filled in and every mistake found that needs no model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.types import Problem
from scope_rlvr.evaluation.against import Earlier
from scope_rlvr.evaluation.evaluate import EvaluationSet
from scope_rlvr.evaluation.measures import choose
from scope_rlvr.grading.reading import one_group
from scope_rlvr.grading.settings import (
    PLAIN_KINDS,
    AnyVerifier,
    PatternKind,
)
from scope_rlvr.models.precision import Precision
from scope_rlvr.models.resolve import resolve_model
from scope_rlvr.problems.family import Split
from scope_rlvr.problems.sources import family_name, is_family
from scope_rlvr.run.config import RunConfig, load_config
from scope_rlvr.run.data import evaluation_set, evaluation_sets, rows_left_out
from scope_rlvr.run.sections import EvaluationSetSection
from scope_rlvr.store.folder import RunFolder

if TYPE_CHECKING:
    pass

EVALUATION_SCHEMA = 1


@dataclass(frozen=True)
class EvaluationRequest:
    """An evaluation as the command line asks for it. ``None`` means: as in ``config``, else as in the run, else the default.

    ``data`` is the folder with local copies of benchmarks, ``against`` the file of another evaluation to compare with.
    """

    model: str
    config: Path | None = None
    data: Path | None = None
    problems: tuple[str, ...] = ()
    split: Split = "test"
    num_problems: int | None = None
    problems_block: int | None = None
    samples: int | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    metrics: tuple[str, ...] = ()
    embedding_model: str | None = None
    verifier: str | None = None
    answer_pattern: str | None = None
    batch_rows: int | None = None
    threads: int | None = None
    dtype: str | None = None
    against: Path | None = None


@dataclass(frozen=True)
class EvaluationPlan:
    """A request with every number filled in and everything checked that can be checked without a model."""

    request: EvaluationRequest
    source: str
    config: RunConfig
    sets: tuple[EvaluationSet, ...]
    earlier: Earlier | None = None

    @property
    def temperature(self) -> float:
        given = self.config.evaluation.temperature
        return self.config.sampling.temperature if given is None else given

    @property
    def problems(self) -> list[Problem]:
        return [problem for evaluation_set in self.sets for problem in evaluation_set.problems]

    @property
    def num_samples(self) -> int:
        """Rollouts in all."""
        return sum(len(s.problems) * self.samples_of(s) for s in self.sets)

    @property
    def metrics(self) -> frozenset[str]:
        """All that is measured on some set."""
        return frozenset(name for s in self.sets for name in self.metrics_of(s))

    def samples_of(self, held_out: EvaluationSet) -> int:
        """Samples for each problem of a set."""
        return held_out.samples_per_problem or self.config.evaluation.samples_per_problem

    def metrics_of(self, held_out: EvaluationSet) -> tuple[str, ...]:
        """What is measured on a set; :class:`UserError` for a measure that needs more samples."""
        return choose(self.request.metrics, self.samples_of(held_out))

    def lines(self) -> list[str]:
        """What is going to happen, with the arithmetic of its size."""
        evaluation = self.config.evaluation
        sizes = ", ".join(f"{s.name} ({s.size} x {self.samples_of(s)})" for s in self.sets)
        left_out = rows_left_out(*((f"of {s.name} ", s.left_out) for s in self.sets))
        return [
            f"model     {self.request.model}",
            f"problems  {sizes} samples = {self.num_samples} rollouts{left_out}",
            f"sampling  temperature {self.temperature:g}, at most {evaluation.max_response_tokens} tokens, "
            f"seed {self.config.run.seed}",
        ]


def plan_evaluation(request: EvaluationRequest) -> EvaluationPlan:
    """Find every mistake that can be found without loading a model; raises :class:`UserError`."""
    source, base = _source_of(request)
    config = _resolved(request, base)
    choose(request.metrics, config.evaluation.samples_per_problem)
    if request.problems:
        known = () if base is None else config.evaluation.sets
        sets = [_problem_set(spec, config, known, request.split) for spec in request.problems]
        _require_verifier(request, config)
    elif base is not None:
        sets = evaluation_sets(config, request.split)
    else:
        raise UserError(
            "no problems are named; give --problems and a benchmark, a file, a Hub data set or a level of a family, such as "
            "--problems reduction:6, or --config and a file with [[evaluation.sets]]"
        )
    if request.embedding_model is not None:
        resolve_model(request.embedding_model, "--embedding-model")
    earlier = None if request.against is None else Earlier.read(request.against)
    plan = EvaluationPlan(request, source, config, tuple(sets), earlier)
    for asked in plan.sets:
        plan.metrics_of(asked)
        if earlier is not None:
            earlier.require(asked.name, plan.samples_of(asked), [problem.id for problem in asked.problems])
    return plan


def _source_of(request: EvaluationRequest) -> tuple[str, RunConfig | None]:
    """The model's folder or Hub name, and the configuration that is named, or else the run's where a run is named."""
    given = None if request.config is None else load_config(request.config)
    model = request.model
    if not (Path(model) / "config.toml").is_file():
        return resolve_model(model, "MODEL"), given
    folder = RunFolder.open(Path(model))
    if not (folder.model / "config.json").is_file():
        raise UserError(
            f"the run {model} has no trained model in {folder.model}: it has not come to its end. Go on with it by "
            f"'scope train --resume {model}', or name one of its checkpoints ({folder.checkpoints}/checkpoint-N)"
        )
    return resolve_model(str(folder.model), "MODEL"), given or load_config(folder.path / "config.toml")


def _resolved(request: EvaluationRequest, base: RunConfig | None) -> RunConfig:
    """The configuration with what was asked for in place of what it says."""
    config = base or RunConfig()
    sets = config.evaluation.sets
    if request.samples is not None:
        sets = tuple(section.model_copy(update={"samples_per_problem": None}) for section in sets)
    if request.temperature is not None and not (math.isfinite(request.temperature) and request.temperature >= 0):
        raise UserError(f"--temperature {request.temperature}: give a number that is 0 (greedy) or more")
    evaluation = {
        "num_problems": request.num_problems,
        "num_problems_during": request.num_problems,
        "problems_block": request.problems_block,
        "samples_per_problem": request.samples,
        "batch_rows": request.batch_rows,
        "sets": sets,
        "temperature": request.temperature,
        "max_response_tokens": request.max_tokens,
    }
    problems = _given({"folder": request.data})
    if families := [family_name(spec) for spec in request.problems if is_family(spec)]:
        # Their answers are read as this family writes them, whatever was trained on.
        problems |= {"family": families[0], "source": None}
    return config.model_copy(
        update={
            "model": config.model.model_copy(update={"policy": request.model, "dtype": _dtype(request, config)}),
            "evaluation": config.evaluation.model_copy(update=_given(evaluation)),
            "problems": config.problems.model_copy(update=problems),
            "run": config.run.model_copy(update=_given({"seed": request.seed, "num_threads": request.threads})),
            "verifier": _verifier(request, config.verifier),
        }
    )


def _dtype(request: EvaluationRequest, config: RunConfig) -> Precision:
    """What is asked for, or what the run's policy was sampled in."""
    return config.model.dtype or Precision.FLOAT32 if request.dtype is None else Precision(request.dtype)


def _verifier(request: EvaluationRequest, given: AnyVerifier) -> AnyVerifier:
    """The verifier that is asked for, with its defaults where it is another kind than the configuration's."""
    if request.verifier is not None and request.verifier != given.kind:
        if request.verifier not in PLAIN_KINDS:
            raise UserError(
                f"--verifier {request.verifier!r}: name one of {', '.join(PLAIN_KINDS)}, or describe another in a "
                "configuration and give that with --config"
            )
        given = PLAIN_KINDS[request.verifier]()
    if request.answer_pattern is None:
        return given
    if "answer_pattern" not in type(given).model_fields:
        raise UserError(f"--answer-pattern: the verifier {given.kind!r} reads no pattern; name --verifier pattern, too")
    try:
        one_group(request.answer_pattern)
    except ValueError as error:
        raise UserError(f"--answer-pattern: {error}") from error
    return given.model_copy(update={"answer_pattern": request.answer_pattern})


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _require_verifier(request: EvaluationRequest, config: RunConfig) -> None:
    """Refuse to read all the world's answers by the pattern of the embedded problems: every one of them would be wrong."""
    foreign = [spec for spec in request.problems if not is_family(spec)]
    if foreign and request.verifier is None and config.verifier == PatternKind():
        raise UserError(
            f"what judges the answers to {foreign[0]}? Give --verifier math for boxed answers, another kind, or --config; "
            "--verifier pattern reads them as those of the embedded problems are read"
        )


def _problem_set(spec: str, config: RunConfig, known: Sequence[EvaluationSetSection], split: Split) -> EvaluationSet:
    """The problems of a source: the set of the configuration that names it, with its settings, or else the source alone."""
    named = next((section for section in known if section.source == spec), None)
    try:
        if named is not None:
            return evaluation_set(config, named, config.evaluation.num_problems, split)
        section = EvaluationSetSection(role="trained", source=spec)
        return replace(evaluation_set(config, section, config.evaluation.num_problems, split), role="")
    except UserError as error:
        raise UserError(f"--problems {spec}: {error}") from error
