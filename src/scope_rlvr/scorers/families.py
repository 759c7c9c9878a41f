"""The families of step scorers as settings: what a scorer's input looks like, what its scores mean, how they are read.

No model library is needed here: a configuration can be checked without one.
"""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from scope_rlvr.core.settings import BARE_NAME, BY_KIND, Settings
from scope_rlvr.grading.function import FunctionSettings
from scope_rlvr.salvage.rules import AnyRule, Drop, Threshold
from scope_rlvr.servers.settings import ServerSettings


class ScorerFamily(Settings):
    """What all families have: the range of their scores, and the rule that reads them unless another is named."""

    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 1.0
    default_rule: ClassVar[AnyRule] = Threshold(threshold=0.5)
    rule_source: ClassVar[str] = ""
    """Where the default rule comes from."""

    flat_below: ClassVar[float] = 1e-4
    """A spread of scores over the self-test's solutions that no working scorer of the family stays below."""


class Auto(ScorerFamily):
    """The family that ``scorer.json`` names, else the one that the model's name or class belongs to."""

    kind: Literal["auto"] = "auto"


class TooLong(StrEnum):
    """How a solution that is longer than the scorer's context is scored."""

    UNSCORED = "unscored"
    """It gets no scores, which is counted as a failure of the scorer."""
    FIRST_STEPS = "first_steps"
    """The steps that fit are scored; the others get the highest score, since they were not read."""


class LocalFamily(ScorerFamily):
    """Models that run here."""

    too_long: TooLong = Field(
        TooLong.UNSCORED,
        description="what becomes of a longer solution: no scores, or scores of the steps that fit while the others count as right",
    )
    max_tokens: int | None = Field(
        None, ge=1, description="longest input in tokens; the context that the model's configuration names by default"
    )


class TokenClassifier(LocalFamily):
    """A token classifier with two labels, label 1 meaning right, read at the last token of the separator after a step."""

    kind: Literal["token_classifier"] = "token_classifier"
    separator: str = Field("\n\n", min_length=1, description="text between steps; a step is scored at its last token")
    after_prompt: bool = Field(False, description="write the separator between the problem and the first step, too")
    bos: bool = Field(False, description="begin with the tokenizer's begin-of-sequence token, where it has one")
    rule_source: ClassVar[str] = "the likelier label decides, as in TRL's process reward models"


class Trl(TokenClassifier):
    """As TRL's ``PRMTrainer`` trains: a newline as the separator, and a begin-of-sequence token where there is one."""

    kind: Literal["trl"] = "trl"  # type: ignore[assignment]
    separator: str = Field("\n", min_length=1, description="text between steps; a step is scored at its last token")
    bos: bool = Field(True, description="begin with the tokenizer's begin-of-sequence token, where it has one")


class PurePrm(TokenClassifier):
    """PURE-PRM-7B: a token classifier whose score is ``p(right) − p(wrong)``, between -1 and 1."""

    kind: Literal["pure"] = "pure"  # type: ignore[assignment]
    separator: str = Field("\n", min_length=1, description="text between steps; a step is scored at its last token")
    lowest: ClassVar[float] = -1.0
    default_rule: ClassVar[AnyRule] = Threshold(threshold=0.0)
    rule_source: ClassVar[str] = "the sign of the reward (PURE, arXiv 2504.15275)"


class Qwen(LocalFamily):
    """Qwen2.5-Math-PRM-7B and -72B, Qwen2.5-Math-7B-PRM800K: a two-class head read at a marker after every step."""

    kind: Literal["qwen"] = "qwen"
    system: str = Field(
        "Please reason step by step, and put your final answer within \\boxed{}.", description="the system prompt"
    )
    marker: str = Field("<extra_0>", min_length=2, description="the marker: one token of the tokenizer")
    rule_source: ClassVar[str] = "ProcessBench's figures of these models (arXiv 2501.07301)"
    flat_below: ClassVar[float] = 0.1


class MathShepherd(LocalFamily):
    """Math-Shepherd: a causal language model whose logits of "+" and "-" are read at a marker after every step."""

    kind: Literal["math_shepherd"] = "math_shepherd"
    marker: str = Field("ки", min_length=1, description="the marker behind a step: one token after a space")
    good: str = Field("+", min_length=1, description="the token for right")
    bad: str = Field("-", min_length=1, description="the token for wrong")
    rule_source: ClassVar[str] = "ProcessBench (arXiv 2412.06559); labels are hard Monte-Carlo estimates"
    flat_below: ClassVar[float] = 0.01


