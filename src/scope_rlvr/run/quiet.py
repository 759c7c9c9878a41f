"""The libraries underneath print much that a user cannot use; their errors still come through."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable

from scope_rlvr.models.resolve import EMBEDDED
from scope_rlvr.run.config import RunConfig


def quiet_libraries(config: RunConfig) -> None:
    """Silence progress bars and notices; keep the network out where every model is embedded."""
    quiet_libraries_for([config.model.policy, config.teacher.model, config.scorer.model])


def quiet_libraries_for(names: Iterable[str]) -> None:
    """The same for models (and data) by their names."""
    from transformers.utils import logging as transformers_logging

    if all(name.startswith(EMBEDDED) for name in names):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    for category in (UserWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=category, module=r"(torch|trl|accelerate|transformers)\b.*")
