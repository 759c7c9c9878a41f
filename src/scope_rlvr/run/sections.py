"""The sections of a run's configuration, except those that other rooms define: scorer, teacher, verifier, method, prompt, steps.

The defaults are the embedded recipe: tiny models, a problem family with exact truth, minutes on two CPU cores.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from scope_rlvr.core.ports import Sampling
from scope_rlvr.core.processes import usable_cores
from scope_rlvr.core.settings import Settings
from scope_rlvr.engines.samplers import AnySampler, LocalSampler
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.estimators import powers_of_two
from scope_rlvr.formulas.losses import Aggregation, Clip
from scope_rlvr.models.lora import LoraSection
from scope_rlvr.models.precision import Precision
from scope_rlvr.problems.sources import SourceSettings, name_of

AUTO = "auto"
"""What is measured on this machine before the run."""


class RunSection(Settings):
    """Two numbers decide a step's size: problems, and rollouts for each."""

    seed: int = Field(0, ge=0, lt=2**32)
    steps: int = Field(250, ge=1, le=10_000_000)
    problems_per_step: int = Field(8, ge=1, le=100_000)
    rollouts_per_problem: int = Field(8, ge=2, le=100_000)
    micro_batch_rows: int | None = Field(
        None, ge=1, description="rows in one backward pass of a process; all that it has in a step by default"
    )
    num_threads: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        1, description="CPU threads of the tensor library; `auto` is the fastest number, measured before the run"
    )
    gradient_checkpointing: bool = Field(
        False,
        description="compute activations a second time in the backward pass instead of keeping them: slower, and "
        "far less memory",
    )
    checkpoint_every: int = Field(100, ge=1)
    checkpoint_optimizer: bool = Field(
        True,
        description="keep the optimiser's state in checkpoints, which a run needs to be resumed; without it a checkpoint has a "
        "third of the size and is a model to measure or to begin another run with",
    )
    flat_steps_limit: int = Field(30, ge=1, description="steps in a row without any gradient after which a run stops")

    @property
    def threads(self) -> int:
        """The CPU threads; all cores where they are not measured yet."""
        return usable_cores() if isinstance(self.num_threads, str) else self.num_threads


class ModelSection(Settings):
    """The policy: a model folder, a GGUF file, a Hub name, ``smollm2``, or ``embedded:policy``; with ``lora``, adapters of it
    are trained."""

    policy: str = "embedded:policy"
    dtype: Precision | None = Field(
        None,
        description="what sampling and training compute in; weights that train stay in float32. `auto` is the faster one on a "
        "CPU, measured before the run; without it, bfloat16 on a GPU and float32 on a CPU",
    )
    train_layers: Annotated[int, Field(ge=1)] | Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        None,
        description="train only so many upper layers and the final norm, or the parameters whose names fit a pattern, such as "
        '`["model.layers.2?.*"]`; all by default',
    )
    lora: LoraSection | None = Field(
        None,
        description="train low-rank adapters in the place of all weights; `docs/lora.md` says what follows from it",
    )
    reference: str | None = Field(
        None,
        description="the model that methods read as the reference; the policy as it was before training, by default. A KL penalty "
        "(`objective.kl`) is always to the latter",
    )

    @model_validator(mode="after")
    def _trains_in_one_way(self) -> ModelSection:
        if self.lora is not None and self.train_layers is not None:
            raise ValueError("train_layers and lora both say what trains; leave one out")
        return self


class ProblemsSection(SourceSettings):
    """Training problems: an embedded family at one level, or what ``source`` names."""

    family: str = "reduction"
    level: int = Field(6, ge=2, le=1000)
    folder: Path | None = Field(
        None,
        description="folder with local copies of benchmarks, `<name>.jsonl`; the environment variable `SCOPE_DATA` names it "
        "otherwise",
    )
    max_prompt_tokens: int | None = Field(
        None, ge=1, description="problems whose prompt, template included, has more tokens are left out of training"
    )
    allow_overlap: bool = Field(False, description="also train where a training problem is in an evaluation set, too")


class SamplingSection(Settings):
    """How the policy samples while it trains."""

    sampler: AnySampler = LocalSampler()
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    min_p: float = Field(0.0, ge=0, lt=1)
    max_response_tokens: int = Field(96, ge=2, le=10_000_000)
    batch_rows: int | None = Field(
        None,
        ge=1,
        description="rollouts sampled at a time; all of a step's by default. Another number gives other rollouts",
    )

    @model_validator(mode="after")
    def _leaves_batches_to_vllm(self) -> SamplingSection:
        if self.batch_rows is not None and not isinstance(self.sampler, LocalSampler):
            raise ValueError(f"batch_rows means nothing to the sampler {self.sampler.kind!r}, which batches by itself")
        return self

    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.top_k, self.min_p)


class ObjectiveSection(Settings):
    """The objective shared by all methods of a comparison."""

    normalisation: Normalisation = Normalisation.NONE
    aggregation: Aggregation = Aggregation.MAX_LENGTH
    clip: Clip = Clip()
    kl: float = Field(0.0, ge=0)
    entropy: float = 0.0
    updates_per_batch: int = Field(1, ge=1, description="passes over the same rollouts")
    mini_batches: int = Field(
        1,
        ge=1,
        description="optimiser steps of one pass, each on another part of the rollouts, drawn at random; each divides by its share of the "
        "batch's normaliser, so that all tokens weigh alike",
    )

    @property
    def steps_per_batch(self) -> int:
        """Optimiser steps on the rollouts of one batch."""
        return self.updates_per_batch * self.mini_batches


