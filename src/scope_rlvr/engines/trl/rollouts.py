"""The rollouts of a generation batch: TRL's rows in, groups ready for credit out, and TRL's rows again."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from scope_rlvr.core.accounting import Stopwatch, TeacherLog
from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.core.ports import Policy, ReadableModel, Sampling
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Problem
from scope_rlvr.engines.trl.problems import messages_of, problems_of_rows
from scope_rlvr.engines.trl.vllm import VllmPolicy
from scope_rlvr.methods.reading import ReadBy
from scope_rlvr.methods.step import make_groups
from scope_rlvr.models.local import LocalModel

if TYPE_CHECKING:
    from scope_rlvr.engines.trl.trainer import ScopeTrainer


@dataclass(frozen=True)
class RolloutBatch:
    """The rollouts of one generation batch, of all processes.

    ``rows`` are TRL's: a member each, ``None`` for an empty slot; ``own`` are those that this process trains on. ``tools`` hold
    what was spent on it.
    """

    groups: tuple[Group, ...]
    rows: tuple[Member | None, ...]
    own: slice
    tools: Toolbox

    def by_group(self, values: Sequence[float]) -> list[tuple[float | None, ...]]:
        """One value a row as one a member; what is not a number is ``None``."""
        of_members = iter([v for row, v in zip(self.rows, values, strict=True) if row is not None])
        found = [[next(of_members) for _ in group.members] for group in self.groups]
        return [tuple(None if value != value else value for value in values_G) for values_G in found]

    def by_row(self, streams_PG: Sequence[Sequence[Streams]]) -> list[Streams | None]:
        """The streams of this process's rows; ``None`` for an empty slot."""
        streams = iter(s for streams_G in streams_PG for s in streams_G)
        return [None if row is None else next(streams) for row in self.rows][self.own]


