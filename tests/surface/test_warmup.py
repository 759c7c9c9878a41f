"""``scope warmup``: what it makes of a configuration, when it ends, how it goes on, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scope_rlvr.core.errors import UserError
from scope_rlvr.run.config import RunConfig, validate_config
from scope_rlvr.run.warmup import warmup_config
from tests.tiny_maths import make_model

Scope = Callable[..., Any]

BY_THE_EXACT_TEACHER = ("warmup.solutions_from=teacher", "teacher.model=exact")
SMALL = (
    *("problems.level=3", "evaluation.sets=[{role='trained', level=3}, {role='out of distribution', level=5}]"),
    *("evaluation.num_problems=4", "evaluation.samples_per_problem=2", "evaluation.max_response_tokens=64"),
    *("warmup.steps=4", "warmup.solutions_per_step=2", "warmup.measure_every=2"),
)


def overrides(*values: str) -> list[str]:
    return [part for value in values for part in ("--set", value)]


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without any training that has a token for every character."""
    return make_model(tmp_path_factory.mktemp("models") / "reader")


def test_it_imitates_and_leaves_a_model_folder_that_can_be_trained(here: Path, scope: Scope) -> None:
    ended = scope("warmup", "--out", here / "warm", *overrides(*SMALL, *BY_THE_EXACT_TEACHER))
    assert ended.code == 0, ended.err
    summary = read(here / "warm" / "summary.json")
    assert (summary["method"], summary["steps"], summary["stopped_because"]) == ("sft", 4, "finished")
    assert summary["tokens"]["teacher"] > 0
    assert summary["tokens"]["sampled"] == 0
    for moment in ("before", "after"):
        figures = summary[moment]["reduction-3"]
        assert {"pass_at_1", "pass_at_2", "effective_groups"} <= set(figures)
    # The embedded policy fails at level 5, and its failures begin right.
    assert 0 < summary["before"]["reduction-5"]["right_prefix"] <= 1
    assert "failures that begin right" in ended.out
    assert (here / "warm" / "model" / "model.safetensors").is_file()


def test_it_ends_as_soon_as_its_targets_are_reached(here: Path, scope: Scope) -> None:
    ended = scope(
        "warmup", "--out", here / "warm", *overrides(*SMALL, *BY_THE_EXACT_TEACHER, "warmup.stop_at={pass_at_1 = 0.01}")
    )
    assert ended.code == 0, ended.err
    summary = read(here / "warm" / "summary.json")
    assert summary["steps"] == 2
    assert summary["stopped_because"].startswith("reached pass_at_1 ")
    assert summary["after"] is not None
    # The set that is not trained on has no say.
    assert "reduction-5" not in summary["stopped_because"]
    assert scope("warmup", "--resume", here / "warm").code == 2


def test_it_goes_on_where_it_was_interrupted(here: Path, scope: Scope) -> None:
    both = overrides(*SMALL, *BY_THE_EXACT_TEACHER, "run.checkpoint_every=2")
    assert scope("warmup", "--out", here / "whole", *both).code == 0
    assert scope("warmup", "--out", here / "parts", *both).code == 0
    folder = here / "parts"
    (folder / "checkpoints" / "checkpoint-4" / "COMPLETE").unlink()
    for file in (folder / "checkpoints" / "checkpoint-4").iterdir():
        file.unlink()
    (folder / "checkpoints" / "checkpoint-4").rmdir()
    (folder / "report.html").unlink()
    summary = read(folder / "summary.json") | {"after": None, "steps": 2, "stopped_because": "interrupted by SIGINT"}
    (folder / "summary.json").write_text(json.dumps(summary))
    ended = scope("warmup", "--resume", folder)
    assert ended.code == 0, ended.err
    assert "resume    from step 2" in ended.out
    weights = [(here / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]


def test_worked_solutions_are_imitated_with_adapters(here: Path, scope: Scope, reader: Path) -> None:
    ended = scope(
        *("warmup", "--out", here / "warm"),
        *overrides(
            *("problems.source=stories:2-3", f"model.policy={reader}", "model.lora={rank=2}"),
            *("warmup.steps=1", "warmup.solutions_per_step=2", "run.micro_batch_rows=8"),
            *("evaluation.sets=[{role='trained', source='stories:2-3'}]", "evaluation.num_problems=2"),
            *(
                "evaluation.samples_per_problem=2",
                "evaluation.max_response_tokens=8",
                "sampling.max_response_tokens=400",
            ),
        ),
    )
    assert ended.code == 0, ended.err
    assert read(here / "warm" / "summary.json")["tokens"]["teacher"] > 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ((), "no training problem has a solution"),
        (
            ("problems.source=stories:2", "sampling.max_response_tokens=12"),
            "nothing would be imitated; raise that number",
        ),
        (("problems.source=stories:2", "verifier=math"), "the verifier calls 0 of 8 worked solutions right"),
        (("warmup.stop_at={pass_at_3 = 0.2}", *BY_THE_EXACT_TEACHER), "stop_at.pass_at_3"),
        (("warmup.stop_at={luck = 0.2}", *BY_THE_EXACT_TEACHER), "'luck' is no figure to stop at"),
    ],
)
def test_what_it_refuses_before_anything_is_loaded(
    changed: tuple[str, ...], said: str, here: Path, scope: Scope, reader: Path
) -> None:
    policy = f"model.policy={reader}" if "problems.source=stories:2" in changed else "model.policy=embedded:policy"
    sets = "evaluation.sets=[{role='trained', source='stories:2'}]" if "stories" in "".join(changed) else SMALL[1]
    ended = scope("warmup", "--out", here / "warm", *overrides(*SMALL, sets, policy, *changed))
    assert ended.code == 2
    assert said in " ".join(ended.err.split())
    assert not (here / "warm").exists()


def test_the_run_that_it_makes_keeps_what_the_run_to_come_is_shown() -> None:
    config = validate_config(
        {
            "problems": {"source": "stories:4"},
            "prompt": {"template": "{problem}Write one step a line.", "system": "Think."},
            "objective": {"kl": 0.1, "entropy": 0.01, "updates_per_batch": 2},
            "run": {"problems_per_step": 6, "micro_batch_rows": 12},
            "warmup": {
                "solutions_per_step": 8,
                "learning_rate": 1e-4,
                "stop_at": {"effective_groups": 0.5},
                "measure_every": 5,
            },
        },
        "a test",
    )
    made = warmup_config(config)
    assert (made.prompt, made.sampling, made.verifier, made.steps) == (
        config.prompt,
        config.sampling,
        config.verifier,
        config.steps,
    )
    # 8 problems with the 2 rows that a group has at least, in parts that divide both 16 and 12.
    assert (made.rows_per_step, made.run.micro_batch_rows) == (16, 4)
    assert (made.objective.kl, made.objective.entropy, made.objective.steps_per_batch) == (0.0, 0.0, 1)
    assert (made.evaluation.every, made.evaluation.stop_at) == (5, {"effective_groups": 0.5})
    assert made.optimizer.learning_rate == 1e-4


def test_a_run_can_stop_at_a_target_only_where_it_is_measured() -> None:
    with pytest.raises(UserError, match="set every = "):
        validate_config({"evaluation": {"stop_at": {"accuracy": 0.5}}}, "a test")
    held_out = [{"role": "out of distribution", "level": 4}]
    with pytest.raises(UserError, match="there is none"):
        validate_config({"evaluation": {"stop_at": {"accuracy": 0.5}, "every": 2, "sets": held_out}}, "a test")
    assert RunConfig().evaluation.stop_at == {}
