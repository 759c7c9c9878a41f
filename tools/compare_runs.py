"""Whether runs came out the same, byte for byte: their weights, and their rollouts but for what is new in the format.

    python tools/compare_runs.py FOLDER OTHER      every run folder of the first with the one of the same name in the second

Exit code 1 where anything differs; for weights that differ, the largest difference is named.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from scope_rlvr.store.rollouts import Rollouts


def main() -> int:
    """The command line."""
    first, second = Path(sys.argv[1]), Path(sys.argv[2])
    names = sorted(folder.name for folder in first.iterdir() if (folder / "summary.json").is_file())
    found = {name: list(_differences(first / name, second / name)) for name in names}
    for name, differences in found.items():
        print(f"{name}: {'; '.join(differences) or 'equal'}")
    return int(not names or any(found.values()))


def _differences(one: Path, other: Path) -> Iterator[str]:
    if not (other / "summary.json").is_file():
        yield f"there is no finished run in {other}"
        return
    weights, others = load_file(one / "model/model.safetensors"), load_file(other / "model/model.safetensors")
    if (one / "model/model.safetensors").read_bytes() != (other / "model/model.safetensors").read_bytes():
        largest = max(float((tensor - others[name]).abs().max()) for name, tensor in weights.items())
        yield f"weights differ by at most {largest:.3g}"
    rows, other_rows = list(Rollouts.of(one)), list(Rollouts.of(other))
    if len(rows) != len(other_rows):
        yield f"{len(rows)} and {len(other_rows)} rollout groups"
    different = [i for i, (a, b) in enumerate(zip(rows, other_rows, strict=False)) if not _same(a, b)]
    if different:
        yield f"{len(different)} of {len(rows)} rollout groups differ, the first is number {different[0]}"


def _same(a: Any, b: Any) -> bool:
    """Equal in everything that both have: a newer format may have more keys."""
    if isinstance(a, dict) and isinstance(b, dict):
        return all(_same(a[key], b[key]) for key in a.keys() & b.keys())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


if __name__ == "__main__":
    sys.exit(main())