class ReadOut(StrEnum):
    """What is read from the logits of a causal language model."""

    TWO_TOKENS = "two_tokens"
    """The probability of the token for right among the two: the authors' own."""
    FULL_VOCABULARY = "full_vocabulary"
    """Its probability among all tokens, as PRMBench reads."""
    GREEDY = "greedy"
    """1 where it is the likeliest of all tokens, else 0, as ProcessBench reads."""


class RlhFlow(LocalFamily):
    """RLHFlow's Llama3.1-8B-PRM: a conversation in which the user says a step and the assistant "+", also after a wrong one."""

    kind: Literal["rlhflow"] = "rlhflow"
    read_out: ReadOut = Field(
        ReadOut.TWO_TOKENS,
        description="what is read: the chance of + against -, its chance among all tokens, or whether it is the likeliest",
    )
    good: str = Field("+", min_length=1, description="the token for right")
    bad: str = Field("-", min_length=1, description="the token for wrong")
    rule_source: ClassVar[str] = "the likelier of the two tokens decides, as its authors label"
    flat_below: ClassVar[float] = 0.01


class Skywork(LocalFamily):
    """Skywork-o1-Open-PRM: a scalar head with a sigmoid, read at the newline after every step."""

    kind: Literal["skywork"] = "skywork"
    step_end: str = Field("\n", min_length=1, description="text after a step; its last token is where a step is scored")
    default_rule: ClassVar[AnyRule] = Drop(drop=0.05)
    rule_source: ClassVar[str] = "PRMBench (arXiv 2501.03124) reads these scores by their change, valid above -0.05"
    flat_below: ClassVar[float] = 0.01


class Universal(LocalFamily):
    """Universal-PRM-7B: a scalar head with a sigmoid on every prefix by itself; may be shown the reference answer."""

    kind: Literal["universal"] = "universal"
    system: str = Field("You are a helpful assistant.", description="the system prompt")
    show_reference: bool = Field(
        False,
        description="show it the problem's reference answer, as in its model card: the answer then leaks into scores",
    )
    rule_source: ClassVar[str] = (
        "the middle of the sigmoid; the card's right steps all score near 0.73, so calibrate it before use"
    )
    flat_below: ClassVar[float] = 0.001


class Implicit(LocalFamily):
    """EurusPRM and other implicit PRMs: a step's reward is ``beta`` times the log-ratio of two causal language models."""

    kind: Literal["implicit"] = "implicit"
    reference: str = Field("Qwen/Qwen2.5-Math-7B-Instruct", description="the model to compare with, of one vocabulary")
    beta: float = Field(0.001, gt=0, description="factor of the log-ratio, in nats")
    is_cumulative: bool = Field(
        False, description="score a step by the reward of the whole solution up to it, instead of its own share"
    )
    is_numbered: bool = Field(True, description="write `Step i: ` before every step, as its authors do")
    lowest: ClassVar[float] = -math.inf
    highest: ClassVar[float] = math.inf
    default_rule: ClassVar[AnyRule] = Threshold(threshold=0.0)
    rule_source: ClassVar[str] = "the sign of a step's own reward; nothing is published, so calibrate it before use"
    flat_below: ClassVar[float] = 1e-7

    @model_validator(mode="after")
    def _has_a_highest_score(self) -> Implicit:
        if self.too_long is TooLong.FIRST_STEPS:
            raise ValueError("too_long = 'first_steps' gives unread steps the highest score, and this family has none")
        return self


class ServerFamily(ScorerFamily):
    """Models behind a server, whose address is ``scorer.model``."""

    name: str | None = Field(
        None, min_length=1, description="name under which the server serves the model; its only one by default"
    )
    server: ServerSettings = Field(
        ServerSettings(cache=Path("runs/scorer-cache")),
        description="how patiently, how often and for how much it is asked",
    )


class Critic(ServerFamily):
    """A chat model behind an OpenAI-compatible server that names the first wrong step, or says that there is none."""

    kind: Literal["critic"] = "critic"
    votes: int = Field(
        1, ge=1, description="answers to ask for; the majority decides, and more than half must be readable"
    )
    temperature: float = Field(
        0.0, ge=0, description="temperature of the answers; above 0 where there are several votes"
    )
    top_p: float = Field(1.0, gt=0, le=1, description="smallest set of tokens with this probability; 1 is off")
    max_tokens: int = Field(8192, ge=1, description="longest answer")
    rule_source: ClassVar[str] = "steps before the one it names score 1, the others 0"
    flat_below: ClassVar[float] = 0.0

    @model_validator(mode="after")
    def _votes_can_differ(self) -> Critic:
        if self.votes > 1 and self.temperature == 0:
            raise ValueError(
                f"votes = {self.votes} at temperature 0 are {self.votes} equal votes; raise the temperature"
            )
        return self


