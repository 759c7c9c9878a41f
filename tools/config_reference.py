"""Writes docs/configuration.md and recipes/embedded.toml from the configuration's own classes.

    python tools/config_reference.py            write both files
    python tools/config_reference.py --check    exit with 1 where one of them is not up to date

A key is explained in one place: by the ``description`` of its field, or in ``MEANINGS`` below.
"""

from __future__ import annotations

import argparse
import json
import sys
import types
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from scope_rlvr.core.settings import Settings
from scope_rlvr.methods import METHODS, Method
from scope_rlvr.methods.parts.base import Part
from scope_rlvr.run.config import RunConfig

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "configuration.md"
RECIPE = ROOT / "recipes" / "embedded.toml"

SECTIONS = {
    "run": "How long, how much, how often.",
    "model": "The policy that is trained.",
    "problems": "What the policy trains on. `docs/problems.md` describes every kind of source.",
    "prompt": "How a problem is put to the policy, while it trains and while it is measured.",
    "sampling": "How the policy samples while it trains. Evaluation uses the same temperature and no cut-offs.",
    "steps": "How a response is split into steps, the units that are scored and corrected.",
    "method": "What is done with the groups of rollouts. The name chooses the method; the other keys are its options.",
    "objective": "The loss that all methods of a comparison share.",
    "optimizer": "AdamW and its learning rate.",
    "scorer": "The process reward model that scores steps and finds the first wrong one. Only methods that ask for step scores use it.",
    "teacher": "Who writes corrections and whole solutions. Only methods with a teacher use it. `docs/teachers.md` describes every kind.",
    "verifier": "What reads the final answer and compares it with the reference. It alone pays reward. `docs/grading.md` describes every kind.",
    "evaluation": "What is measured on held-out problems before and after training, and during it if wanted. Always unaided.",
    "logging": "Where figures go besides the run folder.",
}

_LIKE_SAMPLING = "Cut-off of the sampling distribution"

