"""Study files: what they resolve to, and every mistake told before anything runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scope_rlvr.core.errors import UserError
from scope_rlvr.embedded import model_path
from scope_rlvr.run.config import load_config
from scope_rlvr.study.plan import Study, load_study, merged

ROOT = Path(__file__).parent.parent.parent
RECIPES = sorted((ROOT / "recipes" / "studies").glob("*.toml"))

SMALL = """
name = "small"
seeds = [1, 2]
[base]
run.steps = 7
[arms.scope]
label = "SCOPE"
method = {name = "scope", max_salvages = 2}
[arms.grpo]
method = "grpo"
seeds = [2, 3]
"""


def study(tmp_path: Path, text: str) -> Study:
    file = tmp_path / "study.toml"
    file.write_text(text, encoding="utf-8")
    return load_study(file)


def refused(tmp_path: Path, text: str, *parts: str) -> None:
    with pytest.raises(UserError) as error:
        study(tmp_path, text)
    for part in parts:
        assert part in str(error.value)


def test_arms_times_seeds(tmp_path: Path) -> None:
    found = study(tmp_path, SMALL)
    assert (found.title, found.reference, found.primary) == ("small", "scope", "reduction-6/accuracy")
    # Seed by seed, so that half a study compares all arms.
    assert [run.id for run in found.runs] == ["scope-seed1", "scope-seed2", "grpo-seed2", "grpo-seed3"]
    scope, grpo = found.runs[0].config, found.runs[-1].config
    assert scope == load_config(None, ["run.steps=7", "run.seed=1", "method.max_salvages=2"])
    assert grpo == load_config(None, ["run.steps=7", "run.seed=3"], method="grpo")
    assert [cell.title for cell in found.cells] == ["SCOPE", "grpo"]


def test_a_sweep_gives_each_arm_every_value_and_leaves_out_who_is_not_named(tmp_path: Path) -> None:
    swept = study(tmp_path, SMALL + '[sweep]\nkey = "sampling.temperature"\nvalues = [0.2, 0.5]\n')
    assert [cell.id for cell in swept.cells] == ["scope-0.2", "scope-0.5", "grpo-0.2", "grpo-0.5"]
    assert [run.config.sampling.temperature for run in swept.runs_of(swept.cells[1])] == [0.5, 0.5]
    named = study(tmp_path, SMALL + '[sweep]\nkey = "method.max_salvages"\nvalues = [1, 3]\narms = ["scope"]\n')
    assert [cell.id for cell in named.cells] == ["scope-1", "scope-3", "grpo"]
    rules = study(tmp_path, SMALL + '[sweep]\nkey = "method.ranking"\nvalues = ["random"]\narms = ["scope"]\n')
    assert rules.cells[0].title == "SCOPE, random"


def test_a_base_may_start_from_a_file_beside_the_study(tmp_path: Path) -> None:
    (tmp_path / "shared.toml").write_text('[run]\nsteps = 9\nseed = 5\n[method]\nname = "scope"\nmax_rounds = 2\n')
    found = study(tmp_path, SMALL.replace("run.steps = 7", 'config = "shared.toml"\nsampling.temperature = 0.9'))
    scope, grpo = found.runs[0].config, found.runs[-1].config
    assert (scope.run.steps, scope.run.seed, scope.sampling.temperature) == (9, 1, 0.9)
    assert (scope.method.max_rounds, scope.method.max_salvages) == (2, 2)  # type: ignore[union-attr]
    assert grpo.method.name == "grpo"
    refused(tmp_path, SMALL.replace("run.steps = 7", 'config = "none.toml"'), "base.config", "none.toml cannot be read")


def test_tables_merge_and_rules_replace() -> None:
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}) == {"a": {"b": 1, "c": 3}}
    assert merged({"kind": "shaped", "gamma": 0.3}, {"kind": "nll"}) == {"kind": "nll"}
    assert merged({"kind": "shaped", "gamma": 0.3}, {"gamma": 0.2}) == {"kind": "shaped", "gamma": 0.2}
    assert merged({"mode": {"kind": "step"}}, {"mode": "suffix"}) == {"mode": "suffix"}


MISTAKES = {
    "no TOML": ("name = = 1", ["is not TOML"]),
    "nothing": ("", ["name: Field required", "seeds: Field required", "arms: Field required"]),
    "unknown key": (f"titel = 'x'\n{SMALL}", ["titel: unknown key; did you mean 'title'?"]),
    "bad name": (SMALL.replace('"small"', '"a/b"'), ["name:", "'a/b'"]),
    "no seeds": (SMALL.replace("[1, 2]", "[]"), ["seeds:"]),
    "a seed twice": (SMALL.replace("[1, 2]", "[1, 1]"), ["seed 1 stands there twice"]),
    "unknown reference": (f"reference = 'scop'\n{SMALL}", ["no arm 'scop'; did you mean 'scope'?"]),
    "unknown method": (SMALL.replace('"grpo"', '"grop"'), ["arm 'grpo' has 1 mistake(s)", "'grop'", "'grpo'"]),
    "unknown option": (
        SMALL.replace("max_salvages", "max_salvage"),
        ["arm 'scope'", "max_salvage: unknown key; did you mean 'max_salvages'?"],
    ),
    "in two arms": (SMALL.replace("steps", "stepz"), ["arm 'scope'", "arm 'grpo'", "did you mean 'steps'?"]),
    "wrong label": (SMALL.replace('"SCOPE"', "3"), ["arms.scope.label", "got 3"]),
    "arm's name": (SMALL.replace("[arms.grpo]", '[arms."grpo/2"]'), ["arms.grpo/2", "letters, digits and _"]),
    "seed as a setting": (SMALL.replace("run.steps", "run.seed"), ["sets run.seed", "seeds are given by `seeds`"]),
    "model that is not there": (f'{SMALL}model.policy = "./none"\n', ["arm 'grpo': model.policy", "none"]),
    "no such set": (f"primary = 'reduction-5/accuracy'\n{SMALL}", ["primary", "reduction-6", "<set>/<measure>"]),
    "no such measure": (f"primary = 'reduction-6/accurcy'\n{SMALL}", ["primary", "<set>/<measure>"]),
    "sweep over an unknown key": (
        f'{SMALL}[sweep]\nkey = "scorer.nois"\nvalues = [0.1]\n',
        ["arm 'scope' at scorer.nois = 0.1", "did you mean 'noise'?"],
    ),
    "sweep of an unknown arm": (
        f'{SMALL}[sweep]\nkey = "scorer.noise"\nvalues = [0.1]\narms = ["grop"]\n',
        ["sweep.arms: there is no arm 'grop'; did you mean 'grpo'?"],
    ),
    "sweep over seeds": (f'{SMALL}[sweep]\nkey = "run.seed"\nvalues = [1]\n', ["sweep.key", "`seeds`"]),
    "a value twice": (f'{SMALL}[sweep]\nkey = "scorer.noise"\nvalues = [0.1, 0.1]\n', ["scope-0.1-seed1", "once"]),
    "misspelt sweep key": (f'{SMALL}[sweep]\nkey = "a.b"\nvalue = [1]\n', ["sweep.value", "did you mean 'values'?"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told(name: str, tmp_path: Path) -> None:
    text, parts = MISTAKES[name]
    refused(tmp_path, text, "study.toml", *parts)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_study(tmp_path / "none.toml")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda file: file.stem)
def test_every_recipe_is_a_study(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The study of a real model trains what a warm-up has left there.
    warmed = tmp_path / "runs" / "stories-warmup" / "model"
    shutil.copytree(model_path("policy"), warmed)
    monkeypatch.chdir(tmp_path)
    found = load_study(recipe)
    assert found.name == recipe.stem
    assert all(run.config.evaluation.every for run in found.runs) or recipe.stem == "smollm2"


def test_there_are_recipes() -> None:
    assert RECIPES
