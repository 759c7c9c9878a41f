"""``scope scorer bench`` and ``scope scorer calibrate`` as a user has them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from scope_rlvr.embedded import model_path
from scope_rlvr.problems.reduction import SEPARATOR, Reduction
from scope_rlvr.scorer_lab import bench as scorer_bench
from scope_rlvr.scorer_lab.baselines import RandomScorer
from scope_rlvr.scorer_lab.bench_command import BENCH_SCHEMA
from scope_rlvr.scorer_lab.calibrate import CALIBRATION_SCHEMA
from scope_rlvr.store.rollouts import Rollouts
from tests.benchmark_data import benchmark_file
from tests.surface.conftest import run_scope
from tests.surface.test_docs import doc, rows_of

FAMILY = Reduction()


@pytest.fixture(scope="module")
def embedded_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded policy's own solutions of held-out problems, labelled by the family's exact checker."""
    from transformers import AutoModelForCausalLM

    from scope_rlvr.embedded.labelled import sample_texts

    problems = FAMILY.sample(6, 120, seed=7, split="test")
    policy = AutoModelForCausalLM.from_pretrained(model_path("policy"))
    file = tmp_path_factory.mktemp("labelled") / "embedded.jsonl"
    with file.open("w", encoding="utf-8") as rows:
        for problem, text in zip(problems, sample_texts(policy, [p.prompt for p in problems], seed=7), strict=True):
            steps = [step for step in text.split(SEPARATOR) if step.strip()]
            first_wrong = FAMILY.first_wrong_step(problem, steps)
            is_right = steps[-1] == f"answer {problem.reference}"
            label = -1 if first_wrong is None else first_wrong
            row = {"id": problem.id, "prompt": problem.prompt, "steps": steps, "label": label}
            rows.write(json.dumps(row | {"final_answer_correct": is_right, "level": problem.level}) + "\n")
    return file


def results(folder: Path) -> dict:
    return json.loads((folder / "bench.json").read_text(encoding="utf-8"))


def test_the_embedded_scorer_against_the_exact_checker(scope, embedded_rows, tmp_path):
    ended = scope(
        "scorer", "bench", "--scorer", "embedded:step_scorer", "--data", embedded_rows, "--out", tmp_path / "own"
    )
    assert ended.code == 0, ended.err
    ended = scope("scorer", "bench", "--scorer", "exact", "--data", embedded_rows, "--out", tmp_path / "exact")
    assert ended.code == 0, ended.err
    (own,), (exact,) = results(tmp_path / "own")["files"], results(tmp_path / "exact")["files"]
    assert exact["own"]["f1"]["value"] == 1.0
    assert exact["own"]["distances"] == {"0": exact["own"]["num_wrong"]}
    # Steps are whole, and so are the numbers below the bars.
    bars = (tmp_path / "exact" / "plots" / "distances.svg").read_text(encoding="utf-8")
    assert [
        number for number in re.findall(r">(\S+)</text>", bars) if number.lstrip("−").replace(".", "").isdigit()
    ] == ["0"]
    assert exact["reliability"]["error"]["value"] == 0.0
    assert 0.9 < own["own"]["f1"]["value"] <= 1.0
    assert own["own"]["f1"]["interval"][0] > 0.8
    # A wrong answer has a wrong step, and a right answer may have one, too.
    rows = [json.loads(line) for line in embedded_rows.read_text(encoding="utf-8").splitlines()]
    num_failures = sum(not row["final_answer_correct"] for row in rows)
    assert own["on_wrong_answers"]["num_wrong"] == num_failures <= own["own"]["num_wrong"]
    assert own["on_wrong_answers"]["num_right"] == 0
    assert results(tmp_path / "own")["scorer"]["weights"].keys() == {"model.safetensors"}


def test_noise_shows(scope, embedded_rows, tmp_path):
    spec = ("--scorer", "exact", "--data", embedded_rows, "--set", "scorer.noise=0.5", "--out", tmp_path / "noisy")
    assert scope("scorer", "bench", *spec).code == 0
    accuracy = results(tmp_path / "noisy")["files"][0]["own"]["accuracy_wrong"]
    assert accuracy["interval"][0] < 0.5 + 0.05
    assert 0.3 < accuracy["value"] < 0.7


