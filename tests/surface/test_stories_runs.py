"""Stories in runs: with a model that reads English they are checked, trained on and measured; the embedded policy is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scope_rlvr.core.ports import TeacherRequest
from scope_rlvr.problems.stories.family import VARIANTS, Stories
from scope_rlvr.run.config import validate_config
from scope_rlvr.run.verifier import answer_pattern, family_of
from scope_rlvr.scorers.exact import ExactScorer
from scope_rlvr.teachers.exact import ExactTeacher
from tests.tiny_maths import make_model

Scope = Callable[..., Any]
EXACT = ("scorer.model=exact", "teacher.model=exact")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without any training that has a token for every character."""
    return make_model(tmp_path_factory.mktemp("models") / "reader")


def stories(policy: Path | str, *overrides: str) -> list[str]:
    chosen = (
        *("problems.family=stories", "problems.level=4", f"model.policy={policy}", "run.problems_per_step=2"),
        *("run.rollouts_per_problem=2", "sampling.max_response_tokens=48", "evaluation.max_response_tokens=48"),
        *("evaluation.num_problems=2", "evaluation.samples_per_problem=1", "evaluation.before=false", "run.steps=2"),
        *overrides,
    )
    return [part for override in chosen for part in ("--set", override)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_check_passes_for_a_model_that_reads_english(reader: Path, here: Path, scope: Scope) -> None:
    ended = scope("check", *stories(reader, *EXACT))
    assert ended.code == 0, ended.out + ended.err
    first = Stories("stories").sample(4, 1, 0)[0]
    said = " ".join(ended.out.split())
    assert first.solution.split("\n\n")[0] in said


def test_the_embedded_policy_is_told_that_it_cannot_read_stories(here: Path, scope: Scope) -> None:
    ended = scope("check", *stories("embedded:policy", *EXACT))
    said = " ".join((ended.out + ended.err).split())
    assert ended.code != 0
    assert "embedded:policy has another vocabulary: it cannot read the problem" in said


def test_it_is_trained_on_and_its_answers_are_read(reader: Path, here: Path, scope: Scope) -> None:
    sets = 'evaluation.sets=[{role="trained", level=4}, {role="out of distribution", source="stories-unseen:4"}]'
    ended = scope("train", "--out", here / "run", *stories(reader, *EXACT, sets))
    assert ended.code == 0, ended.err
    summary = json.loads((here / "run" / "summary.json").read_text())
    assert set(summary["after"]) == {"stories-4", "stories-unseen-4"}


def test_the_worked_solutions_can_be_imitated(reader: Path, here: Path, scope: Scope) -> None:
    ended = scope("train", "--out", here / "run", *stories(reader, "method.name=luffy", "teacher.model=solutions"))
    assert ended.code == 0, ended.err
    assert json.loads((here / "run" / "summary.json").read_text())["tokens"]["teacher"] > 0


def test_a_model_is_measured_on_stories_without_a_configuration(reader: Path, here: Path, scope: Scope) -> None:
    ended = scope(
        *("eval", reader, "--problems", "stories:3", "--problems", "stories-big:3", "--num-problems", "2"),
        *("--samples", "2", "--max-tokens", "32", "--out", here / "figures.json"),
    )
    assert ended.code == 0, ended.err
    assert json.loads((here / "figures.json").read_text())["answer_pattern"] == Stories.answer_pattern


def test_two_families_that_write_answers_differently_are_not_measured_together(
    reader: Path, here: Path, scope: Scope
) -> None:
    ended = scope("eval", reader, "--problems", "stories:3", "--problems", "reduction:3", "--num-problems", "2")
    assert ended.code == 2
    assert "every answer would be wrong" in " ".join(ended.err.split())


@pytest.mark.parametrize("name", VARIANTS)
def test_the_family_is_that_of_the_source(name: str) -> None:
    config = validate_config({"problems": {"source": f"{name}:4"}}, "here")
    assert family_of(config).name == name
    assert answer_pattern(config) == Stories.answer_pattern


def test_a_wrong_step_is_cut_and_corrected_up_to_the_right_answer() -> None:
    """What the exact scorer and the exact teacher do for a failure: keep the right steps, mend the wrong one, go on."""
    family = Stories("stories")
    for problem in family.sample(5, 20, seed=9):
        steps = problem.solution.split("\n\n")
        wrong = [*steps[:2], f"Then there were {len(steps)} + 1 = 99.", *steps[3:]]
        scorer = ExactScorer(family)
        (scores,) = scorer.score([(problem, wrong)])
        assert scorer.rule.first_wrong(scores) == 2
        kept = "\n\n".join(wrong[:2]) + "\n\n"
        request = TeacherRequest(problem, (), (), kept, max_tokens=99, stop_text="\n\n")
        (reply,) = ExactTeacher(family).continue_from([request], seed=0)
        assert family.step_truths(problem, (kept + reply.text).strip().split("\n\n")) == ["right"] * 3


def test_the_worked_solutions_can_be_the_teacher_of_scope(reader: Path, here: Path, scope: Scope) -> None:
    ended = scope("check", *stories(reader, "scorer.model=calculator", "teacher.model=solutions"))
    said = " ".join((ended.out + ended.err).split())
    assert ended.code == 0, said
    assert "worked solutions right" in said
    assert "can go on from a prefix by the results in it and 0 by its words" in said
    assert "was asked for a first step and wrote: " in said
    assert re.search(
        r"equations of (\d+) of \1 worked solutions can be read, and not all of them in 0; 0 have a false one", said
    )
    assert "calculator works" in said
