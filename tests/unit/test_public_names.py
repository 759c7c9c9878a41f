"""What ``scope_rlvr`` offers by name, and how little of it is loaded before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import scope_rlvr
from scope_rlvr import methods
from scope_rlvr.methods.registry import CLASS_PLACES

HEAVY = ("torch", "transformers", "trl", "datasets", "numpy", "scipy", "sympy", "matplotlib")
"""What takes long to import: most of the time in which a short command would be done."""

LOADED = f"import sys; print(*({{*sys.modules}} & {set(HEAVY)!r}), file=sys.stderr)"


def names_for_type_checkers(module: ModuleType) -> dict[str, str]:
    """The names that a module imports under ``TYPE_CHECKING``, each with where it comes from."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {a.name: f"{node.module}:{a.name}" for node in imports for a in node.names if a.name != "*"}


@pytest.mark.parametrize(
    "code",
    [
        "import scope_rlvr; dir(scope_rlvr)",
        "from scope_rlvr import Scope, Grpo, Part, METHODS; Scope(max_salvages=2)",
        "from scope_rlvr.methods.loss import Objective",
        *(
            f"import sys; sys.argv = ['scope', *{arguments!r}]; from scope_rlvr.cli.main import app; app(standalone_mode=False)"
            for arguments in (["--help"], ["version"], ["methods"], ["methods", "scope"], ["train", "--help"])
        ),
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_used(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"{code}\n{LOADED}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "", "import torch by way of scope_rlvr.core.lazy, and the others where they are used"


def test_a_heavy_module_would_be_seen() -> None:
    done = subprocess.run([sys.executable, "-c", f"import numpy\n{LOADED}"], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "numpy"


@pytest.mark.parametrize("name", names_for_type_checkers(scope_rlvr))
def test_a_public_name_is_what_type_checkers_take_it_for(name: str) -> None:
    module, _, _ = names_for_type_checkers(scope_rlvr)[name].partition(":")
    assert getattr(scope_rlvr, name) is getattr(sys.modules[module], name)


def test_the_public_names_are_those_that_type_checkers_know() -> None:
    assert {**names_for_type_checkers(scope_rlvr), **names_for_type_checkers(methods)} == {
        **scope_rlvr._PLACE_OF,
        **CLASS_PLACES,
    }


def test_every_public_name_is_listed() -> None:
    assert {"ScopeTrainer", "Scope", "Grpo", "METHODS"} <= set(dir(scope_rlvr))
    assert {"Scope", "Grpo", "METHODS"} <= set(dir(methods))


@pytest.mark.parametrize("module", [scope_rlvr, methods])
def test_another_name_is_an_attribute_error(module: ModuleType) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        module.Nothing  # noqa: B018


@pytest.mark.parametrize(("imported", "is_frozen"), [("pandas", True), ("this_is_no_module", False)])
def test_quick_imports_leave_the_collector_as_it_was(imported: str, is_frozen: bool) -> None:
    code = f"""
import gc
from contextlib import suppress
from scope_rlvr.core.lazy import quick_imports
for is_enabled in (True, False):
    gc.enable() if is_enabled else gc.disable()
    with suppress(ImportError), quick_imports():
        assert not gc.isenabled()
        import {imported}
    assert gc.isenabled() is is_enabled
assert (gc.get_freeze_count() > 0) is {is_frozen}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