def test_what_a_bench_leaves(scope, embedded_rows, tmp_path):
    out = tmp_path / "bench"
    ended = scope("scorer", "bench", "--scorer", "random", "--data", embedded_rows, "--out", out)
    assert ended.code == 0, ended.err
    for word in (
        "own rule",
        "tuned",
        "F1",
        "too early",
        "too late",
        "missed",
        "false alarm",
        "calibration error",
        "120 solutions",
    ):
        assert word in ended.out
    found = results(out)
    assert {p.name for p in (out / "plots").iterdir()} == {
        f"{name}.{kind}" for name in ("outcomes", "distances", "reliability") for kind in ("svg", "png")
    }
    head, *rows = map(json.loads, (out / "scores.jsonl").read_text(encoding="utf-8").splitlines())
    assert head["scorer"] == found["scorer"]
    assert len(rows) == found["files"][0]["num_rows"] == found["throughput"]["solutions"] == 120
    # The figures can be had again from the scores.
    predictions = [next((k for k, s in enumerate(row["scores"]) if s < 0.5), None) for row in rows]
    wrong = [
        (p, row["first_wrong"]) for p, row in zip(predictions, rows, strict=True) if row["first_wrong"] is not None
    ]
    assert found["files"][0]["own"]["accuracy_wrong"]["value"] == pytest.approx(
        sum(p == k for p, k in wrong) / len(wrong)
    )


def test_without_a_file_of_labels_the_embedded_policys_own_solutions_serve(scope, tmp_path, recwarn):
    spec = ("--scorer", "always-none", "--data", "embedded:rollouts:3", "--out", tmp_path / "bench")
    ended = scope("scorer", "bench", *spec)
    assert ended.code == 0, ended.err
    assert "embedded:rollouts:3: 21 solutions" in ended.out
    found = results(tmp_path / "bench")
    assert found["files"][0]["own"]["f1"]["value"] == 0.0
    assert len(found["files"][0]["sha256"]) == 64
    # Where no wrong step is found anywhere there is nothing to draw of how far off it lies.
    plots = {p.name for p in (tmp_path / "bench" / "plots").iterdir()}
    assert plots == {f"{name}.{kind}" for name in ("outcomes", "reliability") for kind in ("svg", "png")}
    assert not [warning for warning in recwarn if "legend" in str(warning.message)]


def test_a_bench_that_was_broken_off_goes_on(scope, embedded_rows, tmp_path, monkeypatch):
    arguments = ("scorer", "bench", "--scorer", "random", "--data", embedded_rows, "--out")
    assert scope(*arguments, tmp_path / "whole").code == 0

    def interrupted(scorer, solutions):
        yield next(unbroken(scorer, solutions))
        raise KeyboardInterrupt

    unbroken = scorer_bench.score_rows
    monkeypatch.setattr("scope_rlvr.scorer_lab.bench_command.score_rows", interrupted)
    assert scope(*arguments, tmp_path / "broken").code == 130
    monkeypatch.undo()
    journal = tmp_path / "broken" / "scores.jsonl"
    num_done = len(journal.read_text(encoding="utf-8").splitlines()) - 1
    assert 0 < num_done < 120
    with journal.open("a", encoding="utf-8") as file:
        file.write('{"file": "embedded", "id": "torn')
    other = scope("scorer", "bench", "--scorer", "always-none", "--data", embedded_rows, "--out", tmp_path / "broken")
    assert other.code == 2
    assert "another bench (scorer differ" in other.err
    assert scope(*arguments, tmp_path / "broken").code == 0
    assert journal.read_bytes() == (tmp_path / "whole" / "scores.jsonl").read_bytes()
    one, other = results(tmp_path / "whole"), results(tmp_path / "broken")
    assert other["throughput"]["solutions"] == 120 - num_done
    assert {**one, "throughput": None} == {**other, "throughput": None}
    again = scope(*arguments, tmp_path / "whole")
    assert again.code == 2
    assert "exists and is not empty" in again.err


def test_all_of_processbench_that_is_here_and_prm800k(scope, tmp_path):
    names = ("processbench_gsm8k", "processbench_math", "prm800k_phase1_test_sample")
    data = [part for name in names for part in ("--data", benchmark_file(f"{name}.jsonl"))]
    ended = scope(
        "scorer", "bench", "--scorer", "always-none", *data, "--tune-on", "processbench_math", "--out", tmp_path / "b"
    )
    assert ended.code == 0, ended.err
    found = results(tmp_path / "b")
    assert [file["num_rows"] for file in found["files"]] == [400, 1000, 320]
    assert [file["own"]["f1"]["value"] for file in found["files"]] == [0.0] * 3
    assert [file["own"]["accuracy_right"]["value"] for file in found["files"]] == [1.0] * 3
    assert found["tuned"]["on"] == "processbench_math"
    assert "no cut can come too late" in " ".join(ended.out.split())


CALIBRATE = ("scorer", "calibrate", "--scorer", "embedded:step_scorer", "--late-cost", "5")