MEANINGS = {
    "run.seed": "Seed of everything that is drawn at random: problems, rollouts, corrections, order. Equal seeds give equal runs on CPU.",
    "run.steps": "Optimiser steps.",
    "run.problems_per_step": "Problems in one step.",
    "run.rollouts_per_problem": "Rollouts that the policy samples for each problem: the size of a group.",
    "run.checkpoint_every": "Steps between checkpoints. The newest two are kept; the last step always gets one.",
    "model.policy": "A model folder with safetensors weights, a Hugging Face Hub name (`owner/name`), or `embedded:policy`.",
    "problems.family": "The embedded problem family. It also gives the default answer pattern and the evaluation problems of a level.",
    "problems.level": "Difficulty in the family's unit; for `reduction`: how many numbers are to be combined.",
    "sampling.sampler": "Who samples. `docs/vllm.md` says what vLLM needs, and what of it was not run.",
    "sampling.temperature": "Temperature of training rollouts. Losses use log-probabilities at the same temperature.",
    "sampling.top_p": f"{_LIKE_SAMPLING}: smallest set of tokens with this probability; 1 is off.",
    "sampling.top_k": f"{_LIKE_SAMPLING}: the k likeliest tokens; 0 is off.",
    "sampling.min_p": f"{_LIKE_SAMPLING}: tokens with at least this share of the likeliest one's probability; 0 is off.",
    "sampling.max_response_tokens": "Longest response. A response that reaches it without ending is truncated, and truncated is wrong.",
    "steps.separator": "The text that ends a step.",
    "steps.min_chars": "A piece with fewer visible characters joins the next one.",
    "steps.max_steps": "From this step on, all the rest is one step.",
    "steps.keep_blocks_whole": "Never split inside `$$...$$`, `\\[...\\]`, `\\begin...\\end` or fenced code.",
    "method.name": "The method.",
    "method.baseline": "What a reward is compared with: the mean of the group, the mean of the others, or the mean of what the policy sampled unaided (replaced failures included).",
    "method.drop_flat_groups": "Leave groups in which every advantage is zero out of the loss's normaliser, too.",
    "method.normalisation": "Takes the place of `objective.normalisation`.",
    "method.aggregation": "Takes the place of `objective.aggregation`.",
    "method.clip": "Takes the place of `objective.clip`.",
    "method.cut": "Where a failure is cut.",
    "method.num_traces": "Teacher traces in a group, in the place of as many rollouts of the policy.",
    "method.sft_share": "Share of the steps that imitate.",
    "method.group_rule": "In which groups failures are salvaged.",
    "method.no_error_rule": "What counts as the first wrong step if the scorer finds none in a wrong response: nothing, the last step, or the step with the lowest score.",
    "method.include_truncated": "Also salvage responses that were truncated.",
    "method.ranking": "Which failures of a group come first if there are more than `max_salvages`: the longest kept prefix, the latest cut, the shortest response, or a seeded draw.",
    "method.mode": "What the teacher writes: one step that the policy continues, or the whole rest.",
    "method.guards": "Reasons to refuse a teacher's step before the policy continues it.",
    "method.guards.repeated": "Refuse a step that repeats the rejected step.",
    "method.guards.answer_leak": "Refuse a step that states the right final answer if the policy's own steps in its place stated no answer.",
    "method.guards.low_score": "Refuse a step that the step scorer calls wrong.",
    "method.fallback": "What to try if all rounds fail: nothing, or let the teacher finish from the first cut.",
    "method.admission": "What joins the group. `verified`: only what the verifier calls right. `always`: also what is still wrong after all rounds.",
    "method.insertion": "How a salvaged rollout joins its group. `replace`: in place of the failure. `append`: in addition to it. `pair`: in addition to it, and the shared prefix trains in neither. The last two reserve `max_salvages` rows a group.",
    "method.show_rejected_step": "Show the rejected step to the teacher. A local model only continues the text and cannot use it.",
    "method.show_reference": "Show the reference answer to the teacher. A local model only continues the text and cannot use it.",
    "method.prefix_credit": "The credit of the kept prefix of a salvaged rollout.",
    "method.failure_credit": "Which tokens of a failure that was not salvaged get its negative advantage: all (`uniform`), or those from the first wrong step on, if the step scorer found one (`spare_prefix`).",
    "method.teacher_term": "The loss of the teacher's tokens.",
    "method.teacher_weight": "Factor on the advantage of the teacher's tokens.",
    "objective.normalisation": "What advantages are divided by: nothing, the standard deviation of the group's rewards, or that of the whole batch.",
    "objective.aggregation": "How token losses become one number: sum over tokens / `sampling.max_response_tokens`, mean over rollouts (Dr. GRPO); mean over all tokens (DAPO); mean over a rollout's tokens, then over rollouts (GRPO).",
    "objective.clip": "How far the ratio of new to old probability may move before a token stops pulling: `[1 - low, 1 + high]`.",
    "objective.clip.low": "Lower clip.",
    "objective.clip.high": "Upper clip.",
    "objective.kl": "Weight of the KL penalty to the policy as it was before training; 0 loads no reference model.",
    "objective.entropy": "Weight of the entropy bonus; a negative value punishes entropy.",
    "optimizer.learning_rate": "Highest learning rate.",
    "optimizer.schedule": "How the learning rate changes over the steps.",
    "optimizer.warmup_steps": "Steps over which the learning rate rises from 0. `constant` ignores it.",
    "optimizer.weight_decay": "AdamW's weight decay.",
    "optimizer.max_grad_norm": "Gradients with a larger norm are scaled down to it.",
    "scorer.model": "A model folder, a Hub name (`owner/name`), `embedded:step_scorer`, `exact` (the problem family's own checker), the address of a server (`http://host:8000/v1`), `policy` or `ensemble` with the family of that name, or `none`.",
    "scorer.family": "How the scorer reads a solution and what its scores mean; `auto` asks its `scorer.json`, then its name and class. `docs/scorers.md` describes every family.",
    "scorer.rule": "How scores lead to the first wrong step. Without it, the rule of `scorer.calibration` counts, then that in the model folder's `scorer.json`, then the family's own.",
    "scorer.calibration": "A file that `scope scorer calibrate` wrote for this scorer: its rule counts where `scorer.rule` is not given, its map serves the rule `calibrated`.",
    "verifier.kind": "What judges: the other keys depend on it. `--set verifier=math` chooses a kind with its defaults.",
    "pattern": "The answer in the last line of a response, by a regular expression; integers by value, anything else as text.",
    "math": "A mathematical answer in the last box, by `math-verify`, in processes that are killed at a deadline.",
    "choice": "The letter of a multiple-choice question.",
    "exact": "The reference, letter for letter.",
    "numeric": "A number within a tolerance.",
    "function": "A function of your own, `is_right(problem, response)`, in processes that are killed at a deadline.",
    "teacher.model": "A causal language model folder, a Hub name, `embedded:teacher`, the address of a server (`http://host:8000/v1`), `policy` (the policy itself), `exact` (the problem family's own solver), `solutions` (those that the problems came with), or `none`. Another vocabulary than the policy's is fine: text is passed instead of ids.",
    "teacher.interface": "How a server is asked: to continue a text or token ids, or in words.",
    "teacher.server": "How patiently, how often and for how much a server is asked.",
    "teacher.temperature": "Temperature of the teacher; 0 is greedy.",
    "evaluation.sets": "The held-out sets.",
    "evaluation.sets.role": "What the set stands for.",
    "evaluation.sets.level": "A level of the problem family; either this or `source`.",
    "evaluation.num_problems": "Problems of each set; of a file or a data set, the first ones.",
    "evaluation.samples_per_problem": "Samples for each problem.",
    "evaluation.max_response_tokens": "Longest response while evaluating.",
    "evaluation.temperature": "Temperature while evaluating. Without it, `sampling.temperature`.",
    "logging.report_to": 'Hugging Face reporters by name, such as `["trackio"]`, `["wandb"]`, `["tensorboard"]`; their packages must be installed.',
    # Rules.
    "threshold": "The first step whose score is below `threshold`.",
    "threshold.threshold": "The score from which on a step passes.",
    "drop": "The first step that scores more than `drop` below the step before it.",
    "drop.drop": "How far a score may fall.",
    "drop.first_below": "The first step, which has none before it, is wrong below this score; without it, never.",
    "argmin": "The step with the lowest score.",
    "argmin.below": "Only where that score is below this; without it there is always a wrong step.",
    "two_in_a_row": "The first of two neighbouring steps that both score below `threshold`; the last step needs no second one.",
    "two_in_a_row.threshold": "The score from which on a step passes.",
    "calibrated": "The first step whose calibrated probability of being right is below `threshold`.",
    "calibrated.threshold": "The probability from which on a step passes.",
    "calibrated.map": "Points of a rising line from scores to probabilities, `{scores = [...], probabilities = [...]}`; without it, that of `scorer.calibration`, or in the scorer's `scorer.json`.",
    "auto": "What `scorer.json` says, else what the model's name or class says.",
    "token_classifier": "A token classifier with two labels, label 1 meaning right.",
    "trl": "The same as TRL's `PRMTrainer` trains it.",
    "pure": "PURE-PRM-7B: a token classifier scored by `p(right) - p(wrong)`.",
    "qwen": "Qwen2.5-Math-PRM-7B and -72B, Qwen2.5-Math-7B-PRM800K: a two-class head at a marker.",
    "math_shepherd": "Math-Shepherd: a causal model's `+` against `-` at a marker.",
    "rlhflow": "RLHFlow's Llama3.1-8B-PRM: a causal model that answers `+` or `-` to every step.",
    "skywork": "Skywork-o1-Open-PRM: a scalar head at the end of every step.",
    "universal": "Universal-PRM-7B: a scalar head at the end of every prefix.",
    "implicit": "EurusPRM and other implicit process rewards: the log-ratio of two causal models.",
    "critic": "A chat model behind an OpenAI-compatible server that names the first wrong step.",
    "vllm_pooling": "A process reward model behind vLLM's `/pooling`.",
    "monte_carlo": "The policy's own continuations; `scorer.model` is `policy`.",
    "ensemble": "Several scorers together; `scorer.model` is `ensemble`.",
    "completions": "`/completions`: the server continues a text, or token ids.",
    "chat": "`/chat/completions`: the server is asked for the next step, or for the rest, in words.",
    "local": "The model that is trained, in its own process.",
    "vllm": "vLLM on the cards of the training, beside it (TRL's `colocate`).",
    "vllm_server": "vLLM in a server of its own, on other cards (TRL's `server`).",
    "any_failure": "Every group with a failure.",
    "all_fail": "Only groups without a single right rollout.",
    "rate_below": "Groups whose share of right rollouts is below `rate`.",
    "rate_below.rate": "The share.",
    "first_wrong": "At the first wrong step, by the step scorer.",
    "random_step": "At the start of a step drawn at random, never the first.",
    "high_entropy": "At a token drawn from the 20 at which the policy was least certain (CURE).",
    "step": "The teacher writes one step; the policy continues.",
    "step.num_steps": "Steps that the teacher writes before the policy continues.",
    "step.max_tokens": "Longest step; one that does not end within it is refused.",
    "suffix": "The teacher finishes the solution.",
    "whole_trace": "The teacher writes the whole solution; nothing of the failure is kept.",
    "no_teacher": "No teacher: the policy itself tries again from the cut.",
    "full": "The rollout's advantage, as any token that led to success.",
    "masked": "Nothing: these tokens do not train and count in no normaliser.",
    "fraction": "A share of the rollout's advantage.",
    "fraction.share": "The share.",
    "positive_only": "The rollout's advantage where that is positive, else nothing.",
    "shaped": "`-A * p / (p + gamma)`: tokens with a probability near `gamma` are pulled most (LUFFY).",
    "shaped.gamma": "The probability that is pulled most.",
    "plain": "`-A * p`: an importance ratio against a teacher that was sure of itself.",
    "teacher_ratio": "`-A * min(p / q, max_ratio)`: the true ratio against the teacher's probability `q`; needs one vocabulary.",
    "teacher_ratio.max_ratio": "Bound of the ratio.",
    "trust": "`-A * p / max(p, floor)` with a fixed denominator: likelihood inside the trust region, faded out below it (TRAPO).",
    "trust.floor": "Probability from which on a token is inside the region.",
    "mixture": "`-A * (1 - p)^exponent * 4p / (3 p_old + 1)`: ratio against a mixture, more for what the policy finds unlikely (RL-PLUS).",
    "mixture.exponent": "Strength of the bonus for unlikely tokens.",
    "shaped_ratio": "`-A * r / (r + gamma)` with `r = p / q` and `gamma` a quantile of `r` in the response; needs the writer's probability `q` (Guide).",
    "shaped_ratio.quantile": "The quantile that `gamma` is.",
    "shaped_ratio.floor": "Least `gamma`.",
    "nll": "`-A * log p`: weighted imitation.",
    "clipped": "The clipped surrogate, as if the policy had sampled the tokens.",
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
* Some keys are a choice between *rules*, which may have fields of their own. A bare name stands for a rule with its
  defaults: `mode = "step"` is `mode = {kind = "step"}`, and `mode = {kind = "step", max_tokens = 50}` sets a field.

A step trains on `run.problems_per_step` x (`run.rollouts_per_problem` + reserved rows) rows. Reserved rows are
`method.max_salvages` where `method.insertion` is `append` or `pair`, and 0 otherwise. `run.micro_batch_rows` must
divide that number.
"""

METHOD_NOTE = """`--method NAME` on the command line chooses another method than the file's and drops the options that the file gives for
its own. With `max_salvages = 0` the method `scope` is `grpo`, and needs neither scorer nor teacher.
"""


_LONG_LINE = 120


class ReferenceGap(Exception):
    """A key is explained nowhere, or twice, or an explanation belongs to no key."""


def section_types() -> dict[str, type[Settings]]:
    """The class of each section; for ``method``, the default one."""
    return {name: type(field.default) for name, field in RunConfig.model_fields.items()}


def rules_of(field: FieldInfo) -> list[type[Settings]]:
    """The rules that a key chooses between; empty where it is not such a choice."""
    members = _members(field.annotation)
    rules = [m for m in members if isinstance(m, type) and issubclass(m, Settings) and "kind" in m.model_fields]
    return rules if len(rules) > 1 else []


def _members(annotation: Any) -> list[Any]:
    """The classes that a type chooses between, whatever they are wrapped in."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    return [m for a in typing.get_args(annotation) for m in _members(a)] if _is_union(annotation) else [annotation]


def table_of(field: FieldInfo) -> type[Settings] | None:
    """The class of a key that is a table with fixed fields, or a list of such tables; also of a table that may be absent,
    where its keys explain themselves."""
    kind, *others = [member for member in _members(field.annotation) if member is not type(None)]
    if typing.get_origin(kind) is tuple:
        kind = typing.get_args(kind)[0]
    if others or not (isinstance(kind, type) and issubclass(kind, Settings)):
        return None
    is_explained = all(option.description for option in kind.model_fields.values())
    return kind if is_explained or not _is_union(field.annotation) else None


def kind_of(rule: type[Settings]) -> str:
    return rule.model_fields["kind"].default


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def type_text(field: FieldInfo) -> str:
    """The type of a key in words."""
    if rules_of(field):
        return "rule: " + ", ".join(f"`{kind_of(rule)}`" for rule in rules_of(field))
    return _annotation_text(field.annotation) + _bounds_text(field)


def _annotation_text(annotation: Any) -> str:
    if _is_union(annotation):
        return " or ".join(_annotation_text(a) for a in typing.get_args(annotation) if a is not type(None))
    if typing.get_origin(annotation) is typing.Literal:
        return "one of " + ", ".join(f"`{value}`" for value in typing.get_args(annotation))
    if typing.get_origin(annotation) is typing.Annotated:
        return _annotation_text(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) is tuple:
        inner = _annotation_text(typing.get_args(annotation)[0])
        return f"list of {'tables' if inner == 'table' else f'{inner}s'}"
    if typing.get_origin(annotation) is dict:
        return "table of any fields"
    if issubclass(annotation, Enum):
        return "one of " + ", ".join(f"`{member.value}`" for member in annotation)
    if issubclass(annotation, Part):
        return "part"
    if issubclass(annotation, Settings):
        return "table"
    return {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path"}[annotation]


def _bounds_text(field: FieldInfo) -> str:
    signs = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
    bounds = [f"{sign} {getattr(m, name)}" for m in field.metadata for name, sign in signs if hasattr(m, name)]
    bounds += ["not empty" for m in field.metadata if getattr(m, "min_length", 0)]
    return f", {' and '.join(bounds)}" if bounds else ""


def key_of(section: str, kind: type[Settings], name: str, field: FieldInfo) -> str:
    """Under which key an option is explained: a method's own by its description or as ``method name.option``."""
    if issubclass(kind, Method) and "name" in kind.model_fields:
        own = f"{kind.model_fields['name'].default}.{name}"
        if own in MEANINGS or field.description is not None:
            return own
    return f"{section}.{name}"


def meaning_of(key: str, field: FieldInfo | None, used: set[str]) -> str:
    """What a key means; raises :class:`ReferenceGap` where that is said nowhere or twice."""
    described = None if field is None else field.description
    if (described is None) == (key not in MEANINGS):
        where = "nowhere" if described is None else "in its description and in MEANINGS"
        raise ReferenceGap(f"{key} is explained {where}; explain it once")
    if described is None:
        used.add(key)
        return MEANINGS[key]
    return described[0].upper() + described[1:] + "."


def toml_value(value: Any) -> str:
    """A value as TOML, tables inline."""
    if isinstance(value, Settings):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {toml_value(v)}" for k, v in value.items() if v is not None) + "}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_entry, value))}]"
    if isinstance(value, Enum):
        value = value.value
    return json.dumps(value if isinstance(value, bool | int | float) else str(value), ensure_ascii=False)


