"""What this machine has, and which configurations fit on it. Nothing is loaded, downloaded or written."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from scope_rlvr.check.memory import GIB, memory_fit, shape_of
from scope_rlvr.core.errors import UserError
from scope_rlvr.core.findings import Finding, error, ok, warning
from scope_rlvr.run.config import RunConfig, load_config
from scope_rlvr.store.packages import package_findings

RECIPES = Path("recipes")
_PYTHON = (3, 11)


def doctor_findings(configs: Sequence[Path] = ()) -> Iterator[Finding]:
    """Versions, devices and memory of this machine; then, for each configuration, whether it fits.

    Without ``configs``: the built-in one, and those in the folder ``recipes`` where there is one here.
    """
    yield _python()
    yield from package_findings()
    yield from _devices()
    free = shutil.disk_usage(Path.cwd()).free
    yield ok("disk", f"{free / GIB:.1f} GiB are free in {Path.cwd()}")
    for name, config in _configurations(configs or sorted(RECIPES.glob("*.toml"))):
        yield config if isinstance(config, Finding) else _fits(name, config)


def _python() -> Finding:
    said = f"Python {platform.python_version()} on {platform.platform()}"
    if sys.version_info[:2] < _PYTHON:
        return error("python", said, f"take Python {'.'.join(map(str, _PYTHON))} or newer")
    return ok("python", said)


def _devices() -> Iterator[Finding]:
    """Processors, memory, and every graphics processor that the tensor library sees."""
    import psutil
    import torch

    memory = psutil.virtual_memory()
    yield ok(
        "processors",
        f"{os.cpu_count()} cores, {memory.total / GIB:.1f} GiB memory, {memory.available / GIB:.1f} GiB available",
    )
    if not torch.cuda.is_available():
        more = "; Apple's is not used by scope" if torch.backends.mps.is_available() else ""
        yield ok(
            "graphics", f"no graphics processor that torch {torch.__version__} can use{more}: runs use the processors"
        )
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        used = (
            "" if index == 0 else "; scope train uses the first one alone, unless it is started in a process for each"
        )
        yield ok("graphics", f"{properties.name}: {free / GIB:.1f} of {total / GIB:.1f} GiB are free{used}")


def _configurations(files: Sequence[Path]) -> Iterator[tuple[str, RunConfig | Finding]]:
    yield "the built-in configuration", RunConfig()
    for file in files:
        try:
            yield str(file), load_config(file)
        except UserError as found:
            yield str(file), error("recipe", str(found))


def _fits(name: str, config: RunConfig) -> Finding:
    """Whether the memory that a run needs by arithmetic is there."""
    try:
        shape = shape_of(config.model.policy, "model.policy")
        if shape is None:
            return warning(
                "recipe",
                f"{name}: the shape of {config.model.policy} is not known here",
                "download the model and name its folder; scope check then measures",
            )
        fit = memory_fit(config, shape)
    except UserError as found:
        return error("recipe", f"{name}: {found}")
    needed = fit.needed
    said = f"{name}: about {needed.total / GIB:.1f} of {fit.available / GIB:.1f} GiB ({', '.join(needed.lines()) or 'little'})"
    if not fit.fits:
        return warning(
            "recipe", f"{said}: does not fit here", "take a larger machine, or less at a time; see docs/recipes.md"
        )
    slow = (
        "; without a graphics processor it would take very long" if fit.device == "cpu" and needed.weights > GIB else ""
    )
    return ok("recipe", f"{said}: fits{slow}")
