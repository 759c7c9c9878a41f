"""Files are there whole or not at all; journals are believed as far as they are sound."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scope_rlvr.store.journal
from scope_rlvr.core.errors import UserError
from scope_rlvr.store.digests import file_digest, files_digest, value_digest
from scope_rlvr.store.files import give_usual_rights, is_leftover, read_tail, replacing, write_json, write_text
from scope_rlvr.store.journal import (
    append_records,
    last_record,
    read_lines,
    read_records,
    rewrite_records,
    truncate_after,
)

RECORDS = st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=5) | st.integers()), max_size=5)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_rights_that_the_umask_gives(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "weights") as beside:
            beside.touch(0o600)
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "weights").touch(0o600)
        give_usual_rights(tmp_path / "folder")
    finally:
        os.umask(before)
    for file in (tmp_path / "weights", tmp_path / "folder" / "weights"):
        assert file.stat().st_mode & 0o777 == mode


def interrupted_write(file: Path) -> None:
    with replacing(file) as beside:
        beside.write_text("half of i")
        raise RuntimeError


# --- files --------------------------------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    write_json(file, {"b": 1, "a": 2})
    with pytest.raises(RuntimeError):
        interrupted_write(file)
    with pytest.raises(UnicodeEncodeError):
        write_text(file, "\ud800")
    assert file.read_text() == '{\n  "b": 1,\n  "a": 2\n}\n'
    assert list(tmp_path.iterdir()) == [file]


def test_a_reader_never_sees_half_a_file_while_several_write_it(tmp_path: Path) -> None:
    file, texts = tmp_path / "shared.txt", [letter * 100_000 for letter in "abcd"]
    write_text(file, texts[0])
    with ThreadPoolExecutor(4) as threads:
        writing = [threads.submit(write_text, file, text, sync=False) for text in texts * 5]
        seen = {file.read_text() for _ in range(50)}
    assert not [error for one in writing if (error := one.exception()) is not None]
    assert seen <= set(texts)
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_killed_process_leaves_is_known_by_its_name(tmp_path: Path) -> None:
    with replacing(tmp_path / "config.toml") as beside:
        beside.touch()
        assert list(filter(is_leftover, tmp_path.iterdir())) == [beside]
    assert not list(filter(is_leftover, tmp_path.iterdir()))


def test_the_tail_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes("first\nlä".encode() + b"\xffst")
    assert read_tail(tmp_path / "log", 4) == "\ufffd\ufffdst"
    assert read_tail(tmp_path / "log", 2) == "st"
    assert read_tail(tmp_path / "log", 1000).startswith("first\nlä")
    assert read_tail(tmp_path / "nowhere", 10) == ""


# --- journals -----------------------------------------------------------------------------------------------------


@given(records=RECORDS, data=st.data())
def test_a_journal_that_was_cut_off_anywhere_reads_as_its_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]], data: st.DataObject
) -> None:
    journal = tmp_path_factory.mktemp("journal") / "rows.jsonl"
    ends = [append_records(journal, [record]) for record in records]
    whole = journal.read_bytes() if records else b""
    assert ends[-1:] == ([len(whole)] if records else [])
    at = data.draw(st.integers(0, len(whole)))
    journal.write_bytes(whole[:at])
    # A line break is all that a whole record can lack.
    assert list(read_records(journal)) == records[: sum(end - 1 <= at for end in ends)]


def test_a_journal_that_is_broken_in_the_middle_is_not_read_on(tmp_path: Path) -> None:
    journal = tmp_path / "rows.jsonl"
    journal.write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    read = read_records(journal)
    assert next(read) == {"a": 1}
    with pytest.raises(UserError, match=r"line 2 of .*rows\.jsonl is not JSON: Expecting value, .* lines follow it"):
        next(read)


def test_a_journal_is_rewritten_from_what_is_read_of_it(tmp_path: Path) -> None:
    journal = tmp_path / "rows.jsonl"
    append_records(journal, [{"a": 1}, {"a": 2}, {"a": "half \ud83d"}], sync=True)
    assert rewrite_records(journal, (r for r in read_records(journal) if r["a"] != 2)) == 2
    assert journal.read_bytes() == b'{"a": 1}\n{"a": "half \\ud83d"}\n'


@given(
    steps=st.lists(st.integers(1, 5), max_size=8).map(sorted),
    keep=st.integers(0, 6),
    torn=st.sampled_from([b"", b'{"step": 9', b'{"step"', '{"step": 9, "text": "é'.encode()[:-1], b"[1]\n"]),
    chunk=st.sampled_from([1, 7, 40, 1 << 20]),
)
def test_a_journal_is_cut_behind_a_step_and_never_rewritten(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], keep: int, torn: bytes, chunk: int
) -> None:
    journal = tmp_path_factory.mktemp("journal") / "rows.jsonl"
    records = [{"step": step, "row": row, "text": "\u2028\r" * step} for row, step in enumerate(steps)]
    append_records(journal, records)
    node = journal.stat().st_ino
    with journal.open("ab") as file:
        file.write(torn)
    with patch.object(scope_rlvr.store.journal, "_CHUNK_BYTES", chunk):
        truncate_after(journal, keep)
    assert journal.stat().st_ino == node
    append_records(journal, [{"step": 7}])
    assert list(read_records(journal)) == [*(r for r in records if r["step"] <= keep), {"step": 7}]


def test_only_what_goes_is_read_of_a_journal_that_is_cut(tmp_path: Path) -> None:
    journal = tmp_path / "rows.jsonl"
    # The long beginning is no JSON, so reading it would find a fault.
    journal.write_bytes(b"?" * (3 << 20) + b'\n{"step": 2}\n{"step": 3}\n')
    truncate_after(journal, 2)
    assert journal.read_bytes()[3 << 20 :] == b'\n{"step": 2}\n'


def test_the_last_record_of_a_growing_journal(tmp_path: Path) -> None:
    journal = tmp_path / "rows.jsonl"
    assert last_record(journal) is None
    append_records(journal, [{"step": step, "text": "\u2028" * 20_000} for step in range(3)])
    with journal.open("a") as file:
        file.write('{"step": 3')
    found = last_record(journal)
    assert found is not None
    assert found["step"] == 2


def test_lines_of_others_are_read_with_their_places_and_their_faults(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n[2]\n{"b": "\xe9"}\nnull\n{"c":' + "\u2028".encode() + b"\n{")
    found = [(line.number, line.value, line.fault.partition(":")[0], line.has_line_break) for line in read_lines(file)]
    assert found == [
        (1, {"a": 1}, "", True),
        (3, [2], "expected an object, got list", True),
        (4, None, "not UTF-8 at byte 8", True),
        (5, None, "expected an object, got NoneType", True),
        (6, None, "not JSON", True),
        (7, None, "not JSON", False),
    ]
    for line in read_lines(file):
        again = next(read_lines(file, start=line.offset))
        assert (again.offset, again.value if line.number > 1 else line.value) == (line.offset, line.value)


# --- digests ------------------------------------------------------------------------------------------------------


def test_digests_are_those_that_files_of_former_versions_hold(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"abc")
    sha256_of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert file_digest(tmp_path / "one") == sha256_of_abc
    assert value_digest({"b": 1, "a": ["é"]}) == value_digest(json.loads('{"a": ["\\u00e9"], "b": 1}'))
    assert value_digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    body = {"model": "m", "prompt": "é\n", "max_tokens": 4, "temperature": 0.7}
    question = {"url": "http://localhost:8000/v1/completions", "body": body}
    # Replies that were paid for are found by this key.
    assert value_digest(question) == "71cc387b7dde9f723a7a6031b2735bf12e1923e89d875a5d2791a1edbe97f5a2"
    assert files_digest([tmp_path / "one"]) == files_digest([tmp_path / "one"]) != files_digest([])


def test_the_digest_in_the_name_of_a_file_of_the_hub_s_cache_is_believed(tmp_path: Path) -> None:
    (tmp_path / ("a" * 64)).write_bytes(b"gigabytes")
    (tmp_path / "model.safetensors").symlink_to(tmp_path / ("a" * 64))
    assert file_digest(tmp_path / "model.safetensors") == "a" * 64
    assert file_digest(tmp_path / ("a" * 64)) != "a" * 64
