"""Saved rollouts of any origin, and what is made of salvaged ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.types import Origin, Problem
from scope_rlvr.offline.dataset import dpo_rows, is_right, replayed, sft_rows, write_table
from scope_rlvr.problems.saved import (
    UNAIDED,
    BadRow,
    References,
    RowReader,
    SavedRollout,
    fits_tokenizer,
    in_groups,
    rollout_files,
)
from scope_rlvr.store.journal import read_records


class Letters:
    """One token a letter; 0 ends."""

    end_id = 0
    end_ids = frozenset({0})

    def pieces(self, token_ids):
        return tuple("" if token == 0 else chr(token + 96) for token in token_ids)

    def encode(self, text):
        return tuple(ord(letter) - 96 for letter in text)

    def encode_prompt(self, text):
        return (50, *self.encode(text))


def table(folder: Path, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> Path:
    file = folder / name
    if file.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def read(file: Path, **options: Any) -> list[Any]:
    return list(in_groups(RowReader(**{"roles": UNAIDED} | options).rows([file])))


RUN_ROW = {
    "schema": 1,
    "step": 3,
    "group": 1,
    "role": "sampled",
    "problem": "p7",
    "level": 4,
    "prompt": "ab",
    "reference": "c",
    "is_truncated": False,
    "prompt_ids": [50, 1, 2],
    "segments": [{"origin": "policy", "text": "c", "token_ids": [3, 0]}],
}


def test_a_line_of_a_run_keeps_its_ids_and_its_place(tmp_path):
    [[rollout]] = read(table(tmp_path, [RUN_ROW]))
    assert (rollout.problem.id, rollout.problem.level, rollout.step, rollout.place) == ("p7", 4, 3, "line 1")
    made = rollout.as_rollout(Letters())
    assert made.prompt_ids == (50, 1, 2)
    assert made.token_ids == (3, 0)
    assert not made.is_truncated


def test_only_what_the_policy_wrote_by_itself_is_read_of_a_run(tmp_path):
    roles = ["sampled", "salvaged", "guided", "branched", "replaced"]
    [group] = read(table(tmp_path, [RUN_ROW | {"role": role} for role in roles]))
    assert [rollout.place for rollout in group] == ["line 1", "line 5"]


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        ({"problem": "ab", "response": "c", "answer": 5}, ["c"]),
        ({"prompt": "ab", "responses": ["c", "d"], "reference": "x"}, ["c", "d"]),
        ({"question": "ab", "generations": ["c"], "gold": ["x"]}, ["c"]),
        ({"input": "ab", "output": "c", "gts": "x", "score": 0.0, "step": 2}, ["c"]),
        ({"prompt": "ab", "completion": "c", "reward_model": {"ground_truth": "x"}}, ["c"]),
        (
            {
                "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "ab"}],
                "completion": [{"role": "assistant", "content": "c"}],
                "reference": "x",
            },
            ["c"],
        ),
        (
            {"prompt": "ab", "completions": [[{"role": "assistant", "content": t}] for t in "cd"], "reference": 1},
            ["c", "d"],
        ),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_the_columns_of_others_are_known(tmp_path, row, texts, suffix):
    [group] = read(table(tmp_path, [row], f"rows{suffix}"))
    assert [rollout.text for rollout in group] == texts
    assert {rollout.problem.prompt for rollout in group} == {"ab"}
    assert group[0].problem.reference in {"x", "5", "1"}


def test_text_is_encoded_once_and_counts_as_ended(tmp_path):
    rows = [{"prompt": "ab", "response": "cd", "reference": "x"} | more for more in ({}, {"finish_reason": "length"})]
    [[ended, cut_off]] = read(table(tmp_path, rows))
    assert ended.as_rollout(Letters()).token_ids == (3, 4, 0)
    assert ended.as_rollout(Letters()).prompt_ids == (50, 1, 2)
    assert cut_off.as_rollout(Letters()).token_ids == (3, 4)
    assert cut_off.as_rollout(Letters()).is_truncated


def test_ids_without_an_end_are_cut_off_unless_the_row_says_otherwise(tmp_path):
    row = {"prompt": "ab", "reference": "x"}
    rows = [row | {"response_ids": [[3, 0], [3, 4]]}, row | {"response_ids": [3], "truncated": False}]
    [[ended, open_ended, said]] = read(table(tmp_path, rows))
    truncated = [rollout.as_rollout(Letters()).is_truncated for rollout in (ended, open_ended, said)]
    assert truncated == [False, True, False]


def test_rows_of_one_problem_that_stand_together_are_a_group(tmp_path):
    rows = [{"prompt": prompt, "response": "c", "reference": "x"} for prompt in "aabba"]
    assert [len(group) for group in read(table(tmp_path, rows))] == [2, 2, 1]
    steps = [{"prompt": "a", "response": "c", "reference": "x", "step": step} for step in (1, 1, 2)]
    assert [len(group) for group in read(table(tmp_path, steps))] == [2, 1]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"response": "c", "reference": "x"}, "no prompt in prompt, problem"),
        ({"prompt": "  ", "response": "c", "reference": "x"}, "no prompt"),
        ({"prompt": "ab", "reference": "x"}, "no response in response, responses"),
        ({"prompt": "ab", "response": "c"}, "no reference in gold, reference"),
        ({"prompt": "ab", "response": 5, "reference": "x"}, "a response must be text or a conversation, got int"),
        ({"prompt": "ab", "response": "\ud800", "reference": "x"}, "half of a character"),
        ({"prompt": "ab", "response_ids": [1, -2], "reference": "x"}, "no list of whole numbers"),
        ({"prompt": "ab", "response_ids": [], "reference": "x"}, "are empty"),
        ({"prompt": "ab", "response_ids": [1], "prompt_ids": ["a"], "reference": "x"}, "ids of the prompt"),
        ({"prompt": "ab", "responses": ["c", "d"], "response_ids": [[1]], "reference": "x"}, "ids for every response"),
        (RUN_ROW | {"schema": 9}, "schema 9"),
        (RUN_ROW | {"segments": 5}, "segments is no list"),
        (RUN_ROW | {"segments": []}, "the ids of the response are missing"),
    ],
)
def test_a_bad_row_says_where_and_why_and_the_others_are_read(tmp_path, row, why):
    good = {"prompt": "ab", "response": "c", "reference": "x"}
    items = read(table(tmp_path, [good, row, good]))
    found = [item for item in items if isinstance(item, BadRow)]
    assert [rollout.place for group in items if group not in found for rollout in group] == ["line 1", "line 3"]
    assert len(found) == 1
    assert str(found[0]).startswith("rows.jsonl, line 2: ")
    assert why in found[0].why


def test_what_is_no_json_is_a_bad_row(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"prompt": "ab", "response": "c", "reference": "x"}\n{torn\n[1]\n\xff\n')
    assert [item.place for item in read(file) if isinstance(item, BadRow)] == ["line 2", "line 3", "line 4"]


def test_answers_come_from_named_problems_where_rows_have_none(tmp_path):
    references = References([Problem("sum", "1 + 1?", "2"), Problem("long", "What is 1 + 1? Say it.", "two")])
    prompts = ["1+1?", "user\n1 + 1?\nassistant\n", "user\nWhat is 1 + 1? Say it.\nassistant", "3?"]
    rows = [{"prompt": prompt, "completion": "c"} for prompt in prompts]
    found = read(table(tmp_path, rows), references=references)
    bad = [item for item in found if isinstance(item, BadRow)]
    problems = [rollout.problem.id for group in found if not isinstance(group, BadRow) for rollout in group]
    assert problems == ["sum", "sum", "long"]
    assert [item.place for item in bad] == ["line 4"]


def test_ids_of_another_tokenizer_are_found_out(tmp_path):
    check = fits_tokenizer(Letters(), num_tokens=60, special_texts=["<end>"])
    problem = Problem("p", "ab", "x")

    def complaint(**saved: Any) -> str | None:
        return check(SavedRollout(tmp_path, "line 1", 0, problem, **saved))

    assert complaint(token_ids=(3, 0), text="c<end>") is None
    assert complaint(text="anything") is None
    assert "read 'c', its text 'z'" in complaint(token_ids=(3, 0), text="z")
    assert "token id 61, and the tokenizer has 60" in complaint(token_ids=(61,))
    assert "token id 60" in complaint(token_ids=(1,), prompt_ids=(60,))


def test_files_and_folders(tmp_path):
    for name in ("b.jsonl", "a.parquet", "note.txt"):
        (tmp_path / name).touch()
    assert [file.name for file in rollout_files(tmp_path)] == ["a.parquet", "b.jsonl"]
    (tmp_path / "rollouts").mkdir()
    for name in ("rollouts.jsonl", "rollouts/00000009.zst", "rollouts/00000010.zst"):
        (tmp_path / name).touch()
    assert [file.name for file in rollout_files(tmp_path)] == ["rollouts.jsonl", "00000009.zst", "00000010.zst"]
    (tmp_path / "empty").mkdir()
    for bad, why in (("empty", "holds no rollouts"), ("none.jsonl", "no rollouts at"), ("note.txt", "must end in")):
        with pytest.raises(UserError, match=why):
            rollout_files(tmp_path / bad)


def salvaged_line(shown: Any, outcome: str = "right") -> dict[str, Any]:
    parts = [{"origin": o, "text": t, "token_ids": i} for o, t, i in (("policy", "a", [1]), ("teacher", "b", [2, 0]))]
    salvage = {"outcome": "admitted", "attempt": parts, "verdict": {"outcome": outcome}}
    source = {"file": "r.jsonl", "row": "line 1", "response": 0}
    pair = {"prefix": "a", "chosen": "b", "rejected": "c"} if outcome == "right" else None
    problem = {"problem": "p", "prompt": "q", "reference": "b", "level": None, "prompt_ids": [9]}
    return {"source": source, "shown": shown, "salvage": salvage, "pair": pair} | problem


def test_rows_for_sft_and_dpo_have_the_form_of_the_prompt():
    source = "r.jsonl, line 1, response 0"
    messages = [{"role": "user", "content": "q"}]

    def says(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    assert list(sft_rows([salvaged_line("q: ")])) == [{"prompt": "q: ", "completion": "ab", "source": source}]
    assert list(sft_rows([salvaged_line(messages)])) == [
        {"prompt": messages, "completion": says("ab"), "source": source}
    ]
    assert list(dpo_rows([salvaged_line("q: ")])) == [
        {"prompt": "q: a", "chosen": "b", "rejected": "c", "source": source}
    ]
    assert list(dpo_rows([salvaged_line(messages)])) == [
        {"prompt": messages, "chosen": says("ab"), "rejected": says("ac"), "source": source}
    ]


def test_what_the_verifier_did_not_call_right_trains_nobody():
    wrong = salvaged_line("q", outcome="wrong")
    unknown = {**wrong, "salvage": None}
    assert not is_right(wrong)
    assert [list(make([wrong, unknown])) for make in (sft_rows, dpo_rows, replayed)] == [[], [], []]


def test_replay_gives_the_ids_and_who_wrote_them():
    [(problem, rollout)] = replayed([salvaged_line("q")])
    assert (problem.reference, rollout.prompt_ids, rollout.token_ids) == ("b", (9,), (1, 2, 0))
    assert rollout.origin_T == (Origin.POLICY, Origin.TEACHER, Origin.TEACHER)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_tables_are_written_whole(tmp_path, suffix):
    rows = [{"prompt": "q\u2028é", "completion": "c"}, {"prompt": "\n", "completion": ""}]
    file = tmp_path / f"out{suffix}"
    assert write_table(iter(rows), file) == 2
    read_back = list(read_records(file)) if suffix == ".jsonl" else pyarrow.parquet.read_table(file).to_pylist()
    assert read_back == rows
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
