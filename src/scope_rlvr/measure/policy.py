"""``scope eval``: a model measured on held-out problems, just as a training run measures its policy before and after."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.findings import Severity
from scope_rlvr.core.lazy import quick_imports
from scope_rlvr.core.types import Problem
from scope_rlvr.evaluation.against import SetComparison, compare
from scope_rlvr.evaluation.evaluate import EvaluationResult, Evaluator
from scope_rlvr.evaluation.measures import Figure, Sample, SampleReader, figures
from scope_rlvr.formulas.estimators import LEVEL, NUM_RESAMPLES
from scope_rlvr.grading.gold import reference_findings
from scope_rlvr.grading.settings import (
    BOX_REMEDY,
    NO_BOX,
    asks_for_no_box,
    reads_boxes,
)
from scope_rlvr.measure.plan import EvaluationPlan
from scope_rlvr.models.resolve import resolve_model
from scope_rlvr.run.context import ContextFit, MeasuredPrompts
from scope_rlvr.run.verifier import answer_pattern, make_verifier
from scope_rlvr.store.digests import file_digest
from scope_rlvr.store.folder import environment

if TYPE_CHECKING:
    from scope_rlvr.evaluation.readers import TextReader
    from scope_rlvr.models.local import LocalModel

EVALUATION_SCHEMA = 1


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
