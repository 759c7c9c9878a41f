"""``scope scorer train``: a step scorer from labelled solutions and a base model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from scope_rlvr.cli.console import open_console, print_lines, progress_bar, resume_command
from scope_rlvr.cli.options import ResumeSameCommand, SkipBadRows
from scope_rlvr.core.errors import ExitCode, UserError

if TYPE_CHECKING:
    from scope_rlvr.scorer_lab.training.run import ScorerTrainingPlan, TrainedScorer
    from scope_rlvr.scorer_lab.training.settings import ScorerTraining
    from scope_rlvr.scorer_lab.training.trainer import ScorerTrainingMonitor

_STEPS_A_LINE = 50

Data = Annotated[
    list[str], typer.Argument(help="labelled solutions: .jsonl, .json, .parquet, owner/name[:split], embedded:...")
]
Base = Annotated[str, typer.Option(help="the model to start from: a folder, a Hub name, or embedded:teacher")]
Out = Annotated[Path, typer.Option(help="a new folder for the scorer")]
Separator = Annotated[str, typer.Option(help="text after each step; \\n is a line break")]
Bos = Annotated[bool, typer.Option("--bos", help="begin with the tokenizer's begin-of-sequence token")]
AfterPrompt = Annotated[bool, typer.Option("--after-prompt", help="the separator also between problem and first step")]
Epochs = Annotated[float | None, typer.Option(help="passes over the training rows; 1 without it")]
Steps = Annotated[int | None, typer.Option(help="optimiser steps, instead of --epochs")]
BatchRows = Annotated[int, typer.Option(help="solutions for each optimiser step")]
MicroBatchRows = Annotated[int | None, typer.Option(help="solutions in memory at once; all without it")]
LearningRate = Annotated[float, typer.Option(help="peak of the AdamW learning rate")]
WarmupShare = Annotated[float, typer.Option(help="share of the steps in which the learning rate rises")]
WeightDecay = Annotated[float, typer.Option(help="weight decay of AdamW")]
MaxTokens = Annotated[int | None, typer.Option(help="longest input; the model's own limit without it")]
HeldOutShare = Annotated[float, typer.Option(help="share of the problems that nothing trains on")]
CheckpointEvery = Annotated[int, typer.Option(help="optimiser steps from one checkpoint to the next")]
TrainLayers = Annotated[int | None, typer.Option(help="upper layers that train beside the head; all without it")]
Dtype = Annotated[str | None, typer.Option(metavar="FORMAT", help="float32 or bfloat16: what is computed in")]
GradientCheckpointing = Annotated[bool, typer.Option("--gradient-checkpointing", help="less memory for more time")]
Threads = Annotated[int, typer.Option(help="CPU threads")]
Seed = Annotated[int, typer.Option(help="seed of split, order and new head")]


def train(
    data: Data,
    base: Base,
    out: Out,
    resume: ResumeSameCommand = False,
    skip_bad_rows: SkipBadRows = False,
    separator: Separator = "\\n\\n",
    bos: Bos = False,
    after_prompt: AfterPrompt = False,
    epochs: Epochs = None,
    steps: Steps = None,
    batch_rows: BatchRows = 16,
    micro_batch_rows: MicroBatchRows = None,
    learning_rate: LearningRate = 2e-5,
    warmup_share: WarmupShare = 0.05,
    weight_decay: WeightDecay = 0.0,
    max_tokens: MaxTokens = None,
    held_out: HeldOutShare = 0.1,
    checkpoint_every: CheckpointEvery = 200,
    train_layers: TrainLayers = None,
    dtype: Dtype = None,
    gradient_checkpointing: GradientCheckpointing = False,
    threads: Threads = 1,
    seed: Seed = 0,
) -> None:
    """Train a step scorer. Exit codes: 0 done, 2 bad input, 5 not a number, 130 interrupted."""
    settings = _settings(
        separator=separator.replace("\\n", "\n").replace("\\t", "\t"),
        bos=bos,
        after_prompt=after_prompt,
        epochs=epochs,
        steps=steps,
        batch_rows=batch_rows,
        micro_batch_rows=micro_batch_rows,
        learning_rate=learning_rate,
        warmup_share=warmup_share,
        weight_decay=weight_decay,
        max_tokens=max_tokens,
        held_out=held_out,
        checkpoint_every=checkpoint_every,
        train_layers=train_layers,
        dtype=dtype,
        gradient_checkpointing=gradient_checkpointing,
        threads=threads,
        seed=seed,
    )
    raise typer.Exit(_train(data, base, settings, out, resume=resume, skip_bad_rows=skip_bad_rows))


def _settings(*, epochs: float | None, steps: int | None, **given: Any) -> ScorerTraining:
    from pydantic import ValidationError

    from scope_rlvr.scorer_lab.training.settings import ScorerTraining

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("scope scorer train runs in one process; start it without a launcher")
    if epochs is not None and steps is not None:
        raise UserError(f"--epochs {epochs:g} and --steps {steps} both say how long to train; give one of them")
    try:
        return ScorerTraining(epochs=1.0 if epochs is None else epochs, steps=steps, **given)
    except ValidationError as error:
        mistake = error.errors()[0]
        flag = "--" + "-".join(str(part) for part in mistake["loc"]).replace("_", "-") if mistake["loc"] else ""
        received = f" {mistake['input']!r}" if mistake["loc"] else ""
        raise UserError(f"{flag}{received}: {mistake['msg']}".lstrip(": ")) from error


def _train(
    data: list[str], base: str, settings: ScorerTraining, out: Path, *, resume: bool, skip_bad_rows: bool
) -> ExitCode:
    from scope_rlvr.models.quiet import quiet_libraries
    from scope_rlvr.scorer_lab.training.run import ScorerTrainingRequest, check_folder, plan_training

    quiet_libraries([base, *data])
    plan = plan_training(ScorerTrainingRequest(tuple(data), base, settings, skip_bad_rows))
    check_folder(out, plan, resume=resume)
    console = open_console()
    print_lines(console, *plan.lines())
    return _run(plan, out, console, resume=resume)


def _run(plan: ScorerTrainingPlan, out: Path, console: Console, *, resume: bool) -> ExitCode:
    from scope_rlvr.scorer_lab.training.run import run
    from scope_rlvr.scorer_lab.training.trainer import TrainingDiverged

    go_on = resume_command(is_resumed=resume)
    try:
        with progress_bar(console) as progress:
            trained = run(plan, out, _monitor(console, progress), resume=resume)
    except TrainingDiverged as error:
        print_lines(console, f"stopped   {error}")
        return ExitCode.TRAINING_STOPPED
    except KeyboardInterrupt:
        print_lines(open_console(stderr=True), f"scope: interrupted; go on with: {go_on}")
        return ExitCode.INTERRUPTED
    if trained.figures is None:
        print_lines(console, f"stopped   interrupted by {trained.interrupted_by}", f"go on     {go_on}")
        return ExitCode.INTERRUPTED
    _print_result(trained, out, console)
    return ExitCode.OK


def _monitor(console: Console, progress: Progress) -> ScorerTrainingMonitor:
    from scope_rlvr.scorer_lab.training.trainer import ScorerTrainingMonitor

    task = progress.add_task("training", total=None)

    def step(number: int, num_steps: int, loss: float) -> None:
        progress.update(task, completed=number, description=f"training, loss {loss:.4f}")
        if not console.is_terminal and (number % _STEPS_A_LINE == 0 or number == num_steps):
            print_lines(console, f"step {number} of {num_steps}, loss {loss:.4f}")

    return ScorerTrainingMonitor(
        start=lambda num_steps: progress.update(task, total=num_steps),
        step=step,
        note=lambda text: print_lines(console, text),
    )


def _print_result(trained: TrainedScorer, out: Path, console: Console) -> None:
    from scope_rlvr.scorer_lab.training.card import figure_rows

    assert trained.figures is not None
    assert trained.rule is not None
    table = Table("held-out figure", "value", title=None)
    for name, value in figure_rows(trained.figures):
        table.add_row(name, value)
    console.print(table)
    if trained.num_cut or trained.num_too_long:
        print_lines(
            console,
            f"too long  {trained.num_cut} solutions lost steps at their end, {trained.num_too_long} were left out",
        )
    print_lines(
        console,
        f"threshold {trained.rule.threshold:.4g}",
        f"scorer    {out}; use it by: scope train --set scorer.model={out}",
    )
