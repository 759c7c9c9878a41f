"""Configurations: strict reading, every mistake in one message, and back to TOML."""

from __future__ import annotations

from pathlib import Path

import pytest

from scope_rlvr.core.errors import UserError
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Shaped, Trust
from scope_rlvr.methods import Grpo, Scope
from scope_rlvr.run.config import RunConfig, dump_config, load_config, validate_config
from scope_rlvr.salvage.settings import Insertion, OneStep, RateBelow, Suffix


def written(folder: Path, text: str) -> Path:
    file = folder / "run.toml"
    file.write_text(text, encoding="utf-8")
    return file


def mistakes(values: dict) -> str:
    with pytest.raises(UserError) as caught:
        validate_config(values, "run.toml")
    return str(caught.value)


# --- what is read ---------------------------------------------------------------------------------------------------


def test_nothing_given_is_the_embedded_recipe():
    assert load_config() == RunConfig()
    assert load_config().method == Scope()


def test_a_file_says_what_differs_from_the_defaults(tmp_path):
    file = written(
        tmp_path,
        """
        run.steps = 7
        objective.normalisation = "group_std"
        [method]
        insertion = "append"
        mode = "suffix"
        group_rule = {kind = "rate_below", rate = 0.25}
        teacher_term = {kind = "trust", floor = 0.2}
        """,
    )
    config = load_config(file)
    assert config.run.steps == 7
    assert config.objective.normalisation is Normalisation.GROUP_STD
    assert config.method == Scope(
        insertion=Insertion.APPEND, mode=Suffix(), group_rule=RateBelow(rate=0.25), teacher_term=Trust(floor=0.2)
    )


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("run.steps=3", lambda c: c.run.steps == 3),
        ("run.steps = 3", lambda c: c.run.steps == 3),
        ("optimizer.learning_rate=1e-6", lambda c: c.optimizer.learning_rate == 1e-6),
        ("method.teacher_term=plain", lambda c: c.method.teacher_term.kind == "plain"),
        ("method.teacher_term.gamma=0.3", lambda c: c.method.teacher_term == Shaped(gamma=0.3)),
        ('method.mode={kind="step", max_tokens=9}', lambda c: c.method.mode == OneStep(max_tokens=9)),
        ("method.show_reference=true", lambda c: c.method.show_reference is True),
        ("model.policy=owner/name", lambda c: c.model.policy == "owner/name"),
        ("model.policy=a=b", lambda c: c.model.policy == "a=b"),
        ('logging.report_to=["trackio"]', lambda c: c.logging.report_to == ("trackio",)),
    ],
)
def test_overrides_are_toml_values_or_plain_names(override, read, tmp_path):
    file = written(tmp_path, '[method]\nteacher_term = "shaped"\n')
    if override.startswith("method.teacher_term.gamma"):
        assert read(load_config(file, [override]))
    else:
        assert read(load_config(None, [override]))


def test_later_overrides_win_and_fields_keep_the_rule():
    overrides = ["method.teacher_term=trust", "method.teacher_term.floor=0.3", "run.seed=1", "run.seed=2"]
    config = load_config(None, overrides)
    assert config.method.teacher_term == Trust(floor=0.3)
    assert config.run.seed == 2


@pytest.mark.parametrize("override", ["run.steps", "=3", "run.=3", ".steps=3"])
def test_an_override_without_key_or_value_is_refused(override):
    with pytest.raises(UserError, match=r"section\.key=value"):
        load_config(None, [override])


def test_an_override_below_a_number_is_refused(tmp_path):
    file = written(tmp_path, "run.steps = 3")
    with pytest.raises(UserError, match="'steps' is not a section"):
        load_config(file, ["run.steps.more=3"])


def test_another_method_drops_the_options_of_the_file(tmp_path):
    file = written(tmp_path, "[method]\nmax_salvages = 3\n[run]\nsteps = 7")
    assert load_config(file, method="grpo").method == Grpo()
    assert load_config(file, method="grpo").run.steps == 7
    assert load_config(file, method="scope").method == Scope(max_salvages=3)
    assert load_config(file, ["method.baseline=leave_one_out"], method="grpo").method == Grpo(baseline="leave_one_out")


def test_a_method_can_be_given_as_a_bare_name(tmp_path):
    file = written(tmp_path, 'method = "grpo"')
    assert load_config(file).method == Grpo()
    assert load_config(file, method="scope").method == Scope()
    assert load_config(file, ["method.baseline=leave_one_out"]).method == Grpo(baseline="leave_one_out")


