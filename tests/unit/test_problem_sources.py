"""Everything that names problems, through the one resolver."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.types import Problem
from scope_rlvr.problems import benchmarks, sources
from scope_rlvr.problems.benchmarks import BENCHMARKS
from scope_rlvr.problems.hub import DataSetError
from scope_rlvr.problems.rows import Row
from scope_rlvr.problems.sources import SourceSettings, Wanted, load_problems, overlap

TEST, TRAIN = Wanted("test"), Wanted("train")
ROWS = [{"problem": f"{i} + {i}?", "answer": str(2 * i)} for i in range(5)]


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def load(source: str | Path, wanted: Wanted = TEST, folder: Path | None = None, **settings: Any) -> list[Problem]:
    return list(load_problems(SourceSettings(source=str(source), **settings), wanted, folder).problems)


@pytest.fixture(autouse=True)
def _no_folder_of_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sources.DATA_FOLDER, raising=False)


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_part_of_a_file(tmp_path):
    file = write(tmp_path / "sums.jsonl", ROWS)
    assert [p.reference for p in load(file)] == ["0", "2", "4", "6", "8"]
    assert [p.reference for p in load(file, Wanted("test", count=2, start=1))] == ["2", "4"]
    with pytest.raises(UserError, match="holds 5 problems, none from number 6 on"):
        load(file, Wanted("test", count=2, start=5))


def test_a_file_that_changes_is_read_again(tmp_path):
    file = write(tmp_path / "sums.jsonl", ROWS)
    assert len(load(file)) == 5
    write(file, ROWS[:2])
    assert len(load(file)) == 2


def test_splits_of_a_file(tmp_path):
    rows = [{**row, "split": "train" if i < 3 else "test"} for i, row in enumerate(ROWS)]
    file = write(tmp_path / "sums.jsonl", rows)
    assert [p.reference for p in load(file)] == [p.reference for p in load(file, split="test")] == ["6", "8"]
    assert [p.reference for p in load(file, TRAIN)] == ["0", "2", "4"]
    assert [p.reference for p in load(file, TRAIN, split="test")] == ["6", "8"]
    with pytest.raises(UserError, match="no rows of the split 'dev'; its column `split` says test, train"):
        load(file, split="dev")
    with pytest.raises(UserError, match="its column `split` says nothing"):
        load(write(tmp_path / "plain.jsonl", ROWS), split="test")


def test_rows_that_call_themselves_something_else_are_not_trained_on_unasked(tmp_path):
    file = write(tmp_path / "sums.jsonl", [{**row, "split": "validation"} for row in ROWS])
    assert len(load(file)) == 5
    with pytest.raises(UserError, match=r"of the split\(s\) validation, and none of 'train'; .* split = 'validation'"):
        load(file, TRAIN)
    assert len(load(file, TRAIN, split="validation")) == 5
    file = write(tmp_path / "two.jsonl", [{**row, "split": "ab"[i % 2]} for i, row in enumerate(ROWS)])
    with pytest.raises(UserError, match=r"of the split\(s\) a, b, and none of 'test'"):
        load(file)


def test_a_row_without_a_split_among_others_with_one_is_told(tmp_path):
    file = write(tmp_path / "sums.jsonl", [{**row, "split": "train" if i else None} for i, row in enumerate(ROWS)])
    with pytest.raises(UserError, match=r"line 1: its column `split` is empty, and other rows say train"):
        load(file, TRAIN)
    assert [p.reference for p in load(file, TRAIN, bad_rows="skip")] == ["2", "4", "6", "8"]


@pytest.mark.parametrize("source", ["nowhere", "data.txt", "./a/b", "math50", "a/b/c"])
def test_a_name_of_nothing_says_what_there_is(source):
    with pytest.raises(UserError) as caught:
        load(source)
    for part in (repr(source), ".jsonl", "owner/name", "gym:<task>", "reduction:6", "math500"):
        assert part in str(caught.value)


# --- families -------------------------------------------------------------------------------------------------------


def test_a_level_of_a_family():
    assert len(load("reduction:4", Wanted("test", count=3))) == 3
    with pytest.raises(UserError, match="reduction needs a level, a whole number"):
        load("reduction:high", Wanted("test", count=3))
    with pytest.raises(UserError, match=r"reduction:1: .*level"):
        load("reduction:1", Wanted("test", count=3))


# --- the Hub, and folders of its data sets --------------------------------------------------------------------------


def test_levels_of_a_family_take_turns():
    problems = load("stories:2-4", Wanted("train", 7, seed=3))
    assert [problem.level for problem in problems] == [2, 3, 4, 2, 3, 4, 2]
    assert problems[0::3] == load("stories:2", Wanted("train", 3, seed=3))
    assert load("stories:2-4", Wanted("train", 4, 3, seed=3)) == problems[3:]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("stories:4-2", "such as stories:2-4"),
        ("stories:2-", "a whole number"),
        ("stories:-4", "a whole number"),
        ("stories:2-11", "from 2 to 10; got 11"),
        ("stories:1-3", "from 2 to 10; got 1"),
    ],
)
def test_levels_that_are_none(source: str, said: str):
    with pytest.raises(UserError, match=re.escape(said)):
        load(source, Wanted("train", 3))


def test_the_folder_of_a_data_set(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "sums"
    write(folder / "train.jsonl", ROWS[:3])
    write(folder / "test.jsonl", ROWS[3:])
    assert [p.id for p in load(folder, TRAIN)] == ["sums-1", "sums-2", "sums-3"]
    assert [p.reference for p in load(folder)] == ["6", "8"]
    assert [p.reference for p in load(folder, split="train[:1]")] == ["0"]
    with pytest.raises(UserError, match=r"sums \(subset default, split dev\) cannot be loaded: .*dev"):
        load(folder, split="dev")
    write(folder / "test.jsonl", [*ROWS[3:], {"problem": "?", "answer": " "}])
    with pytest.raises(UserError, match="row 3: no answer"):
        load(folder, split="test[0:]")


def test_a_data_set_that_is_not_there():
    with pytest.raises(
        UserError, match=r"the data set nobody/nothing .* cannot be loaded: .*; without a network.* folder$"
    ):
        load("nobody/nothing")


def test_a_benchmark_that_is_not_there_says_where_a_local_copy_may_lie(tmp_path, monkeypatch):
    def missing(name: str, **options: Any) -> list[Row]:
        raise DataSetError(f"no {name}")

    monkeypatch.setattr(sources, "read_hub", missing)
    sources._table_of_hub.cache_clear()
    with pytest.raises(UserError, match=r"A local copy, gsm8k\.jsonl, would be read first: name its folder with"):
        load("gsm8k")
    with pytest.raises(
        UserError, match=rf"A local copy, gsm8k-train\.jsonl, would be read first: none lies in {tmp_path}"
    ):
        load("gsm8k", TRAIN, folder=tmp_path)


# --- benchmarks -----------------------------------------------------------------------------------------------------

_ASKED: dict[str, Any] = {}


def hub_of(rows: list[dict[str, Any]]) -> Any:
    """A Hub on which every data set holds these rows."""

    def read(name: str, **options: Any) -> list[Row]:
        _ASKED.update(options | {"name": name})
        return [Row(f"row {i}", row) for i, row in enumerate(rows, start=1)]

    return read


HUB_ROWS: dict[str, tuple[dict[str, Any], Problem]] = {
    "aime24": (
        {"id": 60, "problem": "Aya walks.", "solution": "So 204.", "answer": "204", "url": "u", "year": "2024"},
        Problem("60", "Aya walks.", "204", "aime24", None, "So 204."),
    ),
    "math500": (
        {
            "problem": "Convert.",
            "solution": "s",
            "answer": "p - q",
            "subject": "Algebra",
            "level": 2,
            "unique_id": "t/1",
        },
        Problem("t/1", "Convert.", "p - q", "math500", 2, "s"),
    ),
    "minerva": ({"question": "How far?", "answer": "1.6"}, Problem("minerva-1", "How far?", "1.6", "minerva")),
    "olympiadbench": (
        {"id": 1606, "context": None, "question": "Find.", "final_answer": ["$2,3$"], "solution": ["s"]},
        Problem("1606", "Find.", "2,3", "olympiadbench"),
    ),
    "gsm8k": (
        {"question": "Eggs?", "answer": "16 - 3 = 13\n#### 1,300"},
        Problem("gsm8k-1", "Eggs?", "1300", "gsm8k", None, "16 - 3 = 13\n"),
    ),
    "arc_c": (
        {"id": "M1", "question": "Why?", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "2"},
        Problem("M1", "Why?\n\n(A) a\n(B) b", "B", "arc_c"),
    ),
    "mmlu_pro": (
        {"question_id": 70, "question": "Which?", "options": ["a", "b", "c"], "answer": "C", "answer_index": 2},
        Problem("70", "Which?\n\n(A) a\n(B) b\n(C) c", "C", "mmlu_pro"),
    ),
}


@pytest.mark.parametrize("name", HUB_ROWS)
def test_a_row_of_a_benchmark(name, monkeypatch):
    row, expected = HUB_ROWS[name]
    monkeypatch.setattr(sources, "read_hub", hub_of([row]))
    sources._table_of_hub.cache_clear()
    (problem,) = load(name)
    assert problem == expected
    benchmark = BENCHMARKS[name]
    asked = (benchmark.hub, benchmark.split, benchmark.subset, None)
    assert tuple(_ASKED[key] for key in ("name", "split", "subset", "revision")) == asked


def test_the_order_of_choices_depends_on_the_question_alone(monkeypatch):
    row = {"Question": "Q?", "Correct Answer": "yes", "Record ID": "r"}
    row |= {f"Incorrect Answer {i}": f"no {i}" for i in (1, 2, 3)}
    monkeypatch.setattr(sources, "read_hub", hub_of([row]))
    sources._table_of_hub.cache_clear()
    (problem,) = load("gpqa_diamond")
    assert f"({problem.reference}) yes" in problem.prompt
    assert sorted(line[4:] for line in problem.prompt.splitlines()[2:]) == ["no 1", "no 2", "no 3", "yes"]
    letters = {benchmarks._gpqa(row | {"Question": f"Question {i}?"})["answer"] for i in range(30)}
    assert letters == set("ABCD")


def test_a_row_without_its_columns_is_named(monkeypatch):
    for name in BENCHMARKS:
        monkeypatch.setattr(sources, "read_hub", hub_of([{"other": "x"}]))
        sources._table_of_hub.cache_clear()
        with pytest.raises(UserError, match=f"{name} has 1 row.* that are no problems:\n  row 1: no problem text"):
            load(name)


def test_a_local_copy_comes_first(tmp_path, monkeypatch):
    write(tmp_path / "math500.jsonl", ROWS)
    write(tmp_path / "gsm8k-train.jsonl", ROWS[:2])
    assert len(load("math500", folder=tmp_path)) == 5
    monkeypatch.setenv(sources.DATA_FOLDER, str(tmp_path))
    assert len(load("math500")) == 5
    assert len(load("gsm8k", TRAIN)) == 2
    monkeypatch.setattr(sources, "read_hub", hub_of([HUB_ROWS["math500"][0]]))
    sources._table_of_hub.cache_clear()
    assert len(load("math500", revision="main")) == 1
    assert _ASKED["revision"] == "main"


def test_a_folder_of_local_copies_that_is_not_there_is_told(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"the folder .*typo, where local copies of benchmarks are to be, is not there"):
        load("math500", folder=tmp_path / "typo")
    monkeypatch.setenv(sources.DATA_FOLDER, str(tmp_path / "typo"))
    with pytest.raises(UserError, match="SCOPE_DATA"):
        load("math500")


def test_nobody_trains_on_a_benchmark(monkeypatch):
    with pytest.raises(UserError, match="aime24 is a benchmark without training problems"):
        load("aime24", TRAIN)
    monkeypatch.setattr(sources, "read_hub", hub_of([HUB_ROWS["gsm8k"][0]]))
    sources._table_of_hub.cache_clear()
    load("gsm8k", TRAIN)
    assert _ASKED["split"] == "train"


LOCAL = Path(os.environ.get("SCOPE_DATA", "nowhere"))


@pytest.mark.parametrize(
    ("name", "count"), [("aime24", 30), ("amc23", 40), ("math500", 500), ("minerva", 272), ("gsm8k", 1319)]
)
def test_local_copies_that_are_here(name, count):
    if not (LOCAL / f"{name}.jsonl").is_file():
        pytest.skip(f"no {name}.jsonl in the folder that SCOPE_DATA names")
    problems = load(name, folder=LOCAL)
    assert len(problems) == count
    assert all(problem.id.startswith(f"{name}-") for problem in problems)


# --- reasoning-gym --------------------------------------------------------------------------------------------------


def test_tasks_of_reasoning_gym():
    pytest.importorskip("reasoning_gym", reason="the extra 'gym' is not installed")
    problems = load("gym:chain_sum", Wanted("test", count=20, seed=3))
    assert len({p.prompt for p in problems}) == 20
    assert all(int(p.reference) or p.reference == "0" for p in problems)
    assert problems == load("gym:chain_sum", Wanted("test", count=20, seed=3))
    assert problems[5:] == load("gym:chain_sum", Wanted("test", count=15, start=5, seed=3))
    assert not overlap(load("gym:chain_sum", Wanted("train", count=200, seed=3)), problems)
    with pytest.raises(UserError, match=r"gym:chain_some: .*chain_some"):
        load("gym:chain_some", Wanted("test", count=1))


def test_reasoning_gym_is_asked_for_only_where_it_is_needed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "reasoning_gym", None)
    with pytest.raises(UserError, match=r"needs the package reasoning-gym.*pip install 'scope-rlvr\[gym\]'"):
        load("gym:chain_sum", Wanted("test", count=1))


class _Small:
    """A task with three problems and one that is a copy."""

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"question": f"What is {i % 3}?", "answer": str(i % 3)}


def test_a_task_that_is_used_up_says_so(monkeypatch):
    from types import SimpleNamespace

    stand_in = SimpleNamespace(create_dataset=lambda task, size, seed: _Small())
    monkeypatch.setitem(__import__("sys").modules, "reasoning_gym", stand_in)
    found = {split: _count_of(split) for split in ("train", "dev", "test")}
    assert sum(found.values()) == 3


def _count_of(split: Any) -> int:
    with pytest.raises(UserError) as caught:
        load("gym:small", Wanted(split, count=4))
    return int(str(caught.value).split("has only ")[1].split()[0])
