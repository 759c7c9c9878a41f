"""The command ``scope``, its sub-commands and its exit codes."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Sequence
from itertools import pairwise

# Read when the tensor library starts: threads that wait for work must not spin on a shared machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import typer

from scope_rlvr import __version__
from scope_rlvr.cli import (
    check,
    doctor,
    embedded,
    evaluate,
    grade,
    methods,
    report,
    salvage,
    scorer,
    show,
    study,
    train,
    warmup,
)
from scope_rlvr.cli.console import open_console, print_lines
from scope_rlvr.core.errors import CannotWrite, ExitCode, UserError
from scope_rlvr.core.processes import ProcessFailed, num_launched
from scope_rlvr.core.visible import visible
from scope_rlvr.engines.processes import leave

app = typer.Typer(
    name="scope",
    help="Train reasoning models with verifiable rewards, and recycle the rollouts that fail.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("train")(train.train)
app.command("warmup")(warmup.warmup)
app.command("check")(check.check)
app.command("doctor")(doctor.doctor)
app.command("methods")(methods.methods)
app.command("eval")(evaluate.evaluate)
app.command("grade")(grade.grade)
app.command("report")(report.report)
app.command("show")(show.show)
app.command("salvage")(salvage.salvage)
app.command("study")(study.study)
app.add_typer(scorer.app, name="scorer")
app.add_typer(embedded.app, name="embedded")


@app.callback()
def _in_one_process(context: typer.Context) -> None:
    if num_launched() > 1 and context.invoked_subcommand != "train":
        raise UserError(
            f"scope {context.invoked_subcommand} runs in one process, and WORLD_SIZE says that {num_launched()} were started; "
            "only scope train can be shared by several: start this without a launcher"
        )


@app.command("version")
def version() -> None:
    """Print the version."""
    print(__version__)


def _require_plain(arguments: Sequence[str]) -> None:
    """Refuse arguments that are empty, no text, or would act on the screen on which they are repeated."""
    for before, argument in pairwise(["scope", *arguments]):
        if not argument:
            raise UserError(f"the argument after {visible(before)} is empty; give it a value, or leave both out")
        if visible(argument) != argument:
            raise UserError(
                f"the argument {visible(argument)} holds a character that is not text, marked as ⟨U+...⟩; leave it out, or "
                "rename the file"
            )


_ABOUT_A_PATH = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}
"""What the system says of a path that cannot be what it is given for."""


_ABOUT_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}


def _of_the_system(error: OSError) -> tuple[ExitCode | None, str]:
    """The exit code and the remedy for what the system says of files; no code for anything else."""
    if isinstance(error, CannotWrite) or error.errno in _ABOUT_THE_DISK:
        return ExitCode.INTERNAL_ERROR, "make room, or mend the rights; what was written before is kept"
    if error.errno in _ABOUT_A_PATH and error.filename is not None:
        return ExitCode.BAD_INPUT, "look at that path and its rights"
    return None, ""


def _readable(error: Exception) -> str:
    """What an error says, without what acts on a screen, and with only the beginning of what is longer than any word."""
    return re.sub(r"(\S{300})\S+", r"\1...", visible(str(error)))


def main() -> None:
    """Run the command; a mistake of the user's becomes one message on stderr and exit code 2."""
    try:
        _require_plain(sys.argv[1:])
        app()
    except UserError as error:
        # All processes of a run have the same to say; on each machine one says it.
        is_quiet = os.environ.get("LOCAL_RANK", "0") != "0"
        print_lines(open_console(stderr=True, quiet=is_quiet), f"scope: {_readable(error)}")
        leave(ExitCode.BAD_INPUT)
        sys.exit(ExitCode.BAD_INPUT)
    except ProcessFailed as error:
        print_lines(open_console(stderr=True), f"scope: {error}")
        sys.exit(ExitCode.TRAINING_STOPPED)
    except OSError as error:
        exit_code, remedy = _of_the_system(error)
        if exit_code is None:
            raise
        print_lines(open_console(stderr=True), f"scope: {_readable(error)}; {remedy}")
        leave(exit_code)
        sys.exit(exit_code)
    except KeyboardInterrupt:
        open_console(stderr=True).print("scope: interrupted")
        sys.exit(ExitCode.INTERRUPTED)


if __name__ == "__main__":
    main()
