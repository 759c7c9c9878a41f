"""Where labelled solutions come from, and that what is held out is held out."""

from __future__ import annotations

import json

import datasets
import pytest

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.types import Problem
from scope_rlvr.embedded import labelled
from scope_rlvr.embedded.labelled import altered_solutions
from scope_rlvr.problems.family import split_of
from scope_rlvr.problems.labelled import LabelledSolution
from scope_rlvr.problems.reduction import Reduction
from scope_rlvr.scorer_lab.sources import read_source
from scope_rlvr.scorer_lab.training.corpus import split_corpus
from tests.benchmark_data import benchmark_file

STEPWISE = [
    {"prompt": "2+2+2?", "completions": ["2+2 = 4", "4+2 = 7", "7"], "labels": [True, False, False]},
    {"prompt": "1+1?", "completions": ["1+1 = 2"], "labels": [True]},
]


def test_parquet_and_jsonl_say_the_same(tmp_path):
    rows = datasets.Dataset.from_list(STEPWISE)
    rows.to_parquet(tmp_path / "rows.parquet")
    rows.to_json(tmp_path / "rows.jsonl")
    parquet, jsonl = (read_source(str(tmp_path / f"rows.{kind}")).solutions for kind in ("parquet", "jsonl"))
    assert parquet == jsonl
    assert [(s.problem.prompt, s.steps, s.first_wrong) for s in parquet] == [
        ("2+2+2?", ("2+2 = 4", "4+2 = 7", "7"), 1),
        ("1+1?", ("1+1 = 2",), None),
    ]


def test_columns_that_a_parquet_row_lacks_are_not_there(tmp_path):
    """A file of two kinds of rows has the columns of both in every row."""
    other = {"problem": "1+2?", "steps": ["1+2 = 4"], "label": 0}
    empty = dict.fromkeys([*STEPWISE[0], *other])
    datasets.Dataset.from_list([empty | STEPWISE[0], empty | other]).to_parquet(tmp_path / "both.parquet")
    assert [s.first_wrong for s in read_source(str(tmp_path / "both.parquet")).solutions] == [1, 0]


def test_a_damaged_parquet_file_is_told(tmp_path):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 is how one would begin")
    with pytest.raises(UserError, match=r"rows\.parquet cannot be read"):
        read_source(str(tmp_path / "rows.parquet"))


def test_data_sets_on_the_hub_are_read_by_name_and_split(monkeypatch):
    asked = []

    def load_dataset(name, split):
        asked.append((name, split))
        return datasets.Dataset.from_list(STEPWISE)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert [s.first_wrong for s in read_source("owner/name").solutions] == [1, None]
    assert read_source("owner/name:test").solutions[0].problem.id == "name:test-1"
    assert asked == [("owner/name", "train"), ("owner/name", "test")]


def test_a_data_set_that_cannot_be_fetched_is_the_users_to_mend(monkeypatch):
    def load_dataset(name, split):
        raise ConnectionError("no network\nand much more")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(UserError, match=r"'owner/name', split 'train', cannot be fetched: no network$"):
        read_source("owner/name")


@pytest.mark.parametrize(
    "name", ["nowhere", "./nowhere", "a/b/c", "embedded:policy", "embedded:altered:0", "embedded:"]
)
def test_what_names_nothing_is_refused(name):
    with pytest.raises(UserError, match="embedded:altered"):
        read_source(name)


def test_what_judges_comes_from_problems_that_nothing_learned_from():
    family = Reduction()
    for split in ("train", "test"):
        found = read_source("embedded:rollouts:1", embedded_split=split).solutions
        assert {split_of(s.problem.id) for s in found if s.problem.level > 4} == {split}
        assert all(family.first_wrong_step(s.problem, s.steps) == s.first_wrong for s in found)


def test_a_blank_line_too_many_makes_no_step(monkeypatch):
    monkeypatch.setattr(labelled, "sample_texts", lambda model, prompts, seed: ["answer 1\n\n"] * len(prompts))
    assert {s.steps for s in read_source("embedded:rollouts:1").solutions} == {("answer 1",)}


