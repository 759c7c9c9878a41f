"""The loop of the engines whose loop is ours: one :func:`~scope_rlvr.methods.step.training_step` after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scope_rlvr.core.groups import Group
from scope_rlvr.core.ports import Judge, Policy, ReadableModel, Sampling, StepScorer, Teacher, TextCodec, Verifier
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.steps import StepRule
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Problem
from scope_rlvr.engines.pool import Pool
from scope_rlvr.methods.loss import Objective
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Need
from scope_rlvr.methods.step import Learner, StepResult, training_step

HELPERS = (Need.STEP_SCORER, Need.TEACHER, Need.TEACHER_SCORES, Need.JUDGE, Need.PROBLEM_POOL)
"""What a loop of ours gives to every method."""


@dataclass
class TrainingLoop:
    """A training run: who writes, who judges, who helps, and who learns.

    ``train`` yields what each step came to, as it goes. ``memory``, ``tensors`` and ``figures`` are what a method remembers; an
    engine that resumes sets them before it trains.
    """

    codec: TextCodec
    method: Method
    verifier: Verifier
    objective: Objective
    policy: Policy
    learner: Learner
    step_scorer: StepScorer | None = None
    teacher: Teacher | None = None
    judge: Judge | None = None
    sampling: Sampling = field(default_factory=Sampling)
    step_rule: StepRule = field(default_factory=StepRule)
    seed: int = 0
    readers: Mapping[str, ReadableModel] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    tools: Toolbox | None = None
    """The toolbox of the last step, with what it cost."""

    def train(
        self,
        problems: Sequence[Problem],
        *,
        steps: int,
        problems_per_step: int,
        rollouts_per_problem: int,
        first_step: int = 0,
    ) -> Iterator[tuple[StepResult, dict[str, float]]]:
        """Steps ``first_step`` to ``steps`` on consecutive problems, from the first again when all were used."""
        pool = Pool(problems, self.begin)
        for number in range(first_step, steps):
            offered = [
                self.begin(problems[(number * problems_per_step + i) % len(problems)]) for i in range(problems_per_step)
            ]
            self.tools = self.toolbox(number, steps, pool)
            result, self.figures = training_step(
                self.method,
                offered,
                rollouts_per_problem,
                self.objective.of(self.method).normalisation,
                self.tools,
                self.learner,
            )
            yield result, self.figures

    def begin(self, problem: Problem) -> Group:
        """A group without members."""
        return Group(problem, (), prompt_ids=self.codec.encode_prompt(problem.prompt))

    def toolbox(self, number: int, steps: int, pool: Pool) -> Toolbox:
        """What the method may use in a step, counted from 0."""
        return Toolbox(
            policy=self.policy,
            verifier=self.verifier,
            codec=self.codec,
            sampling=replace(self.sampling),
            max_response_tokens=self.objective.max_length,
            seed=derive_seed(self.seed, number, "train", 0, 0),
            steps=self.step_rule,
            step_scorer=self.step_scorer,
            teacher=self.teacher,
            judge=self.judge,
            problem_source=pool.drawn,
            pool=pool,
            step=number + 1,
            num_steps=steps,
            readers=self.readers,
            memory=self.memory,
            tensors=self.tensors,
            figures=self.figures,
        )
