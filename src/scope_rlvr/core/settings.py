"""Typed settings: every option is a small immutable value that checks itself.

An option that is a choice between rules is a union of classes told apart by ``kind``; in TOML and on the command
line a bare name stands for the rule with its defaults (``"shaped"`` for ``{kind = "shaped"}``).
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator


class Settings(BaseModel):
    """Base of all settings: immutable, unknown keys and numbers that are not finite refused, defaults checked too."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


def _bare_name_to_rule(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


BARE_NAME = BeforeValidator(_bare_name_to_rule)
"""Annotates a union of rules so that a bare name is accepted for one of them."""

BY_KIND = Discriminator("kind")
