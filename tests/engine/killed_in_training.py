"""The command ``scope`` in one of several processes, of which the last is killed in the third step."""

from __future__ import annotations

import os
import signal
from typing import Any

from scope_rlvr.cli.main import main
from scope_rlvr.core.lazy import quick_imports

with quick_imports():
    from scope_rlvr.engines.trl.trainer import ScopeTrainer

_compute_loss = ScopeTrainer._compute_loss


def _killed(self: ScopeTrainer, model: Any, inputs: Any) -> Any:
    if self.processes.index == self.processes.count - 1 and self.state.global_step == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return _compute_loss(self, model, inputs)


if __name__ == "__main__":
    ScopeTrainer._compute_loss = _killed
    main()
