"""Writes docs/methods.md, a page a family in docs/methods/, docs/parts.md and the catalogue, all from the classes, and the imports of
methods that type checkers see.

python -m tools.method_reference            write them
python -m tools.method_reference --check    exit with 1 where one of them is not up to date
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scope_rlvr.core.settings import as_toml
from scope_rlvr.methods import METHODS, PARTS, Method
from scope_rlvr.methods.catalogue import (
    CATALOGUE,
    Catalogue,
    Entry,
    as_json,
    built_in,
    fixed_by,
    own_parts_of,
    text_of,
)
from scope_rlvr.methods.parts.base import Described, Status
from scope_rlvr.methods.registry import CLASS_PLACES, Registry
from tools.settings_tables import rows, table
from tools.written_pages import ROOT, keep_up_to_date

DOCS = ROOT / "docs"
NAMES = ROOT / "src" / "scope_rlvr" / "methods" / "__init__.py"

_MARK = "<!-- Written from the classes themselves: change those, then run python -m tools.method_reference. -->"

INDEX = f"""# Methods

{_MARK}

A method is a preset: settings of a paper, [parts](parts.md), and in some cases a way of its own to make groups of rollouts. All methods run on the
same trainer, with the same problems, rewards and objective. `grpo` is the method without parts.

    scope train --method NAME                                       trains with it
    scope train --method NAME --set 'method.parts=["PART"]'         trains with it and a part
    scope methods NAME                                              explains it, with its options
    scope methods --family process --need "step scorer"             lists some; --status and --parts choose, too

[configuration.md](configuration.md) describes the options that all methods share, [method.md](method.md) argues those of `scope`,
[metrics.md](metrics.md) says which figures mean something else for some methods, and [write-a-method.md](write-a-method.md) shows how to write one.

"""

LEGEND = """**Status** says how we know the formula:

{statuses}

Papers are cited for the idea; nothing here reproduces their experiments. Each entry says what differs from its paper, as far as we know.

**Needs** are what a run has to give with the method's default options. Without it the method refuses to start.

"""

FORMULAS = """## How to read the formulas

They hold with the default options, for a rollout with reward `r`; `mean` and `std` are over its group. `Â` is its advantage, `Â_t` where each
token has its own. `S(Â) = −min(ρ·Â, clip(ρ)·Â)` is the clipped surrogate of a token, `ρ = π/π_old`; `π` is the policy's probability of
the token. A teacher's tokens have no clip and train only where `Â > 0`, unless the line says otherwise. `p_s` is the score of step `s`,
`s(t)` the step of token t. Where a method fixes no division of `Â` and no mean over tokens, those of `[objective]` hold.

With one update per batch (`objective.updates_per_batch = 1`, the default) `ρ` is 1 wherever a loss is taken on what the policy sampled from the
same prompt: it is the policy that sampled it. Nothing is clipped then: a higher upper clip (`dapo`, `cure`), an elastic one (`etr`), the ratio of
sequences (`gspo`) and the penalty of `kl_cov` make no difference; only the rest of these methods does.
"""

PARTS_HEAD = f"""# Parts

{_MARK}

A part is one function with its settings. Any part can be added to any method, `scope` included:

    scope train --method grpo --set 'method.parts=["overlong_penalty"]'

    [method]
    name = "grpo"
    parts = ["overlong_penalty", {{kind = "redraw_flat_groups", max_rounds = 5}}]

Parts of one family act in the order in which they are listed; the order of the families is that of this page. A method has at most one problem
source, one estimator and one loss, since each of these takes the place of something. A part that the method is made of already, one that is
there twice, and parts that contradict each other are refused before a run starts.

