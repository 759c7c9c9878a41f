"""How a server is asked: how many questions at once, how long, how often again, how much in all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from scope_rlvr.core.settings import Settings

NO_CACHE = Path("none")
"""As a cache folder: keep nothing."""

_SECRET_NAME = re.compile(
    r"(?:.*_)?(?:api_?key|apikey|secret|secret_key|password|passwd|credentials?|authori[sz]ation|bearer|"
    r"(?:access|auth|api|bearer|hf|id|refresh|session)_token|private_key|access_key)|key|token|auth|cookie|x_api_key"
)
_SECRET_VALUE = re.compile(
    r"(?:Bearer |Basic |eyJ[\w-]{8,}\.[\w-]{8,}\.|(?:sk|pk|rk|hf|gsk|xai|nvapi|ghp|glpat)[-_][\w-]{12,}|AKIA\w{12,}|AIza[\w-]{20,})"
)


def require_no_secret(fields: Mapping[str, Any]) -> None:
    """Refuse fields of requests that look like a key: they would be kept in the configuration and in the cache.

    >>> require_no_secret({"top_k": 3, "max_tokens": 7, "stop_token_ids": [2]})
    >>> require_no_secret({"extra_headers": {"Api-Key": "x"}})
    Traceback (most recent call last):
    ...
    ValueError: the field 'Api-Key' looks like a key, and what is written here is kept in files; put the key into an environment variable and name that in server.api_key_env
    """
    for name, value in fields.items():
        # The value may be the key itself: it is not repeated.
        is_secret = _SECRET_NAME.fullmatch(name.lower().replace("-", "_"))
        if is_secret or (isinstance(value, str) and _SECRET_VALUE.match(value)):
            raise ValueError(
                f"the field {name!r} looks like a key, and what is written here is kept in files; put the key into an "
                "environment variable and name that in server.api_key_env"
            )
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, Mapping):
                require_no_secret(part)


class ServerSettings(Settings):
    """Patience, budget and memory of a client. Prices are in any currency, for a million tokens."""

    api_key_env: str | None = Field(
        None,
        description="name of the environment variable that holds the server's API key; the key itself is written nowhere",
    )
    cache: Path = Field(
        Path("runs/teacher-cache"), description="folder that keeps every reply by its question; `none` keeps nothing"
    )
    concurrency: int = Field(16, ge=1, description="questions under way at once")
    request_seconds: float = Field(60.0, gt=0, description="most seconds for one request, its last byte included")
    batch_seconds: float = Field(
        300.0,
        gt=0,
        description="most seconds for all questions of a phase of a step, waiting and asking again included",
    )
    retries: int = Field(3, ge=0, description="times that a request is repeated where that can help")
    backoff_seconds: float = Field(
        0.5, gt=0, description="wait before the first repetition; it doubles from one to the next"
    )
    pause_after: int = Field(
        10, ge=1, description="failed requests in a row after which the server is left alone for `pause_seconds`"
    )
    pause_seconds: float = Field(
        30.0, gt=0, description="seconds for which it is left alone; then a single request tries whether it is back"
    )
    max_tokens: int | None = Field(
        None, ge=1, description="tokens, of prompts and replies, after which the server is not asked again in this run"
    )
    max_money: float | None = Field(None, gt=0, description="the same for money, by the two prices")
    prompt_price: float = Field(0.0, ge=0, description="price of a million tokens of prompts")
    reply_price: float = Field(0.0, ge=0, description="price of a million tokens of replies")

    @field_validator("api_key_env")
    @classmethod
    def _is_a_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
            # What was given may be the key itself: it is not repeated.
            raise ValueError("give the name of an environment variable, in capital letters, and not the key itself")
        return name

    @model_validator(mode="after")
    def _money_has_prices(self) -> ServerSettings:
        if self.max_money is not None and not (self.prompt_price or self.reply_price):
            raise ValueError("max_money counts nothing without prices; give prompt_price and reply_price")
        return self

    @property
    def keeps_replies(self) -> bool:
        return self.cache != NO_CACHE
