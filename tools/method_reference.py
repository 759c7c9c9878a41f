"""Writes docs/methods.md from the methods' own classes.

python tools/method_reference.py            write the page
python tools/method_reference.py --check    exit with 1 where it is not up to date
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from scope_rlvr.cli.methods import hooks_of, needs_of
from scope_rlvr.methods import METHODS, Method

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "methods.md"

HEAD = """# Methods

<!-- Written by tools/method_reference.py from the methods' own classes. Change those, then run it. -->

All methods run on the same trainer, with the same problems, rewards and objective, and differ in a few hooks. Each is one
file in `src/scope_rlvr/methods`.

    scope train --method NAME      trains with it
    scope methods NAME             explains it, with its options

[configuration.md](configuration.md) describes every option, [method.md](method.md) argues those of `scope`, and
[metrics.md](metrics.md) says which figures mean something else for some of them.

"""

FORMULAS = """## Formulas

With the default options, for a rollout with reward `r`; `mean`, `std` over its group. `Â` is its advantage, `Â_t` where each token
has its own. `S(Â) = −min(ρ·Â, clip(ρ)·Â)` is the clipped surrogate of a token, `ρ = π/π_old`; `π` is the policy's
probability of the token. A teacher's tokens have no clip and train only where `Â > 0`, unless the line says otherwise. `p_s` is the score of step `s`, `s(t)` the step of
token t. Where a method fixes no division of `Â` and no mean over tokens, those of `[objective]` hold.

"""

ONE_UPDATE = """With one update per batch (`objective.updates_per_batch = 1`, the default) `ρ` is 1 wherever a loss is taken on what the policy
sampled from the same prompt: it is the policy that sampled it. Nothing is clipped then, and neither a higher upper clip (`dapo`,
`cure`) nor the ratio of sequences (`gspo`) makes any difference; only the rest of these methods does.

"""

EACH = """## Each method, and what of its paper is not here

What the code's own documentation says. Papers are cited for the idea; nothing here reproduces their experiments. What a paper leaves
open, and where this implementation departs from it, stands at the end of each.

"""


def page() -> str:
    """The text of docs/methods.md."""
    methods = sorted(METHODS.items())
    lines = [
        "| name | paper | what it changes | hooks | needs |\n|---|---|---|---|---|\n",
        *(_row(name, method) for name, method in methods),
        "\nHooks are named as in `Method`, whose defaults are `grpo`. `needs` are the helpers without which a method refuses to start,\n",
        "with its default options.\n\n",
        FORMULAS,
        "| name | advantage; loss of a token |\n|---|---|\n",
        *(f"| `{name}` | {_cell(method.formula)} |\n" for name, method in methods),
        "\n",
        ONE_UPDATE,
        EACH,
        "\n".join(_section(name, method) for name, method in methods),
    ]
    return HEAD + "".join(lines)


def _row(name: str, method: type[Method]) -> str:
    hooks = ", ".join(f"`{hook}`" for hook in hooks_of(name)) or "none"
    paper = f"{method.title}, {_linked(method.source)}"
    return f"| [`{name}`](#{name}) | {paper} | {_cell(method.changes)} | {hooks} | {needs_of(name) or 'nothing'} |\n"


def _section(name: str, method: type[Method]) -> str:
    return f"### {name}\n\n**{method.title}**, {_linked(method.source)}.\n\n{described(method)}\n"


def described(method: type[Method]) -> str:
    """A method's docstring without its example, as Markdown."""
    text = "\n".join(_lines(inspect.cleandoc(method.__doc__ or "")))
    return text.replace("``", "`").strip()


def _lines(docstring: str) -> Iterator[str]:
    for line in docstring.splitlines():
        if line.startswith(">>>"):
            return
        yield line


def _linked(source: str) -> str:
    return re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", source)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write docs/methods.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where it is not up to date")
    is_check = parser.parse_args().check
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page():
        return
    if not is_check:
        PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)} {'is not up to date' if is_check else 'written'}")
    sys.exit(int(is_check))


if __name__ == "__main__":
    main()
