"""``scope salvage`` on what embedded models wrote: from saved failures to data that trains."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
from datasets import Dataset, load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from scope_rlvr.core.ports import TeacherReply
from scope_rlvr.embedded import model_path
from scope_rlvr.models import local
from scope_rlvr.offline import command as run_salvage
from scope_rlvr.offline.dataset import completion_of, is_right, replayed
from scope_rlvr.problems import families
from scope_rlvr.problems.reduction import Reduction
from scope_rlvr.store.journal import read_records
from scope_rlvr.store.rollouts import Rollouts
from tests.surface.conftest import run_scope, settings

HELPERS = ("--scorer", "embedded:step_scorer", "--teacher", "embedded:teacher")
POLICY = ("--policy", "embedded:policy")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of plain GRPO: nothing in it was salvaged."""
    folder = tmp_path_factory.mktemp("run") / "grpo"
    ended = run_scope(
        "train", "--method", "grpo", "--steps", "2", "--out", folder, *settings("evaluation.before=false")
    )
    assert ended.code == 0, ended.err
    return folder


@pytest.fixture(scope="module")
def salvaged(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The failures of that run, salvaged, in every form."""
    folder = tmp_path_factory.mktemp("salvaged")
    files = {"out": folder / "all.jsonl", "parquet": folder / "all.parquet"}
    files |= {"sft": folder / "sft.jsonl", "dpo": folder / "dpo.parquet"}
    options = [part for option, file in files.items() for part in (f"--{option}", file)]
    ended = run_scope("salvage", run, *HELPERS, *POLICY, *options)
    assert ended.code == 0, ended.err
    assert "admitted" in ended.out
    return files


def source_rows(run: Path) -> dict[str, dict[str, Any]]:
    """The run's own rollouts by their place."""
    return {f"rollout {number}": row for number, row in enumerate(Rollouts.of(run), start=1)}


def ids_of(segments: list[dict[str, Any]]) -> list[int]:
    return [token for segment in segments for token in segment["token_ids"]]


def plain_rows(run: Path) -> list[dict[str, Any]]:
    """The same rollouts as text that anybody could have saved."""
    return [
        {"problem": row["prompt"], "response": "".join(s["text"] for s in row["segments"]), "answer": row["reference"]}
        for row in source_rows(run).values()
    ]


def write_rows(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_every_failure_has_a_line_with_its_source(run: Path, salvaged: dict[str, Path]) -> None:
    lines, rows = list(read_records(salvaged["out"])), source_rows(run)
    wrong = [place for place, row in rows.items() if row["verdict"]["outcome"] == "wrong"]
    assert [line["source"]["row"] for line in lines] == wrong
    assert {line["source"]["file"] for line in lines} == {"00000001.zst"}
    for line in lines:
        row = rows[line["source"]["row"]]
        assert line["token_ids_from"] == "source"
        assert line["prompt_ids"] == row["prompt_ids"]
        assert ids_of(line["segments"]) == ids_of(row["segments"])
        assert [line[key] for key in ("problem", "prompt", "reference")] == [
            row[key] for key in ("problem", "prompt", "reference")
        ]
        assert all(set(line["models"][role]) == {"name", "digest"} for role in ("policy", "scorer", "teacher"))
        assert len(line["salvage"]["step_scores"]) == len(line["salvage"]["steps"]) or line["is_truncated"]


def test_what_was_admitted_is_right_and_keeps_the_failure_token_for_token(run: Path, salvaged: dict[str, Path]) -> None:
    rows, family, num_admitted = source_rows(run), Reduction(), 0
    lines = [line for line in read_records(salvaged["out"]) if line["salvage"]["outcome"] == "admitted"]
    for line, (problem, rollout) in zip(lines, replayed(read_records(salvaged["out"])), strict=True):
        kept = line["salvage"]["num_kept_tokens"]
        failure = ids_of(rows[line["source"]["row"]]["segments"])
        assert kept > 0
        assert list(rollout.token_ids[:kept]) == failure[:kept]
        assert list(rollout.token_ids) == ids_of(line["salvage"]["attempt"])
        assert [s.origin.value for s in rollout.segments][:2] == ["policy", "teacher"]
        # The family's own arithmetic had no part in it.
        assert completion_of(line).split("\n\n")[-1] == family.canonical_solution(problem).split("\n\n")[-1]
        num_admitted += 1
    assert num_admitted >= 2


def test_a_pair_is_two_steps_behind_one_prefix(salvaged: dict[str, Path]) -> None:
    pairs = [(line, line["pair"]) for line in read_records(salvaged["out"]) if line["pair"]]
    assert pairs
    for line, pair in pairs:
        failure = "".join(segment["text"] for segment in line["segments"])
        assert failure.startswith(pair["prefix"] + pair["rejected"])
        assert completion_of(line).startswith(pair["prefix"] + pair["chosen"])
        assert pair["chosen"] != pair["rejected"]
        first_wrong = line["salvage"]["first_wrong_step"]
        assert pair["rejected"] == line["salvage"]["steps"][first_wrong]["text"]


def test_sft_and_dpo_files_train(salvaged: dict[str, Path], tmp_path: Path) -> None:
    num_right = sum(map(is_right, read_records(salvaged["out"])))
    sft = load_dataset("json", data_files=str(salvaged["sft"]), split="train", cache_dir=str(tmp_path / "cache"))
    dpo = load_dataset("parquet", data_files=str(salvaged["dpo"]), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(sft) == num_right
    assert set(dpo.column_names) == {"prompt", "chosen", "rejected", "source"}
    assert pyarrow.parquet.read_table(salvaged["parquet"]).to_pylist() == list(read_records(salvaged["out"]))
    common = {"max_steps": 1, "per_device_train_batch_size": 2, "report_to": "none", "use_cpu": True, "bf16": False}
    common |= {"output_dir": str(tmp_path), "save_strategy": "no", "disable_tqdm": True, "learning_rate": 1e-2}
    for make, config, data in (
        (SFTTrainer, SFTConfig(**common, completion_only_loss=True), sft),
        (DPOTrainer, DPOConfig(**common), dpo),
    ):
        model = AutoModelForCausalLM.from_pretrained(model_path("policy"), dtype=torch.float32)
        before = model.get_input_embeddings().weight.clone()
        tokenizer = AutoTokenizer.from_pretrained(model_path("policy"))
        trainer = make(model=model, args=config, train_dataset=data, processing_class=tokenizer)
        assert trainer.train().training_loss > 0
        assert not torch.equal(model.get_input_embeddings().weight, before)


def test_text_without_ids_is_salvaged_too_and_says_so(run: Path, tmp_path: Path) -> None:
    rollouts, out = write_rows(tmp_path / "plain.jsonl", plain_rows(run)), tmp_path / "out.jsonl"
    assert run_scope("salvage", rollouts, *HELPERS, *POLICY, "--out", out).code == 0
    lines = list(read_records(out))
    rows = {f"line {number}": row for number, row in enumerate(Rollouts.of(run), start=1)}
    assert {line["token_ids_from"] for line in lines} == {"text"}
    # The tokenizer of the embedded family writes a text in one way only.
    assert all(ids_of(line["segments"]) == ids_of(rows[line["source"]["row"]]["segments"]) for line in lines)
    admitted = [line for line in lines if is_right(line)]
    assert admitted
    assert all(completion_of(line).endswith(f"answer {line['reference']}") for line in admitted)


def test_completions_that_trl_logged(tmp_path: Path) -> None:
    problems = families.get("reduction").sample(level=6, count=4, seed=5)
    rows = [{"prompt": p.prompt, "reference": p.reference} for p in problems]
    args = {"max_steps": 1, "num_generations": 4, "per_device_train_batch_size": 8, "max_completion_length": 80}
    args |= {"report_to": "none", "use_cpu": True, "bf16": False, "save_strategy": "no", "disable_tqdm": True}
    GRPOTrainer(
        model=str(model_path("policy")),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=GRPOConfig(output_dir=str(tmp_path / "trl"), log_completions=True, logging_steps=1, **args),
        train_dataset=Dataset.from_list(rows),
    ).train()
    named, out = write_rows(tmp_path / "problems.jsonl", rows), tmp_path / "out.jsonl"
    ended = run_scope("salvage", tmp_path / "trl" / "completions", *HELPERS, *POLICY, "--problems", named, "--out", out)
    assert ended.code == 0, ended.err
    lines = list(read_records(out))
    assert {line["source"]["step"] for line in lines} == {1}
    assert {line["prompt"] for line in lines} <= {row["prompt"] for row in rows}
    assert any(map(is_right, lines))


def test_generations_that_verl_dumped(run: Path, tmp_path: Path) -> None:
    dumped = [
        {"input": row["problem"], "output": row["response"], "gts": row["answer"], "score": 0.0, "step": 7}
        for row in plain_rows(run)
    ]
    out = tmp_path / "out.jsonl"
    assert run_scope("salvage", write_rows(tmp_path / "7.jsonl", dumped), *HELPERS, *POLICY, "--out", out).code == 0
    assert {line["source"]["step"] for line in read_records(out)} == {7}
    assert any(map(is_right, read_records(out)))


def test_without_a_policy_the_teacher_finishes(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    ended = run_scope("salvage", run, *HELPERS, "--set", "method.mode=suffix", "--out", out)
    assert ended.code == 0, ended.err
    admitted = [line for line in read_records(out) if is_right(line)]
    assert admitted
    for line in admitted:
        assert line["models"]["policy"] is None
        assert line["models"]["teacher"]["name"] == "embedded:teacher"
        assert [part["origin"] for part in line["salvage"]["attempt"]] == ["policy", "teacher"]
        assert line["salvage"]["num_continuations"] == 0


def test_an_interrupted_salvage_goes_on_to_the_same_file(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = (*HELPERS, *POLICY, "--batch-rows", "4")
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    assert run_scope("salvage", run, *small, "--out", whole).code == 0
    add = run_salvage.SalvageJournal.add

    def add_one(journal: run_salvage.SalvageJournal, lines: Any, verdicts: Counter[str]) -> None:
        if journal.record["blocks"] == 1:
            # Killed while it writes.
            journal.out.open("ab").write(b'{"torn": ')
            raise KeyboardInterrupt
        add(journal, lines, verdicts)

    monkeypatch.setattr(run_salvage.SalvageJournal, "add", add_one)
    assert run_scope("salvage", run, *small, "--out", parts).code == 130
    monkeypatch.undo()
    about = json.loads((tmp_path / "parts.jsonl.about.json").read_text())
    assert (about["blocks"], about["is_finished"]) == (1, False)
    other = run_scope("salvage", run, *small, "--resume", "--set", "run.seed=1", "--out", parts)
    assert (other.code, "begun with other seed" in other.err) == (2, True)
    assert run_scope("salvage", run, *small, "--resume", "--out", parts).code == 0
    assert parts.read_bytes() == whole.read_bytes()
    abouts = [json.loads((tmp_path / f"{name}.jsonl.about.json").read_text()) for name in ("whole", "parts")]
    assert abouts[0] == abouts[1]
    assert abouts[0]["is_finished"]


class Silent:
    """A teacher that never answers."""

    def continue_from(self, requests: Any, *, seed: int) -> list[TeacherReply]:
        return [TeacherReply(error="no whole reply within 60 s") for _ in requests]


def test_a_teacher_that_is_down_ends_it_and_nothing_is_lost(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_salvage, "load_teacher", lambda *_: Silent())
    out = tmp_path / "out.jsonl"
    ended = run_scope("salvage", run, *HELPERS, *POLICY, "--out", out)
    assert ended.code == 5
    assert "teacher.max_failure_share" in ended.err
    monkeypatch.undo()
    assert run_scope("salvage", run, *HELPERS, *POLICY, "--out", out, "--resume").code == 0
    assert any(map(is_right, read_records(out)))


BAD = {
    "no reference": ({"problem": "p", "response": "c"}, ["line 2", "no reference", "--problems", "--skip-bad-rows"]),
    "no response": ({"problem": "p", "answer": "1"}, ["line 2", "no response"]),
    "other ids": (
        {"prompt": "p", "response_ids": [9999], "reference": "1"},
        ["line 2", "token id 9999", "--policy"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rows_are_told_before_any_model_is_loaded(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    row, says = BAD[case]
    good = plain_rows(run)
    rollouts, out = write_rows(tmp_path / "rows.jsonl", [good[0], row, *good[1:]]), tmp_path / "out.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(local.LocalModel, "load", lambda *_, **__: pytest.fail("a model was loaded"))
        ended = run_scope("salvage", rollouts, *HELPERS, *POLICY, "--out", out)
    assert ended.code == 2
    assert [text for text in says if text not in ended.err] == []
    assert not out.exists()
    ended = run_scope("salvage", rollouts, *HELPERS, *POLICY, "--out", out, "--skip-bad-rows")
    assert ended.code == 0
    assert "1 row(s) left out" in ended.out
    left_out = json.loads((tmp_path / "out.jsonl.about.json").read_text())["left_out"]
    assert len(left_out) == 1
    assert says[1] in left_out[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*HELPERS], ["--policy", "method.mode=suffix"]),
        ([*POLICY, "--teacher", "embedded:teacher"], ["no scorer is named", "--scorer"]),
        ([*POLICY, "--scorer", "embedded:step_scorer"], ["no teacher is named", "--teacher"]),
        ([*HELPERS, *POLICY, "--set", "method.max_salvages=0"], ["max_salvages = 0"]),
        ([*HELPERS, *POLICY, "--set", "method=grpo"], ["does not salvage"]),
        ([*HELPERS, "--policy", "/no/such/folder"], ["/no/such/folder", "no model"]),
        ([*HELPERS, *POLICY, "--sft", "data.csv"], ["--sft data.csv", ".jsonl or .parquet"]),
        ([*HELPERS, *POLICY, "--resume"], ["nothing to go on with"]),
        (
            ["--scorer", "embedded:step_scorer", "--teacher", "exact", "--set", "method.mode=suffix"],
            ["'exact' has no tokenizer", "--policy"],
        ),
    ],
)
def test_what_cannot_work_is_refused_before_any_model_is_loaded(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: list[str]
) -> None:
    monkeypatch.setattr(local.LocalModel, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    out = tmp_path / "out.jsonl"
    ended = run_scope("salvage", run, *arguments, "--out", out)
    assert ended.code == 2
    assert [text for text in says if text not in ended.err] == []
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_never_overwritten(run: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken.jsonl"
    taken.write_text("mine")
    for option in ("--out", "--sft"):
        files = ["--out", tmp_path / "new.jsonl", option, taken] if option != "--out" else ["--out", taken]
        ended = run_scope("salvage", run, *HELPERS, *POLICY, *files)
        assert (ended.code, taken.read_text()) == (2, "mine")


def test_worked_solutions_salvage_saved_rollouts(run: Path, tmp_path: Path) -> None:
    helpers = ("--scorer", "exact", "--teacher", "solutions", *POLICY)
    ended = run_scope("salvage", run, *helpers, "--out", tmp_path / "without.jsonl")
    assert ended.code == 2
    assert "no rollout has one" in " ".join(ended.err.split())
    family = Reduction()
    rows = source_rows(run).values()
    by_prompt = {p.prompt: p for p in family.sample(5, 2000, 0)}
    with (tmp_path / "solved.jsonl").open("w") as file:
        for prompt in dict.fromkeys(row["prompt"] for row in rows):
            problem = by_prompt[prompt]
            row = {"prompt": prompt, "answer": problem.reference, "solution": family.canonical_solution(problem)}
            print(json.dumps(row), file=file)
    ended = run_scope(
        "salvage", run, *helpers, "--problems", tmp_path / "solved.jsonl", "--out", tmp_path / "all.jsonl"
    )
    assert ended.code == 0, ended.err
    written = list(read_records(tmp_path / "all.jsonl"))
    assert any(line["salvage"]["outcome"] == "admitted" for line in written)