[methods.md](methods.md#how-to-read-the-formulas) explains the letters in the formulas, and [write-a-method.md](write-a-method.md) how to
write a part.
"""


def pages() -> dict[Path, Callable[[], str]]:
    """Every file that is written here, with what writes it."""
    catalogue = built_in()
    families = {entry.family for entry in catalogue.entries if entry.what == "method"}
    return {
        CATALOGUE: lambda: as_json(catalogue),
        NAMES: imports_for_type_checkers,
        DOCS / "methods.md": lambda: index(catalogue),
        DOCS / "parts.md": lambda: parts(catalogue),
        **{DOCS / "methods" / f"{f}.md": lambda f=f: family(f, catalogue) for f in catalogue.families if f in families},
    }


def imports_for_type_checkers() -> str:
    """The text of ``scope_rlvr.methods``, with one import for each class that has a public name."""
    places = sorted(place.split(":") for place in CLASS_PLACES.values())
    imports = "".join(f"    from {module} import {name} as {name}\n" for module, name in places)
    text = NAMES.read_text(encoding="utf-8")
    return re.sub(r"(?<=^if TYPE_CHECKING:\n)(    from [^\n]*\n)+", imports, text, flags=re.MULTILINE)


def index(catalogue: Catalogue) -> str:
    """The text of docs/methods.md."""
    methods = [entry for entry in catalogue.entries if entry.what == "method"]
    lines = [
        "| method | family | paper | status | what it changes | needs |\n|---|---|---|---|---|---|\n",
        *(_index_row(entry) for entry in methods),
        "\n",
        *(
            f"* [{name}](methods/{name}.md): {catalogue.families[name]}\n"
            for name in dict.fromkeys(e.family for e in methods)
        ),
        "\n",
        LEGEND.format(statuses="\n".join(f"* `{status.value}`: {status.words}" for status in Status)),
        FORMULAS,
    ]
    return INDEX + "".join(lines)


def _index_row(entry: Entry) -> str:
    name = f"[`{entry.name}`](methods/{entry.family}.md#{entry.name})"
    cells = (name, entry.family, _paper(entry), entry.status, entry.changes, ", ".join(entry.needs) or "nothing")
    return f"| {' | '.join(map(_cell, cells))} |\n"


def family(name: str, catalogue: Catalogue) -> str:
    """The page of a family of methods."""
    head = (
        f"# Methods: {name}\n\n{_MARK}\n\n{catalogue.families[name]} [All methods](../methods.md), and "
        "[how to read the formulas](../methods.md#how-to-read-the-formulas).\n"
    )
    entries = [entry for entry in catalogue.entries if entry.family == name]
    return "\n".join([head, *("\n".join(_entry(METHODS, entry, level=2)) for entry in entries)]).rstrip() + "\n"


def parts(catalogue: Catalogue) -> str:
    """The text of docs/parts.md."""
    lines = [PARTS_HEAD]
    entries = [entry for entry in catalogue.entries if entry.what == "part"]
    for name in dict.fromkeys(entry.family for entry in entries):
        lines.append(f"## {name.capitalize()}\n\n{catalogue.families[name]}\n")
        lines += ["\n".join(_entry(PARTS, entry, level=3)) for entry in entries if entry.family == name]
    return "\n".join(lines).rstrip() + "\n"


def _entry(registry: Registry[Any], entry: Entry, level: int) -> Iterator[str]:
    """All that is known of a method or a part."""
    kind = registry[entry.name]
    yield f"{'#' * level} {entry.name}\n"
    yield f"**{_paper(entry)}.** Family: {entry.family}. Status: {kind.status.words}.\n"
    yield f"* **Formula:** {kind.formula}"
    yield from _facts(registry, entry, kind)
    yield f"* **Differs from the paper:** {kind.departures or 'in nothing that we know of'}\n"
    yield _markdown(text_of(kind)) + "\n"
    shared = ("kind",) if registry is PARTS else tuple(Method.model_fields)
    if options := list(rows(entry.name, kind, set(), without=shared)):
        yield from table(options)
        yield ""


def _facts(registry: Registry[Any], entry: Entry, kind: type[Described]) -> Iterator[str]:
    yield f"* **Needs:** {', '.join(entry.needs) or 'nothing'}"
    if registry is METHODS:
        fixed = [f"`{key} = {as_toml(value)}`" for key, value in fixed_by(kind).items()]
        yield f"* **Fixes:** {', '.join(fixed) or 'nothing'}"
        made_of = [f"[`{part}`](../parts.md#{part})" for part in own_parts_of(entry.name)]
        yield f"* **Made of:** {', '.join(made_of) or 'no parts'}"
    else:
        users = [name for name in sorted(METHODS) if entry.name in own_parts_of(name)]
        places = {e.name: e.family for e in built_in().entries}
        if users:
            yield f"* **Used by:** {', '.join(f'[`{n}`](methods/{places[n]}.md#{n})' for n in users)}"
        if kind.conflicts:
            yield f"* **Not with:** {', '.join(f'[`{c}`](#{c})' for c in kind.conflicts)}"


def _paper(entry: Entry) -> str:
    linked = re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", entry.source)
    return f"{entry.title}, {linked}" if linked else entry.title


def _markdown(text: str) -> str:
    """A docstring's text as Markdown."""
    return re.sub(r":\w+:`", "`", text.replace("``", "`"))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    keep_up_to_date(pages())
