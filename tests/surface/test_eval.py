"""``scope eval`` through the real command line: the figures of runs, what it writes, and what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scope_rlvr.embedded import model_path
from scope_rlvr.evaluation.measures import METRICS
from scope_rlvr.measure.policy import EVALUATION_SCHEMA
from scope_rlvr.problems import families
from tests.surface.test_cli import assert_refused, contents, no_end, other_vocabulary, write
from tests.surface.test_docs import doc, rows_of

Scope = Callable[..., Any]
FEW = ("--problems", "reduction:4", "--num-problems", "3", "--samples", "4")


def figures_of(scope: Scope, out: Path, *arguments: str | Path) -> dict[str, Any]:
    """The results that a command writes."""
    ended = scope("eval", *arguments, "--out", out)
    assert ended.code == 0, ended.err
    return json.loads(out.read_text())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_figures_of_the_summary(record: dict[str, Any], summary: dict[str, Any]) -> None:
    """Equal to the last digit."""
    assert {s["name"] for s in record["sets"]} == set(summary)
    for evaluation_set in record["sets"]:
        found, expected = evaluation_set["figures"], summary[evaluation_set["name"]]
        assert found["avg@2"]["value"] == expected["accuracy"]
        assert found["avg@2"]["interval"] == expected["accuracy_interval"]
        assert found["pass@2"]["value"] == expected["pass_at_2"]
        assert found["maj@2"]["value"] == expected["maj_at_2"]
        assert found["response_tokens"]["value"] == expected["response_tokens"]
        assert {name: found[name]["value"] for name in expected["diversity"]} == expected["diversity"]
        assert evaluation_set["num_truncated"] == expected["num_truncated"]


def test_the_figures_of_a_run_are_those_in_its_summary(plain_run: Path, here: Path, scope: Scope) -> None:
    summary = json.loads((plain_run / "summary.json").read_text())
    assert_figures_of_the_summary(figures_of(scope, here / "run.json", plain_run), summary["after"])
    specs = [part for name in summary["before"] for part in ("--problems", name.replace("-", ":"))]
    size = ("--num-problems", "4", "--samples", "2")
    assert_figures_of_the_summary(
        figures_of(scope, here / "model.json", plain_run / "model", *specs, *size), summary["after"]
    )
    before = figures_of(scope, here / "before.json", "embedded:policy", *specs, *size)
    assert_figures_of_the_summary(before, summary["before"])


def test_all_is_written_that_is_documented_and_nothing_depends_on_the_time(here: Path, scope: Scope) -> None:
    record = figures_of(scope, here / "one.json", "embedded:policy", *FEW)
    assert record == figures_of(scope, here / "two.json", "embedded:policy", *FEW)
    section = doc("formats.md").split("## The file of scope eval", 1)[1].split("\n## ", 1)[0]
    assert set(rows_of(doc("formats.md"), "## The file of scope eval")) == set(record) | set(record["sets"][0])
    for part in (
        record["model"],
        record["sampling"],
        record["sets"][0]["problems"][0],
        {"specs", "split", "num_resamples"},
    ):
        for key in part:
            assert f"`{key}`" in section, key
    assert record["schema"] == EVALUATION_SCHEMA
    assert f"| the file of `scope eval` | `schema` | {EVALUATION_SCHEMA} |" in doc("formats.md")


def test_every_measure_is_taken_and_documented(here: Path, scope: Scope) -> None:
    found = figures_of(scope, here / "out.json", "embedded:policy", *FEW)["sets"][0]["figures"]
    assert {name.partition("@")[0] for name in found} == set(METRICS)
    for name, figure in found.items():
        low, high = figure["interval"]
        assert low - 1e-9 <= figure["value"] <= high + 1e-9, name
        assert figure["num_problems"] == 3
    named = rows_of(doc("metrics.md"), "## Evaluation").keys()
    named |= rows_of(doc("metrics.md"), "## Diversity, in `summary.json` and the table at the end").keys()
    assert {name.partition("@")[0] for name in named} == set(METRICS)


def test_levels_of_a_file_are_told_apart(here: Path, scope: Scope) -> None:
    rows = [
        {"id": p.id, "prompt": p.prompt, "answer": p.reference, "level": p.level}
        for level in (3, 5)
        for p in families.get("reduction").sample(level, 3, seed=0)
    ]
    write(here / "mixed.jsonl", "\n".join(map(json.dumps, rows)))
    given = ("--problems", "mixed.jsonl", "--verifier", "pattern", "--samples", "2", "--out", "out.json")
    ended = scope("eval", "embedded:policy", *given)
    assert ended.code == 0, ended.err
    assert "mixed, level 3" in ended.out
    (evaluated,) = json.loads((here / "out.json").read_text())["sets"]
    assert list(evaluated["levels"]) == ["3", "5"]
    assert [row["id"] for row in evaluated["problems"]] == [row["id"] for row in rows]
    halves = [evaluated["levels"][level]["avg@2"]["value"] for level in ("3", "5")]
    assert evaluated["figures"]["avg@2"]["value"] == pytest.approx(sum(halves) / 2)


def test_what_is_asked_for_is_what_is_measured(here: Path, scope: Scope) -> None:
    chosen = ("--metrics", "pass@4,text_bleu", "--metrics", "embedding", "--embedding-model", "embedded:step_scorer")
    record = figures_of(scope, here / "out.json", "embedded:policy", *FEW, *chosen, "--batch-rows", "3")
    assert list(record["sets"][0]["figures"]) == ["pass@4", "text_bleu", "embedding"]
    own = figures_of(scope, here / "own.json", "embedded:policy", *FEW, *chosen[:4], "--batch-rows", "3")
    found, expected = record["sets"][0]["figures"], own["sets"][0]["figures"]
    assert found["text_bleu"] == expected["text_bleu"]
    assert found["embedding"]["value"] != expected["embedding"]["value"]


def test_greedy_samples_of_a_problem_are_all_the_same(here: Path, scope: Scope) -> None:
    found = figures_of(scope, here / "out.json", "embedded:policy", *FEW, "--temperature", "0")["sets"][0]["figures"]
    for name in ("text_bleu", "equations", "answer_entropy", "effective_groups"):
        assert found[name]["value"] == 0
    assert found["embedding"]["value"] == pytest.approx(0, abs=1e-6)
    assert found["avg@4"]["value"] == found["pass@4"]["value"] == found["maj@4"]["value"]


MISTAKES: dict[str, tuple[list[str], list[str]]] = {
    "no problems": (["embedded:policy"], ["no problems are named", "--problems reduction:6"]),
    "unknown family": (
        ["embedded:policy", "--problems", "reductoin:6"],
        ["'reductoin:6'", "reduction:6", "math500"],
    ),
    "no level": (["embedded:policy", "--problems", "reduction:six"], ["--problems reduction:six", "whole number"]),
    "level out of range": (["embedded:policy", "--problems", "reduction:1"], ["from 2 to 1000; got 1"]),
    "no such file": (["embedded:policy", "--problems", "missing.jsonl"], ["missing.jsonl cannot be read"]),
    "empty file": (["embedded:policy", "--problems", "empty.jsonl"], ["empty.jsonl holds no problem"]),
    "no model name": (["nowhere", *FEW], ["MODEL = 'nowhere'", "owner/name"]),
    "no model folder": (["./absent", *FEW], ["MODEL", "absent holds no model"]),
    "no model in a folder": (["nothing", *FEW], ["nothing holds no model", "config.json"]),
    "unfinished run": (["unfinished"], ["no trained model", "scope train --resume unfinished", "checkpoint-N"]),
    "damaged run": (["damaged"], ["damaged/config.toml", "run.stepps"]),
    "unknown metric": (["embedded:policy", *FEW, "--metrics", "avg,pas"], ["'pas'", "did you mean 'pass'?", "maj"]),
    "too few samples": (
        ["embedded:policy", *FEW, "--metrics", "pass@8"],
        ["pass@8", "at least 8", "got 4", "--samples"],
    ),
    "temperature": (["embedded:policy", *FEW, "--temperature", "nan"], ["--temperature nan", "0 (greedy) or more"]),
    "answer pattern": (["embedded:policy", *FEW, "--answer-pattern", "(a)(b)"], ["--answer-pattern", "2 groups"]),
    "embedding model": (["embedded:policy", *FEW, "--embedding-model", "nowhere"], ["--embedding-model = 'nowhere'"]),
    "output exists": (["embedded:policy", *FEW, "--out", "empty.jsonl"], ["empty.jsonl exists", "--out"]),
    "output without folder": (["embedded:policy", *FEW, "--out", "no/out.json"], ["no folder no", "make it first"]),
}


@pytest.fixture
def mistakes_here(here: Path) -> Path:
    write(here / "empty.jsonl", "\n\n")
    for name, text in {"nothing": "", "unfinished": "", "damaged": "[run]\nstepps = 3\n"}.items():
        (here / name).mkdir()
        if name != "nothing":
            write(here / name / "config.toml", text)
    (here / "damaged" / "model").mkdir()
    for file in model_path("policy").iterdir():
        shutil.copy(file, here / "damaged" / "model")
    return here


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_and_nothing_is_written(name: str, mistakes_here: Path, scope: Scope) -> None:
    arguments, parts = MISTAKES[name]
    before = contents(mistakes_here)
    ended = scope("eval", *arguments)
    assert_refused(ended, *parts)
    assert ended.out == ""
    assert contents(mistakes_here) == before


def test_mistakes_are_found_before_any_model_library_is_loaded(mistakes_here: Path) -> None:
    program = f"""
