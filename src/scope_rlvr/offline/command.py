"""Salvage without training: from saved rollouts to a data set of failures and what was made of them.

It is the salvage that a training step does, by the same settings. What is written is kept block by block, so that an
interrupted salvage goes on where it was.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from scope_rlvr import __version__
from scope_rlvr.core.errors import UserError, first_line
from scope_rlvr.core.groups import Group, Member, SalvageOutcome
from scope_rlvr.core.ports import Continuation, Sampling
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import TeacherLog, Toolbox
from scope_rlvr.core.types import Outcome, Problem
from scope_rlvr.methods import Scope
from scope_rlvr.models.loading import UNLOADABLE, inference_dtype, require_reader
from scope_rlvr.models.local import TokenizerCodec
from scope_rlvr.models.resolve import resolve_model
from scope_rlvr.offline.dataset import (
    Shown,
    dpo_rows,
    failure_line,
    require_table_name,
    sft_rows,
    write_table,
)
from scope_rlvr.offline.saved import (
    BadRow,
    Check,
    References,
    SavedRollout,
    fits_tokenizer,
    read_saved,
    rollout_files,
)
from scope_rlvr.problems.rows import shown as shown_complaints
from scope_rlvr.problems.sources import Wanted, load_problems
from scope_rlvr.run.components import load_causal, load_step_scorer, load_teacher
from scope_rlvr.run.config import RunConfig, load_config
from scope_rlvr.run.verifier import make_verifier
from scope_rlvr.salvage.salvage import salvage
from scope_rlvr.salvage.settings import Fallback, Insertion, SalvageSettings, Suffix, WholeTrace
from scope_rlvr.scorers.families import EXACT, NONE
from scope_rlvr.store.digests import files_digest, model_digest
from scope_rlvr.store.files import write_json
from scope_rlvr.store.journal import append_records, read_records
from scope_rlvr.teachers.failures import TeacherFailureMonitor
from scope_rlvr.teachers.settings import THE_POLICY

SCHEMA_VERSION = 1
_ALL_OF_A_GROUP = 1_000_000
"""Salvages in a group where nobody said how many: each failure that can be."""


@dataclass(frozen=True)
class SalvageRequest:
    """What the command line asked for."""

    rollouts: Path
    out: Path
    scorer: str | None = None
    teacher: str | None = None
    policy: str | None = None
    problems: str | None = None
    config: Path | None = None
    overrides: tuple[str, ...] = ()
    tables: dict[str, Path] = field(default_factory=dict)
    """Other files to write, by option: ``parquet``, ``sft``, ``dpo``."""
    resume: bool = False
    skip_bad_rows: bool = False
    batch_rows: int = 256


@dataclass(frozen=True)
class SalvagePlan:
    """A salvage whose input was read and found usable; no model is loaded yet."""

    request: SalvageRequest
    config: RunConfig
    settings: SalvageSettings
    has_policy: bool
    files: tuple[Path, ...]
    codec: TokenizerCodec
    references: References
    left_out: tuple[str, ...]
    num_groups: int
    num_rollouts: int
    problems: tuple[Problem, ...]
    """The first ones, to try models on."""
    max_response_tokens: int

    def lines(self) -> list[str]:
        """What is going to be done, for whoever reads before it starts."""
        config, policy = self.config, self.config.model.policy if self.has_policy else "none (the teacher finishes)"
        left_out = (
            f"; {len(self.left_out)} row(s) left out:\n{shown_complaints(self.left_out)}" if self.left_out else ""
        )
        return [
            f"rollouts  {self.num_rollouts} of {self.num_groups} groups in {self.request.rollouts}{left_out}",
            f"models    policy {policy}, scorer {self._named('scorer')}, teacher {self._named('teacher')}",
            f"salvage   cut {self.settings.cut.kind}, mode {self.settings.mode.kind}, responses of at most "
            f"{self.max_response_tokens} tokens, temperature {config.sampling.temperature}, seed {config.run.seed}",
        ]

    def _named(self, role: str) -> str:
        needed = self.settings.needs_step_scorer if role == "scorer" else self.settings.needs_teacher
        if not needed:
            return "none"
        return self.config.scorer.model if role == "scorer" else self._teacher

    @property
    def _teacher(self) -> str:
        return self.config.teacher.model if self.has_policy else self.config.model.policy

    @cached_property
    def models(self) -> dict[str, dict[str, str | None] | None]:
        """Name and digest of every model; ``None`` for one that takes no part."""
        names = {
            "policy": self.config.model.policy if self.has_policy else NONE,
            "scorer": self._named("scorer"),
            "teacher": self._named("teacher"),
        }
        if names["teacher"] == THE_POLICY:
            names["teacher"] = self.config.model.policy
        return {role: None if name == NONE else {"name": name, "digest": _digest(name)} for role, name in names.items()}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What decides every line: a salvage can only go on with the same."""
        config = self.config
        return {
            "rollouts": files_digest(self.files),
            "models": self.models,
            "settings": self.settings.model_dump(mode="json"),
            "scorer": config.scorer.model_dump(mode="json"),
            "teacher": config.teacher.model_dump(mode="json"),
            "verifier": config.verifier.model_dump(mode="json"),
            "steps": config.steps.model_dump(mode="json"),
            "prompt": config.prompt.model_dump(mode="json"),
            "sampling": config.sampling.model_dump(mode="json") | {"max_response_tokens": self.max_response_tokens},
            "problems": self.request.problems,
            "seed": config.run.seed,
            "batch_rows": self.request.batch_rows,
            "skip_bad_rows": self.request.skip_bad_rows,
        }

    def groups(self) -> Iterator[list[SavedRollout]]:
        """All groups of the input, in order."""
        read = read_saved(self.files, self.references, _check(self.codec))
        return (group for group in read if not isinstance(group, BadRow))


