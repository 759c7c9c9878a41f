"""docs/write-a-method.md: its modules are written, its commands run and its tests pass, as a reader would do it."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from scope_rlvr.methods import step
from scope_rlvr.methods.parts.base import Family, Part
from scope_rlvr.run.config import load_config
from tools import hook_tables
from tools.settings_tables import ReferenceGap

Scope = Callable[..., Any]
ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "write-a-method.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
FILES = {text.partition("\n")[0].removeprefix("# "): text for kind, text in BLOCKS if kind in ("python", "toml")}
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
MODULES = {name.removesuffix(".py") for name in FILES if name.endswith(".py")}


@pytest.fixture
def here(own_modules: Path) -> Path:
    """A folder with the page's files, and with its package as if it were installed."""
    for name, text in FILES.items():
        (own_modules / name).write_text(text)
    groups = tomllib.loads(FILES["pyproject.toml"])["project"]["entry-points"]
    points = [f"[{group}]\n" + "".join(f"{n} = {place}\n" for n, place in of.items()) for group, of in groups.items()]
    info = own_modules / "own-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(points))
    sys.path.insert(0, str(own_modules))
    importlib.invalidate_caches()
    return own_modules


def test_the_page_has_what_is_tested_here() -> None:
    assert set(FILES) == {
        "mine.py",
        "mine.toml",
        "uncertain.py",
        "families.py",
        "retry.py",
        "pyproject.toml",
        "study.toml",
        "test_own.py",
    }
    assert len(COMMANDS) >= 8
    assert {shlex.split(line)[1] for line in COMMANDS} == {"methods", "train", "study"}


def test_the_promised_lengths() -> None:
    assert len(FILES["mine.py"].splitlines()) <= 15
    assert len(FILES["retry.py"].splitlines()) <= 40


def test_every_family_has_an_example(here: Path) -> None:
    kinds = [kind for name in MODULES - {"test_own"} for kind in vars(importlib.import_module(name)).values()]
    shown = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Part) and kind.__module__ in MODULES]
    assert {kind.family for kind in shown} == set(Family)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_does_what_it_says(line: str, here: Path, scope: Scope, small: Callable[..., list[str]]) -> None:
    arguments = shlex.split(line)[1:]
    trains = arguments[0] == "train"
    ended = scope(*arguments, *(["--steps", "2", *small()] if trains else []))
    assert ended.code == 0, ended.err
    if trains:
        (run,) = (here / "runs").iterdir()
        given = [value for flag, value in pairwise(arguments) if flag in ("--set", "--method")]
        method = load_config(run / "config.toml").method
        named = " ".join([method.name, *(part.kind for part in method.all_parts)])
        assert all(place in named for text in given for place in re.findall(r"\w+:\w+|^\w+$|(?<=\")\w+(?=\")", text))


def test_the_file_says_the_same_as_the_command(here: Path) -> None:
    (line,) = [line for line in COMMANDS if "gamma=0.9" in line]
    override = shlex.split(line)[-1]
    assert load_config(here / "mine.toml").method == load_config(None, [override], method="grpo").method


def test_the_tests_of_the_page_pass(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # In this process, which has loaded what they need.
    ended = pytest.main(["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(here), "test_own.py"])
    told = capsys.readouterr().out
    assert ended == pytest.ExitCode.OK, told
    assert "3 passed" in told


# --- its tables -------------------------------------------------------------------------------------------------------


def test_the_tables_are_those_of_the_classes() -> None:
    assert hook_tables.page() == TEXT, "run: python -m tools.hook_tables"


def test_a_hook_that_is_not_explained_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_tables, "STAGES", {k: v for k, v in hook_tables.STAGES.items() if k != "prepare"})
    with pytest.raises(ReferenceGap, match="nothing says when prepare is called"):
        hook_tables.page()


def test_the_hooks_are_in_the_order_in_which_a_step_calls_them() -> None:
    code = "".join(map(inspect.getsource, (step.make_groups, step.give_credit, step.training_step)))
    for inner in (step.sample_groups, step.edit_groups):
        code = code.replace(f" {inner.__name__}(", inspect.getsource(inner))
    called = [name for name in re.findall(r"(?:method|part)\.(\w+)\(", code) if name in hook_tables.STAGES]
    order = sorted(called, key=list(hook_tables.STAGES).index)
    assert {"choose", "sample", "edit_groups", "prepare", "credit", "learn"} <= set(called)
    assert [name for name in called if name != "decoding"] == [name for name in order if name != "decoding"]