@dataclass
class RolloutMaker:
    """Makes the groups of each generation batch with the trainer's method and helpers."""

    trainer: ScopeTrainer
    num_eval_batches: int = 0
    reference: ReadableModel | None = None
    average: ReadableModel | None = None

    def make(self, inputs: Sequence[dict[str, Any]]) -> RolloutBatch:
        """The groups of the batch that these rows are this process's part of."""
        trainer, training = self.trainer, self.trainer.model.training
        num_rows = trainer.num_generations if training else trainer.num_generations_eval
        parts = trainer.processes.together(
            "reading problems", lambda: problems_of_rows(inputs, num_rows, trainer.problems if training else None)
        )
        first = num_rows * sum(len(part) for part in parts[: trainer.processes.index])
        own = slice(first, first + len(inputs))
        offered, tools = [self.begin(problem) for part in parts for problem in part], self.toolbox()
        if training:
            groups = make_groups(trainer.method, offered, num_rows - trainer.method.num_reserved_rows, tools)
        else:
            groups = tools.sample(offered, num_rows)
        # Whatever went on from here on with other groups than the others would be a mixture of two batches.
        trainer.processes.require_equal("the groups of a batch", lambda: _digest(groups))
        return RolloutBatch(tuple(groups), self._laid_out(groups, num_rows, num_rows * len(offered)), own, tools)

    def _laid_out(self, groups: Sequence[Group], num_rows: int, room: int) -> tuple[Member | None, ...]:
        """Members on ``room`` rows: ``num_rows`` a group, or one group behind the other where a method's groups vary in size."""
        method, rows = self.trainer.method, list[Member | None]()
        for group in groups:
            empty = 0 if method.has_variable_rows else num_rows - len(group.members)
            if empty < 0 or len(rows) + len(group.members) > room:
                raise RuntimeError(
                    f"method {method.title} made {len(group.members)} rollouts of problem {group.problem.id!r}, "
                    f"and the trainer has {num_rows} rows for it; the method must reserve what it adds"
                )
            rows += [*group.members, *[None] * empty]
        return (*rows, *[None] * (room - len(rows)))

    def in_trl(self, batch: RolloutBatch) -> dict[str, Any]:
        """This process's rows as TRL's ``rollout_func`` returns them."""
        slot, rows = [self.trainer.codec.end_id], batch.rows[batch.own]
        plain = list(batch.groups[0].prompt_ids)
        return {
            "prompt_ids": [plain if row is None else list(row.rollout.prompt_ids) for row in rows],
            "completion_ids": [slot if row is None else list(row.rollout.token_ids) for row in rows],
            "logprobs": None,
            "env_mask": [[0] if row is None else [1] * len(row.rollout) for row in rows],
        }

    # --- problems ---------------------------------------------------------------------------------------------

    def begin(self, problem: Problem) -> Group:
        """A group without members."""
        return Group(problem, (), prompt_ids=self.read_prompt(problem, problem.prompt))

    def read_prompt(self, problem: Problem, text: str) -> tuple[int, ...]:
        """The problem's prompt with this text: of a conversation, another last message."""
        trainer, messages = self.trainer, messages_of(problem, text)
        if messages is None:
            return trainer.codec.encode_prompt(text)
        shown = trainer.processing_class.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False, **trainer.chat_template_kwargs
        )
        return trainer.codec.encode(shown)

    # --- tools ------------------------------------------------------------------------------------------------

    def toolbox(self) -> Toolbox:
        trainer, args = self.trainer, self.trainer.args
        policy = LocalModel(
            trainer.accelerator.unwrap_model(trainer.model),
            trainer.codec,
            trainer.sampling_rows,
            trainer.processes,
            torch.bfloat16 if args.bf16 else None,
        )
        readers: dict[str, ReadableModel | None] = {
            ReadBy.POLICY.value: policy,
            ReadBy.REFERENCE.value: self.reference,
            ReadBy.AVERAGE.value: self.average,
        }
        return Toolbox(
            policy=self._sampler(policy),
            verifier=trainer.verifier,
            codec=trainer.codec,
            sampling=Sampling(args.temperature, args.top_p, args.top_k or 0, args.min_p or 0.0),
            max_response_tokens=args.max_completion_length,
            seed=derive_seed(
                args.seed,
                trainer.state.global_step,
                "train" if trainer.model.training else "eval",
                self.batch_number(),
                0,  # Stands here so that draws stay what they were.
            ),
            steps=trainer.step_rule,
            step_scorer=trainer.step_scorer,
            teacher=trainer.teacher,
            judge=trainer.judge,
            step=trainer.state.global_step + 1,
            num_steps=args.max_steps,
            prompt_reader=self.read_prompt,
            problem_source=None if trainer.pool is None else trainer.pool.drawn,
            pool=trainer.pool,
            readers={name: model for name, model in readers.items() if model is not None},
            memory=trainer.memory,
            tensors=trainer.tensors,
            figures=trainer.last_figures,
            processes=trainer.processes,
            clock=Stopwatch(),
            tokens=Counter(),
            teacher_log=TeacherLog(),
        )

    def _sampler(self, policy: LocalModel) -> Policy:
        """Who samples: the policy in this process, or vLLM's copy of it."""
        trainer = self.trainer
        if not trainer.use_vllm:
            return policy
        known = getattr(policy.model.config.get_text_config(), "max_position_embeddings", None)
        room = trainer.args.vllm_max_model_length or known or sys.maxsize
        return VllmPolicy(trainer.vllm_generation, policy, room, trainer.processes)

    def batch_number(self) -> int:
        """Tells the generation batches of one optimiser step, or of one evaluation, apart."""
        if self.trainer.model.training:
            return self.trainer._step % self.trainer.args.gradient_accumulation_steps
        self.num_eval_batches += 1
        return self.num_eval_batches


def _digest(groups: Sequence[Group]) -> str:
    """Equal for groups of equal problems whose members are of equal tokens and verdicts."""
    digest = hashlib.blake2b(digest_size=16)
    for group in groups:
        digest.update(repr((group.problem.id, group.prompt_ids)).encode())
        for member in group.members:
            digest.update(repr((member.rollout.token_ids, member.role, member.verdict)).encode())
    return digest.hexdigest()
