"""``scope salvage``: saved rollouts become a data set of failures and what was made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scope_rlvr.cli.console import open_console, print_lines, progress_bar
from scope_rlvr.cli.options import Overrides, ResumeSameCommand, SkipBadRows
from scope_rlvr.core.errors import ExitCode, UserError
from scope_rlvr.core.lazy import quick_imports
from scope_rlvr.store.files import require_new_file

if TYPE_CHECKING:
    from scope_rlvr.offline.plan import SalvageRequest

_NONE_RIGHT = """\
Nothing was admitted, so there is nothing to train on. The outcomes above say what stopped each failure; docs/formats.md \
explains each outcome."""

Rollouts = Annotated[Path, typer.Argument(help="a file of rollouts (.jsonl, .parquet, .csv), or a folder")]
Out = Annotated[Path, typer.Option(help="the file to write, a new .jsonl")]
Scorer = Annotated[str | None, typer.Option(metavar="SPEC", help="the step scorer, as scorer.model")]
Teacher = Annotated[str | None, typer.Option(metavar="SPEC", help="the teacher, as teacher.model")]
Policy = Annotated[str | None, typer.Option(metavar="MODEL", help="the model that continues")]
Problems = Annotated[
    str | None, typer.Option(metavar="SPEC", help="problems with their answers, for rows without an answer")
]
ConfigOption = Annotated[Path | None, typer.Option(help="a TOML file with further settings")]
Parquet = Annotated[Path | None, typer.Option(help="the same once more, as .parquet")]
SftFile = Annotated[Path | None, typer.Option(help="prompt and completion (.jsonl or .parquet)")]
DpoFile = Annotated[Path | None, typer.Option(help="rejected and corrected step (.jsonl or .parquet)")]
BatchRows = Annotated[int, typer.Option(min=1, help="rollouts worked on together")]


def salvage(
    rollouts: Rollouts,
    out: Out,
    scorer: Scorer = None,
    teacher: Teacher = None,
    policy: Policy = None,
    problems: Problems = None,
    config: ConfigOption = None,
    overrides: Overrides = None,
    parquet: Parquet = None,
    sft: SftFile = None,
    dpo: DpoFile = None,
    resume: ResumeSameCommand = False,
    skip_bad_rows: SkipBadRows = False,
    batch_rows: BatchRows = 256,
) -> None:
    """Salvage the failures among saved rollouts, without training: for SFT, for DPO, for replay."""
    with quick_imports():
        from scope_rlvr.offline.plan import SalvageRequest

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
    _salvage(request)


def _salvage(request: SalvageRequest) -> None:
    from scope_rlvr.models.quiet import quiet_libraries
    from scope_rlvr.offline.command import OfflineSalvage, TeacherFailed
    from scope_rlvr.offline.plan import plan_salvage

    _require_new(request.out, list(request.tables.values()), request.resume)
    plan = plan_salvage(request)
    quiet_libraries(plan.config.model_names)
    console = open_console()
    print_lines(console, *plan.lines())
    work = OfflineSalvage(plan)
    try:
        with progress_bar(console) as progress:
            task = progress.add_task("salvaging", total=plan.num_rollouts)
            result = work.run(lambda num_rollouts: progress.advance(task, num_rollouts))
    except TeacherFailed as error:
        print_lines(open_console(stderr=True), f"scope: {error}")
        raise typer.Exit(ExitCode.TRAINING_STOPPED) from error
    print_lines(console, *work.notes, *result.lines())
    if not result.num_admitted:
        print_lines(console, _NONE_RIGHT)


def _require_new(out: Path, tables: list[Path], resume: bool) -> None:
    """Nothing is overwritten, except by a salvage that goes on with what it wrote itself."""
    files = [out, *tables]
    if len({file.resolve() for file in files}) < len(files):
        raise UserError("two of --out, --parquet, --sft and --dpo name the same file; give each its own")
    if not resume:
        for file in files:
            require_new_file(file)