def _digest(name: str) -> str | None:
    """The digest of a model folder; ``None`` for what is no folder: a Hub name, a server, an exact helper."""
    if name == EXACT or "://" in name:
        return None
    folder = Path(resolve_model(name, "model"))
    return model_digest(folder) if folder.is_dir() else None


def _check(codec: TokenizerCodec) -> Check:
    return fits_tokenizer(codec, len(codec.tokenizer), codec.tokenizer.all_special_tokens)


# --- before anything is loaded ------------------------------------------------------------------------------------


def plan_salvage(request: SalvageRequest) -> SalvagePlan:
    """Read all that can be read without loading a model; :class:`UserError` names every mistake in it."""
    for option, file in request.tables.items():
        require_table_name(file, f"--{option}")
    if request.out.suffix != ".jsonl":
        raise UserError(
            f"--out {request.out}: the name must end in .jsonl; --parquet, --sft and --dpo write other files"
        )
    config, settings, has_policy = _config(request)
    scorers = [name for _, name in config.scorer.folders]
    for name in (config.model.policy, config.teacher.model, *scorers):
        if name not in (NONE, EXACT, THE_POLICY) and "://" not in name:
            resolve_model(name, "model")
    files = tuple(rollout_files(request.rollouts))
    source = config.problems.source
    known = load_problems(config.problems, Wanted("train"), config.problems.folder).problems if source else ()
    codec, references = _codec(config), References(known)
    groups, left_out = list[list[SavedRollout]](), list[str]()
    num_groups = num_rollouts = longest = 0
    for item in read_saved(files, references, _check(codec)):
        if isinstance(item, BadRow):
            left_out.append(str(item))
            continue
        groups = [*groups, item] if num_groups < 50 else groups
        num_groups, num_rollouts = num_groups + 1, num_rollouts + len(item)
        longest = max(longest, *(len(rollout.as_rollout(codec)) for rollout in item))
    _require_usable(request, left_out, num_rollouts)
    given = config.sampling.model_fields_set
    return SalvagePlan(
        request=request,
        config=config,
        settings=settings,
        has_policy=has_policy,
        files=files,
        codec=codec,
        references=references,
        left_out=tuple(left_out),
        num_groups=num_groups,
        num_rollouts=num_rollouts,
        problems=tuple(group[0].problem for group in groups),
        max_response_tokens=config.sampling.max_response_tokens if "max_response_tokens" in given else 2 * longest,
    )