def test_a_calibration_round_trips(scope, embedded_rows, tmp_path):
    out = tmp_path / "calibration.json"
    ended = scope(*CALIBRATE, "--data", embedded_rows, "--rows", "100", "--out", out)
    assert ended.code == 0, ended.err
    for word in ("rule", "resamples choose", "on rows it was not chosen on", "no cut at all", "calibration error"):
        assert word in ended.out
    assert "beware" not in ended.out
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["file"]["num_rows"] == 100
    assert found["costs"] == {"early": 1.0, "late": 5.0, "missed": 1.0, "false_alarm": 1.0}
    assert found["cost"]["value"] <= found["cost_of_own_rule"] + 1e-9
    assert found["cost"]["value"] < found["cost_of_no_cut"]
    low, high = found["level_interval"]
    assert 0 < low <= high < 1
    assert sum(found["rule_shares"].values()) == pytest.approx(1)
    # A configuration that names the file reads scores as the file says.
    own = ("bench", "--scorer", "embedded:step_scorer", "--data", embedded_rows, "--set", f"scorer.calibration={out}")
    assert scope("scorer", *own, "--out", tmp_path / "chosen").code == 0
    assert results(tmp_path / "chosen")["scorer"]["rule"] == found["rule"]
    assert scope("scorer", *own, "--set", "scorer.rule=calibrated", "--out", tmp_path / "mapped").code == 0
    assert results(tmp_path / "mapped")["scorer"]["rule"]["map"] == found["calibration"]


def test_a_run_names_a_calibration_or_hears_why_not(scope, small, tmp_path):
    file = tmp_path / "calibration.json"
    run = ("train", "--steps", "1", *small(f"scorer.calibration={file}"), "--out", tmp_path / "run")
    for text, message in (
        (None, "cannot be read"),
        ("{}", "is no file of 'scope scorer calibrate': rule"),
        ('{"rule": "threshold", "calibration": {"scores": [1, 0], "probabilities": [0, 1]}}', "must rise"),
    ):
        if text is not None:
            file.write_text(text, encoding="utf-8")
        ended = scope(*run)
        assert ended.code == 2
        assert message in ended.err
        assert not (tmp_path / "run").exists()
    # A threshold of 1 calls the first step of every failure wrong: there is nothing to keep.
    rule = {"rule": {"kind": "threshold", "threshold": 1.0}, "calibration": {"scores": [0], "probabilities": [0]}}
    file.write_text(json.dumps(rule), encoding="utf-8")
    ended = scope(*run)
    assert ended.code == 0, ended.err
    lines = Rollouts.of(tmp_path / "run")
    cut = [line["salvage"]["first_wrong_step"] for line in lines if line["salvage"] and line["salvage"]["step_scores"]]
    assert cut
    assert set(cut) == {0}


