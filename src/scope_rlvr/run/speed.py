"""What a configuration leaves to be measured (``auto``), measured on this machine before the run and then fixed.

A small copy of the policy (its embeddings, its output layer and three of its layers, with random weights) samples and trains some
tokens in each way. That takes about a second of an idle core, so ways that differ by less than :data:`MARGIN` are not told apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scope_rlvr.core.errors import UserError, first_line
from scope_rlvr.core.lazy import quick_imports, torch
from scope_rlvr.core.processes import usable_cores
from scope_rlvr.models.precision import Precision, has_bfloat16, weights_in
from scope_rlvr.models.resolve import resolve_model
from scope_rlvr.run.config import RunConfig
from scope_rlvr.run.sections import AUTO

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MARGIN = 1.1
"""A way that is not the plain one (float32, one thread) has to be so many times as fast to be chosen."""

_LAYERS = 3
_ROWS, _PROMPT, _SAMPLED = 8, 16, 4
_ROUNDS, _SECONDS = 3, 1.0
"""All ways take turns so often at most, and no further round begins after so many seconds."""


def settled(config: RunConfig) -> tuple[RunConfig, list[str]]:
    """The configuration with every ``auto`` replaced by what was measured, and a line on each for the plan.

    Raises :class:`UserError` where the policy's configuration cannot be read.
    """
    wants_threads, wants_dtype = config.run.num_threads == AUTO, config.model.dtype is Precision.AUTO
    if not wants_threads and not wants_dtype:
        return config, []
    lines = []
    trial = _Trial.of(config)
    if wants_threads:
        threads, said = _chosen("thread(s)", _thread_counts(), trial.seconds_with_threads)
        config = config.model_copy(update={"run": config.run.model_copy(update={"num_threads": int(threads)})})
        lines.append(f"threads   {said}")
    torch.set_num_threads(config.run.threads)
    if wants_dtype:
        dtype, said = _dtype(trial)
        config = config.model_copy(update={"model": config.model.model_copy(update={"dtype": dtype})})
        lines.append(f"dtype     {said}")
    return config, lines


def _thread_counts() -> list[str]:
    """1, 2, 4 ... and all cores."""
    cores = usable_cores()
    counts = {2**i for i in range(cores.bit_length()) if 2**i <= cores}
    return [str(count) for count in sorted(counts | {cores})]


def _dtype(trial: _Trial) -> tuple[Precision, str]:
    if not has_bfloat16():
        return Precision.FLOAT32, "float32: this machine has no instructions for bfloat16"
    if torch.cuda.is_available():
        return Precision.BFLOAT16, "bfloat16, on a GPU"
    name, said = _chosen("", [Precision.FLOAT32, Precision.BFLOAT16], trial.seconds_in)
    return Precision(name), said


def _chosen(unit: str, ways: Sequence[str], seconds_of: Callable[[str], float]) -> tuple[str, str]:
    """The fastest way, or the first where no other is faster by the margin, and what to say of it."""
    started, rounds = time.perf_counter(), list[dict[str, float]]()
    while not rounds or (len(rounds) < _ROUNDS and time.perf_counter() - started < _SECONDS):
        rounds.append({way: seconds_of(way) for way in ways})
    seconds = {way: min(found[way] for found in rounds) for way in ways}
    plain, fastest = ways[0], min(ways, key=seconds.__getitem__)
    chosen = fastest if seconds[plain] > MARGIN * seconds[fastest] else plain
    tried = ", ".join(f"{way} {1000 * seconds[way]:.0f} ms" for way in ways)
    return chosen, f"{chosen} {unit}".rstrip() + f": the same small work took {tried}"


@dataclass
class _Trial:
    """The small copy of the policy."""

    model: PreTrainedModel

    @classmethod
    def of(cls, config: RunConfig) -> _Trial:
        with quick_imports():
            from transformers import AutoConfig, AutoModelForCausalLM

        name = config.model.policy
        try:
            shape = AutoConfig.from_pretrained(resolve_model(name, "model.policy"), trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise UserError(f"model.policy = {name!r} cannot be read: {first_line(error)}") from error
        text = shape.get_text_config()
        text.num_hidden_layers = min(_LAYERS, text.num_hidden_layers)
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[: text.num_hidden_layers]
        return cls(AutoModelForCausalLM.from_config(shape, dtype=torch.float32))

    def seconds_with_threads(self, count: str) -> float:
        torch.set_num_threads(int(count))
        return self.seconds_in(Precision.FLOAT32)

    def seconds_in(self, dtype: str) -> float:
        """The time to sample and to train a few hundred tokens."""
        started = time.perf_counter()
        self._sample(Precision(dtype))
        self._train(Precision(dtype))
        return time.perf_counter() - started

    def _sample(self, dtype: Precision) -> None:
        ids = torch.zeros(_ROWS, _PROMPT, dtype=torch.long)
        cache: Any = None
        with weights_in(self.model, dtype.dtype), torch.inference_mode():
            for _ in range(_SAMPLED):
                found = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
                ids, cache = found.logits[:, -1].argmax(-1, keepdim=True), found.past_key_values

    def _train(self, dtype: Precision) -> None:
        is_half = dtype is Precision.BFLOAT16
        ids = torch.zeros(_ROWS // 4, _PROMPT, dtype=torch.long)
        with torch.autocast("cpu", torch.bfloat16) if is_half else nullcontext():
            logits = self.model(input_ids=ids, use_cache=False).logits
        logits.float().logsumexp(-1).mean().backward()
        self.model.zero_grad()