def _require_usable(request: SalvageRequest, left_out: Sequence[str], num_rollouts: int) -> None:
    if left_out and not request.skip_bad_rows:
        raise UserError(
            f"{request.rollouts} has {len(left_out)} row(s) that hold no rollout:\n{shown_complaints(left_out)}\n"
            "mend or remove them, or leave them out by --skip-bad-rows"
        )
    if not num_rollouts:
        why = f"; of its rows none is one:\n{shown_complaints(left_out)}" if left_out else ""
        raise UserError(f"{request.rollouts} holds no rollout{why}")


def _config(request: SalvageRequest) -> tuple[RunConfig, SalvageSettings, bool]:
    """The configuration, the settings of the salvage, and whether a policy continues."""
    overrides = list(request.overrides)
    named = {"scorer.model": request.scorer, "teacher.model": request.teacher, "model.policy": request.policy}
    overrides += [f"{key}={json.dumps(name)}" for key, name in named.items() if name is not None]
    overrides += [f"problems.source={json.dumps(request.problems)}"] if request.problems is not None else []
    config = load_config(request.config, overrides)
    method = config.method
    if not isinstance(method, Scope):
        raise UserError(f"method {method.name!r} does not salvage; use the method scope and its options")
    changes: dict[str, Any] = {"insertion": Insertion.REPLACE}
    if "max_salvages" not in method.model_fields_set:
        changes["max_salvages"] = _ALL_OF_A_GROUP
    settings = SalvageSettings(**{n: getattr(method, n) for n in SalvageSettings.model_fields} | changes)
    if settings.max_salvages == 0:
        raise UserError("method.max_salvages = 0: nothing would be salvaged; leave it out, or give a number above 0")
    _require_helpers(config, settings)
    if "policy" in config.model.model_fields_set:
        return config, settings, True
    return _without_policy(config, settings), settings, False


def _require_helpers(config: RunConfig, settings: SalvageSettings) -> None:
    for role, is_needed, section in (
        ("scorer", settings.needs_step_scorer, config.scorer),
        ("teacher", settings.needs_teacher, config.teacher),
    ):
        if is_needed and "model" not in section.model_fields_set:
            raise UserError(f"no {role} is named; give one by --{role}")


def _without_policy(config: RunConfig, settings: SalvageSettings) -> RunConfig:
    """Without a policy nothing can be continued, and the teacher's tokenizer reads the rollouts."""
    finishes = isinstance(settings.mode, Suffix | WholeTrace) and settings.fallback is Fallback.NONE
    if not finishes or settings.cut.needs_policy:
        raise UserError(
            f"mode {settings.mode.kind!r} with the cut {settings.cut.kind!r} asks the policy, and none is named; give it by "
            "--policy, or let the teacher finish: --set method.mode=suffix"
        )
    if config.teacher.model in (NONE, EXACT, THE_POLICY) or config.teacher.is_served:
        raise UserError(
            f"the teacher {config.teacher.model!r} has no tokenizer here that could read the rollouts; name the policy that "
            "wrote them by --policy"
        )
    model = config.model.model_copy(update={"policy": config.teacher.model})
    return config.model_copy(
        update={"model": model, "teacher": config.teacher.model_copy(update={"model": THE_POLICY})}
    )


def _codec(config: RunConfig) -> TokenizerCodec:
    """The tokenizer that reads and writes the rollouts, before its model is loaded."""
    source = resolve_model(config.model.policy, "model.policy")
    try:
        return TokenizerCodec(AutoTokenizer.from_pretrained(source, trust_remote_code=False), (), config.prompt)
    except UNLOADABLE as error:
        raise UserError(
            f"model.policy = {config.model.policy!r} has no usable tokenizer: {first_line(error)}"
        ) from error


# --- the work -----------------------------------------------------------------------------------------------------


class TeacherFailed(Exception):
    """The teacher answered too few questions of a block; what was done before is kept."""


class NoPolicy:
    """Stands where a policy would, in a salvage that asks none."""

    def extend(
        self, prefixes: Sequence[Sequence[int]], sampling: Sampling, *, max_tokens: Sequence[int], seed: int
    ) -> list[Continuation]:
        if prefixes:
            raise AssertionError("a salvage without a policy has nothing to continue")
        return []

    def entropies(self, *_: Any) -> list[tuple[float, ...]]:
        raise AssertionError("a salvage without a policy has no entropies")