def test_the_same_calibration_twice(scope, embedded_rows, tmp_path):
    for name in ("one.json", "two.json"):
        assert (
            scope(*CALIBRATE, "--data", embedded_rows, "--rows", "60", "--seed", "3", "--out", tmp_path / name).code
            == 0
        )
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_what_could_not_be_scored_has_a_row_and_what_has_no_f1_is_not_tuned(scope, tmp_path, monkeypatch):
    file = tmp_path / "wrong.jsonl"
    file.write_text("\n".join([row(0), row(1)] * 4), encoding="utf-8")
    monkeypatch.setattr(RandomScorer, "score", lambda self, solutions: [None, (0.2, 0.9)] * (len(solutions) // 2))
    ended = scope("scorer", "bench", "--scorer", "random", "--data", file, "--out", tmp_path / "out")
    assert ended.code == 0, ended.err
    said = " ".join(ended.out.split())
    assert "as its own: F1 wants scored rows with and without a wrong step, and wrong has not both" in said
    assert "tuned here" not in said
    (unscored, _) = [line.split() for line in ended.out.splitlines() if line.startswith("  not scored")]
    assert unscored[:4] == ["not", "scored", "50.0", "%"]
    assert results(tmp_path / "out")["tuned"]["rule"] == {"kind": "threshold", "threshold": 0.5}


def test_a_rule_that_is_no_better_than_cutting_nowhere_is_told(scope, tmp_path):
    file = tmp_path / "labelled.jsonl"
    file.write_text("\n".join([row(0), row(1), row(-1)] * 10), encoding="utf-8")
    spec = ("scorer", "calibrate", "--data", file, "--late-cost", "1", "--scorer")
    told = "not surely cheaper than cutting nowhere"
    for scorer, out in (("always-none", "none.json"), ("random", "random.json")):
        ended = scope(*spec, scorer, "--out", tmp_path / out)
        assert ended.code == 0, ended.err
        assert told in ended.out


def row(label: int, **more: object) -> str:
    return json.dumps({"problem": "?", "steps": ["a", "b"], "label": label} | more)


MISTAKES = [
    (("bench", "--scorer", "random", "--data", "nowhere.jsonl"), "cannot be read"),
    (("bench", "--scorer", "random", "--data", "good.jsonl", "--tune-on", "bad"), "they are called good"),
    (("bench", "--scorer", "random", "--data", "good.jsonl", "--data", "good.jsonl"), "two files are called 'good'"),
    (("bench", "--scorer", "random", "--data", "bad.jsonl"), "row 2: label must be the index"),
    (("bench", "--scorer", "nobody", "--data", "good.jsonl"), "'nobody' is neither a model folder"),
    (("bench", "--scorer", "exact", "--data", "good.jsonl"), "knows the problems of the family 'reduction' alone"),
    (("bench", "--scorer", "random", "--set", "scorer.noise=0.5", "--data", "good.jsonl"), "baseline without settings"),
    (("bench", "--scorer", "exact", "--set", "scorer.noice=1", "--data", "good.jsonl"), "did you mean 'noise'"),
    (("bench", "--scorer", "random", "--data", "good.jsonl", "--out", "good.jsonl"), "exists and is not empty"),
    (
        ("calibrate", "--scorer", "random", "--data", "good.jsonl", "--late-cost", "-1", "--out", "c.json"),
        "--late-cost -1.0",
    ),
    (
        ("calibrate", "--scorer", "random", "--data", "good.jsonl", "--late-cost", "nan", "--out", "c.json"),
        "--late-cost nan",
    ),
    (
        ("calibrate", "--scorer", "random", "--data", "good.jsonl", "--late-cost", "5", "--out", "c.json"),
        "10 rows or more",
    ),
    (("calibrate", "--scorer", "random", "--data", "good.jsonl", "--late-cost", "5", "--out", "good.jsonl"), "exists"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[str(i) for i in range(len(MISTAKES))])
def test_a_mistake_is_said_and_nothing_is_left(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("good.jsonl").write_text("\n".join([row(0), row(-1), row(1)]), encoding="utf-8")
    Path("bad.jsonl").write_text("\n".join([row(0), row(5)]), encoding="utf-8")
    ended = run_scope("scorer", *arguments)
    assert ended.code == 2
    assert message in ended.err
    assert {file.name for file in tmp_path.iterdir()} == {"good.jsonl", "bad.jsonl"}


def test_bad_rows_are_left_out_on_demand_and_counted(scope, tmp_path):
    (tmp_path / "bad.jsonl").write_text("\n".join([row(0), row(5), row(-1)]), encoding="utf-8")
    spec = ("--scorer", "random", "--data", tmp_path / "bad.jsonl", "--skip-bad-rows", "--out", tmp_path / "out")
    ended = scope("scorer", "bench", *spec)
    assert ended.code == 0, ended.err
    assert "1 bad rows; the first: row 2" in " ".join(ended.out.split())
    (read,) = results(tmp_path / "out")["files"]
    assert read["num_bad_rows"] == 1
    assert [told.partition(":")[0] for told in read["bad_rows"]] == ["row 2"]


def test_every_field_of_both_files_is_documented(scope, embedded_rows, tmp_path):
    text = doc("formats.md")
    spec = ("--scorer", "random", "--data", embedded_rows)
    assert scope("scorer", "bench", *spec, "--out", tmp_path / "bench").code == 0
    assert scope("scorer", "calibrate", *spec, "--late-cost", "5", "--out", tmp_path / "rule.json").code == 0
    bench, rule = results(tmp_path / "bench"), json.loads((tmp_path / "rule.json").read_text(encoding="utf-8"))
    (file,) = bench["files"]
    assert set(rows_of(text, "## The folder of scope scorer bench")) == {*bench, *file, *file["own"]}
    assert set(rows_of(text, "## The file of scope scorer calibrate")) == set(rule)
    inner = (bench["scorer"], bench["tuned"], bench["throughput"], bench["interval"], file["own"]["wrong"])
    inner += (
        file["own"]["right"],
        file["own"]["f1"],
        file["reliability"],
        file["reliability"]["bins"][0],
        rule["file"],
    )
    inner += (rule["costs"], rule["calibration"], rule["calibration_error"])
    lines = (tmp_path / "bench" / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    inner += (json.loads(lines[0]), json.loads(lines[1]))
    assert [key for table in inner for key in table if f"`{key}`" not in text] == []
    for name, version in (
        ("`bench.json` of a step scorer", BENCH_SCHEMA),
        ("the file of `scope scorer calibrate`", CALIBRATION_SCHEMA),
    ):
        assert f"| {name} | `schema` | {version} |" in text
