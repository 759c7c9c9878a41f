"""A teacher that is a causal language model in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from scope_rlvr.core.ports import Continuation, Fault, Sampling, ScoreReply, ScoreRequest, TeacherReply, TeacherRequest
from scope_rlvr.formulas.readings import LogProb, TopK
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
        self.num_ids = model.model.get_input_embeddings().num_embeddings
        if len(model.codec.tokenizer) > self.num_ids:
            raise ValueError(
                f"the teacher's tokenizer has {len(model.codec.tokenizer)} tokens and its model embeds {self.num_ids}: "
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

    @property
    def scoring_refusal(self) -> str | None:
        if self.shares_vocabulary:
            return None
        return (
            "the teacher has another vocabulary than the policy, so that it has no probability for the policy's tokens; take "
            "one of the policy's own family, with an equal tokenizer"
        )

    def score(self, requests: Sequence[ScoreRequest]) -> list[ScoreReply]:
        """The log-probabilities of each request's response after the teacher's own prompt, in order."""
        refusals = [self._refusal_of(request) for request in requests]
        asked = [request for request, refusal in zip(requests, refusals, strict=True) if refusal is None]
        scored = iter(self._read(asked))
        return [
            next(scored) if refusal is None else ScoreReply(error=refusal, fault=Fault.OTHER) for refusal in refusals
        ]

    def _refusal_of(self, request: ScoreRequest) -> str | None:
        if self.scoring_refusal is not None:
            return self.scoring_refusal
        # Models of one family may have been padded to different numbers of ids; none of these is in the tokenizer.
        largest = max(request.response_ids, default=0)
        return (
            None
            if largest < self.num_ids
            else f"the teacher embeds {self.num_ids} ids, and a token has the id {largest}"
        )

    def _read(self, requests: Sequence[ScoreRequest]) -> list[ScoreReply]:
        """What the model says of each response; requests for equal numbers of likeliest tokens share a pass."""
        replies: dict[int, ScoreReply] = {}
        for top_k in {request.top_k for request in requests}:
            batch = [i for i, request in enumerate(requests) if request.top_k == top_k and request.response_ids]
            kept = self.model.read(
                [self._prompt_ids(requests[i]) for i in batch],
                [requests[i].response_ids for i in batch],
                [LogProb(), TopK(k=top_k)] if top_k else [LogProb()],
            )
            replies |= {i: _scores_in(of_one) for i, of_one in zip(batch, kept, strict=True)}
        return [replies.get(i, ScoreReply(logprobs=())) for i in range(len(requests))]

    def _prefix(self, request: TeacherRequest) -> tuple[int, ...]:
        if self.shares_vocabulary:
            return (*self._prompt_ids(request), *request.prefix_ids)
        return self.model.codec.encode_prompt(shown_problem(self.prompt, request), request.prefix_text)

    def _prompt_ids(self, request: TeacherRequest | ScoreRequest) -> tuple[int, ...]:
        """The prompt of a teacher with the policy's vocabulary: the policy's own where it is shown nothing else."""
        shown = shown_problem(self.prompt, request)
        return request.prompt_ids if shown == request.problem.prompt else self.model.codec.encode_prompt(shown)

    def _reply(self, continuation: Continuation) -> TeacherReply:
        if self.shares_vocabulary:
            return TeacherReply(continuation.token_ids, logprobs=continuation.logprobs, finished=continuation.finished)
        text = "".join(self.model.codec.pieces(continuation.token_ids))
        is_cut_off = not (continuation.finished or continuation.stopped)
        return TeacherReply(text=text, finished=continuation.finished, is_cut_off=is_cut_off)


def _scores_in(kept: dict[str, Tensor]) -> ScoreReply:
    logprobs = tuple(kept[LogProb.title].tolist())
    if TopK.title not in kept:
        return ScoreReply(logprobs)
    top_TK, ids_TK = kept[TopK.title].unbind(dim=1)
    return ScoreReply(
        logprobs,
        top_ids=tuple(tuple(map(int, row)) for row in ids_TK.tolist()),
        top_logprobs=tuple(map(tuple, top_TK.tolist())),
    )