class SalvageJournal:
    """The output file, block by block, and beside it what it was made with and how far it is."""

    def __init__(self, plan: SalvagePlan) -> None:
        self.out = plan.request.out
        self.about = self.out.with_name(f"{self.out.name}.about.json")
        self.record: dict[str, Any] = {
            "schema": SCHEMA_VERSION,
            "version": __version__,
            "made_with": plan.fingerprint,
            "left_out": list(plan.left_out),
            "blocks": 0,
            "bytes": 0,
            "verdicts": {},
            "is_finished": False,
        }
        if plan.request.resume:
            self._take_up()

    def begin(self) -> None:
        """Have the file end where the last finished block ends."""
        self.out.touch()
        os.truncate(self.out, self.record["bytes"])
        self._note()

    def _take_up(self) -> None:
        """Take over what was done before, after a look at what it was done with."""
        before = self._read_record()
        wanted = json.loads(json.dumps(self.record["made_with"]))
        other = sorted(key for key in wanted if before.get("made_with", {}).get(key) != wanted[key])
        if other:
            raise UserError(
                f"{self.out} was begun with other {', '.join(other)}: a data set has one; go on with the same, or name "
                "another file by --out"
            )
        if not self.out.is_file() or self.out.stat().st_size < before["bytes"]:
            raise UserError(f"{self.out} holds less than {self.about.name} says; remove both and begin again")
        self.record = before

    def _read_record(self) -> dict[str, Any]:
        try:
            before = json.loads(self.about.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"there is nothing to go on with: {self.about} cannot be read: {error}") from error
        if not isinstance(before, dict) or before.get("schema") != SCHEMA_VERSION:
            raise UserError(f"{self.about} is of another version; begin again with another --out")
        return before

    def add(self, lines: Sequence[dict[str, Any]], verdicts: Counter[str]) -> None:
        """One more finished block. What a crash leaves of an unfinished one is cut off when it goes on."""
        self.record["bytes"] = append_records(self.out, lines, sync=True)
        self.record["blocks"] += 1
        self.record["verdicts"] = dict(Counter(self.record["verdicts"]) + verdicts)
        self._note()

    def finish(self) -> None:
        self.record["is_finished"] = True
        self._note()

    def _note(self) -> None:
        write_json(self.about, self.record)


@dataclass(frozen=True)
class SalvageResult:
    """How a salvage went: verdicts on the rollouts that were read, outcomes of the failures, rows of every file."""

    verdicts: dict[str, int]
    outcomes: dict[str, int]
    written: dict[Path, int]

    @property
    def num_admitted(self) -> int:
        return self.outcomes.get(SalvageOutcome.ADMITTED.value, 0)

    def lines(self) -> list[str]:
        """The result for a reader."""
        verdicts = ", ".join(f"{count} {name}" for name, count in sorted(self.verdicts.items()))
        width = max(map(len, self.outcomes), default=0)
        return [
            f"verdicts  {verdicts}",
            *(
                f"{'outcomes' if i == 0 else '':<10}{name:<{width}} {n}"
                for i, (name, n) in enumerate(self.outcomes.items())
            ),
            *(f"written   {file}: {count} row(s)" for file, count in self.written.items()),
        ]


