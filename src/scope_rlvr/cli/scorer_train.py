"""``scope scorer train``: a step scorer from labelled solutions and a base model."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Table

from scope_rlvr.cli.console import open_console, progress_bar
from scope_rlvr.core.errors import ExitCode, UserError
from scope_rlvr.scorer_lab.training.settings import ScorerTraining


def train(
    data: Annotated[
        list[str], typer.Argument(help="labelled solutions: .jsonl, .json, .parquet, owner/name[:split], embedded:...")
    ],
    base: Annotated[str, typer.Option(help="the model to start from: a folder, a Hub name, or embedded:teacher")],
    out: Annotated[Path, typer.Option(help="a new folder for the scorer")],
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with an interrupted training of the same command")
    ] = False,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="leave out rows that cannot be used, and say which")
    ] = False,
    separator: Annotated[str, typer.Option(help="text after each step; \\n is a line break")] = "\\n\\n",
    bos: Annotated[bool, typer.Option("--bos", help="begin with the tokenizer's begin-of-sequence token")] = False,
    after_prompt: Annotated[
        bool, typer.Option("--after-prompt", help="the separator also between problem and first step")
    ] = False,
    epochs: Annotated[float | None, typer.Option(help="passes over the training rows; 1 without it")] = None,
    steps: Annotated[int | None, typer.Option(help="optimiser steps, instead of --epochs")] = None,
    batch_rows: Annotated[int, typer.Option(help="solutions for each optimiser step")] = 16,
    micro_batch_rows: Annotated[int | None, typer.Option(help="solutions in memory at once; all without it")] = None,
    learning_rate: Annotated[float, typer.Option(help="peak of the AdamW learning rate")] = 2e-5,
    warmup_share: Annotated[float, typer.Option(help="share of the steps in which the learning rate rises")] = 0.05,
    weight_decay: Annotated[float, typer.Option(help="weight decay of AdamW")] = 0.0,
    max_tokens: Annotated[int | None, typer.Option(help="longest input; the model's own limit without it")] = None,
    held_out: Annotated[float, typer.Option(help="share of the problems that nothing trains on")] = 0.1,
    checkpoint_every: Annotated[int, typer.Option(help="optimiser steps from one checkpoint to the next")] = 200,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="less memory for more time")
    ] = False,
    threads: Annotated[int, typer.Option(help="CPU threads")] = 1,
    seed: Annotated[int, typer.Option(help="seed of split, order and new head")] = 0,
) -> None:
    """Train a step scorer. Exit codes: 0 done, 2 bad input, 5 not a number, 130 interrupted."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("scope scorer train runs in one process; start it without a launcher")
    if epochs is not None and steps is not None:
        raise UserError(f"--epochs {epochs:g} and --steps {steps} both say how long to train; give one of them")
    settings = _settings(
        separator=separator.replace("\\n", "\n").replace("\\t", "\t"),
        bos=bos,
        after_prompt=after_prompt,
        epochs=1.0 if epochs is None else epochs,
        steps=steps,
        batch_rows=batch_rows,
        micro_batch_rows=micro_batch_rows,
        learning_rate=learning_rate,
        warmup_share=warmup_share,
        weight_decay=weight_decay,
        max_tokens=max_tokens,
        held_out=held_out,
        checkpoint_every=checkpoint_every,
        gradient_checkpointing=gradient_checkpointing,
        threads=threads,
        seed=seed,
    )
    from scope_rlvr.models.quiet import quiet_libraries
    from scope_rlvr.scorer_lab.training.run import ScorerTrainingRequest, check_folder, plan_training

    quiet_libraries([base, *data])
    plan = plan_training(ScorerTrainingRequest(tuple(data), base, settings, skip_bad_rows))
    check_folder(out, plan, resume=resume)
    console = open_console()
    for line in plan.lines():
        console.print(line, markup=False, soft_wrap=True)
    raise typer.Exit(_run(plan, out, resume=resume))


def _settings(**given: Any) -> ScorerTraining:
    try:
        return ScorerTraining(**given)
    except ValidationError as error:
        mistake = error.errors()[0]
        flag = "--" + "-".join(str(part) for part in mistake["loc"]).replace("_", "-") if mistake["loc"] else ""
        received = f" {mistake['input']!r}" if mistake["loc"] else ""
        raise UserError(f"{flag}{received}: {mistake['msg']}".lstrip(": ")) from error


def _run(plan: Any, out: Path, *, resume: bool) -> ExitCode:
    from scope_rlvr.scorer_lab.training.card import figure_rows
    from scope_rlvr.scorer_lab.training.run import run
    from scope_rlvr.scorer_lab.training.trainer import ScorerTrainingMonitor, TrainingDiverged

    console = open_console()
    go_on = shlex.join(["scope", *sys.argv[1:], *([] if resume else ["--resume"])])
    with progress_bar(console) as progress:
        task = progress.add_task("training", total=None)

        def on_start(num_steps: int) -> None:
            progress.update(task, total=num_steps)

        def on_step(step: int, num_steps: int, loss: float) -> None:
            progress.update(task, completed=step, description=f"training, loss {loss:.4f}")
            if not console.is_terminal and (step % _STEPS_A_LINE == 0 or step == num_steps):
                console.print(f"step {step} of {num_steps}, loss {loss:.4f}", markup=False)

        def note(text: str) -> None:
            console.print(text, markup=False, soft_wrap=True)

        try:
            trained = run(plan, out, ScorerTrainingMonitor(on_start, on_step, note), resume=resume)
        except TrainingDiverged as error:
            console.print(f"stopped   {error}", markup=False, soft_wrap=True)
            return ExitCode.TRAINING_STOPPED
        except KeyboardInterrupt:
            open_console(stderr=True).print(f"scope: interrupted; go on with: {go_on}", markup=False, soft_wrap=True)
            return ExitCode.INTERRUPTED
    if trained.figures is None:
        console.print(f"stopped   interrupted by {trained.interrupted_by}", markup=False)
        console.print(f"go on     {go_on}", markup=False, soft_wrap=True)
        return ExitCode.INTERRUPTED
    table = Table("held-out figure", "value", title=None)
    for name, value in figure_rows(trained.figures):
        table.add_row(name, value)
    console.print(table)
    if trained.num_cut or trained.num_too_long:
        console.print(
            f"too long  {trained.num_cut} solutions lost steps at their end, {trained.num_too_long} were left out",
            markup=False,
        )
    assert trained.rule is not None
    console.print(f"threshold {trained.rule.threshold:.4g}", markup=False)
    console.print(f"scorer    {out}; use it by: scope train --set scorer.model={out}", markup=False, soft_wrap=True)
    return ExitCode.OK


_STEPS_A_LINE = 50
