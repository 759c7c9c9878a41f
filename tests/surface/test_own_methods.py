"""Methods and parts that a configuration names: built in or a user's own, right and wrong, in a run and in a study."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scope_rlvr.core.errors import UserError
from scope_rlvr.run.config import load_config
from scope_rlvr.run.resume import environment_changes
from scope_rlvr.store.folder import RunFolder
from scope_rlvr.study.folder import differences
from scope_rlvr.study.plan import load_study

Scope = Callable[..., Any]

MODULE = '''
"""A researcher's own classes."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.methods import Dapo, Method
from scope_rlvr.methods.parts.base import TokenWeight


class FirstHalf(TokenWeight):
    """Only the first tokens of a response train."""

    share: float = Field(0.5, gt=0, le=1)

    def weights(self, group: Group, member: Member, streams: Streams) -> Sequence[float]:
        kept = self.share * len(streams.weight_T)
        return [w if t < kept else 0.0 for t, w in enumerate(streams.weight_T)]


class Halved(Method):
    """GRPO at half of its strength."""

    factor: float = 0.5

    def credit_tokens(self, member: Member, advantage_T: Sequence[float]) -> Streams:
        return super().credit_tokens(member, [self.factor * a for a in advantage_T])


class Asking(Method):
    """A method with an option that has no default."""

    must: float


class Named(TokenWeight):
    kind: Literal["named"] = "named"


class StillDapo(Dapo):
    pass


class Neither:
    pass