class OfflineSalvage:
    """A plan with its models loaded."""

    def __init__(self, plan: SalvagePlan) -> None:
        self.plan, config = plan, plan.config
        torch.set_num_threads(config.run.num_threads)
        self.journal = SalvageJournal(plan)
        problems = list(plan.problems)
        policy = load_causal(config.model.policy, "model.policy", inference_dtype(), config.prompt)
        require_reader(policy.codec.tokenizer, problems, f"the tokenizer of {config.model.policy}")
        self.codec = policy.codec
        self.notes: list[str] = []
        """Faults of the teacher, one line a kind."""
        settings = plan.settings
        self.tools = Toolbox(
            policy=policy if plan.has_policy else NoPolicy(),
            verifier=make_verifier(config),
            codec=policy.codec,
            sampling=config.sampling.sampling(),
            max_response_tokens=plan.max_response_tokens,
            seed=config.run.seed,
            steps=config.steps,
            step_scorer=load_step_scorer(config, problems, policy) if settings.needs_step_scorer else None,
            teacher=load_teacher(config, policy, problems) if settings.needs_teacher else None,
        )

    def run(self, advance: Callable[[int], None]) -> SalvageResult:
        """Salvage what is not done yet; ``advance`` is told how many more rollouts are."""
        journal = self.journal
        journal.begin()
        for number, block in enumerate(_blocks(self.plan.groups(), self.plan.request.batch_rows)):
            if number >= journal.record["blocks"]:
                journal.add(*self._block(number, block))
            advance(sum(map(len, block)))
        journal.finish()
        return self._result(journal)

    def _block(self, number: int, block: Sequence[list[SavedRollout]]) -> tuple[list[dict[str, Any]], Counter[str]]:
        """The lines of a block's rollouts that are not right, in the order of the input, and all verdicts."""
        seed = derive_seed(self.plan.config.run.seed, "salvage", number)
        tools = replace(self.tools, seed=seed, teacher_log=TeacherLog())
        rollouts = [rollout.as_rollout(self.codec) for group in block for rollout in group]
        saved = [rollout for group in block for rollout in group]
        members = tools.judge([(s.problem, r) for s, r in zip(saved, rollouts, strict=True)])
        edited = salvage(_groups(block, members), self.plan.settings, tools)
        self._watch(number, tools.teacher_log)
        # What a salvaged rollout replaced carries the same record.
        known = {id(m.rollout): m for group in edited for m in (*group.members, *group.replaced)}
        verdicts = Counter(member.verdict.outcome.value for member in members)
        lines = [
            failure_line(s, known[id(r)], self._shown(s.problem), self.plan.models, self.codec, tools.steps)
            for s, r, m in zip(saved, rollouts, members, strict=True)
            if m.verdict.outcome is not Outcome.RIGHT
        ]
        return lines, verdicts

    def _watch(self, number: int, log: TeacherLog) -> None:
        """Refuse a block in which the teacher failed too often: nothing could be learned from it."""
        monitor = TeacherFailureMonitor(self.plan.config.teacher.max_failure_share, window=1)
        faults = list(monitor.record(number, log))
        why = monitor.reason_to_stop()
        if why:
            raise TeacherFailed(why)
        self.notes += [fault for fault in faults if fault not in self.notes]

    def _shown(self, problem: Problem) -> Shown:
        prompt = self.plan.config.prompt
        is_chat = prompt.is_chat(self.codec.tokenizer)
        return prompt.messages(problem.prompt) if is_chat else prompt.text(problem.prompt)

    def _result(self, journal: SalvageJournal) -> SalvageResult:
        request = self.plan.request
        outcomes = Counter(
            line["salvage"]["outcome"] if line["salvage"] else "not graded" for line in read_records(request.out)
        )
        written = {request.out: sum(outcomes.values())}
        for option, file in request.tables.items():
            written[file] = write_table(_TABLES[option](read_records(request.out)), file)
        return SalvageResult(journal.record["verdicts"], dict(outcomes.most_common()), written)


_TABLES: dict[str, Callable[[Iterable[dict[str, Any]]], Iterable[dict[str, Any]]]] = {
    "parquet": lambda lines: lines,
    "sft": sft_rows,
    "dpo": dpo_rows,
}


def _groups(block: Sequence[list[SavedRollout]], members: Sequence[Member]) -> list[Group]:
    """Members as groups, one of each list of the block."""
    waiting, groups = iter(members), []
    for saved in block:
        own = tuple(next(waiting) for _ in saved)
        groups.append(Group(saved[0].problem, own, prompt_ids=own[0].rollout.prompt_ids))
    return groups


def _blocks(groups: Iterator[list[SavedRollout]], num_rollouts: int) -> Iterator[list[list[SavedRollout]]]:
    """Whole groups, as many as have at least ``num_rollouts`` rollouts."""
    block: list[list[SavedRollout]] = []
    for group in groups:
        block.append(group)
        if sum(map(len, block)) >= num_rollouts:
            yield block
            block = []
    if block:
        yield block
