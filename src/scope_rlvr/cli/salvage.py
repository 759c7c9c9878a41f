"""``scope salvage``: saved rollouts become a data set of failures and what was made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scope_rlvr.cli.console import open_console, progress_bar
from scope_rlvr.cli.output_file import require_writable
from scope_rlvr.core.errors import ExitCode, UserError

_NONE_RIGHT = """\
Nothing was admitted, so there is nothing to train on. The outcomes above say where the way of the failures ended; \
docs/formats.md explains each."""


def salvage(
    rollouts: Annotated[Path, typer.Argument(help="a file of rollouts (.jsonl, .parquet, .csv), or a folder")],
    out: Annotated[Path, typer.Option(help="the file to write, a new .jsonl")],
    scorer: Annotated[str | None, typer.Option(metavar="SPEC", help="the step scorer, as scorer.model")] = None,
    teacher: Annotated[str | None, typer.Option(metavar="SPEC", help="the teacher, as teacher.model")] = None,
    policy: Annotated[str | None, typer.Option(metavar="MODEL", help="the model that continues")] = None,
    problems: Annotated[
        str | None, typer.Option(metavar="SPEC", help="problems with their answers, for rows without one")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="a TOML file with further settings")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="changes one key")] = None,
    parquet: Annotated[Path | None, typer.Option(help="the same once more, as .parquet")] = None,
    sft: Annotated[Path | None, typer.Option(help="prompt and completion (.jsonl or .parquet)")] = None,
    dpo: Annotated[Path | None, typer.Option(help="rejected and corrected step (.jsonl or .parquet)")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on where it was interrupted")] = False,
    skip_bad_rows: Annotated[bool, typer.Option("--skip-bad-rows", help="leave out rows without a rollout")] = False,
    batch_rows: Annotated[int, typer.Option(min=1, help="rollouts worked on together")] = 256,
) -> None:
    """Salvage the failures among saved rollouts, without training: for SFT, for DPO, for replay."""
    from scope_rlvr.models.quiet import quiet_libraries
    from scope_rlvr.offline.command import OfflineSalvage, TeacherFailed
    from scope_rlvr.offline.plan import SalvageRequest, plan_salvage

    tables = {"parquet": parquet, "sft": sft, "dpo": dpo}
    request = SalvageRequest(
        rollouts=rollouts,
        out=out,
        scorer=scorer,
        teacher=teacher,
        policy=policy,
        problems=problems,
        config=config,
        overrides=tuple(overrides or ()),
        tables={option: file for option, file in tables.items() if file is not None},
        resume=resume,
        skip_bad_rows=skip_bad_rows,
        batch_rows=batch_rows,
    )
    _require_new(request.out, list(request.tables.values()), resume)
    plan = plan_salvage(request)
    quiet_libraries(plan.config.model_names)
    console = open_console()
    for line in plan.lines():
        console.print(line, markup=False, soft_wrap=True)
    work = OfflineSalvage(plan)
    try:
        with progress_bar(console) as progress:
            task = progress.add_task("salvaging", total=plan.num_rollouts)
            result = work.run(lambda num_rollouts: progress.advance(task, num_rollouts))
    except TeacherFailed as error:
        open_console(stderr=True).print(f"scope: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(ExitCode.TRAINING_STOPPED) from error
    for line in [*work.notes, *result.lines()]:
        console.print(line, markup=False, soft_wrap=True)
    if not result.num_admitted:
        console.print(_NONE_RIGHT, markup=False, soft_wrap=True)


def _require_new(out: Path, tables: list[Path], resume: bool) -> None:
    """Nothing is overwritten, except by a salvage that goes on what it wrote itself."""
    files = [out, *tables]
    if len({file.resolve() for file in files}) < len(files):
        raise UserError("two of --out, --parquet, --sft and --dpo name the same file; give each its own")
    if not resume:
        for file in files:
            require_writable(file)
