"""The embedded models load like any others, are as small as promised, and are what their figures say."""

from __future__ import annotations

import json
from functools import cache
from math import sqrt

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer

from scope_rlvr.embedded import MODELS, model_path
from scope_rlvr.embedded.corpus import Sums, draw_numbers, write_altered, write_solutions
from scope_rlvr.embedded.labelled import IGNORED, label, right_chances
from scope_rlvr.embedded.tokenizer import make_tokenizer
from scope_rlvr.embedded_lab import figures
from scope_rlvr.embedded_lab.build import Recipe, build, policy_sums
from scope_rlvr.problems.family import split_of
from scope_rlvr.problems.reduction import Reduction, identity, make_problem

NAMES = ("policy", "teacher", "step_scorer")
TEXT = "reduce 0 3 5 7\n\n3 + 7 = 10 : 0 5 10\n\n0 + 10 = 10 : 5 10\n\n5 + 10 = 2 : 2\n\nanswer 2"
NUM_PROBLEMS = 150


@cache
def measured():
    return json.loads((MODELS / "figures.json").read_text())


@cache
def causal(name):
    return AutoModelForCausalLM.from_pretrained(model_path(name))


@cache
def scorer():
    return AutoModelForTokenClassification.from_pretrained(model_path("step_scorer"))


@cache
def rollouts():
    return figures.rollouts(causal("policy"), 6, NUM_PROBLEMS)


def assert_close(share, figure, num):
    """Within 3.5 standard errors of the difference between a small sample and the sample behind the figure."""
    centre = min(max(figure, 0.02), 0.98)
    margin = 3.5 * sqrt(centre * (1 - centre) * (1 / num + 1 / measured()["settings"]["problems_per_level"]))
    assert abs(share - figure) <= margin, f"measured {share:.3f}, figures.json says {figure:.3f} (margin {margin:.3f})"


@pytest.mark.parametrize("name", NAMES)
def test_the_tokenizer_of_each_model_round_trips(name):
    tokenizer = AutoTokenizer.from_pretrained(model_path(name))
    ids = tokenizer(TEXT)["input_ids"]
    assert tokenizer.decode(ids) == TEXT
    assert tokenizer.encode("\n\n") == [tokenizer.convert_tokens_to_ids("\n\n")]
    assert not set(ids) & set(tokenizer.all_special_ids)
    assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == TEXT
    assert tokenizer.encode("let x") == [tokenizer.unk_token_id] * 2
    assert tokenizer.padding_side == "left"
    assert tokenizer(["reduce 1", "reduce"], padding=True)["input_ids"][1][0] == tokenizer.pad_token_id


def test_the_models_are_small_and_hold_no_pickles():
    files = [file for file in MODELS.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 20_000_000
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".md", ".toml"}
    assert {file.parent.name for file in files if file.name == "README.md"} == {*NAMES, "stories_policy"}


def test_the_models_are_of_the_promised_classes():
    assert [type(causal(name)).__name__ for name in ("policy", "teacher")] == ["LlamaForCausalLM"] * 2
    assert type(scorer()).__name__ == "LlamaForTokenClassification"
    assert scorer().config.id2label == {0: "wrong", 1: "right"}


def test_the_policy_is_as_good_as_its_figures_say():
    figure = measured()["policy"]["6"]
    assert 0.10 <= figure["pass_at_1"] <= 0.40
    assert 0.30 <= figure["median_kept_share_of_failures"] <= 0.70
    assert figure["first_errors"].get("slip", 0) <= 0.1
    assert_close(float(np.mean([graded.is_right for graded in rollouts()])), figure["pass_at_1"], NUM_PROBLEMS)


def test_the_teacher_is_as_good_as_its_figures_say():
    figure = measured()["teacher"]["6"]
    assert figure["pass_at_1"] >= 0.9
    failures = [graded for graded in rollouts() if not graded.is_right and graded.first_wrong is not None]
    found = figures.continuation_figures(causal("teacher"), failures)
    for name, share in found.items():
        assert_close(share, figure[name], len(failures))


def test_the_step_scorer_is_as_good_as_its_figures_say():
    figures_of_scorer = measured()["step_scorer"]
    figure, threshold = figures_of_scorer["6"], figures_of_scorer["threshold"]
    assert json.loads((model_path("step_scorer") / "scorer.json").read_text())["rule"]["threshold"] == threshold
    assert figure["exact_first_wrong_step"] >= 0.85
    assert figure["right_solutions_called_right"] >= 0.95
    found = figures.scorer_figures(scorer(), threshold, rollouts())
    num_wrong = sum(graded.first_wrong is not None for graded in rollouts())
    assert_close(found["exact_first_wrong_step"], figure["exact_first_wrong_step"], num_wrong)
    assert_close(
        found["right_solutions_called_right"], figure["right_solutions_called_right"], NUM_PROBLEMS - num_wrong
    )


