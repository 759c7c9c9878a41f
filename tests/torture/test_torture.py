"""A few cases of each kind of torture; ``make torture`` runs all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scope_rlvr.core.errors import UserError
from scope_rlvr.run.config import load_config
from scope_rlvr.teachers.settings import Completions
from tests.torture import answers, hostile_server
from tests.torture.bad_settings import BadValue, bad_values
from tests.waiting import PATIENCE_SECONDS
from tools import reliability_tables

ROOT = Path(__file__).parents[2]


def test_bad_values_of_every_key_are_refused_in_a_few_words() -> None:
    values = list(bad_values())
    assert len(values) > 1000
    messages = {value: refusal_of(value) for value in values}
    assert [value.name for value, message in messages.items() if not message and not value.may_begin] == []
    assert [value.name for value, message in messages.items() if len(message) > 3000 and not value.may_begin] == []


def refusal_of(value: BadValue) -> str:
    """What a bad value is refused with; empty where it is accepted."""
    try:
        load_config(overrides=[argument for argument in value.arguments if argument != "--set"])
    except UserError as error:
        return str(error)
    return ""


def test_a_few_cases_in_forks() -> None:
    command = [sys.executable, "-m", "tests.torture.few"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert (ended.returncode, ended.stdout.strip()) == (0, "all as it should be"), ended.stderr[-2000:]


@pytest.mark.parametrize(
    "mode",
    [
        "choices.0.text is half a character",
        "usage.completion_tokens is a huge number",
        "choices.0.token_ids is infinity",
        "status 999",
        "wire: ten thousand headers",
        "wire: a broken chunk",
        "body: a bomb",
        "body: braces",
    ],
)
def test_a_hostile_server(mode: str) -> None:
    assert hostile_server.outcome_of(mode, Completions(token_ids=True)) == "held"


def test_fuzzed_answers() -> None:
    assert len(hostile_server.MODES) > 100
    counts = answers.run(300, seed=1)
    assert sum(counts[word] for word in ("right", "wrong", "unknown")) == 300
    assert counts["false right"] == 0


def test_the_page_says_what_was_counted_and_explains_what_was_not_as_it_should_be() -> None:
    counts = json.loads(reliability_tables.COUNTS.read_text(encoding="utf-8"))
    page = reliability_tables.PAGE.read_text(encoding="utf-8")
    assert reliability_tables.renewed(counts) == page
    cases = [bad["case"] for found in counts.values() for bad in found["bad"]]
    assert [case for case in cases if f"`{case}`" not in page] == []
