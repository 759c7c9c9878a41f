"""Result files and study folders: small, complete, and never mixed up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scope_rlvr.core.errors import UserError
from scope_rlvr.run.config import dump_config, load_config
from scope_rlvr.store.folder import RunFolder
from scope_rlvr.study.folder import StudyFolder, differences
from scope_rlvr.study.plan import PlannedRun, load_study
from scope_rlvr.study.results import MAX_POINTS, condense, config_digest, read_result, write_result
from tests.example_run import make_run
from tests.example_study import STUDY, make_result, make_study

RESULT_BYTES = 15_000


def planned(tmp_path: Path, steps: int = 120) -> PlannedRun:
    file = tmp_path / "study.toml"
    file.write_text(STUDY.replace("run.steps = 200", f"run.steps = {steps}"))
    return load_study(file).runs[0]


def test_a_run_is_condensed_to_what_tables_and_plots_need(tmp_path: Path) -> None:
    run = planned(tmp_path)
    folder = RunFolder(make_run(tmp_path / "run", num_steps=120, num_problems=2))
    result = condense(run, folder, "example", 2)
    assert (result.arm, result.value, result.seed, result.steps, result.runs_at_once) == ("scope", None, 1, 120, 2)
    assert result.config == run.config.model_dump(mode="json")
    assert result.policy_tokens == 120 * (900 + 120)
    assert result.after["reduction-6"]["accuracy"] == 0.69
    metrics = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert result.seconds["training"] == pytest.approx(sum(m["seconds/step"] for m in metrics), abs=0.06)
    assert all(len(curve) == MAX_POINTS for curve in result.curves.values())
    assert result.curves["step"][-1] == 120
    # A point is the mean of its stretch, or for a sum its last value, or a ratio of sums.
    assert result.curves["accuracy"][0] == pytest.approx(
        (metrics[0]["accuracy"] + metrics[1]["accuracy"]) / 2, rel=1e-4
    )
    assert result.curves["tokens/sampled"][0] == metrics[1]["tokens/sampled"]
    first = [sum(m[f"salvage/{name}"] for m in metrics[:2]) for name in ("admitted", "attempted")]
    assert result.curves["salvage/rate"][0] == pytest.approx(first[0] / first[1], rel=1e-4)
    assert result.evaluations["step"] == [24, 48, 72, 96, 120]
    assert result.evaluations["reduction-6/accuracy"][-1] == pytest.approx(0.66)
    assert result.evaluations["tokens/sampled"][0] == 24 * 900


def test_a_result_reads_back_and_stays_small(tmp_path: Path) -> None:
    run = planned(tmp_path)
    result = make_result(run)
    file = tmp_path / "results" / f"{run.id}.json"
    write_result(result, file)
    assert read_result(file) == result
    assert file.stat().st_size < RESULT_BYTES
    later = json.loads(file.read_text()) | {"added_later": 3}
    file.write_text(json.dumps(later))
    assert read_result(file) == result


def test_a_result_of_a_whole_run_is_small(tmp_path: Path) -> None:
    run = planned(tmp_path, 250)
    result = condense(run, RunFolder(make_run(tmp_path / "run", num_steps=250, num_problems=1)), "example", 2)
    write_result(result, tmp_path / "result.json")
    assert (tmp_path / "result.json").stat().st_size < RESULT_BYTES


def test_results_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    for text, part in (
        ("{", "no result"),
        ("[]", "no result"),
        ('{"schema": 9}', "schema 9"),
        ('{"schema": 1}', "no result"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=part):
            read_result(file)


def test_an_unfinished_run_has_no_result(tmp_path: Path) -> None:
    folder = RunFolder(make_run(tmp_path / "run", num_steps=12))
    with pytest.raises(UserError, match="has not finished"):
        condense(planned(tmp_path, 13), folder, "example", 2)
    with pytest.raises(UserError, match="no summary"):
        condense(planned(tmp_path, 12), RunFolder(tmp_path / "none"), "example", 2)


def test_the_digest_of_a_configuration_leaves_the_seed_out() -> None:
    one = load_config(None, ["run.seed=1"])
    assert config_digest(one) == config_digest(load_config(None, ["run.seed=2"]))
    assert config_digest(one) != config_digest(load_config(None, ["run.steps=9"]))


def test_differences_name_keys_and_forgive_what_was_added_since() -> None:
    config = load_config(None, ["run.seed=3", "method.teacher_term=shaped"])
    kept = config.model_dump(mode="json")
    assert differences(kept, config) == []
    kept["run"]["seed"] = 9
    del kept["run"]["flat_steps_limit"], kept["scorer"], kept["evaluation"]["sets"][0]["source"]
    assert differences(kept, config) == []
    kept["run"]["steps"] = 9
    kept["method"]["teacher_term"] = {"kind": "nll"}
    del kept["evaluation"]["sets"][2]
    found = differences(kept, config)
    assert "run.steps (there 9, now 250)" in found
    assert 'method.teacher_term.kind (there "nll", now "shaped")' in found
    assert "evaluation.sets.length (there 2, now 3)" in found
    now = load_config(None, ["run.flat_steps_limit=31"])
    before = now.model_dump(mode="json")
    del before["run"]["flat_steps_limit"]
    assert differences(before, now) == ["run.flat_steps_limit (there null, now 31)"]


def test_what_a_method_fixes_today_is_compared_with_what_held():
    now = load_config(overrides=["method.name=luffy"])
    kept = now.model_dump(mode="json")
    for name in ("kl", "entropy"):
        del kept["method"][name]
    kept["method"]["normalisation"] = None
    assert differences(kept, now) == []
    kept["objective"]["normalisation"] = "group_std"
    assert differences(kept, now) == ['objective.normalisation (there "group_std", now "none")']
    relift = load_config(overrides=["method.name=relift"])
    assert "objective.entropy (there 0.0, now 0.001)" in differences(kept | {"method": {"name": "relift"}}, relift)


def test_a_folder_of_another_study_is_refused_by_arm_and_left_alone(tmp_path: Path) -> None:
    study, folder = make_study(tmp_path)
    folder.open_for(study)
    other = tmp_path / "other.toml"
    other.write_text(STUDY.replace('method = "luffy"', 'method = "luffy"\nsampling.temperature = 0.8'))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(UserError) as error:
        folder.open_for(load_study(other))
    assert "arm 'luffy' differs" in str(error.value)
    assert "sampling.temperature (there 1.0, now 0.8)" in str(error.value)
    assert "arm 'scope'" not in str(error.value)
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}


def test_an_unfinished_run_speaks_for_its_arm_too(tmp_path: Path) -> None:
    study, folder = make_study(tmp_path, num_missing=15)
    folder.open_for(study)
    run = study.runs[0]
    config = load_config(None, ["run.steps=3"])
    RunFolder.create(folder.run(run).path, dump_config(config))
    with pytest.raises(UserError, match=r"arm 'scope' differs from .*config\.toml: .*run\.steps \(there 3, now 200\)"):
        folder.open_for(study)


def test_seeds_and_arms_may_be_added(tmp_path: Path) -> None:
    study, folder = make_study(tmp_path)
    folder.open_for(study)
    more = tmp_path / "more.toml"
    more.write_text(STUDY.replace("5]", "5, 6, 7]") + '[arms.more]\nmethod = {name = "scope", max_salvages = 2}\n')
    added = load_study(more)
    folder.open_for(added)
    kept = [run.id for run in added.runs if folder.result(run) is not None]
    assert len(kept) == 15
    assert len(added.runs) == 28
    assert folder.copy.read_text() == added.text


def test_what_is_no_study_folder_is_left_alone(tmp_path: Path) -> None:
    study, _ = make_study(tmp_path / "study")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no study"):
        StudyFolder.at(tmp_path / "mine").open_for(study)
    with pytest.raises(UserError, match="is a file"):
        StudyFolder.at(tmp_path / "mine" / "notes.txt").open_for(study)
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_two_studies_do_not_share_a_folder(tmp_path: Path) -> None:
    study, folder = make_study(tmp_path)
    folder.open_for(study)
    with folder.locked(), pytest.raises(UserError, match="another scope study is at work"), folder.locked():
        pass
    with folder.locked():
        pass
