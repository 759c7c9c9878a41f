"""Torch, imported when it is first used; and what imports much, imported quickly.

Importing torch takes seconds. Formulas and methods use it only inside functions, so that a program which names them, lists
them or reads their settings does not wait for it: ``from scope_rlvr.core.lazy import torch``. (Python 3.15 has lazy imports
of its own, PEP 810.)
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def quick_imports() -> Iterator[None]:
    """A block that imports transformers and what belongs to it, in little more than half of the time.

    These imports make a million objects that stay to the end. The garbage collector would look through them a thousand times
    on the way and once more at the end of the process; here it rests, and leaves them alone for good.
    """
    was_enabled, num_before = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > num_before + _MANY_MODULES:
            gc.freeze()
        if was_enabled:
            gc.enable()


_MANY_MODULES = 200
"""As many new modules are a library or two. Where fewer came, all was there already, and what is alive may well end."""
