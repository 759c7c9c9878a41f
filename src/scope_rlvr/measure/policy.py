"""``scope eval``: a model measured on held-out problems, just as a training run measures its policy before and after."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.findings import Severity
from scope_rlvr.core.lazy import quick_imports
from scope_rlvr.core.types import Problem
from scope_rlvr.evaluation.against import Earlier, SetComparison, compare
from scope_rlvr.evaluation.evaluate import EvaluationResult, EvaluationSet, Evaluator
from scope_rlvr.evaluation.measures import Figure, Sample, SampleReader, choose, figures
from scope_rlvr.formulas.estimators import LEVEL, NUM_RESAMPLES
from scope_rlvr.grading.gold import reference_findings
from scope_rlvr.grading.reading import one_group
from scope_rlvr.grading.settings import (
    BOX_REMEDY,
    NO_BOX,
    PLAIN_KINDS,
    AnyVerifier,
    PatternKind,
    asks_for_no_box,
    reads_boxes,
)
from scope_rlvr.models.precision import Precision
from scope_rlvr.models.resolve import resolve_model
from scope_rlvr.problems.family import Split
from scope_rlvr.problems.sources import family_name, is_family
from scope_rlvr.run.config import RunConfig, load_config
from scope_rlvr.run.context import ContextFit, MeasuredPrompts
from scope_rlvr.run.data import evaluation_set, evaluation_sets, rows_left_out
from scope_rlvr.run.sections import EvaluationSetSection
from scope_rlvr.run.verifier import answer_pattern, make_verifier
from scope_rlvr.store.digests import file_digest
from scope_rlvr.store.folder import RunFolder, environment

if TYPE_CHECKING:
    from scope_rlvr.evaluation.readers import TextReader
    from scope_rlvr.models.local import LocalModel

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


@dataclass(frozen=True)
class Measurement:
    """A model that is loaded and fits its problems, ready to be measured."""

    plan: EvaluationPlan
    evaluator: Evaluator
    readers: tuple[SampleReader, ...]
    local: LocalModel

    def warnings(self) -> list[str]:
        """What may make the figures worthless; a person should read it before the measurement."""
        config = self.plan.config
        if not reads_boxes(config.verifier):
            return []
        shown = self.local.codec.prompt_as_read(self.plan.problems[0].prompt)
        said = [f"{NO_BOX}: {BOX_REMEDY}"] if asks_for_no_box(config.verifier, shown) else []
        for held_out in self.plan.sets:
            found = reference_findings(
                held_out.name, held_out.problems, self.evaluator.verifier, answer_pattern(config), in_boxes=True
            )
            said += [f"{f.message}; {f.remedy}" for f in found if f.severity is not Severity.OK]
        return said

    def results(
        self,
        on_progress: Callable[[int], None] = lambda num_samples: None,
        on_sample: Callable[[Sample], None] = lambda sample: None,
    ) -> Iterator[EvaluationResult]:
        """One result a set, in order; ``on_progress`` is called with the number of new rollouts, ``on_sample`` with all of a
        problem."""
        for held_out in self.plan.sets:
            names = self.plan.metrics_of(held_out)
            yield self.evaluator.evaluate(held_out, names, self.readers, on_progress, on_sample)

    def record(self, results: Sequence[EvaluationResult]) -> dict[str, Any]:
        """The results with everything that is needed to get them again, as docs/formats.md describes it."""
        plan, request, config = self.plan, self.plan.request, self.plan.config
        return {
            "schema": EVALUATION_SCHEMA,
            "model": {"name": request.model, **_identity(plan.source, self.local)},
            "problems": {
                "specs": list(request.problems),
                "split": request.split,
                "block": config.evaluation.problems_block,
                "num_problems": config.evaluation.num_problems,
            },
            "sampling": {
                "seed": config.run.seed,
                "temperature": plan.temperature,
                "samples_per_problem": config.evaluation.samples_per_problem,
                "max_response_tokens": config.evaluation.max_response_tokens,
                "batch_rows": config.evaluation.batch_rows,
                "threads": config.run.threads,
            },
            "prompt": config.prompt.model_dump(mode="json"),
            "verifier": config.verifier.model_dump(mode="json"),
            "answer_pattern": answer_pattern(config),
            "embedding_model": request.embedding_model,
            "interval": {"kind": "percentile bootstrap over problems", "level": LEVEL, "num_resamples": NUM_RESAMPLES},
            "environment": environment(),
            "sets": [_set_record(result) for result in results],
            "against": self._against_record(results),
        }

    def compare(self, results: Sequence[EvaluationResult]) -> list[SetComparison]:
        """What changed since the evaluation that it is compared with; nothing without one."""
        return [] if self.plan.earlier is None else compare(self.plan.earlier, results)

    def _against_record(self, results: Sequence[EvaluationResult]) -> dict[str, Any] | None:
        earlier = self.plan.earlier
        if earlier is None:
            return None
        sets = [comparison.record() for comparison in compare(earlier, results)]
        return {"file": earlier.path.name, "digest": file_digest(earlier.path), "sets": sets}


def prepare(plan: EvaluationPlan) -> Measurement:
    """Load the models; :class:`UserError` where one cannot be loaded, or cannot be used on these problems."""
    with quick_imports():
        import torch

        from scope_rlvr.evaluation.readers import PolicyReader
        from scope_rlvr.models.loading import require_reader
        from scope_rlvr.run.components import Components, load_causal, make_evaluator, policy_dtype

    torch.set_num_threads(plan.config.run.threads)
    # By default as a run samples its policy, so that the figures are the run's.
    local = load_causal(plan.source, "MODEL", policy_dtype(plan.config), plan.config.prompt)
    require_reader(local.codec.tokenizer, plan.problems, f"the model {plan.request.model}")
    _require_fit(plan, local)
    components = Components(local.model, local.codec, make_verifier(plan.config))
    evaluator = make_evaluator(plan.config, components)
    readers: list[SampleReader] = []
    own = {name for name in ("policy_entropy", "embedding") if name in plan.metrics}
    if "embedding" in own and plan.request.embedding_model is not None:
        own.remove("embedding")
        readers.append(_text_reader(plan.request.embedding_model, plan.problems))
    if own:
        readers.append(PolicyReader(local, plan.temperature, frozenset(own)))
    return Measurement(plan, evaluator, tuple(readers), local)


def _text_reader(name: str, problems: list[Problem]) -> TextReader:
    from scope_rlvr.evaluation.readers import TextReader
    from scope_rlvr.models.loading import UNLOADABLE, device, require_reader, why_unloadable

    try:
        reader = TextReader.load(resolve_model(name, "--embedding-model"))
    except UNLOADABLE as error:
        raise UserError(f"--embedding-model {name!r} cannot be loaded: {why_unloadable(error)}") from error
    require_reader(reader.tokenizer, problems, f"the embedding model {name}")
    reader.model.to(device())
    return reader


def _require_fit(plan: EvaluationPlan, local: LocalModel) -> None:
    """Refuse problems that leave a response no room in the model's context."""
    prompts = MeasuredPrompts.of(plan.problems, local.codec)
    fit = ContextFit.of(local.model, prompts, plan.config.evaluation.max_response_tokens)
    if not fit.fits:
        raise UserError(f"{fit} of {plan.request.model}; lower --max-tokens, or take problems that are shorter")


