"""Torch, imported when it is first used.

Importing torch takes seconds. Formulas and methods use it only inside functions, so that a program which names them, lists
them or reads their settings does not wait for it: ``from scope_rlvr.core.lazy import torch``. (Python 3.15 has lazy imports
of its own, PEP 810.)
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any


class LazyModule(ModuleType):
    """Stands for a module until one of its names is used; ``sys.modules`` does not know it.

    >>> LazyModule("math").sqrt(16.0)
    4.0
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


if TYPE_CHECKING:
    import torch as torch
else:
    torch = LazyModule("torch")