PooledFamily = Annotated[Qwen | MathShepherd | Skywork | TokenClassifier | Trl | PurePrm, BARE_NAME, BY_KIND]


class VllmPooling(ServerFamily):
    """A process reward model behind vLLM's ``/pooling``: ids are written here and sent, numbers come back."""

    kind: Literal["vllm_pooling"] = "vllm_pooling"
    of: PooledFamily = Field(Qwen(), description="the family of the served model")
    tokenizer: str = Field(description="model folder or Hub name of the served model's tokenizer")
    reply: Literal["step", "token"] = Field(
        "step",
        description="whether the server answers with one entry a marker (pooling type STEP) or one a token (ALL)",
    )
    max_tokens: int | None = Field(
        None, ge=1, description="longest input in tokens; what the server says of itself by default"
    )
    rule_source: ClassVar[str] = "that of the family named by `of`"


class Calculator(ScorerFamily):
    """No model: equations are worked out, and their results compared with those of the worked solution."""

    kind: Literal["calculator"] = "calculator"
    unmatched: float = Field(
        0.25,
        ge=0,
        le=1,
        description="score of a step whose equations are true and lead to nothing in the worked solution",
    )
    silent: float = Field(
        0.75, ge=0, le=1, description="score of a step without an equation that can be worked out or compared"
    )
    rule_source: ClassVar[str] = "false and unmatched steps are wrong; `unmatched = 0.5` makes the second kind neutral"


class Function(FunctionSettings, ScorerFamily):
    """A function of your own: ``score(problem, steps)`` returns a number from 0 to 1 for each step, or ``None`` for unknown."""

    kind: Literal["function"] = "function"
    rule_source: ClassVar[str] = "the middle of the range"


class MonteCarlo(ScorerFamily):
    """The policy's own continuations decide: the first wrong step is the first from which none of them succeeds."""

    kind: Literal["monte_carlo"] = "monte_carlo"
    num_continuations: int = Field(8, ge=1, description="continuations from each prefix that is tried")
    rule_source: ClassVar[str] = "steps before the one found score 1, the others 0 (Math-Shepherd's hard estimate)"


SingleFamily = Annotated[
    Auto
    | TokenClassifier
    | Trl
    | PurePrm
    | Qwen
    | MathShepherd
    | RlhFlow
    | Skywork
    | Universal
    | Implicit
    | Critic
    | VllmPooling
    | Calculator
    | Function
    | MonteCarlo,
    BARE_NAME,
    BY_KIND,
]


class Combine(StrEnum):
    """How an ensemble makes one score of several."""

    MEAN = "mean"
    MIN = "min"
    VOTE = "vote"
    """The share of the members that find no wrong step up to this one, each by its own rule."""


class EnsembleMember(Settings):
    """A member of an ensemble."""

    model: str = Field(description="what `scorer.model` can name")
    family: SingleFamily = Field(Auto(), description="what `scorer.family` can be")
    rule: AnyRule | None = Field(
        None, description="what `scorer.rule` can be; a calibration makes its scores probabilities"
    )


class Ensemble(ScorerFamily):
    """Several scorers together."""

    kind: Literal["ensemble"] = "ensemble"
    members: tuple[EnsembleMember, ...] = Field(min_length=2, description="the scorers")
    combine: Combine = Field(
        Combine.VOTE, description="the mean or the minimum of their scores, or a vote by their rules"
    )
    rule_source: ClassVar[str] = "as for probabilities; of votes, the step at which more than half have found an error"


AnyFamily = Annotated[
    Auto
    | TokenClassifier
    | Trl
    | PurePrm
    | Qwen
    | MathShepherd
    | RlhFlow
    | Skywork
    | Universal
    | Implicit
    | Critic
    | VllmPooling
    | Calculator
    | Function
    | MonteCarlo
    | Ensemble,
    BARE_NAME,
    BY_KIND,
]
"""Every family of scorers, told apart by ``kind``."""
