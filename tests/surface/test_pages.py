"""Every page for people: what it links to, and every file, module and test that it names, is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from scope_rlvr.methods.registry import METHODS, PARTS

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
PLACES = (ROOT, ROOT / "src" / "scope_rlvr")

LINK = re.compile(r"\]\(((?!https?://)[^)\s]+)\)")
FILE = re.compile(r"`((?:[\w.-]+/)+(?:[\w.-]+\.(?:py|toml|md|yaml|svg))?)`")
MODULE = re.compile(r"\bscope_rlvr((?:\.[a-z_]+)+)")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
FOLDERS = tuple(f"{folder.name}/" for place in PLACES for folder in place.iterdir() if folder.is_dir())

pytestmark = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    texts = [re.sub(r"\[(.*?)\]\(.*?\)", r"\1", title) for title in titles]
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in texts}


def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


def test_files_that_are_named_exist(page: Path) -> None:
    named = [name for name in FILE.findall(page.read_text(encoding="utf-8")) if name.startswith(FOLDERS)]
    gone = [name for name in named if not any((place / name).exists() for place in PLACES)]
    assert gone == []


def test_modules_that_are_named_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        pytest.skip("it names what was")
    named = {f"scope_rlvr{dotted}" for dotted in MODULE.findall(page.read_text(encoding="utf-8"))}
    for dotted in named - {METHODS.group, PARTS.group}:
        path = PLACES[1].joinpath(*dotted.split(".")[1:])
        assert path.is_dir() or path.with_suffix(".py").is_file() or path.parent.with_suffix(".py").is_file(), dotted


def test_tests_that_are_named_exist(page: Path) -> None:
    for file, name in TEST.findall(page.read_text(encoding="utf-8")):
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"
