"""Bad input for every command, and what must come of it: exit code 2 and one message, before any work.

python -m tests.torture.bad_input [--seconds 600] [--only PART]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from scope_rlvr.core.errors import UserError
from scope_rlvr.run.config import load_config
from tests.torture.bad_files import bad_files
from tests.torture.bad_settings import bad_values
from tests.torture.isolated import BEGAN, Ended, run_scope, stop_before_work
from tests.torture.results import FOLDER, Results

DEADLINE_SECONDS = 60.0
"""Nobody waits longer for a message; a busy machine may need a few seconds."""

LONGEST_MESSAGE = 4000
SMALL = (
    *("--set", "run.problems_per_step=2", "--set", "run.rollouts_per_problem=4", "--set", "run.steps=3"),
    *("--set", "evaluation.num_problems=2", "--set", "evaluation.samples_per_problem=2"),
)
_ACTS_ON_A_SCREEN = ("\x1b", "\x07", "\x00")


@dataclass(frozen=True, slots=True)
class Case:
    """One bad input: the arguments of ``scope``, and what makes the files that they name."""

    name: str
    arguments: tuple[str, ...]
    may_begin: bool
    make: Callable[[Path], None] = lambda folder: None
    is_value: bool = False


def cases(run: Path | None) -> Iterator[Case]:
    """All cases; those of run folders only with a finished ``run`` whose copies can be broken."""
    for value in bad_values():
        yield Case(
            f"set {value.name}", ("train", "--out", "run", *SMALL, *value.arguments), value.may_begin, is_value=True
        )
    yield from _arguments()
    for bad in bad_files(run) if run is not None else ():
        small = SMALL if bad.arguments[0] == "train" and "--resume" not in bad.arguments else ()
        yield Case(bad.name, bad.arguments + small, bad.may_begin, bad.make)


_COMMANDS: tuple[tuple[str, ...], ...] = (
    ("train", "--steps", "3"),
    ("check",),
    ("doctor",),
    ("eval", "embedded:policy"),
    ("grade", "rows.jsonl"),
    ("report", "run"),
    ("show", "run"),
    ("salvage", "rollouts.jsonl", "--out", "new.jsonl"),
    ("study", "study.toml"),
    ("methods",),
    ("scorer", "train", "--data", "x.jsonl", "--base", "embedded:policy", "--out", "new"),
    ("scorer", "label", "x.jsonl", "--policy", "embedded:policy", "--samples", "2", "--out", "new.jsonl"),
    ("scorer", "bench", "embedded:step_scorer", "--data", "x.jsonl"),
    ("scorer", "calibrate", "embedded:step_scorer", "--data", "x.jsonl", "--late-cost", "1", "--out", "new.json"),
)
_ODD_ARGUMENTS = (
    ("--no-such-option",),
    ("--set",),
    ("--set", ""),
    ("--set", "run"),
    ("--set", "run.="),
    ("--set", ".=1"),
    ("--set", "run.steps.x=1"),
    ("--set", "=" * 5000),
    ("--set", "a." * 5000 + "b=1"),
    ("--set", f"run.seed=1{'0' * 10_000}"),
    ("--set", f"run.seed={'[' * 5000}"),
    ("--set", "model.policy=\udc80"),
    ("--set", "evaluation.sets.9.level=3"),
    ("--set", "evaluation.sets.-1.level=3"),
    ("--out", ""),
    ("--out", "/proc/new"),
    ("--out", "/dev/null"),
    ("--out", "no/such/folder/new"),
    ("--out", "x" * 5000),
    ("--out", "\x1b[2J"),
    ("--steps", "-1"),
    ("--steps", "0"),
    ("--steps", "many"),
    ("--steps", "1000000000000"),
    ("--steps", "1" + "0" * 5000),
    ("--seed", "-1"),
    ("--seed", "1" + "0" * 400),
    ("--threads", "100000"),
    ("--method", ""),
    ("--method", "no_such_method"),
    ("--method", "os:system"),
    ("--method", "../x:Y"),
    ("--resume", "nowhere"),
    ("--verifier", "os:system"),
    ("--samples", "0"),
    ("--num-problems", "10000000000000"),
    ("--temperature", "nan"),
    ("--temperature", "-1"),
    ("--wait-minutes", "nan"),
    ("one", "argument", "too", "many"),
    ("",),
    ("\udcff",),
)


def _arguments() -> Iterator[Case]:
    for command in _COMMANDS:
        for odd in _ODD_ARGUMENTS:
            # ``scope methods`` and ``scope doctor`` have little to refuse; what a command lets pass must still end well.
            yield Case(f"{' '.join(command)} {' '.join(odd)!r:.60}", (*command, *odd), may_begin=True)


# --- what becomes of them ---------------------------------------------------------------------------------------------


def outcome_of(case: Case, ended: Ended, folder: Path) -> str:
    """``refused`` and ``began`` are as it should be; anything else names what is wrong."""
    said = ended.err + ended.out
    if ended.code is None:
        return "hung"
    if ended.code < 0:
        return f"crashed by signal {-ended.code}"
    if ended.has_traceback:
        return f"traceback: {ended.err.strip().splitlines()[-1][:120]}"
    if any(char in said for char in _ACTS_ON_A_SCREEN):
        return "acted on the screen"
    if ended.code in (BEGAN, 0):
        return "began" if case.may_begin else f"accepted with exit code {ended.code}"
    if ended.code != 2:
        return f"exit code {ended.code}"
    if not said.strip():
        return "said nothing"
    if len(ended.err) > LONGEST_MESSAGE:
        return f"said {len(ended.err)} characters"
    if case.arguments[0] == "train" and "--resume" not in case.arguments and (folder / "run").exists():
        return "left a run folder behind"
    return "refused"


def try_case(case: Case, folder: Path) -> tuple[str, Ended]:
    """What becomes of a case in an empty folder."""
    case.make(folder)
    ended = run_scope(case.arguments, folder, DEADLINE_SECONDS, stop_before_work)
    return outcome_of(case, ended, folder), ended


GOOD = ("refused", "began")
_SENT_ALL_THE_WAY = 25
"""Of the values of the configuration, one in so many is tried by the command in a fork, as all other cases are; so is each that the
configuration takes. Any other is refused by the function with which every command reads its configuration."""


def import_everything() -> None:
    """Import once what each fork would import."""
    import scope_rlvr.cli.main
    import scope_rlvr.measure.policy
    import scope_rlvr.offline.command
    import scope_rlvr.report
    import scope_rlvr.run.train
    import scope_rlvr.scorer_lab.bench_command
    import scope_rlvr.scorer_lab.label
    import scope_rlvr.scorer_lab.training.run
    import scope_rlvr.study.runner  # noqa: F401


def small_run(folder: Path) -> Path:
    """A finished run of three steps with a checkpoint."""
    sets = ("--set", "run.checkpoint_every=2", "--set", "evaluation.before=false")
    arguments = ("train", "--out", "whole", *SMALL, *sets)
    ended = run_scope(arguments, folder, 600.0, lambda: None)
    assert ended.code == 0, ended.err
    return folder / "whole"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600, help="when to stop; the next call goes on")
    parser.add_argument("--only", default="", help="only cases whose name begins so")
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder of the results")
    arguments = parser.parse_args()
    import_everything()
    results, until, counts = (
        Results.of("bad_input", arguments.results),
        time.monotonic() + arguments.seconds,
        Counter[str](),
    )
    known = results.known()
    with tempfile.TemporaryDirectory() as scratch:
        chosen = [case for case in cases(small_run(Path(scratch))) if case.name.startswith(arguments.only)]
        # Where the time ends before the cases, those that were tried are a fair sample.
        Random(0).shuffle(chosen)
        for number, case in enumerate(sorted(chosen, key=lambda case: not case.is_value)):
            if case.name in known or time.monotonic() > until:
                continue
            outcome = refusal_by_configuration(case) if number % _SENT_ALL_THE_WAY else ""
            if not outcome:
                outcome = _in_a_folder_of_its_own(case)
            counts[outcome if outcome in GOOD else "BAD"] += 1
            if outcome not in GOOD:
                print(f"{case.name[:90]!r}: {outcome}", flush=True)
            results.add(case.name, outcome)
    print(dict(counts))


def refusal_by_configuration(case: Case) -> str:
    """``refused`` where a bad value is refused by what every command reads its configuration with; empty otherwise."""
    if not case.is_value:
        return ""
    try:
        load_config(overrides=[argument for argument in case.arguments[3:] if argument != "--set"])
    except UserError:
        return "refused"
    return ""


def _in_a_folder_of_its_own(case: Case) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "here"
        folder.mkdir()
        return try_case(case, folder)[0]


if __name__ == "__main__":
    main()
