"""From a file of problems to figures on a benchmark, nothing left out: a policy of the Qwen2 kind, a process reward model, a
teacher behind HTTP, SCOPE through TRL, a checkpoint, and ``scope eval``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scope_rlvr.store.rollouts import Rollouts
from tests.faulty_server import MODEL, FaultyServer
from tests.tiny_maths import write_rows
from tests.tiny_reasoner import SUMS, TEMPLATE, make_policy, make_scorer, problem, right_rest, steps

Scope = Callable[..., Any]
CONFIG = """
[run]
steps = 2
problems_per_step = 2
rollouts_per_problem = 4
checkpoint_every = 2
[model]
policy = "policy"
[problems]
source = "train.jsonl"
folder = "."
max_prompt_tokens = 100
[prompt]
template = '''{template}'''
[sampling]
max_response_tokens = 48
temperature = 0.7
[method]
name = "scope"
min_prefix_ratio = 0.0
[scorer]
model = "scorer"
[teacher]
model = "{url}"
name = "{name}"
server = {{cache = "none"}}
[verifier]
kind = "math"
[evaluation]
num_problems = 2
samples_per_problem = 2
max_response_tokens = 48
sets = [{{role = "out of distribution", source = "math500", samples_per_problem = 8}}]
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a policy, a scorer, problems to train on and a benchmark."""
    folder = tmp_path_factory.mktemp("chain")
    make_scorer(folder / "scorer", make_policy(folder / "policy"))
    rows = [{"question": problem(numbers), "answer": f"So it is\n#### {sum(numbers)}"} for numbers in SUMS]
    write_rows(folder / "train.jsonl", rows[:4])
    write_rows(folder / "math500.jsonl", [row | {"answer": row["answer"].split()[-1]} for row in rows[4:]])
    return folder


def rollouts_of(run: Path) -> list[dict[str, Any]]:
    return list(Rollouts.of(run))


def is_right_sum(rollout: dict[str, Any]) -> bool:
    """Whether the answer in the last box is the sum that was asked for; Python's arithmetic, no grader."""
    text = "".join(segment["text"] for segment in rollout["segments"])
    boxes = re.findall(r"\\boxed\{(\d+)\}", text)
    asked = re.findall(r"\d+", rollout["prompt"])
    return bool(boxes) and int(boxes[-1]) == sum(map(int, asked))


def test_from_a_file_of_problems_to_figures_on_a_benchmark(
    world: Path, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    with FaultyServer(write=right_rest) as server:
        Path("run.toml").write_text(CONFIG.format(template=TEMPLATE, url=server.url, name=MODEL))
        trained = scope("train", "run.toml", "--out", "run", "--set", "problems.answer_form=after_hashes")
    assert trained.code == 0, trained.err

    # The teacher was told where the answer is to stand, as the policy was.
    assert len(server.bodies) > 2
    assert all("put your final answer within \\boxed{}." in body["prompt"] for body in server.bodies)

    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["stopped_because"] == "finished"
    assert summary["teacher"]["errors"] == 0
    assert summary["salvage"]["admitted"] > 0
    rollouts = rollouts_of(Path("run"))
    paid = [rollout for rollout in rollouts if rollout["verdict"]["outcome"] == "right"]
    assert len(paid) > summary["salvage"]["admitted"]
    assert all(is_right_sum(rollout) for rollout in paid)
    salvaged = [rollout for rollout in paid if len({segment["origin"] for segment in rollout["segments"]}) > 1]
    assert len(salvaged) == summary["salvage"]["admitted"]
    for rollout in salvaged:
        kept, corrected, *_ = (segment["text"] for segment in rollout["segments"])
        numbers = [int(number) for number in re.findall(r"\d+", rollout["prompt"])]
        assert kept.strip() == steps(numbers)[0]
        assert corrected.strip() == steps(numbers)[1]

    # The last checkpoint is a model like any other, and the one that the run has measured.
    checkpoint = Path("run/checkpoints/checkpoint-2")
    measured = ("--config", "run.toml", "--problems", "math500", "--metrics", "avg", "--out", "figures.json")
    ended = scope("eval", checkpoint, *measured)
    assert ended.code == 0, ended.err
    (found,) = json.loads(Path("figures.json").read_text())["sets"]
    assert (found["name"], found["num_problems"], found["samples_per_problem"]) == ("math500", 2, 8)
    assert 0 < found["figures"]["avg@8"]["value"] == summary["after"]["math500"]["accuracy"] < 1
