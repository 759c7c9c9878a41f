"""The libraries underneath print much that a user cannot use; their errors still come through."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable

from scope_rlvr.models.gguf import SMOLLM2
from scope_rlvr.models.resolve import EMBEDDED


def quiet_libraries(names: Iterable[str]) -> None:
    """Silence progress bars and notices; keep the network out where all of ``names``, models and data, come with packages."""
    from transformers.utils import logging as transformers_logging

    if all(name.startswith(EMBEDDED) or name == SMOLLM2 for name in names):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    for category in (UserWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=category, module=r"(torch|trl|accelerate|transformers)\b.*")