def test_the_scorer_reads_a_worked_example():
    problem = make_problem([0, 3, 5, 7])
    steps = ["3 + 7 = 10 : 0 5 10", "0 + 10 = 10 : 5 10", "5 + 10 = 3 : 3", "answer 3"]
    good, bad, _ = right_chances(scorer(), [label(problem, "\n\n".join(steps))])[0][1:]
    assert good > 0.9 > 0.1 > bad


@pytest.mark.parametrize("num_random_steps", [None, 0, 2])
def test_what_is_taught_is_right_where_there_are_no_gaps(num_random_steps):
    rng = np.random.default_rng(0)
    numbers = draw_numbers(5, 20, rng)
    written = write_solutions(numbers, Sums.right(), rng, num_random_steps=num_random_steps)
    tokenizer = make_tokenizer()
    for row, ids in zip(numbers, written.ids_BT, strict=True):
        problem = make_problem(row.tolist())
        text = tokenizer.decode(ids, skip_special_tokens=True)
        assert text.startswith(problem.prompt)
        completion = text.removeprefix(problem.prompt)
        assert Reduction().first_wrong_step(problem, completion.split("\n\n")) is None
        if num_random_steps == 0:
            assert completion == Reduction().canonical_solution(problem)
    assert written.is_choice_BT[0].sum() == 2 * (4 if num_random_steps is None else num_random_steps)
    last_line = [ids for ids, step in zip(written.ids_BT[0], written.step_of_T, strict=True) if step == 4]
    assert tokenizer.decode(last_line).startswith("answer ")


def test_what_is_taught_is_wrong_at_gaps_only():
    rng, sums = np.random.default_rng(0), policy_sums(Recipe(gap_slip_right=0))
    for a, b in draw_numbers(2, 100, rng):
        ids = write_solutions(np.array([[a, b]]), sums, rng).ids_BT[0]
        completion = make_tokenizer().decode(ids, skip_special_tokens=True).split("\n\n", 1)[1]
        is_wrong = Reduction().first_wrong_step(make_problem([int(a), int(b)]), completion.split("\n\n")) is not None
        assert is_wrong == sums.is_gap[a, b]


def test_pre_training_draws_from_the_train_split_only():
    numbers = draw_numbers(4, 200, np.random.default_rng(0))
    assert {split_of(identity(row.tolist())) for row in numbers} == {"train"}


@pytest.mark.parametrize("level", [2, 3, 7])
def test_altered_solutions_are_wrong_where_they_say(level):
    rng, tokenizer = np.random.default_rng(0), make_tokenizer()
    numbers = draw_numbers(level, 100, rng)
    altered = write_altered(numbers, rng)
    for row, ids, first_wrong in zip(numbers, altered.ids_BT, altered.first_wrong_B, strict=True):
        problem = make_problem(row.tolist())
        completion = tokenizer.decode(ids).removeprefix(problem.prompt).removesuffix("\n\n")
        rollout = label(problem, completion)
        assert rollout.ids == tuple(ids)
        assert rollout.separators == tuple(altered.separators_S)
        assert (level if rollout.first_wrong is None else rollout.first_wrong) == first_wrong


def test_labels_end_at_the_first_wrong_step():
    steps = ["3 + 7 = 10 : 0 5 10", "0 + 10 = 11 : 5 11", "5 + 11 = 3 : 3", "answer 3"]
    rollout = label(make_problem([0, 3, 5, 7]), "\n\n".join(steps))
    assert [rollout.labels[at] for at in rollout.separators] == [1, 0, IGNORED, IGNORED]
    assert sum(value != IGNORED for value in rollout.labels) == 2


def test_building_twice_gives_the_same_weights(tmp_path):
    recipe = Recipe(
        policy_steps=2,
        teacher_steps=2,
        scorer_epochs=0.4,
        altered_per_level=3,
        rollouts_per_level=4,
        dev_rollouts_per_level=2,
        tokens_per_batch=600,
    )
    for folder in ("once", "twice"):
        build(tmp_path / folder, recipe, report=lambda line: None)
    for name in NAMES:
        once, twice = ((tmp_path / folder / name / "model.safetensors").read_bytes() for folder in ("once", "twice"))
        assert once == twice
