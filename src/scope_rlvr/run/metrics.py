"""The figures of a step under their names in ``metrics.jsonl``, and what a run adds up of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scope_rlvr.store.files import write_text

NAMES_OF_TRL = {
    "loss": "policy/loss",
    "grad_norm": "policy/grad_norm",
    "learning_rate": "policy/learning_rate",
    "entropy": "policy/entropy",
    "kl": "policy/kl",
    "clip_ratio/region_mean": "policy/clip_share",
    "step_time": "seconds/step",
}
"""TRL's own names of figures, and ours."""

_OURS = (
    "accuracy",
    "diversity/",
    "eval/",
    "gradient/",
    "groups/",
    "method/",
    "pass_at_group",
    "policy/",
    "rollouts/",
    "salvage/",
    "sampler/",
    "seconds/",
    "side/",
    "teacher/",
    "tokens/",
    "verdicts/",
)
_SALVAGE = ("failures", "attempted", "admitted")
_TEACHER = (
    "asked",
    "errors",
    "requests",
    "retries",
    "cache_hits",
    "request_seconds",
    "prompt_tokens",
    "reply_tokens",
    "money",
)
_TOKENS = ("sampled", "teacher", "continuation", "scored")


def step_metrics(logs: Mapping[str, float]) -> dict[str, float]:
    """What of a trainer's log is written down, under our names.

    >>> step_metrics({"loss": 0.5, "num_tokens": 900.0, "groups/mixed": 0.25})
    {'policy/loss': 0.5, 'groups/mixed': 0.25}
    """
    named = {NAMES_OF_TRL.get(name, name): value for name, value in logs.items()}
    return {name: value for name, value in named.items() if name.startswith(_OURS)}


class Totals(dict[str, float]):
    """Counts of the steps so far, by the names of the metrics. Every checkpoint keeps them."""

    _ADDED = (
        *(f"salvage/{name}" for name in _SALVAGE),
        *(f"teacher/{name}" for name in _TEACHER),
        *(f"tokens/{name}" for name in _TOKENS),
    )

    @classmethod
    def at(cls, checkpoint: Path | None) -> Totals:
        """Those of a checkpoint; empty for ``None``."""
        return cls() if checkpoint is None else cls(json.loads((checkpoint / _FILE).read_text(encoding="utf-8")))

    def save(self, checkpoint: Path) -> None:
        write_text(checkpoint / _FILE, json.dumps(self, sort_keys=True) + "\n")

    def add(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Take in the metrics of one more step; they are returned with the tokens of the run so far in their place."""
        for name in self._ADDED:
            self[name] = self.get(name, 0.0) + metrics.get(name, 0.0)
        return {**metrics, **{f"tokens/{name}": self[f"tokens/{name}"] for name in _TOKENS}}

    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` says of them."""
        return {
            "salvage": {name: int(self.get(f"salvage/{name}", 0)) for name in _SALVAGE},
            "teacher": {name: round(self.get(f"teacher/{name}", 0), 6) for name in _TEACHER},
            "tokens": {name: int(self.get(f"tokens/{name}", 0)) for name in _TOKENS},
        }


_FILE = "run.json"
