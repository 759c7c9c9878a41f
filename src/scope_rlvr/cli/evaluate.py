"""``scope eval``: a model on held-out problems, in figures with intervals."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scope_rlvr.cli.console import open_console
from scope_rlvr.errors import UserError


class HeldOut(StrEnum):
    """The splits of a family that nothing trains on."""

    TEST = "test"
    DEV = "dev"


def evaluate(
    model: Annotated[str, typer.Argument(help="a model folder, a run folder, a Hub name, or embedded:policy")],
    problems: Annotated[
        list[str] | None, typer.Option(metavar="SPEC", help="family:level or a JSONL file; repeatable")
    ] = None,
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
    answer_pattern: Annotated[str | None, typer.Option(help="regular expression with one group, the answer")] = None,
    batch_rows: Annotated[int, typer.Option(min=1, help="rollouts sampled at a time")] = 256,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads")] = None,
    out: Annotated[Path | None, typer.Option(help="a new JSON file for the results")] = None,
) -> None:
    """Measure a model on held-out problems, unaided: accuracy, pass@k, maj@k, diversity, entropy, with intervals."""
    from scope_rlvr.run.evaluate import Request, make_plan

    request = Request(
        model=model,
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
        answer_pattern=answer_pattern,
        batch_rows=batch_rows,
        threads=threads,
    )
    if out is not None:
        _require_writable(out)
    plan = make_plan(request)

    from scope_rlvr.report.measured import evaluation_table
    from scope_rlvr.run.evaluate import prepare
    from scope_rlvr.run.quiet import quiet_libraries

    quiet_libraries(plan.config)
    measurement = prepare(plan)
    console = open_console()
    for line in plan.lines():
        console.print(line, markup=False, soft_wrap=True)
    with _progress(console) as progress:
        task = progress.add_task("sampling", total=plan.num_samples)
        results = list(measurement.results(lambda num_samples: progress.advance(task, num_samples)))
    console.print(evaluation_table(results))
    if out is not None:
        _write(out, measurement.record(results))
        console.print(f"results   {out}", markup=False, soft_wrap=True)


def _progress(console: Console) -> Progress:
    """A bar that is gone when all is done, and never there where nobody looks."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _require_writable(out: Path) -> None:
    """Nothing that was measured before is overwritten, and nothing is measured that could not be written."""
    if out.exists():
        raise UserError(f"the output file {out} exists; name another with --out, or remove it")
    if not out.parent.is_dir():
        raise UserError(f"the output file {out} cannot be written: there is no folder {out.parent}; make it first")
    if not os.access(out.parent, os.W_OK):
        raise UserError(f"the output file {out} cannot be written: no right to write in {out.parent}")


def _write(out: Path, record: dict[str, Any]) -> None:
    beside = out.with_name(f".{out.name}.tmp")
    beside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    beside.replace(out)
