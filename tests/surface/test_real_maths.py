"""Mathematical problems from files, from the check before the run to the figures after it, on a tiny real model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from scope_rlvr.core.errors import ExitCode
from scope_rlvr.store.rollouts import Rollouts
from tests.benchmark_data import benchmark_file
from tests.tiny_maths import make_model, make_tokenizer, sums, write_config, write_rows

Scope = Callable[..., Any]


@dataclass(frozen=True)
class World:
    """A folder with a model, training problems, a benchmark, and a configuration that names them."""

    folder: Path
    config: Path

    @property
    def problems(self) -> Path:
        return self.folder / "train.jsonl"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def world(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "train.jsonl", sums(0, 6))
    write_rows(tmp_path / "math500.jsonl", sums(100, 5))
    return World(tmp_path, write_config(tmp_path / "run.toml", policy=model, problems=tmp_path / "train.jsonl"))


def findings_of(ended: Any) -> list[dict[str, str]]:
    return json.loads(ended.out)["findings"]


def severities(ended: Any) -> dict[str, str]:
    """The worst that was found of each subject."""
    rank = ["ok", "warning", "error"]
    worst: dict[str, str] = {}
    for found in findings_of(ended):
        subject = found["subject"]
        worst[subject] = max(worst.get(subject, "ok"), found["severity"], key=rank.index)
    return worst


def message_of(ended: Any, subject: str) -> str:
    return "\n".join(f"{f['message']} -> {f['remedy']}" for f in findings_of(ended) if f["subject"] == subject)


# --- from the file to the figures -----------------------------------------------------------------------------------


def test_two_steps_on_a_file_and_a_benchmark_before_and_after(world: World, model: Path, scope: Scope) -> None:
    write_config(world.config, policy=model, problems=world.problems, verifier='kind = "math"')
    ended = scope("train", world.config, "--out", "run")
    # Random weights never find a box, and two steps are too few to stop for that.
    assert ended.code == 0, ended.err
    assert "data      6 training problems, none of them in an evaluation set" in ended.out
    rollouts = list(Rollouts.of(world.folder / "run"))
    assert len(rollouts) == 2 * 2 * 2
    shown = make_tokenizer().decode(rollouts[0]["prompt_ids"])
    assert rollouts[0]["prompt"].startswith("What is $")
    assert shown == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        f"{rollouts[0]['prompt']}\nPlease reason step by step, and put your final answer within \\boxed{{}}.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    summary = json.loads((world.folder / "run" / "summary.json").read_text())
    assert set(summary["before"]) == {"math500"}
    assert summary["after"]["math500"]["num_problems"] == 3
    assert summary["after"]["math500"]["samples_per_problem"] == 4

    again = scope("eval", "run", "--out", "eval.json")
    assert again.code == 0, again.err
    (measured,) = json.loads((world.folder / "eval.json").read_text())["sets"]
    assert (measured["name"], measured["num_problems"], measured["samples_per_problem"]) == ("math500", 3, 4)
    assert measured["figures"]["avg@4"]["value"] == summary["after"]["math500"]["accuracy"]


def test_a_model_is_measured_as_a_configuration_says(world: World, model: Path, scope: Scope) -> None:
    ended = scope("eval", model, "--config", world.config, "--metrics", "avg", "--out", "own.json")
    assert ended.code == 0, ended.err
    assert "math500 (3 of 5 x 4) samples = 12 rollouts" in ended.out
    assert "math500  3 of 5 problems × 4 samples" in ended.out
    write_rows(world.folder / "aime24.jsonl", sums(50, 2))
    given = ("--config", world.config, "--data", world.folder, "--problems", "aime24", "--problems", "train.jsonl")
    ended = scope("eval", model, *given, "--samples", "2", "--metrics", "avg")
    assert ended.code == 0, ended.err
    assert "aime24 (2 x 2), train (3 of 6 x 2) samples = 10 rollouts" in ended.out


def test_a_set_that_the_configuration_names_is_measured_as_it_says(world: World, model: Path, scope: Scope) -> None:
    given = ("--config", world.config, "--problems", "math500", "--problems", "train.jsonl", "--metrics", "avg")
    ended = scope("eval", model, *given)
    assert ended.code == 0, ended.err
    assert "math500 (3 of 5 x 4), train (3 of 6 x 2) samples = 18 rollouts" in ended.out
    ended = scope("eval", model, *given, "--samples", "1")
    assert "math500 (3 of 5 x 1), train (3 of 6 x 1) samples = 6 rollouts" in ended.out


def test_answers_from_elsewhere_are_not_read_by_the_pattern_of_the_embedded_problems(
    world: World, model: Path, scope: Scope
) -> None:
    given = ("--problems", "math500", "--data", world.folder, "--samples", "1", "--metrics", "avg", "--max-tokens", "4")
    ended = scope("eval", model, *given)
    assert ended.code == ExitCode.BAD_INPUT
    assert "what judges the answers to math500? Give --verifier math for boxed answers" in ended.err
    ended = scope("eval", model, *given, "--verifier", "math")
    assert ended.code == 0, ended.err
    # The bare problem is shown, and nothing says where the answer is to stand.
    assert "warning   nothing in the prompt asks for \\boxed{}" in ended.out
    assert "nothing in the prompt" not in scope("eval", model, *given, "--config", world.config).out


def test_weights_in_half_the_memory(world: World, model: Path, scope: Scope) -> None:
    given = ("--config", world.config, "--samples", "1", "--dtype", "bfloat16", "--out", "half.json")
    ended = scope("eval", model, *given)
    assert ended.code == 0, ended.err
    record = json.loads((world.folder / "half.json").read_text())
    assert record["model"]["dtype"] == "bfloat16"
    assert record["prompt"]["template"].startswith("{problem}\nPlease reason")


@pytest.mark.parametrize("name", ["aime24", "amc23", "math500", "minerva", "gsm8k"])
def test_benchmarks_that_are_here(name: str, world: World, model: Path, scope: Scope) -> None:
    folder = benchmark_file(f"{name}.jsonl").parent
    given = ("--config", world.config, "--data", folder, "--problems", name, "--num-problems", "2")
    ended = scope("eval", model, *given, "--samples", "1", "--metrics", "avg", "--batch-rows", "2")
    assert ended.code == 0, ended.err


def with_solutions(count: int) -> list[dict[str, Any]]:
    return [row | {"solution": f"The answer is $\\boxed{{{row['answer']}}}$."} for row in sums(0, count)]


def test_solutions_of_the_data_set_are_imitated(world: World, scope: Scope) -> None:
    write_rows(world.problems, with_solutions(6))
    chosen = ("--method", "luffy", "--set", "teacher.model=solutions", "--steps", "1")
    ended = scope("train", world.config, "--out", "run", *chosen, "--set", "sampling.max_response_tokens=60")
    assert ended.code == 0, ended.err
    rollouts = list(Rollouts.of(world.folder / "run"))
    guided = [rollout for rollout in rollouts if rollout["role"] == "guided"]
    assert len(guided) == 2
    for rollout in guided:
        (segment,) = rollout["segments"]
        assert segment["origin"] == "teacher"
        assert segment["text"] == f"The answer is $\\boxed{{{rollout['reference']}}}$."
        assert rollout["verdict"]["outcome"] == "right"


@pytest.mark.parametrize(
    ("method", "rows", "reason"),
    [
        ("luffy", sums(0, 6), "no training problem has a solution"),
        ("luffy", [row | {"solution": "#### 7"} for row in sums(0, 6)], "calls 0 of 6 worked solutions right"),
        ("scope", [row | {"solution": "#### 7"} for row in sums(0, 6)], "problems.solutions.final_line"),
    ],
)
def test_solutions_that_cannot_be_used(
    method: str, rows: list[dict[str, Any]], reason: str, world: World, scope: Scope
) -> None:
    write_rows(world.problems, rows)
    ended = scope("train", world.config, "--method", method, "--set", "teacher.model=solutions")
    assert ended.code == 2
    assert reason in " ".join(ended.err.split())


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (sums(0, 6), "no training problem has a worked solution"),
        (
            [row | {"solution": f"Clearly {row['answer']}."} for row in sums(0, 6)],
            "equations of 0 of 6 worked solutions",
        ),
        ([row | {"solution": "1 + 1 = 3"} for row in sums(0, 6)], "6 have a false one"),
    ],
)
def test_what_the_calculator_cannot_read_is_told(
    rows: list[dict[str, Any]], told: str, world: World, scope: Scope
) -> None:
    write_rows(world.problems, rows)
    chosen = [part for override in ("method.name=scope", "scorer.model=calculator") for part in ("--set", override)]
    ended = scope("check", world.config, "--quick", "--json", *chosen)
    assert told in message_of(ended, "calculator")


def test_solutions_are_brought_into_the_form_that_the_verifier_reads(world: World, scope: Scope) -> None:
    rows = sums(0, 6)
    for row in rows[1:]:
        row["solution"] = f"It is 1 + 1 = <<1+1=2>>2.\n#### {row['answer']}"
    write_rows(world.problems, rows)
    form = ("problems.solutions.strip_annotations=true", r'problems.solutions.final_line="\\boxed{{answer}}"')
    chosen = [
        part for override in ("method.name=luffy", "teacher.model=solutions", *form) for part in ("--set", override)
    ]
    ended = scope("check", world.config, "--quick", "--json", *chosen)
    told = message_of(ended, "solutions")
    assert "1 of 6 training problems have no worked solution" in told
    assert "calls 5 of 5 worked solutions right" in told
    assert "can go on from a prefix" in told


# --- what is found before -------------------------------------------------------------------------------------------


def test_a_run_that_is_as_it_should_be(world: World, scope: Scope) -> None:
    before = sorted(world.folder.iterdir())
    ended = scope("check", world.config, "--json")
    assert ended.code == 0, ended.out
    assert set(severities(ended).values()) == {"ok"}
    assert {"packages", "folder", "disk", "data", "answers", "memory", "policy", "prompt"} <= set(severities(ended))
    assert "final answer within \\boxed{}.<|im_end|>\n<|im_start|>assistant\n" in message_of(ended, "prompt")
    assert "training problems: 6 of 6 references" in message_of(ended, "answers")
    assert "4 rows of 24 response tokens, sampled and trained on in" in message_of(ended, "longest step")
    assert sorted(world.folder.iterdir()) == before
    assert json.loads(ended.out)["models_tried"]


def test_the_quick_part_loads_no_model(world: World, scope: Scope, model: Path) -> None:
    broken = world.folder / "broken"
    shutil.copytree(model, broken)
    # Weights of another shape than the configuration says: whole files, which only loading finds out.
    settings = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(settings | {"intermediate_size": settings["intermediate_size"] * 2}))
    ended = scope("check", world.config, "--quick", "--json", "--set", f"model.policy={broken}")
    assert ended.code == 0, ended.out
    assert not json.loads(ended.out)["models_tried"]
    ended = scope("check", world.config, "--json", "--set", f"model.policy={broken}")
    assert (ended.code, severities(ended)["policy"]) == (ExitCode.BAD_INPUT, "error")
    assert "cannot be loaded" in message_of(ended, "policy")


MISTAKES: dict[str, tuple[list[str], str, str]] = {
    "no such data set": (["problems.source=nobody/nothing"], "configuration", "cannot be loaded"),
    "answers that nobody can give": (
        ["verifier.answer_pattern='.*boxed\\{(.).*'"],
        "answers",
        "references cannot be graded",
    ),
    "no room in the context": (["sampling.max_response_tokens=2040"], "context", "more than the 2048 positions"),
    "no room for what is measured": (
        ["evaluation.max_response_tokens=2040"],
        "context",
        "evaluation set math500: a prompt of",
    ),
    "prompts too long": (["problems.max_prompt_tokens=9"], "context", "0 problems are left"),
    "a policy that is none": (["model.policy=nowhere"], "configuration", "neither a model folder"),
    "a helper without server": (
        ["method.name=luffy", "teacher.model=http://127.0.0.1:9/v1", "teacher.name=none", "teacher.server.retries=0"],
        "teacher",
        "does not answer as it should",
    ),
    "a scorer that is none": (["method.name=vppo", "scorer.model=embedded:teacher"], "scorer", "scorer.model"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found_with_its_remedy(name: str, world: World, scope: Scope) -> None:
    overrides, subject, part = MISTAKES[name]
    given = [argument for override in overrides for argument in ("--set", override)]
    ended = scope("check", world.config, "--json", *given)
    assert ended.code == ExitCode.BAD_INPUT, ended.err
    assert severities(ended)[subject] == "error"
    assert part in message_of(ended, subject)
    assert not json.loads(ended.out)["passed"]


def test_the_table_says_the_same(world: World, scope: Scope) -> None:
    ended = scope("check", world.config, "--set", "sampling.max_response_tokens=2040")
    assert ended.code == ExitCode.BAD_INPUT
    assert "error  context" in ended.out
    assert "→ lower sampling.max_response_tokens" in ended.out


def test_a_step_that_does_not_fit_is_an_error(world: World, scope: Scope, monkeypatch: pytest.MonkeyPatch) -> None:
    from scope_rlvr.engines.trl.trainer import ScopeTrainer

    def full(*_: Any, **__: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(ScopeTrainer, "train", full)
    ended = scope("check", world.config, "--json")
    assert ended.code == ExitCode.BAD_INPUT
    assert "4 rows of 24 response tokens do not fit: CUDA out of memory" in message_of(ended, "longest step")


def test_a_pattern_that_reads_none_of_the_references_is_a_warning(world: World, scope: Scope) -> None:
    ended = scope("check", world.config, "--quick", "--json", "--set", "verifier.answer_pattern=answer ([a-c])")
    assert ended.code == 0
    assert "no reference can be stated so that this verifier reads it" in message_of(ended, "answers")
    assert severities(ended)["answers"] == "warning"


def test_references_that_are_sentences_are_a_warning(world: World, model: Path, scope: Scope) -> None:
    write_config(world.config, policy=model, problems=world.problems, verifier='kind = "math"')
    write_rows(world.problems, [row | {"answer": f"The answer is {row['answer']}"} for row in sums(0, 6)])
    ended = scope("check", world.config, "--quick", "--json")
    assert ended.code == 0, ended.out
    assert "6 of 6 references hold words beside the answer, such as 'The answer is 1' of train-1" in message_of(
        ended, "answers"
    )
    assert "problems.answer_form" in message_of(ended, "answers")
    shown = (
        "--problems",
        "train.jsonl",
        "--config",
        world.config,
        "--samples",
        "1",
        "--metrics",
        "avg",
        "--max-tokens",
        "4",
    )
    ended = scope("eval", model, *shown)
    assert ended.code == 0, ended.err
    assert "warning   train: 3 of 3 references hold words beside the answer" in ended.out


def test_the_embedded_pattern_is_not_for_other_problems(world: World, scope: Scope, model: Path) -> None:
    write_config(world.config, policy=model, problems=world.problems, verifier='kind = "pattern"')
    ended = scope("check", world.config, "--quick", "--json")
    assert "read by the pattern of the embedded problems" in message_of(ended, "answers")
    assert severities(ended)["answers"] == "warning"


def test_some_references_that_cannot_be_verified_are_a_warning(world: World, scope: Scope) -> None:
    rows = sums(0, 30)
    rows[7]["answer"] = "two\nlines"
    write_rows(world.problems, rows)
    ended = scope("check", world.config, "--quick", "--json")
    assert ended.code == 0
    assert severities(ended)["answers"] == "warning"
    assert "1 of 30 references cannot be graded; train-8: 'two\\nlines'" in message_of(ended, "answers")
    ended = scope("train", world.config, "--out", "run", "--steps", "1")
    assert ended.code == 0, ended.err
    assert "warning   answers: training problems: 1 of 30 references cannot" in ended.out


# --- overlap and bad rows, as scope train meets them ----------------------------------------------------------------


def test_training_on_what_is_measured_is_refused_unless_allowed(world: World, scope: Scope) -> None:
    write_rows(world.problems, [*sums(0, 6), {"problem": "what is $101+102$ ?", "answer": "203"}])
    ended = scope("train", world.config, "--out", "run")
    assert ended.code == 2
    assert "1 training problem(s) are in the evaluation set math500, too; the first is 'train-7'" in ended.err
    assert "problems.allow_overlap" in ended.err
    assert not (world.folder / "run").exists()
    ended = scope("train", world.config, "--out", "run", "--steps", "1", "--set", "problems.allow_overlap=true")
    assert ended.code == 0, ended.err
    assert "warning   data: 1 training problem(s) are in the evaluation set math500, too" in ended.out


def test_bad_rows_are_refused_and_left_out_on_demand(world: World, scope: Scope) -> None:
    write_rows(world.problems, [*sums(0, 6), {"problem": "What is it?"}])
    ended = scope("train", world.config, "--out", "run")
    assert ended.code == 2
    assert "train.jsonl has 1 row(s) of 7 that are no problems:\n  line 7: no answer" in ended.err
    ended = scope("train", world.config, "--out", "run", "--steps", "1", "--set", "problems.bad_rows=skip")
    assert ended.code == 0, ended.err
    assert "6 training problems, none of them in an evaluation set; 1 row(s) left out, the first: line 7" in ended.out


def test_rows_that_are_left_out_of_what_is_measured_are_told(world: World, model: Path, scope: Scope) -> None:
    write_rows(world.folder / "math500.jsonl", [*sums(100, 5), {"problem": "What is it?"}])
    text = world.config.read_text().replace('source = "math500"', 'source = "math500", bad_rows = "skip"')
    world.config.write_text(text)
    ended = scope("check", world.config, "--quick", "--json")
    assert ended.code == 0, ended.out
    assert "evaluation set; of math500 1 row(s) left out, the first: line 6: no answer" in message_of(ended, "data")
    ended = scope("eval", model, "--config", world.config, "--metrics", "avg", "--max-tokens", "4")
    assert "12 rollouts; of math500 1 row(s) left out, the first: line 6: no answer" in ended.out


def test_two_sets_of_one_name_are_refused(world: World, scope: Scope) -> None:
    sets = '[{role="trained", source="math500"}, {role="trained", source="x/math500.jsonl"}]'
    ended = scope("train", world.config, "--set", f"evaluation.sets={sets}")
    assert ended.code == 2
    assert "two evaluation sets are called 'math500'" in ended.err


def test_long_prompts_are_left_out_and_counted(world: World, scope: Scope) -> None:
    write_rows(world.problems, [*sums(0, 4), {"problem": f"What is {'1 + ' * 100}1?", "answer": "101"}])
    ended = scope("train", world.config, "--out", "run", "--steps", "1")
    assert ended.code == 0, ended.err
    assert "1 of 5 problems left out: longer than max_prompt_tokens" in ended.out


@pytest.mark.parametrize("key", ["sampling", "evaluation"])
def test_what_does_not_fit_into_the_context_is_refused_before_anything_is_sampled(
    key: str, world: World, scope: Scope
) -> None:
    ended = scope("train", world.config, "--out", "run", "--set", f"{key}.max_response_tokens=2040")
    assert ended.code == ExitCode.BAD_INPUT
    assert "more than the 2048 positions" in ended.err
    assert f"lower {key}.max_response_tokens" in ended.err
    assert not (world.folder / "run").exists()


def test_a_prompt_of_a_page_is_shown_in_short_and_one_that_asks_for_no_box_is_told(world: World, scope: Scope) -> None:
    write_rows(world.problems, [{"problem": f"What is {'1 + ' * 900}1?", "answer": "901"}, *sums(0, 5)])
    plain = ("--set", "prompt.template={problem}", "--set", "verifier=math", "--set", "problems.max_prompt_tokens=5000")
    ended = scope("check", world.config, "--json", *plain)
    shown = next(f["message"] for f in findings_of(ended) if f["message"].startswith("the policy is shown"))
    assert len(shown) < 2200
    assert "characters ...]" in shown
    assert "nothing in the prompt asks for \\boxed{}" in message_of(ended, "prompt")
    assert severities(ended)["prompt"] == "warning"
    # A problem that is left out of training is not what the policy is shown.
    ended = scope("check", world.config, "--json", "--set", "problems.max_prompt_tokens=200")
    assert ended.code == 0, ended.out
    assert "What is $0 + 1$?" in message_of(ended, "prompt")
    ended = scope(
        "train", world.config, "--out", "run", "--steps", "1", *plain, "--set", "problems.max_prompt_tokens=200"
    )
    assert ended.code == 0, ended.err
    assert "nothing in the prompt asks for \\boxed{}" in ended.out


# --- the machine ----------------------------------------------------------------------------------------------------


def test_the_doctor_looks_and_touches_nothing(world: World, scope: Scope) -> None:
    before = sorted(world.folder.iterdir())
    ended = scope("doctor", world.config, "--json")
    assert ended.code == 0, ended.out
    assert {"python", "packages", "processors", "graphics", "disk", "recipe"} <= set(severities(ended))
    assert "run.toml: about" in message_of(ended, "recipe")
    assert sorted(world.folder.iterdir()) == before
    (world.folder / "bad.toml").write_text("[run]\nstepps = 1\n")
    ended = scope("doctor", "bad.toml", "--json")
    assert ended.code == ExitCode.BAD_INPUT
    assert "run.stepps: unknown key" in message_of(ended, "recipe")
    assert "what" in scope("doctor", world.config).out