def _identity(source: str, local: LocalModel) -> dict[str, Any]:
    """What tells these weights from others: the digests of a folder's files, the commit of a Hub model."""
    return {
        "weights": {file.name: file_digest(file) for file in sorted(Path(source).glob("*.safetensors"))},
        "commit": getattr(local.model.config, "_commit_hash", None),
        "dtype": str(local.model.dtype).removeprefix("torch."),
        "device": local.model.device.type,
    }


def _set_record(result: EvaluationResult) -> dict[str, Any]:
    levels = result.by_level()
    by_level = {str(level): figures([m.values for m in measured]) for level, measured in levels.items()}
    return {
        "name": result.name,
        "num_problems": len(result.measured),
        "samples_per_problem": result.samples_per_problem,
        "num_unknown": result.num_unknown,
        "num_truncated": result.num_truncated,
        "figures": _figure_records(result.figures),
        "levels": {level: _figure_records(found) for level, found in by_level.items()},
        "problems": [
            {
                "id": m.problem.id,
                "level": m.problem.level,
                "num_right": m.num_right,
                "num_unknown": m.num_unknown,
                "num_truncated": m.num_truncated,
            }
            for m in result.measured
        ],
    }


def _figure_records(found: dict[str, Figure]) -> dict[str, Any]:
    return {name: asdict(figure) for name, figure in found.items()}
