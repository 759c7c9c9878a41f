"""Every format of labelled solutions, and every way in which a row can be wrong."""

from __future__ import annotations

import json

import pytest

from scope_rlvr.core.errors import UserError
from scope_rlvr.problems.labelled import read_labelled
from tests.benchmark_data import benchmark_file

STEPS = ["2 + 2 = 4", "4 + 2 = 7", "so 7"]


def written(tmp_path, *rows, name="rows.jsonl"):
    file = tmp_path / name
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def only(tmp_path, row):
    (solution,) = read_labelled(written(tmp_path, row)).solutions
    return solution


@pytest.mark.parametrize(("label", "first_wrong", "labels"), [(1, 1, (True, False)), (-1, None, (True,) * 3)])
def test_processbench(tmp_path, label, first_wrong, labels):
    row = {
        "id": "a-1",
        "problem": "2+2+2?",
        "steps": STEPS,
        "label": label,
        "final_answer_correct": False,
        "answer": None,
    }
    solution = only(tmp_path, row)
    assert (solution.problem.id, solution.problem.prompt, solution.problem.reference) == ("a-1", "2+2+2?", "")
    assert (solution.steps, solution.first_wrong, solution.is_answer_right) == (tuple(STEPS), first_wrong, False)
    assert solution.step_labels == labels


@pytest.mark.parametrize(("labels", "first_wrong"), [([True, False, True], 1), ([1, 1, 1], None), ([0.0, 1.0, 0], 0)])
def test_stepwise_supervision(tmp_path, labels, first_wrong):
    solution = only(tmp_path, {"prompt": "2+2+2?", "completions": STEPS, "labels": labels})
    assert (solution.steps, solution.first_wrong, solution.problem.id) == (tuple(STEPS), first_wrong, "rows-1")


@pytest.mark.parametrize(("signs", "first_wrong"), [("+-+", 1), ("+++", None), ("-++", 0)])
def test_math_shepherd(tmp_path, signs, first_wrong):
    text = "2 + 2 + 2? Step 1: 2 + 2 = 4 ки\nStep 2: 4 + 2 = 7 ки\nStep 3: The answer is: 7 ки"
    pieces = text.split("ки")
    label = "".join(piece + sign for piece, sign in zip(pieces, signs, strict=False))
    solution = only(tmp_path, {"input": text, "label": label, "task": "GSM8K"})
    assert solution.problem.prompt == "2 + 2 + 2?"
    assert solution.steps == ("Step 1: 2 + 2 = 4", "Step 2: 4 + 2 = 7", "Step 3: The answer is: 7")
    assert solution.first_wrong == first_wrong


def rated(*completions, chosen=0, human=None):
    rows = [{"text": text, "rating": rating, "flagged": False} for text, rating in completions]
    return {"completions": rows, "human_completion": human, "chosen_completion": chosen}


def prm800k(*steps, **fields):
    question = {"problem": "2+2+2?", "ground_truth_answer": "6"} | fields.pop("question", {})
    return {
        "question": question,
        "label": {"steps": list(steps), "finish_reason": "found_error"} | fields.pop("label", {}),
    } | fields


def read_prm800k(tmp_path, row):
    return [(s.steps, s.first_wrong) for s in read_labelled(written(tmp_path, row)).solutions]


def test_prm800k_phase_1_with_a_human_step_and_wrong_completions_beside(tmp_path):
    row = prm800k(
        rated(("2 + 2 = 4", 1), ("2 + 2 = 5", -1)),
        rated(("4 + 2 = 7", -1), chosen=None, human={"text": "4 + 2 = 6", "rating": None}),
        rated(("so 6", 0)),
        label={"finish_reason": "solution"},
    )
    assert read_prm800k(tmp_path, row) == [
        (("2 + 2 = 4", "4 + 2 = 6", "so 6"), None),
        (("2 + 2 = 5",), 0),
        (("2 + 2 = 4", "4 + 2 = 7"), 1),
    ]


def test_prm800k_phase_2_goes_on_as_it_was_written(tmp_path):
    steps = rated(("2 + 2 = 4", 0)), rated(("4 + 2 = 7", -1), ("4 + 2 = 6", 1), ("4 + 2 = 8", -1), chosen=None)
    whole = {"pre_generated_steps": STEPS}
    assert read_prm800k(tmp_path, prm800k(*steps, question=whole)) == [
        (tuple(STEPS), 1),
        (("2 + 2 = 4", "4 + 2 = 8"), 1),
    ]
    assert read_prm800k(tmp_path, prm800k(*steps))[0] == (("2 + 2 = 4", "4 + 2 = 7"), 1)


