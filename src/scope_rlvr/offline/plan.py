"""What an offline salvage is going to do: everything that can be read and checked before a model is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.types import Problem
from scope_rlvr.methods import Scope
from scope_rlvr.models.loading import UNLOADABLE, why_unloadable
from scope_rlvr.models.local import TokenizerCodec
from scope_rlvr.models.resolve import resolve_model
from scope_rlvr.offline.dataset import (
    require_table_name,
)
from scope_rlvr.problems.rows import shown_complaints
from scope_rlvr.problems.saved import (
    UNAIDED,
    BadRow,
    References,
    RowReader,
    SavedRollout,
    fits_tokenizer,
    in_groups,
    rollout_files,
)
from scope_rlvr.problems.sources import Wanted, load_problems
from scope_rlvr.run.config import RunConfig, load_config
from scope_rlvr.salvage.settings import Fallback, Insertion, SalvageSettings, Suffix, WholeTrace
from scope_rlvr.scorers.settings import NONE
from scope_rlvr.store.digests import files_digest, model_digest
from scope_rlvr.teachers.settings import SOLUTIONS, THE_POLICY

_ALL_OF_A_GROUP = 1_000_000
"""Salvages in a group by default: every failure that can be salvaged."""


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
    """The first ones; models are tried on them."""
    max_response_tokens: int

    def lines(self) -> list[str]:
        """What is going to be done, in lines for the terminal."""
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
        needed = self.settings.uses_step_scorer if role == "scorer" else self.settings.uses_teacher
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
        folders = {name for _, name in _folders(self.config)}
        return {
            role: None if name == NONE else {"name": name, "digest": _digest(name) if name in folders else None}
            for role, name in names.items()
        }

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What decides every line of the output. An interrupted salvage can only go on with the same."""
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
        rows = _reader(self.references, self.codec).rows(self.files)
        return (group for group in in_groups(rows) if not isinstance(group, BadRow))


def _digest(name: str) -> str | None:
    """The digest of a model folder; ``None`` for a Hub name."""
    folder = Path(resolve_model(name, "model"))
    return model_digest(folder) if folder.is_dir() else None


def _folders(config: RunConfig) -> list[tuple[str, str]]:
    """The keys of the configuration that name model folders or Hub models, and these names."""
    return [("model.policy", config.model.policy), *config.teacher.folders, *config.scorer.folders]


def _reader(references: References, codec: TokenizerCodec) -> RowReader:
    check = fits_tokenizer(codec, len(codec.tokenizer), codec.tokenizer.all_special_tokens)
    return RowReader(references, check, UNAIDED)


def plan_salvage(request: SalvageRequest) -> SalvagePlan:
    """Read everything that can be read without loading a model; :class:`UserError` names every mistake."""
    for option, file in request.tables.items():
        require_table_name(file, f"--{option}")
    if request.out.suffix != ".jsonl":
        raise UserError(
            f"--out {request.out}: the name must end in .jsonl; --parquet, --sft and --dpo write other files"
        )
    config, settings, has_policy = _config(request)
    for key, name in _folders(config):
        resolve_model(name, key)
    files = tuple(rollout_files(request.rollouts))
    source = config.problems.source
    known = load_problems(config.problems, Wanted("train"), config.problems.folder).problems if source else ()
    codec, references = _codec(config), References(known)
    groups, left_out = list[list[SavedRollout]](), list[str]()
    num_groups = num_rollouts = longest = num_solved = 0
    for item in in_groups(_reader(references, codec).rows(files)):
        if isinstance(item, BadRow):
            left_out.append(str(item))
            continue
        groups = [*groups, item] if num_groups < 50 else groups
        num_groups, num_rollouts = num_groups + 1, num_rollouts + len(item)
        num_solved += item[0].problem.solution is not None
        longest = max(longest, *(len(rollout.as_rollout(codec)) for rollout in item))
    _require_usable(request, left_out, num_rollouts)
    if settings.uses_teacher and config.teacher.model == SOLUTIONS and not num_solved:
        raise UserError(
            f"the teacher {SOLUTIONS!r} needs worked solutions, and no rollout has one; give rollouts a column `solution`, or name "
            "problems that have one by --problems"
        )
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
            "mend or remove them, name the problems with their answers by --problems where only those are missing, or leave "
            "them out by --skip-bad-rows"
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
        ("scorer", settings.uses_step_scorer, config.scorer),
        ("teacher", settings.uses_teacher, config.teacher),
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
    if not config.teacher.folders:
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
            f"model.policy = {config.model.policy!r} has no usable tokenizer: {why_unloadable(error)}"
        ) from error
