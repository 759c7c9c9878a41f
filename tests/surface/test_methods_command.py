"""``scope methods``: what it lists, how it filters, and what it says of one method or part."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scope_rlvr.methods import METHODS, PARTS, catalogue
from scope_rlvr.methods.registry import METHOD_FAMILIES

Scope = Callable[..., Any]

OWN = '''
from typing import ClassVar

from scope_rlvr import Method, TokenWeight


class Plain(Method):
    pass


class Told(TokenWeight):
    """Weighs tokens.

    >>> 1 + 1
    2
    """

    changes: ClassVar[str] = "weighs tokens"
    share: float


class Neither:
    pass
'''


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def here(own_modules: Path) -> Path:
    (own_modules / "own.py").write_text(OWN)
    return own_modules


def names(listing: str) -> list[str]:
    return [line.split()[0] for line in listing.splitlines() if line.startswith("  ") and line[2] != " "]


def test_all_methods_and_parts_are_listed_by_family(scope: Scope) -> None:
    listing = scope("methods").out
    assert sorted(names(listing)) == sorted([*METHODS, *PARTS])
    heads = [line.split(": ")[0] for line in listing.splitlines() if line.startswith(("methods, ", "parts, "))]
    families = {entry.family: entry.what for entry in catalogue.read_catalogue().entries}
    assert heads == [f"{what}s, {family}" for family, what in families.items()]


@pytest.mark.parametrize(
    ("arguments", "holds"),
    [
        (["--parts"], lambda e: e.what == "part"),
        (["--family", "guided"], lambda e: e.family == "guided"),
        (["--family", "group_edit"], lambda e: e.family == "group edit"),
        (["--need", "step scorer"], lambda e: "step scorer" in e.needs),
        (["--need", "nothing"], lambda e: not e.needs),
        (["--status", "abstract"], lambda e: e.status == "abstract"),
        (
            ["--need", "step-scorer", "--status", "code", "--parts"],
            lambda e: e.needs == ("step scorer",) and e.status == "code" and e.what == "part",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_listing_is_narrowed(arguments: list[str], holds: Callable[[catalogue.Entry], bool], scope: Scope) -> None:
    wanted = [entry.name for entry in catalogue.read_catalogue().entries if holds(entry)]
    assert wanted
    assert names(scope("methods", *arguments).out) == wanted


def test_nothing_may_be_left(scope: Scope) -> None:
    assert scope("methods", "--family", "imitation", "--need", "judge").out == "nothing is all of that\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--family", "guide"], "--family 'guide' is unknown; did you mean 'guided'? known: advantage, "),
        (["--need", "oracle"], "--need 'oracle' is unknown; known: "),
        (["--status", "rumour"], "--status 'rumour' is unknown; known: abstract, code, "),
        (["lufy"], "there is no method or part 'lufy'; did you mean 'luffy'? scope methods lists them all"),
        (["nowhere:Class"], "'nowhere:Class' cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        (["own:Neither"], "'own:Neither' is not a method: "),
    ],
)
def test_what_is_not_there_is_told(arguments: list[str], said: str, here: Path, scope: Scope) -> None:
    ended = scope("methods", *arguments)
    assert ended.code == 2
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1


def facts(text: str) -> dict[str, str]:
    rows = [line.split(None, 1) for line in text.split("\n\n")[0].splitlines()]
    return {label: value.strip() for label, value in rows}


def test_a_method_is_explained(scope: Scope) -> None:
    text = scope("methods", "dapo").out
    told = facts(text)
    assert (told["method"], told["family"], told["paper"]) == ("dapo: DAPO", "outcome", "arXiv 2503.14476")
    assert told["parts"] == "redraw_flat_groups, overlong_penalty"
    assert told["status"].startswith("code: ")
    assert 'normalisation = "group_std"' in text
    assert "GRPO with decoupled clip and dynamic sampling." in text
    assert ">>>" not in text
    options = {line.split()[0]: line for line in text.split("option ")[1].splitlines() if line[:1].isalpha()}
    assert options["overlong_share"].split()[1:4] == ["0.2", "share", "of"]
    assert {name for name in METHODS["dapo"].model_fields if name != "name"} <= set(options)


def test_a_part_is_explained(scope: Scope) -> None:
    text = scope("methods", "min_form").out
    assert facts(text)["part"] == "min_form: PURE credit"
    assert facts(text)["needs"] == "step scorer"
    assert "nearly all of it on the worst step" in text


def test_classes_of_ones_own_are_explained(here: Path, scope: Scope) -> None:
    plain = facts(scope("methods", "own:Plain").out)
    assert (plain["method"], plain["family"], plain["needs"]) == ("own:Plain", "own", "nothing")
    text = scope("methods", "own:Told").out
    told = facts(text)
    assert (told["part"], told["family"], told["changes"]) == ("own:Told", "token weight", "weighs tokens")
    assert told["status"] == "own: it is of no paper"
    assert "Weighs tokens." in text
    assert ">>>" not in text
    assert "share" in text


def test_methods_of_installed_packages_are_listed(here: Path, scope: Scope, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(here)
    info = here / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[scope_rlvr.methods]\ntheirs = own:Plain\n[scope_rlvr.parts]\ntold = own:Told\n"
    )
    importlib.invalidate_caches()
    listing = scope("methods").out
    assert {"theirs", "told"} <= set(names(listing))
    assert "methods, own: Methods of installed packages." in listing
    assert facts(scope("methods", "theirs").out)["method"] == "theirs: Plain"


# --- the catalogue ----------------------------------------------------------------------------------------------------


def test_the_catalogue_is_that_of_the_classes() -> None:
    assert catalogue.CATALOGUE.read_text(encoding="utf-8") == catalogue.as_json(catalogue.built_in())
    assert catalogue.read_catalogue().entries == catalogue.built_in().entries


def test_a_method_that_the_catalogue_lacks_is_listed_from_its_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = json.loads(catalogue.CATALOGUE.read_text(encoding="utf-8"))
    kept = [entry for entry in written["entries"] if entry["name"] != "luffy"]
    (tmp_path / "catalogue.json").write_text(json.dumps({**written, "entries": kept}))
    monkeypatch.setattr(catalogue, "CATALOGUE", tmp_path / "catalogue.json")
    assert catalogue.read_catalogue().entries == catalogue.built_in().entries


def test_every_family_is_a_folder_and_is_described() -> None:
    folders = {METHODS.place_of(name).split(".")[2] for name in METHODS}
    assert folders == set(METHOD_FAMILIES)
    assert all(text.endswith(".") and "\n" not in text for text in catalogue.built_in().families.values())


def test_a_listing_imports_no_method() -> None:
    code = (
        "import sys; sys.argv = ['scope', 'methods']; from scope_rlvr.cli.main import app; app(standalone_mode=False);"
        "print(*[name for name in sys.modules if name.startswith(('torch', 'scope_rlvr.methods.'))], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {*done.stderr.split()} == {"scope_rlvr.methods.registry", "scope_rlvr.methods.catalogue"}
