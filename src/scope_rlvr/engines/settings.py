"""Who trains: this process by Hugging Face TRL, or a server by the Tinker API."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from scope_rlvr.core.settings import BARE_NAME, BY_KIND, Settings
from scope_rlvr.engines.tinker.service import LossReduction


class TrlEngine(Settings):
    """Hugging Face TRL, in this process or in several."""

    kind: Literal["trl"] = "trl"


class TinkerEngine(Settings):
    """A server that speaks the Tinker API: hosted Tinker, SkyRL's or verl's. It trains LoRA adapters of a base model.

    ``model.policy`` still names a model that this machine can read: its tokenizer and its configuration are used here.
    """

    kind: Literal["tinker"] = "tinker"
    url: str | None = Field(None, description="address of the server; the hosted service without it")
    base_model: str | None = Field(
        None, description="what the server calls the base model; as `model.policy` says without it"
    )
    rank: int = Field(16, ge=1, le=1024, description="rank of the adapters")
    train_unembed: bool = Field(True, description="whether the output layer has adapters, too")
    reduction: LossReduction = Field(
        LossReduction.SUM,
        description="what the server makes of the losses of tokens: their sum, as the hosted service, or the mean over a sequence and "
        "then over sequences, as SkyRL's JAX backend (`sequence_mean`). The wrong one gives another gradient",
    )
    deadline: float = Field(600.0, gt=0, description="seconds to wait for any one answer of the server")


AnyEngine = Annotated[TrlEngine | TinkerEngine, BY_KIND, BARE_NAME]
"""Every engine by its ``kind``."""
