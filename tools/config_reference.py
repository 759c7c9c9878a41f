"""Writes docs/configuration.md and recipes/embedded.toml from the configuration's own classes.

    python -m tools.config_reference            write both files
    python -m tools.config_reference --check    exit with 1 where one of them is not up to date

The options of each method and part are in the pages of :mod:`tools.method_reference`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from scope_rlvr.core.settings import Settings
from scope_rlvr.methods import METHODS, PARTS, Method
from scope_rlvr.run.config import RunConfig
from tools.meanings import MEANINGS
from tools.settings_tables import (
    ReferenceGap,
    is_long_table,
    kind_of,
    meaning_of,
    rows,
    rule_lines,
    rules_of,
    table,
    value_text,
)
from tools.written_pages import keep_up_to_date

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "configuration.md"
RECIPE = ROOT / "recipes" / "embedded.toml"

SECTIONS = {
    "run": "How long, how much, how often.",
    "model": "The policy that is trained.",
    "problems": "What the policy trains on. `docs/problems.md` describes every kind of source.",
    "prompt": "How the policy is shown a problem, while it trains and while it is measured.",
    "sampling": "How the policy samples while it trains. Evaluation uses the same temperature and no cut-offs.",
    "steps": "How a response is split into steps, the units that are scored and corrected.",
    "method": "What is done with the groups of rollouts. The name chooses the method; the other keys are its options.",
    "objective": "The loss that all methods of a comparison share.",
    "optimizer": "AdamW and its learning rate.",
    "scorer": "The process reward model that scores steps and finds the first wrong one. Only methods that ask for step scores use it.",
    "teacher": "Who writes corrections and whole solutions. Only methods with a teacher use it. `docs/teachers.md` describes every kind.",
    "judge": "A model that grades, ranks or compares responses. Only methods with a judge use it. `docs/teachers.md` describes both kinds.",
    "verifier": "What reads the final answer and compares it with the reference. It alone pays reward. `docs/grading.md` describes every kind.",
    "evaluation": "What is measured on held-out problems before and after training, and during it if wanted. Always unaided.",
    "warmup": "How `scope warmup` prepares the policy for a run of this configuration: by imitation of whole solutions. A run does not read this section.",
    "logging": "Where figures go besides the run folder.",
    "engine": "Who trains. `docs/tinker.md` describes runs whose model is on a server.",
}

HEAD = """# Configuration

<!-- Written by tools/config_reference.py from the configuration's own classes. Change those, then run it. -->

A run is described by one TOML file with the sections below. Every key has a default; the defaults together are the
embedded recipe, which needs no download and trains in minutes on two CPU cores. `recipes/embedded.toml` is the same
configuration written out.

    scope train my-run.toml --set run.steps=100 --set method.teacher_term=plain

* An unknown key, a wrong type, a number out of range or options that do not fit together are refused before anything
  is loaded or written, all in one message.
* Paths are relative to the folder in which `scope` is started, not to the TOML file.
* `--set section.key=value` changes one key; [cli.md](cli.md) says how values are read.
* The resolved configuration of a run, with every key that has a value, is the `config.toml` in its run folder.
* Numbers must be finite. A key without a default value ("none" below) is left out of the file where it is not wanted;
  TOML has no null.
* Some keys are a choice between *rules*, which may have fields of their own. A bare name means a rule with its
  defaults: `mode = "step"` is `mode = {kind = "step"}`, and `mode = {kind = "step", max_tokens = 50}` sets a field.

A step trains on `run.problems_per_step` x (`run.rollouts_per_problem` + reserved rows) rows. Reserved rows are
`method.max_salvages` where `method.insertion` is `append` or `pair`, and 0 otherwise. `run.micro_batch_rows` must
divide that number.
"""

METHOD_NOTE = """`--method NAME` on the command line chooses another method than the file's and drops the options that the file gives for
its own. With `max_salvages = 0` the method `scope` is `grpo`, and needs neither scorer nor teacher.

These are the options of every method. [methods.md](methods.md) lists the methods and leads to the options of each;
[parts.md](parts.md) has the parts that can be added to any of them, each with its own options:

    [method]
    name = "grpo"
    parts = ["overlong_penalty", {kind = "redraw_flat_groups", max_rounds = 5}]

