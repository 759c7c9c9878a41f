"""What the engine needs of a Tinker server, and the client package's way to it.

Everything that waits has a deadline. What goes wrong on the way is a :class:`ServiceFailed` with the question, what came of it and
the remedy; the client package retries what can be retried before that.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from scope_rlvr.core.errors import UserError, first_line

_T = TypeVar("_T")

Text = tuple[tuple[int, ...], tuple[int, ...]]
"""Prompt ids and response ids."""


class ServiceFailed(RuntimeError):
    """The server did not do what it was asked. Training can go on from the last checkpoint."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """Token ids, the log-probability of each at temperature 1, and whether a stop token or text ended them."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    stopped: bool


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One continuation: what it goes on from, how long it may be, its seed, and what ends it: texts, or else token ids."""

    prefix: tuple[int, ...]
    max_tokens: int
    seed: int
    stop_texts: tuple[str, ...] = ()
    temperature: float = 1.0
    stop_ids: tuple[int, ...] = ()


class Service(Protocol):
    """A model on a server. Samples and log-probabilities are those of the weights after the last ``step``."""

    def sample(self, requests: Sequence[SampleRequest]) -> list[Sampled]:
        """All at once; in the order of the requests."""
        ...

    def logprobs(self, texts: Sequence[Text]) -> list[tuple[float, ...]]:
        """The log-probability of each response token, in the arithmetic of training."""
        ...

    def backward(
        self, texts: Sequence[Text], weights: Sequence[Sequence[float]], logprobs: Sequence[Sequence[float]]
    ) -> None:
        """Add the gradient of ``−Σ w·log π`` over all response tokens to what is there. ``logprobs`` are those of now."""
        ...

    def step(self, learning_rate: float) -> dict[str, float]:
        """One optimiser step on the gradients that were added up; figures of it by the server's names."""
        ...

    def save(self, name: str) -> str:
        """Keep weights and optimiser under a name; the place to load them from."""
        ...


class LossReduction(StrEnum):
    """What a server makes of the losses of single tokens. ``SUM``: it adds them up, as the hosted service does.
    ``SEQUENCE_MEAN``: it takes the mean over a sequence's tokens, then over sequences, as SkyRL's JAX backend does."""

    SUM = "sum"
    SEQUENCE_MEAN = "sequence_mean"

    def undone(self, num_tokens: int, num_sequences: int) -> float:
        """By what a token's loss is multiplied so that it counts once.

        >>> LossReduction.SUM.undone(10, 4), LossReduction.SEQUENCE_MEAN.undone(10, 4)
        (1.0, 40.0)
        """
        return 1.0 if self is LossReduction.SUM else float(num_tokens * num_sequences)


@dataclass(frozen=True)
class Connection:
    """Where the server is, and what is trained there. ``deadline`` is in seconds, for any one answer."""

    url: str | None
    base_model: str
    rank: int
    seed: int
    deadline: float
    weight_decay: float
    max_grad_norm: float
    train_unembed: bool = True
    reduction: LossReduction = LossReduction.SUM