# --- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"runs": {}}, ["runs: unknown key", "'run'"]),
        ({"run": {"step": 3}}, ["run.step: unknown key", "did you mean 'steps'?"]),
        ({"method": {"max_salvage": 3}}, ["method.max_salvage: unknown key", "'max_salvages'"]),
        ({"method": {"name": "grpo", "max_salvages": 3}}, ["method.max_salvages: unknown key"]),
        ({"method": {"name": "ppo"}}, ["method", "'ppo'", "did you mean 'vppo'?", "scope methods"]),
        ({"method": {"teacher_term": "sharp"}}, ["method.teacher_term", "sharp", "shaped"]),
        ({"method": {"teacher_term": {"kind": "shaped", "gamma": -1}}}, ["method.teacher_term.gamma", "got -1"]),
        ({"method": {"insertion": "swap"}}, ["method.insertion", "'swap'", "replace"]),
        ({"run": {"steps": "many"}}, ["run.steps", "got 'many'"]),
        ({"run": {"steps": 0}}, ["run.steps", "greater than or equal to 1", "got 0"]),
        ({"run": 3}, ["run", "got 3"]),
        ({"objective": {"clip": {"low": 1.5}}}, ["objective.clip.low", "got 1.5"]),
        ({"optimizer": {"learning_rate": float("nan")}}, ["optimizer.learning_rate", "got nan"]),
        ({"objective": {"entropy": float("inf")}}, ["objective.entropy", "got inf"]),
        ({"evaluation": {"sets": [{"role": "trained"}]}}, ["evaluation.sets.0", "level", "source"]),
    ],
)
def test_a_mistake_is_named_with_where_and_what(values, parts):
    message = mistakes(values)
    assert message.startswith("run.toml has 1 mistake(s)")
    for part in parts:
        assert part in message
    assert "method.scope" not in message
    assert "teacher_term.shaped" not in message


def test_all_mistakes_stand_in_one_message():
    message = mistakes({"run": {"steps": 0, "sed": 1}, "method": {"max_rounds": 0}, "sampling": {"top_p": 2}})
    assert message.startswith("run.toml has 4 mistake(s)")
    for part in ("run.steps", "run.sed", "method.max_rounds", "sampling.top_p"):
        assert part in message


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"teacher": {"model": "none"}}, ["'scope' needs a teacher", "teacher.model"]),
        ({"scorer": {"model": "none"}}, ["'scope' needs a scorer", "scorer.model"]),
        ({"run": {"micro_batch_rows": 7}}, ["run.micro_batch_rows = 7", "64 rows", "8 problems x 8"]),
        ({"run": {"micro_batch_rows": 64}, "method": {"insertion": "pair"}}, ["72 rows", "8 problems x 9"]),
    ],
)
def test_options_that_do_not_fit_together_are_refused(values, parts):
    message = mistakes(values)
    for part in parts:
        assert part in message


def test_helpers_may_be_missing_where_they_are_not_needed():
    none = {"teacher": {"model": "none"}, "scorer": {"model": "none"}}
    assert validate_config(none | {"method": {"name": "grpo"}}, "x").method == Grpo()
    assert validate_config(none | {"method": {"max_salvages": 0}}, "x").method == Scope(max_salvages=0)


def test_a_file_that_cannot_be_read_or_is_no_toml_is_named(tmp_path):
    with pytest.raises(UserError, match=r"missing\.toml cannot be read"):
        load_config(tmp_path / "missing.toml")
    with pytest.raises(UserError, match="is not TOML"):
        load_config(written(tmp_path, "run = = 3"))


# --- derived numbers and back to TOML -------------------------------------------------------------------------------


def test_derived_numbers():
    run = {"problems_per_step": 4, "rollouts_per_problem": 6, "micro_batch_rows": 8}
    config = validate_config({"run": run, "method": {"insertion": "append", "max_salvages": 2}}, "x")
    assert (config.rows_per_group, config.rows_per_step, config.share().num_micro_batches) == (8, 32, 4)
    assert validate_config({}, "x").share().num_micro_batches == 1
    assert "4 x 6 rollouts + 2 reserved rows a problem = 32 rows, 4 backward pass(es) of 8" in "\n".join(config.plan())


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"method": {"name": "grpo", "drop_flat_groups": True}},
        {
            "run": {"seed": 7, "micro_batch_rows": 9},
            "problems": {"source": "data/problems.jsonl", "columns": {"answer": "x.y"}, "bad_rows": "skip"},
            "steps": {"separator": "\n\n\n", "min_chars": 3},
            "method": {
                "insertion": "pair",
                "mode": {"kind": "step", "max_tokens": 9},
                "teacher_term": {"kind": "mixture", "exponent": 0.25},
                "prefix_credit": {"kind": "fraction", "share": 0.3},
                "guards": {"low_score": False},
            },
            "scorer": {"rule": {"kind": "threshold", "threshold": 0.7}},
            "verifier": {"answer_pattern": 'answer "(\\d+)"'},
            "evaluation": {
                "temperature": 0.6,
                "sets": [
                    {"role": "trained", "level": 4},
                    {"role": "out of distribution", "source": "x.jsonl", "samples_per_problem": 32},
                ],
            },
            "logging": {"report_to": ["trackio"]},
        },
    ],
)
def test_toml_and_back_is_the_same_configuration(values, tmp_path):
    config = validate_config(values, "x")
    assert load_config(written(tmp_path, dump_config(config))) == config


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load_config().run.steps = 3