'''


@pytest.fixture
def here(own_modules: Path) -> Path:
    """A folder with modules of a user's own in it, as the current one."""
    (own_modules / "own.py").write_text(MODULE)
    (own_modules / "broken.py").write_text("x = 1\n\ny = x.missing\n")
    return own_modules


MISTAKES = {
    "a bare name": ("method.parts=overlong_penalty", 'write method.parts = ["overlong_penalty"]'),
    "an unknown part": ('method.parts=["overlong"]', "no part 'overlong'; did you mean 'overlong_penalty'?"),
    "an unknown method": ("method.name=grop", "no method 'grop'; did you mean 'grpo'?"),
    "an unknown key of a part": (
        'method.parts=[{kind="overlong_penalty", overlong_shar=1}]',
        "method.parts.0.overlong_shar: unknown key; did you mean 'overlong_share'?",
    ),
    "an unknown key of one's own": (
        'method.parts=[{kind="own:FirstHalf", shar=1}]',
        "method.parts.0.shar: unknown key; did you mean 'share'?",
    ),
    "a value out of range": (
        'method.parts=[{kind="overlong_penalty", overlong_share=2}]',
        "method.parts.0.overlong_share: Input should be less than or equal to 1, got 2",
    ),
    "a part without a kind": ("method.parts=[{share=1}]", "no part is named in {'share': 1}; name it by kind = ..."),
    "no part at all": ("method.parts=[3]", "method.parts.0: a part is a name or a table with kind = ..., got 3"),
    "a part that the method has": (
        'method={name="dapo", parts=["overlong_penalty"]}',
        "dapo has 'overlong_penalty' already, with options of its own; leave it out",
    ),
    "a part twice": (
        'method.parts=["own:FirstHalf", "own:FirstHalf"]',
        "'own:FirstHalf' is there twice; leave one out",
    ),
    "two estimators": (
        'method={name="grpo", parts=["min_form", "step_rewards"]}',
        "'min_form' and 'step_rewards' both take the place of the estimator; leave one out",
    ),
    "an estimator beside the method's": (
        'method={name="vppo", parts=["min_form"]}',
        "'min_form' and 'good_prefix' of vppo both take the place of the estimator; take another method",
    ),
    "no such module": (
        'method.parts=["nowhere:Part"]',
        "the part 'nowhere:Part' cannot be imported: ModuleNotFoundError: No module named 'nowhere'; the module is looked",
    ),
    "a module that fails": (
        'method.name="broken:Halved"',
        "the method 'broken:Halved' cannot be imported: AttributeError: 'int' object has no attribute 'missing'",
    ),
    "no such class": ('method.name="own:Missing"', "module 'own' has no attribute 'Missing'"),
    "a class that is no part": (
        'method.parts=["own:Neither"]',
        "'own:Neither' is not a part: <class 'own.Neither'> is not a subclass of scope_rlvr.methods.parts.base.Part",
    ),
    "a method as a part": ('method.parts=["own:Halved"]', "'own:Halved' is not a part"),
    "a part as a method": ('method.name="own:FirstHalf"', "'own:FirstHalf' is not a method"),
    "a part with another name": ('method.parts=["own:Named"]', "'own:Named' has kind = 'named'"),
    "a method with another name": ('method.name="own:StillDapo"', 'in the class, write name: str = ""'),
}


@pytest.mark.parametrize(("override", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_message_before_anything_is_loaded(
    override: str, said: str, here: Path, monkeypatch: pytest.MonkeyPatch, scope: Scope
) -> None:
    monkeypatch.setattr("scope_rlvr.cli.train._carry_out", lambda *_, **__: pytest.fail("the run began"))
    ended = scope("train", "--set", override)
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith("scope: the configuration has 1 mistake(s):\n  method")
    assert said in ended.err
    assert len(ended.err.splitlines()) == 2
    assert not (here / "runs").exists()


def test_the_place_in_a_module_that_fails_is_told(here: Path, scope: Scope) -> None:
    assert f"({here / 'broken.py'}, line 3)" in scope("train", "--method", "broken:Halved").err


def test_parts_are_given_as_names_or_tables(here: Path) -> None:
    (here / "run.toml").write_text(
        '[method]\nname = "own:Halved"\nfactor = 0.25\nparts = ["overlong_penalty"]\n\n'
        '[[method.parts]]\nkind = "own:FirstHalf"\nshare = 0.75\n'.replace('parts = ["overlong_penalty"]\n', "")
    )
    method = load_config(here / "run.toml").method
    assert (method.name, [(part.kind, part.share) for part in method.parts]) == (
        "own:Halved",
        [("own:FirstHalf", 0.75)],
    )
    both = load_config(
        None, ['method.parts=["overlong_penalty", {kind="own:FirstHalf", share=1}]'], method="grpo"
    ).method
    assert [part.kind for part in both.parts] == ["overlong_penalty", "own:FirstHalf"]
    assert [part.kind for part in both.all_parts] == ["overlong_penalty", "own:FirstHalf"]


def test_an_option_of_a_part_is_set_by_its_number(here: Path) -> None:
    listed = 'method.parts=["overlong_penalty", "own:FirstHalf"]'
    method = load_config(None, [listed, "method.parts.1.share=0.75", "method.parts.0.overlong_share=0.1"]).method
    assert (method.parts[0].overlong_share, method.parts[1].share) == (0.1, 0.75)
    with pytest.raises(UserError, match="'2' is no entry of a list of 2, which are numbered from 0"):
        load_config(None, [listed, "method.parts.2.share=0.75"])
    with pytest.raises(UserError, match="'share' is no entry of a list of 2"):
        load_config(None, [listed, "method.parts.share=0.75"])


def test_a_class_of_ones_own_trains_and_its_run_is_read_back(
    here: Path, scope: Scope, small: Callable[..., Any]
) -> None:
    parts = 'method.parts=["overlong_penalty", {kind="own:FirstHalf", share=0.75}]'
    ended = scope("train", "--method", "own:Halved", "--steps", "2", *small(parts, "method.factor=0.25"))
    assert ended.code == 0, ended.err
    (run,) = (here / "runs").iterdir()
    assert run.name.startswith("Halved-")
    method = load_config(run / "config.toml").method
    assert method.name == "own:Halved"
    assert (method.factor, method.parts[1].share) == (0.25, 0.75)
    assert json.loads((run / "summary.json").read_text())["method"] == "own:Halved"
    assert set(json.loads((run / "start.json").read_text())["own_code"]) == {"own:Halved", "own:FirstHalf"}
    config = load_config(run / "config.toml")
    assert environment_changes(RunFolder(run), config) == []
    (here / "own.py").write_text(MODULE.replace("0.5", "0.6"))
    assert [line.split(" was ")[0] for line in environment_changes(RunFolder(run), config)] == [
        "the digest of the source file of own:FirstHalf",
        "the digest of the source file of own:Halved",
    ]


STUDY = """
name = "own"
seeds = [1]
[base]
run.steps = 2
run.problems_per_step = 2
run.rollouts_per_problem = 4
problems.level = 5
evaluation = {num_problems = 4, samples_per_problem = 2}
[arms.halved]
method = {name = "own:Halved", factor = 0.25}
[arms.grpo]
method = "grpo"
[arms.grpo_first_half]
[arms.grpo_first_half.method]
name = "grpo"
parts = ["overlong_penalty", {kind = "own:FirstHalf", share = 0.75}]
"""


def test_a_study_compares_classes_of_ones_own(here: Path, scope: Scope) -> None:
    (here / "own.toml").write_text(STUDY)
    ended = scope("study", "own.toml", "--at-once", "1")
    assert ended.code == 0, ended.err
    results = [json.loads(file.read_text()) for file in (here / "runs/studies/own/results").iterdir()]
    methods = {result["arm"]: result["config"]["method"] for result in results}
    assert (methods["halved"]["name"], methods["halved"]["factor"]) == ("own:Halved", 0.25)
    assert [part["kind"] for part in methods["grpo_first_half"]["parts"]] == ["overlong_penalty", "own:FirstHalf"]
    assert methods["grpo"]["parts"] == []


def test_a_study_knows_its_runs_of_a_method_whose_option_has_no_default(here: Path) -> None:
    one, other = (load_config(None, [f"method.must={must}"], method="own:Asking") for must in (1.0, 2.0))
    assert differences(one.model_dump(mode="json"), one) == []
    assert differences(one.model_dump(mode="json"), other) == ["method.must (there 1.0, now 2.0)"]


def test_every_mistake_in_a_study_s_arms_is_told(here: Path) -> None:
    (here / "own.toml").write_text(STUDY.replace("own:Halved", "own:Halfed").replace("share = 0.75", "shar = 0.75"))
    with pytest.raises(UserError) as error:
        load_study(here / "own.toml")
    assert "arm 'halved' has 1 mistake(s):\n  method: the method 'own:Halfed' cannot be imported" in str(error.value)
    assert "method.parts.1.shar: unknown key; did you mean 'share'?" in str(error.value)


def test_a_sweep_varies_the_option_of_a_part(here: Path) -> None:
    sweep = '[sweep]\nkey = "method.parts.1.share"\nvalues = [0.25, 1.0]\narms = ["grpo_first_half"]\n'
    (here / "own.toml").write_text(STUDY + sweep)
    runs = [run for run in load_study(here / "own.toml").runs if run.cell.arm == "grpo_first_half"]
    assert [(run.id, run.config.method.parts[1].share) for run in runs] == [
        ("grpo_first_half-0.25-seed1", 0.25),
        ("grpo_first_half-1.0-seed1", 1.0),
    ]


def test_a_sweep_varies_the_option_of_ones_own_method(here: Path) -> None:
    (here / "own.toml").write_text(STUDY + '[sweep]\nkey = "method.factor"\nvalues = [0.1, 0.9]\narms = ["halved"]\n')
    assert [r.config.method.factor for r in load_study(here / "own.toml").runs if r.cell.arm == "halved"] == [0.1, 0.9]