class TinkerService:
    """A training session on a Tinker server, by the package ``tinker``."""

    def __init__(self, connection: Connection, state: str | None = None) -> None:
        """Begin a session, from ``state`` where one was saved. :class:`UserError` where that cannot be done."""
        self.connection = connection
        self._tinker = _client_package()
        where = connection.url or "the hosted service"
        try:
            self._client = self._tinker.ServiceClient(base_url=connection.url)
            self._require_model(where)
            self._training = self._started(state)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"engine.url: no training session for {connection.base_model!r} on {where}: {first_line(error)}; is the server "
                "up, does it serve this base model, and is TINKER_API_KEY set?"
            ) from error
        self._sampler: Any = None

    def _require_model(self, where: str) -> None:
        with warnings.catch_warnings():
            # Newer releases have another place for this question, older servers and releases have this one alone.
            warnings.simplefilter("ignore", FutureWarning)
            known = self._client.get_server_capabilities().supported_models
        served = [model.model_name for model in known if model.model_name]
        if served and self.connection.base_model not in served:
            raise UserError(
                f"engine.base_model = {self.connection.base_model!r} is not served by {where}; it serves {', '.join(served)}"
            )

    def _started(self, state: str | None) -> Any:
        connection = self.connection
        if state is not None:
            # A session of this run, into which the saved weights and the optimiser are loaded.
            training = self._new_session()
            training.load_state_with_optimizer(state).result(timeout=connection.deadline)
            return training
        return self._new_session()

    def _new_session(self) -> Any:
        connection = self.connection
        begun = self._client.create_lora_training_client(
            base_model=connection.base_model,
            rank=connection.rank,
            seed=connection.seed,
            train_unembed=connection.train_unembed,
        )
        return _waited_for(begun, connection.deadline)

    def sample(self, requests: Sequence[SampleRequest]) -> list[Sampled]:
        types = self._tinker.types
        sampler = self._current_sampler()

        def question(request: SampleRequest) -> Callable[[], Any]:
            stop: list[Any] = [*request.stop_texts] or [*request.stop_ids]
            params = types.SamplingParams(
                max_tokens=request.max_tokens,
                seed=request.seed,
                temperature=request.temperature,
                stop=stop or None,
            )
            prompt = types.ModelInput.from_ints(list(request.prefix))
            return lambda: sampler.sample(prompt, 1, params)

        replies = self._all("sampling", [question(request) for request in requests])
        return [_sampled(reply.sequences[0]) for reply in replies]

    def logprobs(self, texts: Sequence[Text]) -> list[tuple[float, ...]]:
        if not texts:
            return []
        data = [self._datum(text, weights=_over_all(text, [1.0] * len(text[1]))) for text in texts]
        (reply,) = self._all("reading", [lambda: self._training.forward(data, "cross_entropy")])
        return [
            _response_values(out["logprobs"].data, text) for out, text in zip(reply.loss_fn_outputs, texts, strict=True)
        ]

    def backward(
        self, texts: Sequence[Text], weights: Sequence[Sequence[float]], logprobs: Sequence[Sequence[float]]
    ) -> None:
        # The gradient of the ratio to today's probability is that of its logarithm, and a weight may be negative here:
        # those of cross_entropy may also be what a server divides by.
        if not texts:
            return
        data = [
            self._datum(
                text,
                logprobs=_over_all(text, row),
                advantages=_over_all(text, [w * self._undone(text, len(texts)) for w in weights_T]),
            )
            for text, weights_T, row in zip(texts, weights, logprobs, strict=True)
        ]
        self._all("the gradient", [lambda: self._training.forward_backward(data, "importance_sampling")])

    def _undone(self, text: Text, num_sequences: int) -> float:
        return self.connection.reduction.undone(len(text[0]) + len(text[1]) - 1, num_sequences)

    def step(self, learning_rate: float) -> dict[str, float]:
        params = self._tinker.types.AdamParams(
            learning_rate=learning_rate,
            beta1=0.9,
            beta2=0.999,
            eps=1e-8,
            weight_decay=self.connection.weight_decay,
            grad_clip_norm=self.connection.max_grad_norm,
        )
        (reply,) = self._all("the optimiser step", [lambda: self._training.optim_step(params)])
        self._sampler = None
        return {name: float(value) for name, value in (reply.metrics or {}).items()}

    def save(self, name: str) -> str:
        (reply,) = self._all("saving", [lambda: self._training.save_state(name)])
        return str(reply.path)

    def _current_sampler(self) -> Any:
        if self._sampler is None:
            (self._sampler,) = self._all("new weights", [self._training.save_weights_and_get_sampling_client])
        return self._sampler

    def _datum(self, text: Text, **values: list[float]) -> Any:
        """A text with one value a token, for the loss, under each name."""
        types, whole = self._tinker.types, [*text[0], *text[1]]
        named = {name: types.TensorData(data=row, dtype="float32") for name, row in values.items()}
        return types.Datum(
            model_input=types.ModelInput.from_ints(whole[:-1]),
            loss_fn_inputs={"target_tokens": types.TensorData(data=whole[1:], dtype="int64"), **named},
        )

    def _all(self, what: str, questions: Sequence[Callable[[], Any]]) -> list[Any]:
        """Ask everything at once, then wait for all answers until the deadline."""
        try:
            futures = [ask() for ask in questions]
            return [_waited_for(future, self.connection.deadline) for future in futures]
        except FutureTimeout as error:
            raise ServiceFailed(
                f"{what}: no answer within engine.deadline = {self.connection.deadline:g} s; go on with --resume when the server "
                "answers again"
            ) from error
        except Exception as error:
            raise ServiceFailed(f"{what}: {type(error).__name__}: {first_line(error)}") from error


def _waited_for(answer: Any, deadline: float) -> Any:
    """What a future gives; releases of the client before 0.30 give some answers at once."""
    return answer.result(timeout=deadline) if hasattr(answer, "result") else answer


def _client_package() -> Any:
    try:
        tinker = importlib.import_module("tinker")
    except ImportError as error:
        raise UserError(
            f"engine.kind = 'tinker' needs the package tinker: pip install 'scope-rlvr[tinker]' ({first_line(error)})"
        ) from error
    return tinker


def _sampled(sequence: Any) -> Sampled:
    if sequence.logprobs is None or len(sequence.logprobs) != len(sequence.tokens):
        raise ServiceFailed("sampling: a reply without one log-probability for each token")
    return Sampled(tuple(sequence.tokens), tuple(map(float, sequence.logprobs)), sequence.stop_reason == "stop")


def _over_all(text: Text, row: Sequence[float]) -> list[float]:
    """One value for each token after the first: 0 for those of the prompt."""
    return [0.0] * (len(text[0]) - 1) + list(row)


def _response_values(values: Sequence[float], text: Text) -> tuple[float, ...]:
    """Of one value for each token after the first those of the response."""
    prompt, response = text
    if len(values) < len(prompt) - 1 + len(response):
        raise ServiceFailed(f"reading: {len(values)} values for {len(prompt) + len(response)} tokens")
    return tuple(map(float, values[len(prompt) - 1 : len(prompt) - 1 + len(response)]))
