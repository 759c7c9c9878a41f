"""Commands that are killed at any moment, taken up again, and killed again: in the end nothing may be different.

    python -m tests.torture.kills [--seconds 600] [--trials 500] [--only SCENARIO]

Each trial is one command, which SIGKILL ends two to six times: at a random moment, or just before a file is changed. Then the
same command, with ``--resume``, brings it to its end, and what it left is compared with what the same command leaves undisturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from scope_rlvr.methods import METHODS
from scope_rlvr.problems.reduction import Reduction
from scope_rlvr.store.journal import read_records
from scope_rlvr.store.rollouts import Rollouts
from tests.faulty_server import MODEL, FaultyServer
from tests.torture.bad_input import import_everything
from tests.torture.fault_points import kill_at_file_event
from tests.torture.isolated import Ended, run_forked, run_scope
from tests.torture.results import FOLDER, Results

DEADLINE_SECONDS = 900.0
FEWEST_KILLS, MOST_KILLS = 2, 6
_MOST_FILE_EVENTS = 80
"""About as many as a small run has."""

_OF_TIME = ("seconds", "teacher/request_seconds", "written", "created", "ended", "started")
"""Figures that are never the same twice begin so."""


@dataclass(frozen=True)
class Scenario:
    """A command that leaves something, and how it is taken up again.

    ``left`` gives what is compared, by name. ``is_of_processes``: the command starts further processes, which are not forks.
    """

    name: str
    arguments: tuple[str, ...]
    resume: Callable[[Path], tuple[str, ...]]
    left: Callable[[Path], dict[str, Any]]
    prepare: Callable[[Path], None] = lambda folder: None
    is_of_processes: bool = False


# --- what is killed ---------------------------------------------------------------------------------------------------

SMALL = (
    "run.steps=3",
    "run.problems_per_step=2",
    "run.rollouts_per_problem=3",
    "run.checkpoint_every=1",
    "problems.level=5",
    "sampling.max_response_tokens=80",
    "evaluation.sets=[{role='trained', level=5}]",
    "evaluation.num_problems=2",
    "evaluation.samples_per_problem=1",
    "evaluation.before=false",
)


def _train(*overrides: str) -> tuple[str, ...]:
    return ("train", "--out", "run", *(part for o in (*SMALL, *overrides) for part in ("--set", o)))


def _resumed_run(arguments: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    """A run that was killed before it began is begun; any other goes on."""
    return ("train", "--resume", "run") if (folder / "run" / "config.toml").is_file() else arguments


def _training(name: str, *overrides: str) -> Scenario:
    arguments = _train(*overrides)
    return Scenario(name, arguments, partial(_resumed_run, arguments), _left_by_run)


def scenarios(teacher_url: str) -> Iterator[Scenario]:
    """Everything that is killed; ``teacher_url`` is where a server writes corrections."""
    yield _training("pairs", "method={name='scope', insertion='pair'}")
    yield _training("reserved rows", "method={name='scope', insertion='append'}")
    updates = ("objective.updates_per_batch=2", "objective.mini_batches=2", "run.checkpoint_every=4", "run.steps=8")
    yield _training("several updates", *updates)
    yield _training("LoRA", "model.lora.rank=4", "model.lora.dropout=0.1")
    served = (f"teacher.model={teacher_url}", f"teacher.name={MODEL}", "teacher.server.cache=none")
    yield _training("a served teacher", *served)
    yield _training("evaluation on the way", "evaluation.every=1", "evaluation.before=true")
    yield _two_processes()
    yield _study()
    yield _salvage()
    yield _scorer_training()
    yield _labelling()
    for name in METHODS:
        if not _needs_more(name):
            yield _training(f"method {name}", f"method.name={name}")


def resumable() -> list[Scenario]:
    """A few of them that stand for all ways in which something is kept: for faults that cost more than a kill."""
    return [
        _training("method scope"),
        _training("method relift", "method.name=relift"),
        _salvage(),
        _scorer_training(),
        _labelling(),
    ]


def _needs_more(name: str) -> bool:
    """Whether a method does not train on the embedded recipe as it is, for lack of a judge or of worked solutions."""
    from scope_rlvr.core.errors import UserError
    from scope_rlvr.run.config import load_config

    try:
        load_config(overrides=[*SMALL, f"method.name={name}"])
    except UserError:
        return True
    return False


def _two_processes() -> Scenario:
    arguments = _train()
    return Scenario("two processes", arguments, partial(_resumed_run, arguments), _left_by_run, is_of_processes=True)


_STUDY = """
name = "killed"
reference = "grpo"
seeds = [1, 2]
[base]
{base}
[arms.grpo]
method = "grpo"
[arms.scope]
method = "scope"
"""


def _study() -> Scenario:
    def prepare(folder: Path) -> None:
        base = "\n".join(override.replace("=", " = ", 1) for override in SMALL)
        (folder / "study.toml").write_text(_STUDY.format(base=base))

    def left(folder: Path) -> dict[str, Any]:
        files = sorted((folder / "study" / "results").rglob("*.json"))
        return {file.name: _timeless(json.loads(file.read_text())) for file in files}

    arguments = ("study", "study.toml", "--out", "study", "--at-once", "2")
    return Scenario("scope study", arguments, lambda folder: arguments, left, prepare, is_of_processes=True)


def _salvage() -> Scenario:
    arguments = (
        *("salvage", "failures.jsonl", "--out", "all.jsonl", "--scorer", "embedded:step_scorer"),
        *("--teacher", "embedded:teacher", "--policy", "embedded:policy", "--dpo", "dpo.jsonl", "--batch-rows", "4"),
    )

    def left(folder: Path) -> dict[str, Any]:
        return {name: (folder / name).read_bytes() for name in ("all.jsonl", "dpo.jsonl")}

    def resume(folder: Path) -> tuple[str, ...]:
        return (*arguments, "--resume") if (folder / "all.jsonl").exists() else arguments

    return Scenario("scope salvage", arguments, resume, left, _write_failures)


def _scorer_training() -> Scenario:
    arguments = (
        *("scorer", "train", "labelled.jsonl", "--base", "embedded:teacher", "--batch-rows", "8", "--held-out", "0.3"),
        *("--steps", "8", "--checkpoint-every", "2", "--out", "scorer"),
    )

    def left(folder: Path) -> dict[str, Any]:
        return {name: (folder / "scorer" / name).read_bytes() for name in ("model.safetensors", "scorer.json")}

    def resume(folder: Path) -> tuple[str, ...]:
        return (*arguments, "--resume") if any((folder / "scorer").glob("*.json")) else arguments

    return Scenario("scope scorer train", arguments, resume, left, _write_labelled)


def _labelling() -> Scenario:
    arguments = (
        *(
            "scorer",
            "label",
            "failures.jsonl",
            "--policy",
            "embedded:policy",
            "--samples",
            "2",
            "--out",
            "labels.jsonl",
        ),
        *("--rows-at-once", "4"),
    )

    def resume(folder: Path) -> tuple[str, ...]:
        return (*arguments, "--resume") if (folder / "labels.jsonl").exists() else arguments

    def left(folder: Path) -> dict[str, Any]:
        return {"labels": (folder / "labels.jsonl").read_bytes()}

    return Scenario("scope scorer label", arguments, resume, left, _write_failures)


def _write_failures(folder: Path) -> None:
    """Saved rollouts, half of them wrong at their last sum."""
    rows = []
    for number, problem in enumerate(Reduction().sample(5, 24, seed=3)):
        steps = Reduction().canonical_solution(problem).split("\n\n")
        answer = (int(problem.reference) + number % 2) % 13
        response = "\n\n".join([*steps[:-1], f"answer {answer}"])
        rows.append({"prompt": problem.prompt, "response": response, "answer": problem.reference})
    (folder / "failures.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_labelled(folder: Path) -> None:
    rows = []
    for number, problem in enumerate(Reduction().sample(3, 40, seed=0)):
        steps = Reduction().canonical_solution(problem).split("\n\n")
        if number % 2:
            steps[-1] = f"answer {(int(problem.reference) + 1) % 13}"
        rows.append({"prompt": problem.prompt, "steps": steps, "label": len(steps) - 1 if number % 2 else -1})
    (folder / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


# --- what is compared -------------------------------------------------------------------------------------------------


def _left_by_run(folder: Path) -> dict[str, Any]:
    run = folder / "run"
    summary = json.loads((run / "summary.json").read_text())
    return {
        "weights": (run / "model" / "model.safetensors").read_bytes(),
        "rollouts": list(Rollouts.of(run)),
        "metrics": [_timeless(record) for record in read_records(run / "metrics.jsonl")],
        "summary": _timeless(summary),
        "report": (run / "report.html").is_file(),
    }


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if not key.startswith(_OF_TIME) and "seconds" not in key}
        return {key: _timeless(item) for key, item in kept.items()}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    """The names of what differs."""
    return ", ".join(sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name)))


# --- trials -----------------------------------------------------------------------------------------------------------


def without_charts() -> None:
    """Reports without their charts, which would take longer than a small run."""
    from markupsafe import Markup

    from scope_rlvr.report.charts import Chart

    Chart.for_page = lambda chart: Markup("<svg></svg>")  # type: ignore[method-assign]


def run_once(
    scenario: Scenario, arguments: Sequence[str], folder: Path, *, after: float = float("inf"), at_event: int = 0
) -> Ended:
    """The command in a fork, to its end, or until it is killed: after so many seconds, or at its file event of that number."""

    def prepare() -> None:
        without_charts()
        if at_event:
            kill_at_file_event(at_event, folder)

    if not scenario.is_of_processes:
        return run_scope(arguments, folder, DEADLINE_SECONDS, prepare, kill_after=after)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *(launcher if arguments[0] == "train" else []), "-m", "scope_rlvr", *arguments]
    path = os.pathsep.join(
        str(Path(place).resolve()) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place
    )
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return run_forked(
        lambda: os.execve(sys.executable, command, environment), folder, DEADLINE_SECONDS, kill_after=after
    )


@dataclass(frozen=True)
class Whole:
    """What a command leaves undisturbed, and how long it takes."""

    left: dict[str, Any]
    seconds: float


def whole(scenario: Scenario) -> Whole:
    with tempfile.TemporaryDirectory() as scratch:
        folder = _fresh(scenario, Path(scratch))
        ended = run_once(scenario, scenario.arguments, folder)
        if ended.code != 0:
            raise RuntimeError(f"{scenario.name} does not even end undisturbed ({ended.code}): {ended.err[-2000:]}")
        return Whole(scenario.left(folder), ended.seconds)


def _fresh(scenario: Scenario, scratch: Path) -> Path:
    folder = scratch / "here"
    folder.mkdir()
    scenario.prepare(folder)
    return folder


def trial(scenario: Scenario, undisturbed: Whole, seed: int) -> tuple[str, int, list[str]]:
    """How one trial ended, how many kills struck, and where."""
    rng, moments = random.Random(f"{scenario.name}/{seed}"), list[str]()
    with tempfile.TemporaryDirectory() as scratch:
        folder = _fresh(scenario, Path(scratch))
        arguments: Sequence[str] = scenario.arguments
        for _ in range(rng.randint(FEWEST_KILLS, MOST_KILLS)):
            if scenario.is_of_processes or rng.random() < 0.5:
                after, at_event = rng.uniform(0.0, undisturbed.seconds), 0
                moments.append(f"{after:.2f} s")
            else:
                after, at_event = float("inf"), rng.randint(1, _MOST_FILE_EVENTS)
                moments.append(f"file event {at_event}")
            ended = _patiently(scenario, arguments, folder, after=after, at_event=at_event)
            if ended.code != -9:
                moments.pop()
            if ended.code not in (-9, 0, 2):
                return _fault_of(ended), len(moments), moments
            arguments = scenario.resume(folder)
        return at_the_end(scenario, undisturbed, arguments, folder), len(moments), moments


def at_the_end(scenario: Scenario, undisturbed: Whole, arguments: Sequence[str], folder: Path) -> str:
    """Whether the command, taken up for the last time, leaves what it leaves undisturbed."""
    ended = _patiently(scenario, arguments, folder)
    was_finished = ended.code == 2 and any(word in ended.err for word in ("finished", "nothing left", "is done"))
    if ended.code != 0 and not was_finished:
        return _fault_of(ended)
    try:
        different = difference(undisturbed.left, scenario.left(folder))
    except FileNotFoundError as error:
        return f"unequal: there is no {error.filename}"
    return f"unequal: {different}" if different else "equal"


def _patiently(scenario: Scenario, arguments: Sequence[str], folder: Path, **moment: Any) -> Ended:
    """Once processes that outlived their launcher have ended, which they do within seconds."""
    until = time.monotonic() + 120
    while True:
        ended = run_once(scenario, arguments, folder, **moment)
        if ended.code != 2 or "is being written by" not in ended.err or time.monotonic() > until:
            return ended
        time.sleep(0.5)


def _fault_of(ended: Ended) -> str:
    if ended.code is None:
        return "hung"
    return f"exit code {ended.code}: {(ended.err.strip().splitlines() or ['said nothing'])[-1][:200]}"


Attempt = Callable[[Scenario, Whole, int], tuple[str, str, dict[str, Any]]]
"""Tries a scenario with a seed: how it ended, after what, and what else is written down."""


def parser_of(description: str | None, trials: int = 60) -> argparse.ArgumentParser:
    """The command line of a kind of torture that goes on where it stopped."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="when to stop; the next call goes on")
    parser.add_argument(
        "--trials", type=int, default=trials, help="when to stop, too: so many trials of all scenarios together"
    )
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder of the results")
    return parser