class Schedule(StrEnum):
    """Learning-rate schedules, by their Hugging Face names."""

    CONSTANT = "constant"
    WARMUP = "constant_with_warmup"
    LINEAR = "linear"
    COSINE = "cosine"


class OptimizerSection(Settings):
    """AdamW."""

    learning_rate: float = Field(1.5e-4, gt=0)
    schedule: Schedule = Schedule.WARMUP
    warmup_steps: int = Field(5, ge=0, le=10_000_000)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)


class EvaluationSetSection(SourceSettings):
    """Held-out problems of the family at a level, or what ``source`` names."""

    role: Literal["trained", "out of distribution"]
    level: int | None = Field(None, ge=2, le=1000)
    name: str | None = Field(
        None, min_length=1, description="what the set is called in figures; its source's name otherwise"
    )
    samples_per_problem: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="samples for each of its problems; `evaluation.samples_per_problem` by default",
    )

    @model_validator(mode="after")
    def _has_one_source(self) -> EvaluationSetSection:
        if (self.level is None) == (self.source is None):
            raise ValueError("an evaluation set needs either a level of the problem family or a source")
        return self

    def called(self, family: str) -> str:
        """What the set is called in figures."""
        return self.name or (name_of(self.source) if self.source is not None else f"{family}-{self.level}")

    def described(self) -> str:
        """The set in the plan of a run.

        >>> EvaluationSetSection(role="trained", source="aime24", samples_per_problem=32).described()
        'aime24 (trained, 32 samples)'
        """
        own = "" if self.samples_per_problem is None else f", {self.samples_per_problem} samples"
        return f"{self.source or f'level {self.level}'} ({self.role}{own})"


STOP_FIGURES = ("accuracy", "effective_groups", "right_prefix")
"""What ``evaluation.stop_at`` can name besides ``pass_at_<n>``."""


class EvaluationSection(Settings):
    """What is measured before and after, always unaided, at the training temperature unless another is given."""

    sets: tuple[EvaluationSetSection, ...] = (
        EvaluationSetSection(role="trained", level=6),
        EvaluationSetSection(role="out of distribution", level=9),
        EvaluationSetSection(role="out of distribution", level=10),
    )
    num_problems: int = Field(200, ge=1, le=1_000_000)
    problems_block: int = Field(
        0, ge=0, description="which block of `num_problems` held-out problems of a family; blocks share no problem"
    )
    samples_per_problem: int = Field(8, ge=1, le=100_000)
    max_response_tokens: int = Field(160, ge=2, le=10_000_000)
    temperature: float | None = Field(None, ge=0)
    batch_rows: int = Field(
        256, ge=1, description="rollouts sampled at a time while measuring. Another number gives other rollouts"
    )
    before: bool = Field(True, description="also measure the policy before training")
    every: int = Field(
        0, ge=0, description="held-out evaluation during the run, every so many steps and at the last; 0 is never"
    )
    num_problems_during: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="problems of each set in evaluations during the run; `num_problems` by default",
    )
    stop_at: dict[str, float] = Field(
        {},
        description="the run is done as soon as an evaluation during it finds each of these figures at least so high on "
        "every set whose role is `trained`, such as `{pass_at_1 = 0.2}`",
    )

    @field_validator("stop_at")
    @classmethod
    def _names_figures(cls, stop_at: dict[str, float]) -> dict[str, float]:
        for name in stop_at:
            if name not in STOP_FIGURES and not re.fullmatch(r"pass_at_[1-9]\d*", name):
                raise ValueError(f"{name!r} is no figure to stop at; there are pass_at_<n>, {', '.join(STOP_FIGURES)}")
        return stop_at

    @model_validator(mode="after")
    def _measures_what_it_stops_at(self) -> EvaluationSection:
        if self.stop_at and not self.every:
            raise ValueError("stop_at looks at evaluations during the run; set every = ..., the steps between them")
        if self.stop_at and all(section.role != "trained" for section in self.sets):
            raise ValueError("stop_at looks at the sets whose role is 'trained', and there is none")
        for section in self.sets:
            size = section.samples_per_problem or self.samples_per_problem
            known = {f"pass_at_{k}" for k in powers_of_two(size)}
            unknown = [name for name in self.stop_at if name.startswith("pass_at_") and name not in known]
            if unknown and section.role == "trained":
                raise ValueError(
                    f"stop_at.{unknown[0]}: of {size} samples a problem, {', '.join(sorted(known))} are known"
                )
        return self


class WarmupSection(Settings):
    """What ``scope warmup`` does before a run of this configuration; a run itself does not read it."""

    solutions_from: Literal["problems", "teacher"] = Field(
        "problems",
        description="who wrote the solutions that are imitated: the problems came with them, or `[teacher]` writes them",
    )
    steps: int = Field(100, ge=1, description="optimiser steps at most")
    solutions_per_step: int = Field(16, ge=1, description="solutions in one step, each of another problem")
    learning_rate: float = Field(5e-5, gt=0, description="highest learning rate; adapters want a higher one")
    measure_every: int = Field(20, ge=1, description="steps between two evaluations, which may end the warm-up")
    stop_at: dict[str, float] = Field(
        {}, description="`evaluation.stop_at` of the warm-up, such as `{pass_at_1 = 0.2}`"
    )


class LoggingSection(Settings):
    """Where else figures go: names of Hugging Face reporters (``trackio``, ``wandb``, ``tensorboard``)."""

    report_to: tuple[str, ...] = ()