def test_what_is_for_training_alone_judges_nothing():
    with pytest.raises(UserError, match=r"'embedded:altered' is not known here; there is embedded:rollouts, with"):
        read_source("embedded:altered", embedded_split="test")


def test_a_file_that_is_missing_is_told():
    with pytest.raises(UserError, match=r"missing\.jsonl cannot be read"):
        read_source("missing.jsonl")


def test_bad_rows_are_refused_or_counted_and_never_just_gone(tmp_path):
    bad = [
        {"prompt": "2?", "completions": ["2"], "labels": [2]},
        {"prompt": "2?", "completions": ["2", " \n"], "labels": [True, True]},
        {"problem": "2?", "steps": ["2"], "label": 1},
        {"problem": "2?", "label": 0},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, [*STEPWISE, *bad])))
    with pytest.raises(UserError) as refused:
        read_source(str(file))
    message = str(refused.value)
    assert "4 row(s)" in message
    assert "--skip-bad-rows" in message
    for part in ("row 3: ", "got 2", "row 4: step 1 (counted from 0) is empty", "row 5: ", "row 6: ", "got 1"):
        assert part in message
    kept = read_source(str(file), skip_bad_rows=True)
    assert len(kept.solutions) == 2
    assert [mistake.split(":")[0] for mistake in kept.bad_rows] == ["row 3", "row 4", "row 5", "row 6"]


def test_the_altered_corpus_is_labelled_by_the_checker_and_of_the_train_split():
    solutions = altered_solutions(30)
    assert solutions == altered_solutions(30)
    assert len(solutions) == 30 * 9
    for solution in solutions:
        assert split_of(solution.problem.id) == "train"
        assert Reduction().first_wrong_step(solution.problem, solution.steps) == solution.first_wrong
        assert len(solution.steps) == solution.problem.level
    share_right = sum(solution.first_wrong is None for solution in solutions) / len(solutions)
    assert 0.1 < share_right < 0.32


def solutions_of(num_problems, wrong=lambda k: k % 2 == 0):
    """Two solutions of each problem, told apart by a space."""
    return [
        LabelledSolution(
            Problem(f"{k}", f"what is  {k} ?" if again else f"what is {k} ?", "1"), ("a", "b"), 1 if wrong(k) else None
        )
        for k in range(num_problems)
        for again in (False, True)
    ]


def test_no_problem_is_in_two_parts_and_shares_are_as_asked():
    corpus = split_corpus(solutions_of(2000), held_out=0.3, seed=0)
    parts = [{s.problem.id for s in part} for part in (corpus.train, corpus.threshold, corpus.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 2000
    for part, share in zip(parts, (0.7, 0.15, 0.15), strict=True):
        assert abs(len(part) / 2000 - share) < 0.04
    assert split_corpus(solutions_of(2000), held_out=0.3, seed=0) == corpus
    assert split_corpus(solutions_of(2000), held_out=0.3, seed=1).test != corpus.test


def test_no_more_is_held_out_than_is_of_use():
    corpus = split_corpus(solutions_of(20_000), held_out=0.5, seed=0)
    assert 3500 < len(corpus.threshold) + len(corpus.test) < 4500


@pytest.mark.parametrize("wrong", [lambda k: True, lambda k: False])
def test_held_out_rows_must_be_of_both_kinds(wrong):
    with pytest.raises(UserError, match=r"held out to choose the threshold with, .* both kinds are needed"):
        split_corpus(solutions_of(200, wrong), held_out=0.2, seed=0)


def test_too_few_rows_are_refused():
    with pytest.raises(UserError, match="--held-out"):
        split_corpus(solutions_of(4), held_out=0.1, seed=0)


@pytest.mark.parametrize("name", ["processbench_gsm8k.jsonl", "prm800k_phase1_test_sample.jsonl"])
def test_benchmarks_are_read_and_split(name):
    source = read_source(str(benchmark_file(name)))
    corpus = split_corpus(source.solutions, held_out=0.4, seed=0)
    assert not source.bad_rows
    assert len(corpus.train) > len(corpus.test) > 20