def _entry(value: Any) -> str:
    """An entry of a list; of a table, what it says beside its defaults."""
    if not isinstance(value, Settings):
        return toml_value(value)
    fields = type(value).model_fields
    return toml_value({k: getattr(value, k) for k in fields if getattr(value, k) != fields[k].default})


def default_text(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None:
        return "none"
    if rules_of(field):
        return f"`{kind_of(type(field.default))}`"
    if _is_long_table(field.default):
        return "the defaults of its keys"
    return f"`{toml_value(field.default)}`".replace("|", "\\|")


def _table(rows: Iterator[tuple[str, FieldInfo, str]]) -> Iterator[str]:
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for key, field, meaning in rows:
        yield f"| `{key}` | {type_text(field)} | {default_text(field)} | {meaning} |"


def _rows(path: str, kind: type[Settings], used: set[str], prefix: str = "") -> Iterator[tuple[str, FieldInfo, str]]:
    for name, field in _fields(kind):
        yield prefix + name, field, meaning_of(key_of(path, kind, name, field), field, used)
        inner = table_of(field)
        if inner is not None:
            yield from _rows(f"{path}.{name}", inner, used, f"{prefix}{name}.")


def _fields(kind: type[Settings]) -> list[tuple[str, FieldInfo]]:
    """The fields of a section, the name of a method first."""
    return sorted(kind.model_fields.items(), key=lambda item: issubclass(kind, Method) and item[0] != "name")


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
            lines += [*_table(_rows(section, kind, used)), ""]
            for name, field in _fields(kind):
                if rules_of(field):
                    lines += list(_rule_lines(f"{section}.{name}", rules_of(field), used))
    unknown = set(MEANINGS) - used
    if unknown or set(SECTIONS) != set(section_types()):
        raise ReferenceGap(f"explained, and not in the configuration: {sorted(unknown)}; sections: {sorted(SECTIONS)}")
    return "\n".join(lines).rstrip() + "\n"


def _kind_lines(section: str, kinds: list[type[Settings]], used: set[str]) -> Iterator[str]:
    """A section whose ``kind`` decides which other keys it has."""
    names = ", ".join(f"`{kind_of(kind)}`" for kind in kinds)
    default = kind_of(type(RunConfig.model_fields[section].default))
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    yield f'| `kind` | one of {names} | `"{default}"` | {meaning_of(f"{section}.kind", None, used)} |'
    yield ""
    yield from _rule_lines(section, kinds, used)


def _method_lines(used: set[str]) -> Iterator[str]:
    yield METHOD_NOTE
    yield "Options of every method:"
    yield ""
    names = ", ".join(f"`{name}`" for name in sorted(METHODS))
    for line in _table(row for row in _rows("method", Method, used) if row[0] != "name"):
        yield line
        if line.startswith("|--"):
            yield f'| `name` | one of {names}, or the place of a class of your own, `package.module:Class` | `"scope"` | {meaning_of("method.name", None, used)} |'
    yield ""
    for name in sorted(METHODS):
        yield from _one_method_lines(METHODS[name], used)
    choices: dict[str, dict[str, type[Settings]]] = {}
    for method in METHODS.values():
        for name, field in method.model_fields.items():
            choices.setdefault(name, {}).update({kind_of(rule): rule for rule in rules_of(field)})
    for name, rules in choices.items():
        if rules:
            yield from _rule_lines(f"method.{name}", list(rules.values()), used)


def _one_method_lines(method: type[Method], used: set[str]) -> Iterator[str]:
    """What a method changes, what it decides differently from the rest, and its own options."""
    shared = Method.model_fields
    yield f"### Method `{method.model_fields['name'].default}`"
    yield ""
    yield f"{method.title}, {method.source}. {method.changes[0].upper()}{method.changes[1:]}."
    decided = [
        f"`{name} = {toml_value(method.model_fields[name].default)}`"
        for name, field in shared.items()
        if name != "name" and method.model_fields[name].default != field.default
    ]
    if decided:
        yield f"Its own defaults: {', '.join(decided)}."
    yield ""
    own = [row for row in _rows("method", method, used) if row[0].partition(".")[0] not in shared]
    if own:
        yield from _table(iter(own))
        yield ""


def _rule_lines(name: str, rules: list[type[Settings]], used: set[str]) -> Iterator[str]:
    yield f"### Rules of `{name}`"
    yield ""
    yield "| kind | meaning | fields |"
    yield "|---|---|---|"
    for rule in rules:
        kind = kind_of(rule)
        fields = [
            f"`{key}` ({type_text(option)}, default {default_text(option)}): {meaning_of(f'{kind}.{key}', option, used)}"
            for key, option in rule.model_fields.items()
            if key != "kind"
        ]
        yield f"| `{kind}` | {meaning_of(kind, None, used)} | {' '.join(fields) or 'none'} |"
    yield ""


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
    for name, field in _fields(kind):
        value, meaning = getattr(values, name), meaning_of(key_of(path, kind, name, field), field, set())
        if _is_long_table(value):
            tables += _recipe_lines(f"{path}.{name}", meaning, type(value), value)
            continue
        lines += [f"# {line}" for line in _wrapped(meaning)]
        rules = [kind_of(rule) for rule in rules_of(field)]
        lines += [f"# Rules: {', '.join(rules)}."] if rules else []
        lines += [f"# {name} =" if value is None else f"{name} = {toml_value(value)}"]
    return [*lines, "", *tables]


def _is_long_table(value: Any) -> bool:
    """Whether a value is a table that is better written below the other keys."""
    return (
        isinstance(value, Settings) and "kind" not in type(value).model_fields and len(toml_value(value)) > _LONG_LINE
    )


def _wrapped(text: str, width: int = 116) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{word}"
    return lines


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write docs/configuration.md and recipes/embedded.toml.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 where a file is not up to date"
    )
    is_check = parser.parse_args().check
    stale = []
    for path, text in ((REFERENCE, reference()), (RECIPE, recipe())):
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path)
        if not is_check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for path in stale:
        print(f"{path.relative_to(ROOT)} {'is not up to date' if is_check else 'written'}")
    sys.exit(1 if is_check and stale else 0)


if __name__ == "__main__":
    main()
