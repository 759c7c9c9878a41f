"""vLLM as far as TRL speaks to it: a copy of the model that is only what it was sent, sampled by our own sampler.

What is real in these tests is TRL's side: ``VLLMGeneration`` with its options, calls and weight updates. Log-probabilities
are told a little wrong on purpose, as another program's are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.generation import vllm_generation

from scope_rlvr.core.ports import Continuation, Sampling
from scope_rlvr.models.local import LocalModel, TokenizerCodec

ERROR = 0.5
"""How much likelier every other token is said to be than it is, as a logarithm."""


def told(logprobs: Sequence[float]) -> list[float | None]:
    """What vLLM says of true log-probabilities; of the third token of a response it knows nothing."""
    return [None if i == 2 else p + ERROR * (i % 2) for i, p in enumerate(logprobs)]


class Copy:
    """vLLM's own copy of the model."""

    def __init__(self, folder: str) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.forget()
        self.codec = TokenizerCodec.of(AutoTokenizer.from_pretrained(folder), self.model)
        self.calls: list[dict[str, Any]] = []
        self.updates: list[set[str]] = [set()]

    def forget(self) -> None:
        """The weights are gone until they are sent again."""
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.zero_()

    def load_weights(self, weights: Sequence[tuple[str, torch.Tensor]]) -> None:
        own = dict(self.model.named_parameters(remove_duplicate=False))
        with torch.no_grad():
            for name, weight in weights:
                own[name].copy_(weight)
                self.updates[-1].add(name)

    def write(self, prompts: Sequence[Sequence[int]], options: dict[str, Any]) -> list[Continuation]:
        self.calls.append({"num_prompts": len(prompts), **options})
        assert all(len(p) + options["max_tokens"] <= self.model.config.max_position_embeddings for p in prompts)
        codec = TokenizerCodec(self.codec.tokenizer)
        codec.end_ids = frozenset() if options.get("ignore_eos") else self.codec.end_ids
        sampling = Sampling(options["temperature"], options["top_p"], options["top_k"], options["min_p"])
        budgets = [options["max_tokens"]] * len(prompts)
        return LocalModel(self.model, codec).extend(prompts, sampling, max_tokens=budgets, seed=len(self.calls))


class LLM:
    """``vllm.LLM``."""

    made: LLM

    def __init__(self, **options: Any) -> None:
        type(self).made = self
        self.options = options
        self.copy = Copy(options["model"])
        runner = SimpleNamespace(model=self.copy)
        worker = SimpleNamespace(driver_worker=SimpleNamespace(model_runner=runner))
        self.llm_engine = SimpleNamespace(model_executor=worker)

    def generate(self, prompts: Sequence[dict[str, Any]], sampling_params: Any, use_tqdm: bool) -> list[Any]:
        ids = [prompt["prompt_token_ids"] for prompt in prompts]
        written = self.copy.write(ids, vars(sampling_params))
        return [
            SimpleNamespace(prompt_token_ids=prompt, outputs=[_output(continuation)])
            for prompt, continuation in zip(ids, written, strict=True)
        ]

    def reset_prefix_cache(self) -> None:
        self.copy.updates.append(set())

    def sleep(self, level: int) -> None:
        assert level == 2
        self.copy.forget()

    def wake_up(self, tags: list[str]) -> None:
        pass


def _output(continuation: Continuation) -> Any:
    logprobs = [
        {token: SimpleNamespace(rank=1, logprob=float("nan") if p is None else p)}
        for token, p in zip(continuation.token_ids, told(continuation.logprobs), strict=True)
    ]
    return SimpleNamespace(token_ids=continuation.token_ids, logprobs=logprobs)


class Client:
    """TRL's ``VLLMClient``: what a server is asked and sent."""

    folder: str
    made: Client

    def __init__(self, base_url: str, group_port: int, connection_timeout: float) -> None:
        type(self).made = self
        self.options = {"base_url": base_url, "group_port": group_port, "connection_timeout": connection_timeout}
        self.copy = Copy(self.folder)

    def init_communicator(self, device: Any) -> None:
        pass

    def get_server_info(self) -> dict[str, Any]:
        return {"model_config": {"logprobs_mode": "processed_logprobs"}}

    def update_named_params(self, metadata: Any, weights: Iterator[tuple[str, torch.Tensor]]) -> None:
        self.copy.load_weights(list(weights))

    def update_named_param(self, name: str, weight: torch.Tensor) -> None:
        self.copy.load_weights([(name, weight)])

    def reset_prefix_cache(self) -> None:
        self.copy.updates.append(set())

    def generate(self, prompts: list[list[int]], **options: Any) -> dict[str, Any]:
        written = self.copy.write(prompts, options)
        return {
            "prompt_ids": prompts,
            "completion_ids": [list(c.token_ids) for c in written],
            "logprobs": [[[p] for p in told(c.logprobs)] for c in written],
            "logprob_token_ids": [[[token] for token in c.token_ids] for c in written],
        }


@contextmanager
def installed(monkeypatch: pytest.MonkeyPatch, folder: Any) -> Iterator[None]:
    """TRL finds this vLLM, and its server holds the model of ``folder``."""
    Client.folder = str(folder)
    monkeypatch.setattr(vllm_generation, "is_vllm_available", lambda: True)
    monkeypatch.setattr(vllm_generation, "VLLMClient", Client)
    monkeypatch.setattr(vllm_generation, "LLM", LLM, raising=False)
    monkeypatch.setattr(vllm_generation, "SamplingParams", SimpleNamespace, raising=False)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: "cpu")
    # TRL tells vLLM by the environment that there is one process.
    with mock.patch.dict(os.environ):
        yield
