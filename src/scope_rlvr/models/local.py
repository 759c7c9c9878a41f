"""A Hugging Face causal language model in this process, as a sampler: the policy, or a local teacher.

One loop samples everything (fresh rollouts, a teacher's step, continuations). It keeps rows that are still running
packed together, so that a batch costs what its running rows cost, and draws from a generator of its own, so that
equal seeds give equal tokens whatever else happened in the process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from scope_rlvr.core.errors import UserError, first_line
from scope_rlvr.core.ports import Continuation, Sampling
from scope_rlvr.core.processes import ONE_PROCESS, Processes
from scope_rlvr.core.prompts import PromptFormat, PromptSection
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.steps import PieceReader
from scope_rlvr.core.time_limit import time_limit
from scope_rlvr.formulas.readings import EmbeddingReducer, Entropy, HiddenReducer, LogitReducer
from scope_rlvr.models.decoding import Running, draw, warpers_of
from scope_rlvr.models.loading import require_all_weights
from scope_rlvr.models.precision import weights_in
from scope_rlvr.models.reading import hidden_states, projection_of, read_hidden, read_tokens

_STOP_TEXT_WINDOW = 16
"""Tokens looked back over for a stop text; no separator in use spans more."""

_ANY_PROBLEM = "1 + 1 = ?"
_TEMPLATE_SECONDS = 10.0
"""A chat template is a program that came with the model, and may not end."""

_BATCH_ROWS = 128
_BATCH_NUMBERS = 1 << 25
"""Hidden numbers that a model may give out in one forward pass (a row's share: tokens x width)."""


class TokenizerCodec:
    """A Hugging Face tokenizer as the :class:`~scope_rlvr.core.ports.TextCodec` that methods see.

    ``prompt`` says how a problem is put to the model; without it, as the text that it is. Raises ``ValueError`` for a
    tokenizer without end-of-sequence token, and without the chat template that ``prompt`` asks for.
    """

    @classmethod
    def of(
        cls, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, prompt: PromptSection | None = None
    ) -> TokenizerCodec:
        """The codec of a model's tokenizer, with the end-of-sequence ids that only the model's generation config names."""
        ids = getattr(model.generation_config, "eos_token_id", None)
        return cls(tokenizer, [] if ids is None else [ids] if isinstance(ids, int) else list(ids), prompt)

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, end_ids: Sequence[int] = (), prompt: PromptSection | None = None
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise ValueError(
                f"the tokenizer {tokenizer.name_or_path!r} names no end-of-sequence token; set tokenizer.eos_token"
            )
        self.tokenizer = tokenizer
        self.end_id: int = tokenizer.eos_token_id
        self.end_ids = frozenset([tokenizer.eos_token_id, *end_ids])
        self._prompt = prompt or PromptSection(format=PromptFormat.PLAIN)
        self._is_chat = self._prompt.is_chat(tokenizer)
        self._reader = PieceReader(
            lambda ids: tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )

    @property
    def vocabulary_size(self) -> int:
        return len(self.tokenizer)

    def pieces(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        return self._reader.pieces(token_ids)

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def encode_prompt(self, text: str, written: str = "") -> tuple[int, ...]:
        """A problem as the model is shown it; ``written`` is a response's beginning, read as one text with it."""
        if not self._is_chat:
            return tuple(self.tokenizer(self._prompt.text(text) + written)["input_ids"])
        return self.encode(f"{self._conversation(text)}{written}")

    def _conversation(self, text: str) -> str:
        """The chat template around a problem; :class:`UserError` where the template, which is the model's, cannot do it."""
        try:
            with time_limit(_TEMPLATE_SECONDS):
                said = self.tokenizer.apply_chat_template(
                    self._prompt.messages(text), add_generation_prompt=True, tokenize=False
                )
        except Exception as error:  # a template raises what it likes
            raise UserError(
                f"the chat template of {self.tokenizer.name_or_path} fails: {type(error).__name__}: {first_line(error)}; mend "
                "it, or set prompt.format = 'plain'"
            ) from error
        if text.strip() not in said:
            raise UserError(
                f"the chat template of {self.tokenizer.name_or_path} leaves the problem out, or changes it: {text.strip()!r:.60} "
                f"becomes {said!r:.200}; mend it, or set prompt.format = 'plain'"
            )
        return str(said)

    def prompt_as_read(self, text: str) -> str:
        """A problem as the model is shown it, as text, with template and special tokens."""
        return str(self.tokenizer.decode(list(self.encode_prompt(text)), skip_special_tokens=False))


def same_vocabulary(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether token ids mean the same to both."""
    return one.get_vocab() == other.get_vocab()


def batches_of_like_length(lengths: Sequence[int], numbers_per_token: int) -> Iterator[list[int]]:
    """Indices in batches of like length, so that little is computed on padding, and none outgrows memory."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        rows = len(batch) + 1
        if batch and (rows > _BATCH_ROWS or rows * lengths[index] * numbers_per_token > _BATCH_NUMBERS):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


class LocalModel:
    """Samples continuations with log-probabilities from a causal language model in this process."""

    @classmethod
    def load(cls, source: str | Path, prompt: PromptSection | None = None, **kwargs: Any) -> LocalModel:
        """A model with its own tokenizer; ``prompt`` is its codec's, ``kwargs`` go to
        ``AutoModelForCausalLM.from_pretrained``.

        Raises ``ValueError`` for weights that are not all there, are not all used or are not all numbers, and for a tokenizer
        with more tokens than the model knows, besides what transformers raises.
        """
        model, info = AutoModelForCausalLM.from_pretrained(
            source, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **kwargs
        )
        require_all_weights(model, info)
        # With tied embeddings nothing is missing in a classifier, whose hidden states were made for something else.
        for architecture in model.config.architectures or []:
            if "Classification" in architecture:
                raise ValueError(f"it is a classifier ({architecture}); name a folder that holds such a model")
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        known = model.get_input_embeddings().num_embeddings
        if max(tokenizer.get_vocab().values()) >= known:
            raise ValueError(
                f"its tokenizer has ids from {known} on, which the model does not know; name a whole model"
            )
        codec = TokenizerCodec.of(tokenizer, model, prompt)
        # What is wrong with a tokenizer or a template only shows when they are used.
        codec.encode_prompt(_ANY_PROBLEM)
        return cls(model, codec)

    def __init__(
        self,
        model: PreTrainedModel,
        codec: TokenizerCodec,
        batch_rows: int | None = None,
        processes: Processes = ONE_PROCESS,
        dtype: torch.dtype | None = None,
    ) -> None:
        """``batch_rows`` rows are sampled at a time; another number gives other draws. Without it, all of a call's are, or
        of several ``processes`` equal parts. Which process samples a batch makes no difference. Sampling holds the weights
        in ``dtype``; as they are, without it."""
        self.model = model
        self.codec = codec
        self.batch_rows = batch_rows
        self.processes = processes
        self.dtype = dtype

    def extend(
        self,
        prefixes: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        max_tokens: Sequence[int],
        seed: int,
        num_written: Sequence[int] | None = None,
    ) -> list[Continuation]:
        """Continue each prefix by at most ``max_tokens[i]`` tokens; ``num_written[i]`` of it are the response's, for
        ``sampling.control``.

        Log-probabilities are those of the distribution at ``sampling.temperature`` before anything was cut off by
        top-p, top-k or min-p. A prefix may not be empty; a budget below 1 gives an empty continuation.
        """
        rows = [i for i, budget in enumerate(max_tokens) if budget > 0]
        size = self.batch_rows or max(1, -(-len(rows) // self.processes.count))
        before = [0] * len(prefixes) if num_written is None else num_written

        def written(starts: Sequence[int]) -> list[list[Continuation]]:
            with evaluating(self.model), weights_in(self.model, self.dtype):
                return [
                    self._write(
                        [prefixes[row] for row in rows[start : start + size]],
                        sampling,
                        [max_tokens[row] for row in rows[start : start + size]],
                        derive_seed(seed, "rows", start) if start else seed,
                        [before[row] for row in rows[start : start + size]],
                    )
                    for start in starts
                ]

        batches = self.processes.spread("sampling", range(0, len(rows), size), written)
        found = dict(zip(rows, (c for batch in batches for c in batch), strict=True))
        return [found.get(i, Continuation((), ())) for i in range(len(prefixes))]

    def entropies(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], temperature: float
    ) -> list[tuple[float, ...]]:
        """Exact entropy in nats, ``−Σ p log p`` at ``temperature``, before each token of each response."""

        def read(part: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, ...]]:
            prompts, responses = [prompt for prompt, _ in part], [response for _, response in part]
            return [tuple(kept["entropy"].tolist()) for kept in self.read(prompts, responses, [Entropy()], temperature)]

        return self.processes.spread("reading entropies", list(zip(prompts, responses, strict=True)), read)

    @torch.no_grad()
    def read(
        self,
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[int]],
        reducers: Sequence[LogitReducer | HiddenReducer],
        temperature: float = 1.0,
    ) -> list[dict[str, Tensor]]:
        """What each reducer keeps of each response, by its name, on the CPU; all reducers share one forward pass.

        Rows of similar length share a batch. Logits are divided by ``temperature`` and exist for a few tokens at a time.
        """
        lengths = [len(prompt) + len(response) for prompt, response in zip(prompts, responses, strict=True)]
        of_logits = [reducer for reducer in reducers if isinstance(reducer, LogitReducer)]
        of_hidden = [reducer for reducer in reducers if isinstance(reducer, HiddenReducer)]
        project, found = projection_of(self.model), dict[int, dict[str, Tensor]]()
        with evaluating(self.model):
            for batch in batches_of_like_length(lengths, self.model.config.get_text_config().hidden_size):
                width = max(len(responses[i]) for i in batch)
                input_ids, mask = self._left_padded([(*prompts[i], *responses[i]) for i in batch])
                states_BLD = hidden_states(self.model, input_ids, mask)
                # A token was drawn from what the model said one position earlier.
                before_BTD, ids_BT = states_BLD[:, -width - 1 : -1], input_ids[:, input_ids.size(1) - width :]
                kept = read_tokens(before_BTD, ids_BT, project, of_logits, temperature)
                for row, i in enumerate(batch):
                    start = width - len(responses[i])
                    own = _on_cpu({r.name: _of_response(r, kept[r.name][row, start:]) for r in of_logits})
                    found[i] = own | _on_cpu(read_hidden(states_BLD[row], len(responses[i]), of_hidden))
        return [found[i] for i in range(len(lengths))]

    @torch.inference_mode()
    def _write(
        self,
        prefixes: Sequence[Sequence[int]],
        sampling: Sampling,
        max_tokens: Sequence[int],
        seed: int,
        before: Sequence[int],
    ) -> list[Continuation]:
        """Sample one batch, all of it at a time; of each prefix ``before`` tokens are the response's."""
        ids: list[list[int]] = [[] for _ in prefixes]
        logprobs: list[list[float]] = [[] for _ in prefixes]
        ends = ["" for _ in prefixes]
        generator, warpers = torch.Generator(self.model.device).manual_seed(seed), warpers_of(sampling)
        running, logits_BV = self._read_prefixes(prefixes)
        while True:
            num_written = [before[row] + len(ids[row]) for row in running.rows]
            tokens, token_logprobs = draw(logits_BV.float(), sampling, warpers, generator, num_written)
            for row, token, logprob in zip(running.rows, tokens.tolist(), token_logprobs.tolist(), strict=True):
                ids[row].append(token)
                logprobs[row].append(logprob)
                ends[row] = self._end_of(ids[row], sampling, max_tokens[row])
            kept = [i for i, row in enumerate(running.rows) if not ends[row]]
            if not kept:
                break
            if len(kept) < len(running.rows):
                running.keep(kept)
                tokens = tokens[kept]
            running.add_token()
            logits_BV = self._next_logits(tokens[:, None], running, running.positions_B1)
        return [
            Continuation(tuple(i), tuple(p), finished=end == "finished", stopped=end == "stopped")
            for i, p, end in zip(ids, logprobs, ends, strict=True)
        ]

    def _read_prefixes(self, prefixes: Sequence[Sequence[int]]) -> tuple[Running, Tensor]:
        """The rows before their first token, and its logits. Rows with one prefix, as those of a group, are read once."""
        rows_of: dict[tuple[int, ...], list[int]] = {}
        for row, prefix in enumerate(prefixes):
            rows_of.setdefault(tuple(prefix), []).append(row)
        input_ids, mask = self._left_padded(list(rows_of))
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        running = Running(list(range(len(rows_of))), mask, positions[:, -1:], DynamicCache(config=self.model.config))
        logits_BV = self._next_logits(input_ids, running, positions)
        if len(rows_of) < len(prefixes):
            place = {row: i for i, rows in enumerate(rows_of.values()) for row in rows}
            of_row = [place[row] for row in range(len(prefixes))]
            running.keep(of_row)
            running.rows, logits_BV = list(range(len(prefixes))), logits_BV[of_row]
        return running, logits_BV

    def _next_logits(self, input_ids: Tensor, running: Running, position_ids: Tensor) -> Tensor:
        """The logits after the last of the input ids, ``(B, V)``; the cache then holds these ids, too."""
        found = self.model(
            input_ids=input_ids,
            attention_mask=running.attention_mask,
            position_ids=position_ids,
            past_key_values=running.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return found.logits[:, -1]

    def _end_of(self, ids: list[int], sampling: Sampling, budget: int) -> str:
        """Why a row ends here: "finished", "stopped", "full"; empty while it goes on."""
        if ids[-1] in self.codec.end_ids:
            return "finished"
        if sampling.stop_texts:
            tail = "".join(self.codec.pieces(ids[-_STOP_TEXT_WINDOW:]))
            if any(stop in tail for stop in sampling.stop_texts):
                return "stopped"
        return "full" if len(ids) >= budget else ""

    def _left_padded(self, prefixes: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Input ids and attention mask, ``(B, longest prefix)``."""
        width = max(len(prefix) for prefix in prefixes)
        pad = self.codec.tokenizer.pad_token_id
        pad = self.codec.end_id if pad is None else pad
        input_ids = [[pad] * (width - len(prefix)) + list(prefix) for prefix in prefixes]
        mask = [[0] * (width - len(prefix)) + [1] * len(prefix) for prefix in prefixes]
        return torch.tensor(input_ids, device=self.model.device), torch.tensor(mask, device=self.model.device)


def _of_response(reducer: LogitReducer, kept_T: Tensor) -> Tensor:
    return reducer.of_response(kept_T) if isinstance(reducer, EmbeddingReducer) else kept_T


def _on_cpu(kept: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu() for name, tensor in kept.items()}


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """No dropout inside; the mode comes back as it was."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
