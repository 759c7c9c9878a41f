"""docs/scorers.md says of families and rules what the code says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest

from scope_rlvr.salvage.rules import AnyRule, Drop
from scope_rlvr.scorers.critic import PROMPT
from scope_rlvr.scorers.description import ScorerDescription
from scope_rlvr.scorers.families import AnyFamily, Auto, VllmPooling
from scope_rlvr.scorers.settings import ScorerSection

PAGE = (Path(__file__).parents[3] / "docs" / "scorers.md").read_text(encoding="utf-8")
FAMILIES = [kind for kind in get_args(get_args(AnyFamily)[0]) if kind is not Auto]


def kind_of(choice: Any) -> str:
    return choice.model_fields["kind"].default


def rows(heading: str) -> dict[str, list[str]]:
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): cells[1:] for cells in lines}


def test_every_family_is_on_the_page_with_its_default_rule_and_its_range():
    found = rows("Families")
    assert list(found) == [kind_of(family) for family in FAMILIES]
    for family in FAMILIES:
        _, _, scores, rule, _ = found[kind_of(family)]
        if family is VllmPooling:
            continue
        default = family.default_rule
        level = default.drop if isinstance(default, Drop) else default.threshold
        assert rule == f"`{default.kind}` {level:g}"
        ranges = {(0, 1): ("0 to 1", "0 and 1"), (-1, 1): ("−1 to 1",)}
        assert scores in ranges.get((family.lowest, family.highest), ("any number",))


def test_every_rule_is_on_the_page():
    assert set(rows("Rules")) == {kind_of(rule) for rule in get_args(get_args(AnyRule)[0])}


def test_the_prompt_of_a_critic_is_on_the_page():
    shown = "\n".join(f"    {line}".rstrip() for line in PROMPT.splitlines())
    assert shown in PAGE


def test_the_spreads_of_the_self_test_are_on_the_page():
    told = " ".join(PAGE.split("## The self-test", 1)[1].split("\n## ", 1)[0].split())
    spreads = {kind_of(family): family.flat_below for family in FAMILIES}
    for kind, shown in (
        ("qwen", 0.1),
        ("math_shepherd", 0.01),
        ("rlhflow", 0.01),
        ("skywork", 0.01),
        ("universal", 0.001),
    ):
        assert spreads[kind] == shown
        assert f"{shown:g} for `" in told
    assert {spreads[kind] for kind in ("token_classifier", "trl", "pure")} == {0.0001}
    assert spreads["implicit"] == 1e-7


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL))
def test_examples_are_configurations(text: str):
    assert ScorerSection.model_validate(tomllib.loads(text)["scorer"])


def test_the_example_of_a_description_is_one():
    (text,) = re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)
    assert ScorerDescription.model_validate_json(text)
