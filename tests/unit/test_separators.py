"""Separators are proposed from what the policy itself writes."""

from __future__ import annotations

import pytest

from scope_rlvr.check.separators import num_steps, separator_findings
from scope_rlvr.core.findings import Severity
from scope_rlvr.run.components import load_policy
from scope_rlvr.run.config import load_config
from scope_rlvr.run.data import training_problems


def findings(*overrides: str):
    config = load_config(overrides=["problems.level=5", *overrides])
    problems = training_problems(config).problems
    return list(separator_findings(config, load_policy(config, problems), problems))


@pytest.mark.parametrize(
    ("separator", "expected"), [("\n\n", 1), ("\n", 2), (". ", 1.5)], ids=["blank line", "line", "sentence"]
)
def test_steps_are_counted_in_the_middle_response(separator: str, expected: float):
    responses = [["a\n", "b"], ["a. ", "b\n", "c"], ["a\n", "b\n", "c"], ["a. ", "b"]]
    assert num_steps(load_config(), responses, separator) == expected


def test_a_separator_that_fits_is_left_alone():
    (finding,) = findings()
    assert finding.severity is Severity.OK
    assert "of 8 responses of the policy, split at '\\n\\n', the middle one has" in finding.message


def test_a_separator_that_fits_nothing_is_replaced_by_one_that_does():
    (finding,) = findings("steps.separator='###'")
    assert finding.severity is Severity.WARNING
    assert "split at '###', the middle one has 1 step(s)" in finding.message
    assert finding.remedy.startswith("set steps.separator = '\\n\\n'")


def test_methods_without_steps_are_asked_nothing():
    assert findings("method.name=grpo") == []
