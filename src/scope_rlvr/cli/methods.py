"""``scope methods``: what there is to compare."""

from __future__ import annotations

import inspect
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from scope_rlvr.cli.console import open_console
from scope_rlvr.core.errors import UserError

HOOKS = ("sample", "edit_groups", "credit", "credit_member", "token_loss", "stage", "learning_rate_factor")


def methods(
    name: Annotated[str | None, typer.Argument(help="one method, with its formula and its options")] = None,
) -> None:
    """List the methods, or explain one."""
    from scope_rlvr.methods import METHODS

    console = open_console()
    if name is None:
        console.print(_table())
    elif name in METHODS:
        _explain(name, console)
    else:
        raise UserError(f"there is no method {name!r}; there are {', '.join(sorted(METHODS))}")


def hooks_of(name: str) -> tuple[str, ...]:
    """The hooks in which a method differs from GRPO."""
    from scope_rlvr.methods import METHODS, Method

    return tuple(hook for hook in HOOKS if getattr(METHODS[name], hook) is not getattr(Method, hook))


def _table() -> Table:
    from scope_rlvr.methods import METHODS

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("name", "paper", "what it changes", "hooks", "needs"):
        table.add_column(column, overflow="fold")
    for name, method in sorted(METHODS.items()):
        table.add_row(
            name, f"{method.title}, {method.source}", method.changes, ", ".join(hooks_of(name)), needs_of(name)
        )
    return table


def needs_of(name: str) -> str:
    """The helpers without which a method cannot run by default."""
    from scope_rlvr.methods import METHODS

    method = METHODS[name]()
    helpers = {"step scorer": method.needs_step_scorer, "teacher": method.needs_teacher}
    return ", ".join(helper for helper, is_needed in helpers.items() if is_needed)


def _explain(name: str, console: Console) -> None:
    from scope_rlvr.methods import METHODS

    method = METHODS[name]
    text = inspect.cleandoc(method.__doc__ or "").partition("\n>>>")[0].rstrip()
    console.print(f"[bold]{name}[/bold]: {method.title}, {method.source}\n")
    console.print(text, markup=False)
    console.print(f"\nhooks: {', '.join(hooks_of(name)) or 'none'}; needs: {needs_of(name) or 'nothing'}\n")
    table = Table("option", "default", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for option, default in method().model_dump(mode="json").items():
        if option != "name":
            table.add_row(f"method.{option}", str(default))
    console.print(table)
