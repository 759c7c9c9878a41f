"""The packages that a run depends on, and the releases that are supported."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec

from packaging.requirements import Requirement

from scope_rlvr.core.findings import Finding, error, ok, warning

_DISTRIBUTION = "scope-rlvr"


def is_installed(module: str) -> bool:
    """Whether an optional package is there, without importing it."""
    return find_spec(module) is not None


def package_findings() -> Iterator[Finding]:
    """Every package that this one asks for: its release, and whether it lies in the supported range."""
    try:
        asked = [Requirement(text) for text in requires(_DISTRIBUTION) or ()]
    except PackageNotFoundError:
        yield warning("packages", f"{_DISTRIBUTION} is not installed", "install it: pip install -e . in its folder")
        return
    in_range = []
    for requirement in asked:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        finding = _finding(requirement)
        if finding is None:
            in_range.append(f"{requirement.name} {version(requirement.name)}")
        else:
            yield finding
    yield ok("packages", ", ".join(in_range))


def _finding(requirement: Requirement) -> Finding | None:
    """What is wrong with an installed package, ``None`` for nothing."""
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return error("packages", f"{requirement.name} is not installed", f"pip install '{requirement}'")
    if requirement.specifier.contains(installed, prereleases=True):
        return None
    return warning(
        "packages",
        f"{requirement.name} {installed} is outside the supported range {requirement.specifier}",
        f"pip install '{requirement}'",
    )
