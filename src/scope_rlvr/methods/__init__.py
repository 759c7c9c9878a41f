"""The methods, one file each, all on the same trainer."""

from typing import Annotated

from pydantic import Discriminator

from scope_rlvr.methods.base import Method
from scope_rlvr.methods.grpo import Grpo
from scope_rlvr.methods.scope import Scope

AnyMethod = Annotated[Grpo | Scope, Discriminator("name")]
"""A method as it stands in a run's configuration, told apart by ``name``."""

METHODS: dict[str, type[Method]] = {"grpo": Grpo, "scope": Scope}

__all__ = ["METHODS", "AnyMethod", "Grpo", "Method", "Scope"]