[write-a-method.md](write-a-method.md) shows how to write a method or a part of your own.
"""


def section_types() -> dict[str, type[Settings]]:
    """The class of each section; for ``method``, the default one."""
    return {name: type(field.default) for name, field in RunConfig.model_fields.items()}


def reference() -> str:
    """The text of docs/configuration.md."""
    used: set[str] = set()
    lines = [HEAD]
    for section, kind in section_types().items():
        lines += [f"## [{section}]", "", *_wrapped(SECTIONS[section]), ""]
        if section == "method":
            lines += list(_method_lines(used))
        elif kinds := rules_of(RunConfig.model_fields[section]):
            lines += list(_kind_lines(section, kinds, used))
        else:
            lines += [*table(rows(section, kind, used)), ""]
            for name, field in kind.model_fields.items():
                if rules_of(field):
                    lines += list(rule_lines(f"{section}.{name}", rules_of(field), used))
    unknown = set(MEANINGS) - used
    if unknown or set(SECTIONS) != set(section_types()):
        raise ReferenceGap(f"explained, and not in the configuration: {sorted(unknown)}; sections: {sorted(SECTIONS)}")
    return "\n".join(lines).rstrip() + "\n"


def _kind_lines(section: str, kinds: list[type[Settings]], used: set[str]) -> Iterator[str]:
    """A section whose ``kind`` decides which other keys it has."""
    names = ", ".join(f"`{kind_of(kind)}`" for kind in kinds)
    default = kind_of(type(RunConfig.model_fields[section].default))
    yield from table(())
    yield f'| `kind` | one of {names} | `"{default}"` | {meaning_of(f"{section}.kind", None, "kind", used)} |'
    yield ""
    yield from rule_lines(section, kinds, used)


def _method_lines(used: set[str]) -> Iterator[str]:
    yield METHOD_NOTE
    yield from table(())
    known = "a method that `scope methods` lists, or a class of your own by its place, `package.module:Class`"
    yield f'| `name` | {known} | `"scope"` | {meaning_of("method.name", None, "name", used)} |'
    yield from list(table(rows("method", Method, used, without=("name",))))[2:]
    yield ""
    choices: dict[str, dict[str, type[Settings]]] = {}
    for chosen in (*METHODS.values(), *PARTS.values()):
        for name, field in chosen.model_fields.items():
            choices.setdefault(name, {}).update({kind_of(rule): rule for rule in rules_of(field)})
    for name, rules in choices.items():
        if rules:
            yield from rule_lines(f"method.{name}", rules.values(), used)


def recipe() -> str:
    """The text of recipes/embedded.toml."""
    lines = [
        "# The default configuration, written out: tiny embedded models and a problem family with exact truth.",
        "# It needs no download and trains in minutes on two CPU cores. docs/configuration.md says more about each key.",
        "#",
        "#   scope train recipes/embedded.toml",
        "",
    ]
    config = RunConfig()
    for section, kind in section_types().items():
        lines += _recipe_lines(section, SECTIONS[section], kind, getattr(config, section))
    return "\n".join(lines).rstrip() + "\n"


def _recipe_lines(path: str, about: str, kind: type[Settings], values: Settings) -> list[str]:
    """A section with every key, and after them the tables in it that are too long for a line."""
    lines = [f"# {line}" for line in _wrapped(about)] + [f"[{path}]"]
    tables: list[str] = []
    # The name of a method first: it decides which other keys there are.
    for name, field in sorted(
        kind.model_fields.items(), key=lambda item: issubclass(kind, Method) and item[0] != "name"
    ):
        value, meaning = getattr(values, name), meaning_of(f"{path}.{name}", kind, name, set())
        if is_long_table(value):
            tables += _recipe_lines(f"{path}.{name}", meaning, type(value), value)
            continue
        lines += [f"# {line}" for line in _wrapped(meaning)]
        rules = [kind_of(rule) for rule in rules_of(field)]
        lines += [f"# Rules: {', '.join(rules)}."] if rules else []
        lines += [f"# {name} =" if value is None else f"{name} = {value_text(value)}"]
    return [*lines, "", *tables]


def _wrapped(text: str, width: int = 116) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{word}"
    return lines


if __name__ == "__main__":
    keep_up_to_date({REFERENCE: reference, RECIPE: recipe})
