"""A teacher that is a causal language model in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scope_rlvr.core.ports import Continuation, Sampling, TeacherReply, TeacherRequest
from scope_rlvr.models.local import LocalModel, TokenizerCodec, same_vocabulary
from scope_rlvr.teachers.prompts import shown_problem
from scope_rlvr.teachers.settings import PLAIN_PROMPT


class LocalTeacher:
    """Continues the policy's prefix with a local model: by ids where the vocabularies agree, by text elsewhere.

    ``prompt`` is what the teacher is shown in the place of the problem; ``{problem}``, ``{reference}`` and
    ``{rejected_step}`` stand for what the request holds of them. The model's own codec puts that into its prompt, chat
    template included; the policy's prefix is the beginning of its answer. The model may be the policy itself: it then
    writes with the weights of the moment.
    """

    @classmethod
    def load(
        cls, folder: str | Path, policy_codec: TokenizerCodec, sampling: Sampling | None = None, **kwargs: Any
    ) -> LocalTeacher:
        """Load a teacher with its own tokenizer; ``kwargs`` go to ``AutoModelForCausalLM.from_pretrained``."""
        return cls(LocalModel.load(folder, **kwargs), policy_codec, sampling)

    def __init__(
        self,
        model: LocalModel,
        policy_codec: TokenizerCodec,
        sampling: Sampling | None = None,
        prompt: str = PLAIN_PROMPT,
    ) -> None:
        self.model = model
        self.prompt = prompt
        self.sampling = Sampling(temperature=0.0) if sampling is None else sampling
        self.shares_vocabulary = same_vocabulary(model.codec.tokenizer, policy_codec.tokenizer)
        num_embedded = model.model.get_input_embeddings().num_embeddings
        if len(model.codec.tokenizer) > num_embedded:
            raise ValueError(
                f"the teacher's tokenizer has {len(model.codec.tokenizer)} tokens and its model embeds {num_embedded}: "
                "give the teacher its own tokenizer"
            )

    def continue_from(self, requests: Sequence[TeacherRequest], *, seed: int) -> list[TeacherReply]:
        """One reply for each request; requests with equal stop texts share a batch."""
        replies: dict[int, TeacherReply] = {}
        for stop_text in {request.stop_text for request in requests}:
            batch = [i for i, request in enumerate(requests) if request.stop_text == stop_text]
            sampling = Sampling(
                self.sampling.temperature,
                self.sampling.top_p,
                self.sampling.top_k,
                self.sampling.min_p,
                stop_texts=() if stop_text is None else (stop_text,),
            )
            continuations = self.model.extend(
                [self._prefix(requests[i]) for i in batch],
                sampling,
                max_tokens=[requests[i].max_tokens for i in batch],
                seed=seed,
            )
            replies |= {i: self._reply(c) for i, c in zip(batch, continuations, strict=True)}
        return [replies[i] for i in range(len(requests))]

    def _prefix(self, request: TeacherRequest) -> tuple[int, ...]:
        shown = shown_problem(self.prompt, request)
        if self.shares_vocabulary:
            is_plain = shown == request.problem.prompt
            prompt_ids = request.prompt_ids if is_plain else self.model.codec.encode_prompt(shown)
            return (*prompt_ids, *request.prefix_ids)
        return self.model.codec.encode_prompt(shown, request.prefix_text)

    def _reply(self, continuation: Continuation) -> TeacherReply:
        if self.shares_vocabulary:
            return TeacherReply(continuation.token_ids, logprobs=continuation.logprobs, finished=continuation.finished)
        text = "".join(self.model.codec.pieces(continuation.token_ids))
        is_cut_off = not (continuation.finished or continuation.stopped)
        return TeacherReply(text=text, finished=continuation.finished, is_cut_off=is_cut_off)
