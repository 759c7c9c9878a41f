"""``scope eval``: a model on held-out problems, in figures with intervals."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scope_rlvr.cli.console import open_console, print_lines, progress_bar
from scope_rlvr.models.precision import Precision
from scope_rlvr.store.files import require_new_file, write_json

if TYPE_CHECKING:
    from scope_rlvr.evaluation.measures import Sample
    from scope_rlvr.measure.plan import EvaluationRequest


class HeldOut(StrEnum):
    """The splits of a family that nothing trains on."""

    TEST = "test"
    DEV = "dev"


Model = Annotated[
    str, typer.Argument(help="a model folder, a run folder, a GGUF file, a Hub name, smollm2, or embedded:policy")
]
ProblemSpecs = Annotated[
    list[str] | None, typer.Option(metavar="SPEC", help="benchmark, file, owner/name or family:level; repeatable")
]
ConfigOption = Annotated[Path | None, typer.Option(help="TOML configuration whose evaluation is done")]
DataFolder = Annotated[Path | None, typer.Option(help="folder with local copies of benchmarks")]
NumProblems = Annotated[int | None, typer.Option(min=1, help="problems of each set")]
Split = Annotated[HeldOut, typer.Option(help="split of a family")]
Block = Annotated[int | None, typer.Option(min=0, help="which block of a family's problems")]
Samples = Annotated[int | None, typer.Option(min=1, help="rollouts for each problem")]
Temperature = Annotated[float | None, typer.Option(help="0 is greedy")]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="most tokens of a response")]
Seed = Annotated[int | None, typer.Option(help="seed of the sampling")]
MetricNames = Annotated[
    list[str] | None, typer.Option(metavar="NAMES", help="names with commas between; all without it")
]
EmbeddingModel = Annotated[str | None, typer.Option(help="whose embeddings; the model's own without it")]
VerifierKind = Annotated[str | None, typer.Option(metavar="KIND", help="pattern, math, choice, exact or numeric")]
AnswerPattern = Annotated[str | None, typer.Option(help="regular expression with one group, the answer")]
BatchRows = Annotated[int | None, typer.Option(min=1, help="rollouts sampled at a time")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads")]
Dtype = Annotated[Precision | None, typer.Option(help="how weights are held; as in the run without it")]
Against = Annotated[Path | None, typer.Option(help="the results (--out) of another model, to compare with")]
Show = Annotated[int, typer.Option(min=0, help="responses to print, one to each of the first problems")]
Out = Annotated[Path | None, typer.Option(help="a new JSON file for the results")]


def evaluate(
    model: Model,
    problems: ProblemSpecs = None,
    config: ConfigOption = None,
    data: DataFolder = None,
    num_problems: NumProblems = None,
    split: Split = HeldOut.TEST,
    problems_block: Block = None,
    samples: Samples = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    seed: Seed = None,
    metrics: MetricNames = None,
    embedding_model: EmbeddingModel = None,
    verifier: VerifierKind = None,
    answer_pattern: AnswerPattern = None,
    batch_rows: BatchRows = None,
    threads: Threads = None,
    dtype: Dtype = None,
    against: Against = None,
    show: Show = 0,
    out: Out = None,
) -> None:
    """Measure a model on held-out problems, unaided: accuracy, pass@k, maj@k, diversity, entropy, with intervals."""
    from scope_rlvr.measure.plan import EvaluationRequest

    request = EvaluationRequest(
        model=model,
        config=config,
        data=data,
        problems=tuple(problems or ()),
        split=split.value,
        num_problems=num_problems,
        problems_block=problems_block,
        samples=samples,
        temperature=temperature,
        max_tokens=max_tokens,
        seed=seed,
        metrics=tuple(name.strip() for names in metrics or () for name in names.split(",")),
        embedding_model=embedding_model,
        verifier=verifier,
        answer_pattern=answer_pattern,
        batch_rows=batch_rows,
        threads=threads,
        dtype=None if dtype is None else dtype.value,
        against=against,
    )
    _evaluate(request, show, out)


def _evaluate(request: EvaluationRequest, show: int, out: Path | None) -> None:
    from scope_rlvr.measure.plan import plan_evaluation

    if out is not None:
        require_new_file(out)
    plan = plan_evaluation(request)

    from scope_rlvr.measure.policy import prepare
    from scope_rlvr.models.quiet import quiet_libraries
    from scope_rlvr.report.measured import comparison_table, evaluation_table, responses_table

    quiet_libraries(plan.config.model_names)
    measurement = prepare(plan)
    console = open_console()
    shown: list[Sample] = []
    print_lines(console, *plan.lines(), *(f"warning   {warning}" for warning in measurement.warnings()))
    with progress_bar(console) as progress:
        task = progress.add_task("sampling", total=plan.num_samples)
        results = list(
            measurement.results(
                lambda num_samples: progress.advance(task, num_samples),
                lambda sample: shown.append(sample) if len(shown) < show else None,
            )
        )
    if shown:
        console.print(responses_table(shown))
    console.print(evaluation_table(results))
    if comparisons := measurement.compare(results):
        console.print(comparison_table(comparisons))
    if out is not None:
        write_json(out, measurement.record(results))
        print_lines(console, f"results   {out}")
