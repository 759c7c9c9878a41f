"""``scope eval``: a model on held-out problems, in figures with intervals."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from scope_rlvr.cli.console import open_console, progress_bar
from scope_rlvr.cli.output_file import require_writable
from scope_rlvr.store.files import write_json


class HeldOut(StrEnum):
    """The splits of a family that nothing trains on."""

    TEST = "test"
    DEV = "dev"


class Precision(StrEnum):
    """The number formats that weights can be held in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def evaluate(
    model: Annotated[str, typer.Argument(help="a model folder, a run folder, a Hub name, or embedded:policy")],
    problems: Annotated[
        list[str] | None, typer.Option(metavar="SPEC", help="benchmark, file, owner/name or family:level; repeatable")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML configuration whose evaluation is done")] = None,
    data: Annotated[Path | None, typer.Option(help="folder with local copies of benchmarks")] = None,
    num_problems: Annotated[int | None, typer.Option(min=1, help="problems of each set")] = None,
    split: Annotated[HeldOut, typer.Option(help="split of a family")] = HeldOut.TEST,
    problems_block: Annotated[int | None, typer.Option(min=0, help="which block of a family's problems")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="rollouts for each problem")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="most tokens of a response")] = None,
    seed: Annotated[int | None, typer.Option(help="seed of the sampling")] = None,
    metrics: Annotated[
        list[str] | None, typer.Option(metavar="NAMES", help="names with commas between; all without it")
    ] = None,
    embedding_model: Annotated[str | None, typer.Option(help="whose embeddings; the model's own without it")] = None,
    verifier: Annotated[
        str | None, typer.Option(metavar="KIND", help="pattern, math, choice, exact or numeric")
    ] = None,
    answer_pattern: Annotated[str | None, typer.Option(help="regular expression with one group, the answer")] = None,
    batch_rows: Annotated[int | None, typer.Option(min=1, help="rollouts sampled at a time")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads")] = None,
    dtype: Annotated[Precision, typer.Option(help="how weights are held")] = Precision.FLOAT32,
    out: Annotated[Path | None, typer.Option(help="a new JSON file for the results")] = None,
) -> None:
    """Measure a model on held-out problems, unaided: accuracy, pass@k, maj@k, diversity, entropy, with intervals."""
    from scope_rlvr.measure.policy import EvaluationRequest, plan_evaluation

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
        dtype=dtype.value,
    )
    if out is not None:
        require_writable(out)
    plan = plan_evaluation(request)

    from scope_rlvr.measure.policy import prepare
    from scope_rlvr.models.quiet import quiet_libraries
    from scope_rlvr.report.measured import evaluation_table

    quiet_libraries(plan.config.model_names)
    measurement = prepare(plan)
    console = open_console()
    for line in [*plan.lines(), *(f"warning   {said}" for said in measurement.warnings())]:
        console.print(line, markup=False, soft_wrap=True)
    with progress_bar(console) as progress:
        task = progress.add_task("sampling", total=plan.num_samples)
        results = list(measurement.results(lambda num_samples: progress.advance(task, num_samples)))
    console.print(evaluation_table(results))
    if out is not None:
        write_json(out, measurement.record(results))
        console.print(f"results   {out}", markup=False, soft_wrap=True)
