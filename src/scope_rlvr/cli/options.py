"""Options and arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigArgument = Annotated[
    Path | None, typer.Argument(metavar="CONFIG", help="TOML configuration; the embedded recipe without one")
]
MethodOption = Annotated[str | None, typer.Option(help="the method, see scope methods")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="one key of the configuration; repeatable")
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead of the table")]
SkipBadRows = Annotated[
    bool, typer.Option("--skip-bad-rows", help="leave out rows that cannot be used, and say how many they are")
]
ResumeSameCommand = Annotated[
    bool, typer.Option("--resume", help="go on with interrupted work of the same command, and the same options")
]
ScorerSpecOption = Annotated[
    str, typer.Option(metavar="SPEC", help="what scorer.model can name, or always-none, or random")
]