def try_in_turn(kind: str, arguments: argparse.Namespace, chosen: Sequence[Scenario], attempt: Attempt) -> None:
    """One scenario after the other, seed after seed, as far as they were not tried before; how each ended is written down."""
    results, until = Results.of(kind, arguments.results), time.monotonic() + arguments.seconds
    known, wholes, counts = results.known(), dict[str, Whole](), Counter[str]()
    for number in range(arguments.trials):
        scenario, seed = chosen[number % len(chosen)], number // len(chosen)
        case = f"{scenario.name}, seed {seed}"
        if case in known:
            continue
        if time.monotonic() > until:
            break
        if scenario.name not in wholes:
            wholes[scenario.name] = whole(scenario)
        outcome, after, more = attempt(scenario, wholes[scenario.name], seed)
        counts[outcome] += 1
        print(f"{case}: {outcome} after {after}", flush=True)
        results.add(case, outcome, **more)
    print(dict(counts))


def _attempt(scenario: Scenario, undisturbed: Whole, seed: int) -> tuple[str, str, dict[str, Any]]:
    began = time.monotonic()
    outcome, num_kills, moments = trial(scenario, undisturbed, seed)
    seconds = round(time.monotonic() - began, 1)
    said = f"{num_kills} kills ({', '.join(moments)})"
    return outcome, said, {"kills": num_kills, "moments": moments, "seconds": seconds}


def main() -> None:
    """The command line."""
    parser = parser_of(__doc__, trials=500)
    parser.add_argument("--only", default="", help="only scenarios whose name begins so")
    arguments = parser.parse_args()
    import_everything()
    with FaultyServer() as server:
        chosen = [s for s in scenarios(server.url) if s.name.startswith(arguments.only)]
        try_in_turn("kills", arguments, chosen, _attempt)


if __name__ == "__main__":
    main()