import sys
from scope_rlvr.cli.main import main
for arguments in {[arguments for arguments, _ in MISTAKES.values()]!r}:
    sys.argv = ["scope", "eval", *arguments]
    try:
        main()
    except SystemExit as end:
        assert end.code == 2, arguments
print([name for name in ("transformers", "trl", "datasets", "accelerate") if name in sys.modules])
"""
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, cwd=mistakes_here, capture_output=True, text=True, timeout=120, check=False)
    assert ended.stdout == "[]\n", ended.stderr


def test_a_model_that_does_not_fit_is_refused_before_anything_is_sampled(
    here: Path, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sample(*_: Any, **__: Any) -> None:
        raise AssertionError("sampled")

    monkeypatch.setattr("scope_rlvr.models.local.LocalModel.extend", sample)
    write(here / "other.jsonl", json.dumps({"prompt": "What is 3 + 4?", "answer": 7}))
    other = ("--problems", "other.jsonl", "--verifier", "pattern")
    assert_refused(scope("eval", "embedded:policy", *other), "another vocabulary", "What is 3 + 4?")
    assert_refused(scope("eval", "embedded:step_scorer", *FEW), "causal language model", "TokenClassification")
    assert_refused(scope("eval", other_vocabulary(here / "strange"), *FEW), "MODEL", "causal language model")
    assert_refused(scope("eval", no_end(here / "endless"), *FEW), "MODEL", "eos_token")
    assert_refused(scope("eval", "embedded:policy", *FEW, "--max-tokens", "400"), "256 positions", "lower --max-tokens")
    strange = ("--embedding-model", here / "strange")
    assert_refused(scope("eval", "embedded:policy", *FEW, *strange), "embedding model", "another vocabulary")


def test_two_models_are_compared_problem_by_problem(here: Path, scope: Scope) -> None:
    earlier = figures_of(scope, here / "earlier.json", "embedded:policy", *FEW)
    ended = scope("eval", "embedded:policy", *FEW, "--seed", "7", "--against", "earlier.json", "--out", "now.json")
    assert ended.code == 0, ended.err
    assert "the earlier policy is ahead from" in ended.out
    now = json.loads((here / "now.json").read_text())
    assert earlier["against"] is None
    (found,) = now["against"]["sets"]
    right = [[p["num_right"] for p in record["sets"][0]["problems"]] for record in (earlier, now)]
    kinds = [(before > 0, after > 0) for before, after in zip(*right, strict=True)]
    support = found["support"]
    assert (support["kept"], support["lost"]) == (kinds.count((True, True)), kinds.count((True, False)))
    assert (support["found"], support["neither"]) == (kinds.count((False, True)), kinds.count((False, False)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--problems-block", "1"), "other problems there (3, 3 here)"),
        (("--samples", "2"), "4 samples a problem there and 2 here; give --samples 4"),
        (("--problems", "reduction:5"), "has no set 'reduction-5'; it has reduction-4"),
        (("--against", "missing.json"), "--against missing.json cannot be read"),
        (("--against", "broken.json"), "--against broken.json is no file of scope eval --out"),
    ],
)
def test_what_cannot_be_compared_is_refused(here: Path, scope: Scope, arguments: tuple[str, ...], said: str) -> None:
    (here / "broken.json").write_text('{"sets": [{"name": 3}]}')
    figures_of(scope, here / "earlier.json", "embedded:policy", *FEW)
    before = sorted(path.name for path in here.iterdir())
    ended = scope("eval", "embedded:policy", *FEW, "--against", "earlier.json", *arguments)
    assert ended.code == 2
    assert said in ended.err
    assert sorted(path.name for path in here.iterdir()) == before


def test_a_pipe_gets_no_progress_bar(here: Path, scope: Scope) -> None:
    ended = scope("eval", "embedded:policy", *FEW, "--metrics", "avg")
    assert ended.code == 0, ended.err
    assert "12 rollouts" in ended.out
    assert "sampling  temperature 1" in ended.out
    assert "\r" not in ended.out
    assert "\x1b" not in ended.out
    assert ended.err == ""