def test_prm800k_rows_that_are_not_for_judging_are_left_out_and_counted(tmp_path):
    good = prm800k(rated(("2 + 2 = 4", 1)))
    rows = [
        good,
        good | {"is_quality_control_question": True},
        good | {"is_initial_screening_question": True},
        prm800k(rated(("2 + 2 = 4", 1)), label={"finish_reason": "bad_problem"}),
        prm800k(rated(("2 + 2 = 4", None))),
    ]
    found = read_labelled(written(tmp_path, *rows))
    assert len(found.solutions) == 1
    assert sum(found.left_out.values()) == 4
    assert found.bad_rows == ()


GOOD = {"problem": "2+2+2?", "steps": STEPS, "label": 1}
BAD = [
    ("{", "not JSON"),
    ("[1]", r"expected an object, got \[1\]"),
    (GOOD | {"label": 3}, "first wrong of 3 steps, counted from 0, or -1; got 3"),
    (GOOD | {"label": True}, "got True"),
    (GOOD | {"label": "1"}, "got '1'"),
    (GOOD | {"steps": []}, r"one or more texts, got \[\]"),
    (GOOD | {"steps": ["a", 2]}, "one or more texts"),
    (GOOD | {"steps": ["a", " "]}, "step 1 .counted from 0. is empty"),
    (json.dumps(GOOD | {"steps": ["a", "b \ud83d"]}), r"step 1 .counted from 0. holds half of a character"),
    (json.dumps(GOOD | {"problem": "\ud83d"}), r"the problem or its answer holds half of a character"),
    (GOOD | {"problem": "  "}, "no problem"),
    (GOOD | {"level": 1.5}, "level must be a whole number, got 1.5"),
    (GOOD | {"final_answer_correct": "yes"}, "true or false, got 'yes'"),
    ({"question": "?", "answer": "1"}, "of no known kind"),
    ({"prompt": "?", "completions": ["a", "b"], "labels": [True]}, "one label for each of 2 completions, got 1"),
    ({"prompt": "?", "completions": ["a"], "labels": [0.7]}, "got 0.7; cut soft labels"),
    ({"input": "? Step 1: a ки", "label": "? Step 1: b +"}, "it differs at step 1"),
    ({"input": "no steps", "label": "no steps"}, "steps that end in"),
    (prm800k({"completions": [{"text": "a"}], "chosen_completion": 0}), "lacks or misuses 'rating'"),
    (prm800k(rated(("2 + 2 = 4", 5))), "a rating is -1, 0 or 1, got 5"),
    (prm800k(rated(("2 + 2 = 4", "-1"))), "a rating is -1, 0 or 1, got '-1'"),
]


@pytest.mark.parametrize(("row", "message"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_a_bad_row_is_named_with_what_was_received(tmp_path, row, message):
    file = written(tmp_path, GOOD, row, GOOD)
    with pytest.raises(UserError, match=message) as raised:
        read_labelled(file)
    assert "row 2: " in str(raised.value)
    assert "--skip-bad-rows" in str(raised.value)
    kept = read_labelled(file, skip_bad_rows=True)
    assert (len(kept.solutions), len(kept.bad_rows)) == (2, 1)
    assert kept.bad_rows[0].startswith("row 2: ")


def test_many_bad_rows_are_counted_and_some_shown(tmp_path):
    with pytest.raises(UserError, match="has 9 row") as raised:
        read_labelled(written(tmp_path, *["{"] * 9))
    assert str(raised.value).count("not JSON") == 5
    assert "and 4 more" in str(raised.value)


def test_a_file_without_a_solution_or_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="no labelled solution"):
        read_labelled(written(tmp_path, "{", name="bad.jsonl"), skip_bad_rows=True)
    with pytest.raises(UserError, match="cannot be read"):
        read_labelled(tmp_path / "nowhere.jsonl")


def test_a_json_list_and_lines_with_other_separators_in_them(tmp_path):
    row = GOOD | {"steps": ["a\u2028b", "c", "d"]}
    assert read_labelled(written(tmp_path, row)).solutions[0].steps[0] == "a\u2028b"
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps([row, GOOD]), encoding="utf-8")
    assert len(read_labelled(listed).solutions) == 2


@pytest.mark.parametrize(
    ("name", "num_rows", "num_wrong", "num_wrong_answers"),
    [
        ("processbench_gsm8k.jsonl", 400, 207, 200),
        ("processbench_math.jsonl", 1000, 594, 500),
        ("prm800k_phase1_test_sample.jsonl", 320, 230, 0),
    ],
)
def test_published_counts(name, num_rows, num_wrong, num_wrong_answers):
    found = read_labelled(benchmark_file(name))
    assert (len(found.solutions), found.bad_rows, found.left_out) == (num_rows, (), {})
    assert sum(solution.first_wrong is not None for solution in found.solutions) == num_wrong
    assert sum(solution.is_answer_right is False for solution in found.solutions) == num_wrong_answers
