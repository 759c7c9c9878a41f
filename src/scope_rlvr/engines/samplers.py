"""Who samples the rollouts of training: the training process itself, or vLLM by way of TRL.

vLLM computes a little differently from the trainer, so that its samples are not quite the policy's own:
:func:`~scope_rlvr.formulas.losses.sampler_weights` makes up for that.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from scope_rlvr.core.settings import BARE_NAME, BY_KIND, Settings
from scope_rlvr.formulas.losses import SamplerCorrection


class LocalSampler(Settings):
    """The model that is trained, in its own process."""

    kind: Literal["local"] = "local"

    def in_trl(self) -> dict[str, Any]:
        """Nothing that TRL would have to know."""
        return {}


class _Vllm(Settings):
    """What both ways to use vLLM share."""

    correction: SamplerCorrection = Field(
        SamplerCorrection.SEQUENCE_MASK,
        description="what the ratio `r` of the trainer's to vLLM's probability does to the losses of sampled tokens: nothing, or "
        "they are multiplied by a token's (`token_...`) or a response's (`sequence_...`), which is kept within the bounds "
        "(`..._truncate`) or made 0 outside of them (`..._mask`)",
    )
    least_ratio: float = Field(0.0, ge=0, description="lower bound of `r`")
    most_ratio: float = Field(3.0, gt=0, description="upper bound of `r`")

    @model_validator(mode="after")
    def _has_room_between_its_bounds(self) -> Self:
        if self.least_ratio >= self.most_ratio:
            raise ValueError(f"least_ratio = {self.least_ratio:g} is not below most_ratio = {self.most_ratio:g}")
        return self

    def in_trl(self) -> dict[str, Any]:
        """The same as options of TRL's ``GRPOConfig``."""
        is_on = self.correction is not SamplerCorrection.NONE
        named = {"vllm_importance_sampling_mode": self.correction.value} if is_on else {}
        return named | {
            "use_vllm": True,
            "vllm_importance_sampling_correction": is_on,
            "vllm_importance_sampling_clip_min": self.least_ratio or None,
            "vllm_importance_sampling_clip_max": self.most_ratio,
        }


class VllmSampler(_Vllm):
    """vLLM on the cards of the training, beside it (TRL's ``colocate``)."""

    kind: Literal["vllm"] = "vllm"
    memory_share: float = Field(0.3, gt=0, lt=1, description="share of a card's memory that vLLM takes")
    tensor_parallel: int = Field(1, ge=1, description="cards that share one copy of the model; divides the processes")
    max_tokens: int | None = Field(
        None, ge=2, description="longest prompt and response together; what the model can read by default"
    )
    sleep: bool = Field(
        False, description="give vLLM's memory back while training; every call then sends it all weights again"
    )

    def in_trl(self) -> dict[str, Any]:
        return super().in_trl() | {
            "vllm_mode": "colocate",
            "vllm_gpu_memory_utilization": self.memory_share,
            "vllm_tensor_parallel_size": self.tensor_parallel,
            "vllm_max_model_length": self.max_tokens,
            "vllm_enable_sleep_mode": self.sleep,
        }


class VllmServer(_Vllm):
    """vLLM in a server of its own, on other cards (TRL's ``server``)."""

    kind: Literal["vllm_server"] = "vllm_server"
    url: str = Field("http://localhost:8000", description="address of the server, without `/v1`")
    start_seconds: float = Field(240.0, gt=0, description="how long to wait until the server is there")
    weights_port: int = Field(51216, ge=1, le=65535, description="port on which weights are sent to the server")

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")) or url.rstrip("/").endswith("/v1"):
            raise ValueError(f"{url!r} is not the address of a server, such as http://localhost:8000, without /v1")
        return url.rstrip("/")

    def in_trl(self) -> dict[str, Any]:
        return super().in_trl() | {
            "vllm_mode": "server",
            "vllm_server_base_url": self.url,
            "vllm_server_timeout": self.start_seconds,
            "vllm_group_port": self.weights_port,
        }


AnySampler = Annotated[LocalSampler | VllmSampler | VllmServer, BARE_NAME, BY_KIND]
