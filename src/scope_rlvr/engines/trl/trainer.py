"""SCOPE and its peers on Hugging Face TRL: a ``GRPOTrainer`` whose groups, credit and token losses are a method's.

``ScopeTrainer`` is used like ``trl.GRPOTrainer``. It takes over three seams and copies no method body: rollouts are
made in ``rollout_func`` (sample, verify, edit the groups), advantages are replaced by the method's token streams after
``_generate_and_score_completions``, and ``_compute_loss`` calls the formulas of :mod:`scope_rlvr.formulas.losses`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import GRPOConfig, GRPOTrainer

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.core.ports import Policy, Sampling, StepScorer, Teacher, Verifier
from scope_rlvr.core.prompts import PromptSection
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.steps import StepRule
from scope_rlvr.core.toolbox import Stopwatch, TeacherLog, Toolbox
from scope_rlvr.core.types import Origin, Problem
from scope_rlvr.engines.processes import meet
from scope_rlvr.engines.trl.vllm import VllmPolicy
from scope_rlvr.formulas.advantages import Baseline, Normalisation
from scope_rlvr.formulas.losses import (
    Aggregation,
    Clip,
    SamplerCorrection,
    Tokens,
    aggregate,
    kl_penalty,
    sampler_weights,
)
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.metrics import Tally, group_tally, why_no_gradient
from scope_rlvr.models.local import LocalModel, TokenizerCodec

_logger = logging.getLogger(__name__)

_Prompt = str | list[dict[str, str]]
"""A prompt as it stands in a data set: a text, or a conversation."""

AGGREGATIONS = {
    "dr_grpo": Aggregation.MAX_LENGTH,
    "dapo": Aggregation.TOKEN_MEAN,
    "grpo": Aggregation.SEQUENCE_MEAN,
}
"""TRL's ``loss_type`` values whose normaliser the objective knows."""

NORMALISATIONS = {
    "none": Normalisation.NONE,
    "group": Normalisation.GROUP_STD,
    "batch": Normalisation.BATCH_STD,
}
"""TRL's ``scale_rewards`` values."""


class UnsupportedOption(ValueError):
    """A TRL option that this trainer would have to ignore; it refuses instead."""


class NonFiniteLoss(RuntimeError):
    """A loss or gradient that is not a number. Raised before the optimiser step; weights are as they were."""


@dataclass(frozen=True)
class StepResult:
    """What one generation batch came to: handed to ``on_groups`` as soon as credit is assigned.

    ``step`` is the optimiser step it begins with, from 1; ``batch`` tells apart several of one step.
    """

    step: int
    batch: int
    groups: tuple[Group, ...]
    rewards_PG: tuple[tuple[float | None, ...], ...]
    streams_PG: tuple[tuple[Streams, ...], ...]
    no_gradient_because: str | None
    teacher_log: TeacherLog = field(default_factory=TeacherLog)


@dataclass(slots=True)
class _Batch:
    """The generation batch in work; rows are TRL's, groups are ours, a row without member is an empty slot."""

    inputs: list[dict[str, Any]]
    own: slice = field(default_factory=lambda: slice(None))
    """The rows that this process trains on; groups and rows are those of all processes."""
    groups: list[Group] = field(default_factory=list)
    rows: list[Member | None] = field(default_factory=list)
    clock: Stopwatch = field(default_factory=Stopwatch)
    tokens: Counter[str] = field(default_factory=Counter)
    teacher_log: TeacherLog = field(default_factory=TeacherLog)
    rewards: Tensor | None = None


class ScopeTrainer(GRPOTrainer):
    """``trl.GRPOTrainer`` with a method, a verifier and, where the method needs them, a step scorer and a teacher.

    Args beyond ``GRPOTrainer``'s:

    * ``method``: what to do with the groups, e.g. ``Scope(max_salvages=1)`` or ``Grpo()``.
    * ``verifier``: the one reward that says right or wrong, called once a row; right is worth 1, wrong 0, unknown takes
      no part. A TRL reward function becomes one by :class:`~scope_rlvr.grading.reward.RewardVerifier`.
      ``reward_funcs`` are further rewards: they add to it and never admit a salvage. A method that draws problems of its
      own (DAPO, ReLIFT) refuses them.
    * ``step_scorer``, ``teacher``: as :mod:`scope_rlvr.core.ports` describes them.
    * ``step_rule``: how responses are split into steps.
    * ``sampling_rows``: rollouts sampled at a time; all of a generation batch without it.
    * ``prompt``: how the text of a problem is put to the policy; as it is, without it. Conversations in the data set are
      put to it as they are.
    * ``peft_config`` (``GRPOTrainer``'s own): train adapters; ``args.use_vllm``: sample by vLLM. See docs/lora.md and
      docs/vllm.md.
    * ``on_groups``: called with a :class:`StepResult` for every generation batch.

    Of several processes (``torchrun``, ``accelerate launch``) each samples, judges and scores a part of a batch and trains on
    its rows. What a method does with the groups it does in all of them, on the whole batch, and ``on_groups`` is called in all
    of them, with the whole batch.

    The dataset has the columns ``prompt`` and ``reference`` (or ``answer``, or ``solution``), and may have ``id`` and
    ``level``. Rows whose reference is empty are refused at construction.
    """

    _tag_names = ("trl", "scope-rlvr")

    def __init__(
        self,
        model: str | PreTrainedModel,
        *,
        method: Method,
        verifier: Verifier,
        args: GRPOConfig,
        train_dataset: Any,
        processing_class: PreTrainedTokenizerBase | None = None,
        step_scorer: StepScorer | None = None,
        teacher: Teacher | None = None,
        step_rule: StepRule | None = None,
        prompt: PromptSection | None = None,
        sampling_rows: int | None = None,
        reward_funcs: Sequence[Callable[..., Any]] = (),
        on_groups: Callable[[StepResult], None] | None = None,
        **kwargs: Any,
    ) -> None:
        _refuse_unsupported(args, kwargs)
        _require_helpers(method, step_scorer, teacher)
        _require_problems(train_dataset, "training")
        _require_eval_problems(kwargs.get("eval_dataset"))
        if method.baseline is Baseline.SAMPLED_ONLY and (reward_funcs or args.reward_weights):
            raise UnsupportedOption(
                "baseline sampled_only knows the verifier's reward alone: leave out further reward_funcs and reward_weights"
            )
        if method.draws_problems and reward_funcs:
            raise UnsupportedOption(
                f"method {method.title} trains on other problems than the batch's rows, and TRL would hand the rows to "
                "reward_funcs: leave them out, and pay all rewards by the verifier (see RewardVerifier)"
            )
        self.method = method
        self.verifier = verifier
        self.step_scorer = step_scorer
        self.teacher = teacher
        self.step_rule = step_rule or StepRule()
        self.on_groups = on_groups
        self.sampling_rows = sampling_rows
        given_clip = Clip(low=args.epsilon, high=args.epsilon if args.epsilon_high is None else args.epsilon_high)
        self.aggregation = method.aggregation or AGGREGATIONS[args.loss_type]
        self.normalisation = method.normalisation or NORMALISATIONS[str(args.scale_rewards)]
        self.clip = method.clip or given_clip
        self.correction = _correction_of(args)
        self.memory: dict[str, Any] = {}
        self._prompts: dict[str, Any] = {}
        self._batch = _Batch([])
        self._tally = Tally()
        self._num_eval_batches = 0
        self._last_inputs: dict[str, Tensor] = {}
        _silence_unscorable_warning()
        super().__init__(
            model=model,
            reward_funcs=[self._verifier_reward(), *reward_funcs],
            args=args,
            train_dataset=train_dataset,
            processing_class=processing_class,
            rollout_func=lambda prompts, _: self._rollouts(prompts),
            # Before the caller's, who may take a checkpoint for whole as soon as they hear of it.
            callbacks=[_MethodCallback(self), *(kwargs.pop("callbacks", None) or ())],
            **kwargs,
        )
        # TRL would correct the teacher's tokens, too, which nobody sampled; the loss corrects the others.
        self.vllm_importance_sampling_correction = False
        self.processes = meet(args.ddp_timeout)
        _require_whole_groups(args, method, self.processes.count)
        self._refuse_unsupported_model()
        self.codec = TokenizerCodec.of(self.processing_class, self.model, prompt)
        self.add_callback(_GradientGuard(self))

    def _refuse_unsupported_model(self) -> None:
        """What only shows once the trainer has its model and its processes."""
        is_put_to_sleep = self.use_vllm and self.args.vllm_enable_sleep_mode
        if is_put_to_sleep and not hasattr(self.vllm_generation, "_llm_weights_sleeping"):
            raise UnsupportedOption(
                "this release of TRL wakes vLLM up with the weights that training began with; set vllm_enable_sleep_mode=False, "
                "or install trl>=1.12"
            )
        if getattr(self, "aux_loss_enabled", False):
            raise UnsupportedOption("the load-balancing loss of a mixture of experts would be ignored; set it to 0")
        deepspeed = getattr(self.accelerator.state, "deepspeed_plugin", None)
        if deepspeed is not None and self.method.steers_optimizer:
            raise UnsupportedOption(
                f"DeepSpeed updates the weights before method {self.method.title} could set its learning rate or begin a stage; "
                "take another method, or start the processes without DeepSpeed"
            )
        if self.is_fsdp_enabled or (deepspeed is not None and deepspeed.zero_stage == 3):
            raise UnsupportedOption(
                "parameters sharded over processes (FSDP, ZeRO-3) cannot sample rollouts here; use data parallelism"
            )

    # --- rollouts -------------------------------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._batch = _Batch(inputs)
        output = super()._generate_and_score_completions(inputs)
        return output | self._stream_tensors(output["completion_ids"].size(1))

    def _rollouts(self, prompts: list[Any]) -> dict[str, Any]:
        """TRL's ``rollout_func``: exactly one row for each row given, in the same order."""
        batch, training = self._batch, self.model.training
        num_rows = self.num_generations if training else self.num_generations_eval
        groups, tools = self._groups(batch, num_rows), self._toolbox(batch)
        if training:
            groups = self.method.sample(groups, num_rows - self.method.num_reserved_rows, tools)
            batch.groups = self.method.edit_groups(groups, tools)
        else:
            batch.groups = tools.sample(groups, num_rows)
        prompt_ids: list[list[int]] = []
        for group in batch.groups:
            empty = num_rows - len(group.members)
            if empty < 0:
                raise RuntimeError(
                    f"method {self.method.title} made {len(group.members)} rollouts of problem {group.problem.id!r}, "
                    f"and the trainer has {num_rows} rows for it; the method must reserve what it adds"
                )
            batch.rows += [*group.members, *[None] * empty]
            prompt_ids += [list(member.rollout.prompt_ids) for member in group.members]
            prompt_ids += [list(group.prompt_ids)] * empty
        # Whatever went on from here on with other groups than the others would be a mixture of two batches.
        self.processes.require_equal("the groups of a batch", lambda: _digest(batch.groups))
        slot, own = [self.codec.end_id], batch.own
        return {
            "prompt_ids": prompt_ids[own],
            "completion_ids": [slot if row is None else list(row.rollout.token_ids) for row in batch.rows[own]],
            "logprobs": None,
            "env_mask": [[0] if row is None else [1] * len(row.rollout) for row in batch.rows[own]],
        }

    def _groups(self, batch: _Batch, num_rows: int) -> list[Group]:
        """A group without members for each problem of the batch, in all processes; says which rows are this one's."""
        parts = self.processes.together("reading problems", lambda: _problems_of(batch.inputs, num_rows))
        first = num_rows * sum(len(part) for part in parts[: self.processes.index])
        batch.own = slice(first, first + len(batch.inputs))
        return [self._group_of(problem, prompt) for part in parts for problem, prompt in part]

    def _group_of(self, problem: Problem, prompt: _Prompt) -> Group:
        self._prompts[problem.prompt] = prompt
        return Group(problem, (), prompt_ids=self._prompt_ids(prompt))

    def _fresh_groups(self, count: int, seed: int) -> list[Group]:
        """Training problems drawn at random, for a method that wants more than this step's."""
        assert self.train_dataset is not None, "a trainer that trains has training data"
        chosen = random.Random(seed).choices(range(len(self.train_dataset)), k=count)
        rows = [self.train_dataset[i] for i in chosen]
        return [self._group_of(problem_of_row(row), row["prompt"]) for row in rows]

    def _read_prompt(self, problem: Problem, text: str) -> tuple[int, ...]:
        """The problem's prompt with another text: of a conversation, another last message."""
        prompt = self._prompts.get(problem.prompt, problem.prompt)
        return self._prompt_ids(text if isinstance(prompt, str) else [*prompt[:-1], prompt[-1] | {"content": text}])

    def _prompt_ids(self, prompt: _Prompt) -> tuple[int, ...]:
        if isinstance(prompt, str):
            return self.codec.encode_prompt(prompt)
        text = self.processing_class.apply_chat_template(
            prompt, add_generation_prompt=True, tokenize=False, **self.chat_template_kwargs
        )
        return self.codec.encode(text)

    def _toolbox(self, batch: _Batch) -> Toolbox:
        policy = self.accelerator.unwrap_model(self.model)
        args = self.args
        return Toolbox(
            policy=self._sampler(LocalModel(policy, self.codec, self.sampling_rows, self.processes)),
            verifier=self.verifier,
            codec=self.codec,
            sampling=Sampling(args.temperature, args.top_p, args.top_k or 0, args.min_p or 0.0),
            max_response_tokens=args.max_completion_length,
            seed=derive_seed(
                args.seed,
                self.state.global_step,
                "train" if self.model.training else "eval",
                self._batch_number(),
                0,  # Stands here so that draws stay what they were.
            ),
            steps=self.step_rule,
            step_scorer=self.step_scorer,
            teacher=self.teacher,
            step=self.state.global_step + 1,
            num_steps=self.args.max_steps,
            prompt_reader=self._read_prompt,
            problem_source=self._fresh_groups,
            memory=self.memory,
            processes=self.processes,
            clock=batch.clock,
            tokens=batch.tokens,
            teacher_log=batch.teacher_log,
        )

    def _sampler(self, policy: LocalModel) -> Policy:
        """Who samples: the policy in this process, or vLLM's copy of it."""
        if not self.use_vllm:
            return policy
        known = getattr(policy.model.config.get_text_config(), "max_position_embeddings", None)
        room = self.args.vllm_max_model_length or known or sys.maxsize
        return VllmPolicy(self.vllm_generation, policy, room, self.processes)

    def _batch_number(self) -> int:
        """Tells the generation batches of one optimiser step, or of one evaluation, apart."""
        if self.model.training:
            return self._step % self.args.gradient_accumulation_steps
        self._num_eval_batches += 1
        return self._num_eval_batches

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """TRL's evaluation: the policy unaided, with the same draws each time at the same step."""
        self._num_eval_batches = 0
        return super().evaluate(*args, **kwargs)

    # --- rewards and credit ---------------------------------------------------------------------------------------

    def _verifier_reward(self) -> Callable[..., list[float | None]]:
        """The verdicts already given, as TRL's first reward function."""

        def verifier(**_: Any) -> list[float | None]:
            return [None if row is None else row.verdict.pay for row in self._batch.rows[self._batch.own]]

        return verifier

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        # TRL hands out the rewards of all processes.
        rewards_per_func = super()._calculate_rewards(*args, **kwargs)
        # An unknown verdict makes the whole reward unknown, whatever other rewards say.
        total = (rewards_per_func * self.reward_weights.to(rewards_per_func.device)).nansum(1)
        self._batch.rewards = torch.where(rewards_per_func[:, 0].isnan(), torch.nan, total)
        return rewards_per_func

    def _stream_tensors(self, num_tokens: int) -> dict[str, Tensor]:
        """The method's streams as ``(rows, T)`` tensors of this process's rows, and the normalisers of the whole batch."""
        batch, device = self._batch, self.accelerator.device
        rewards_PG = self._rewards_by_group()
        streams_PG = self.method.credit(batch.groups, rewards_PG, self.normalisation)
        streams = iter(s for streams_G in streams_PG for s in streams_G)
        rows = [None if row is None else next(streams) for row in batch.rows][batch.own]

        def padded(values: Callable[[Streams], Sequence[float]]) -> Tensor:
            data = torch.zeros(len(rows), num_tokens)
            for i, row in enumerate(rows):
                if row is not None:
                    data[i, : len(row.weight_T)] = torch.tensor(values(row))
            return data.to(device)

        weight_BT = padded(lambda s: s.weight_T)
        is_teacher_BT = padded(lambda s: [origin is Origin.TEACHER for origin in s.origin_T]).bool()
        behaviour_BT = padded(lambda s: [torch.nan if p is None else p for p in s.behaviour_logprob_T])
        if self.model.training:
            self._report(rewards_PG, streams_PG)
        return {
            "advantages": padded(lambda s: s.advantage_T),
            "token_weights": weight_BT,
            "is_teacher": is_teacher_BT,
            "behaviour_logps": behaviour_BT,
            "num_weighted_rows": self._shared_count((weight_BT.sum(1) > 0).sum()),
            "num_weighted_tokens": self._shared_count(weight_BT.sum()),
        }

    def _shared_count(self, own: Tensor) -> Tensor:
        """A count over the whole batch / the number of processes: gradients are averaged over processes, and with this divisor
        the average is the gradient of the whole batch."""
        counts = self.processes.together("counting", own.item)
        return torch.tensor(sum(counts) / len(counts), device=own.device)

    def _rewards_by_group(self) -> list[tuple[float | None, ...]]:
        assert self._batch.rewards is not None, "TRL calculates rewards before it returns the batch"
        rewards, row, by_group = self._batch.rewards.tolist(), 0, []
        num_rows = len(rewards) // len(self._batch.groups)
        for group in self._batch.groups:
            own = rewards[row : row + len(group.members)]
            by_group.append(tuple(None if reward != reward else reward for reward in own))
            row += num_rows
        return by_group

    def _report(
        self, rewards_PG: Sequence[tuple[float | None, ...]], streams_PG: Sequence[tuple[Streams, ...]]
    ) -> None:
        groups = self._batch.groups
        if self.processes.is_main:
            self._tally_batch(groups, streams_PG)
        because = why_no_gradient(groups, streams_PG)
        step = self.state.global_step + 1
        log = self._batch.teacher_log
        if self.on_groups is not None:
            batch = self._batch_number()
            streams = tuple(streams_PG)
            self.on_groups(StepResult(step, batch, tuple(groups), tuple(rewards_PG), streams, because, log))
            return
        if not self.processes.is_main:
            return
        if because is not None:
            _logger.warning("no gradient in step %d: %s", step, because)
        for fault, message in log.messages.items():
            _logger.warning("the teacher failed in step %d (%s): %s", step, fault, message)

    def _tally_batch(self, groups: Sequence[Group], streams_PG: Sequence[tuple[Streams, ...]]) -> None:
        """Figures of the whole batch, which every process knows and one counts."""
        self._tally += group_tally(groups, streams_PG)
        for phase, seconds in self._batch.clock.seconds.items():
            self._tally.total(f"seconds/{phase}", seconds)
        for writer in ("sampled", "continuation", "teacher"):
            self._tally.total(f"tokens/{writer}", self._batch.tokens[writer])
        for name, count in self._batch.teacher_log.counts.items():
            self._tally.total(name, count)

    # --- loss -----------------------------------------------------------------------------------------------------

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        logp_BT, entropy_BT = self._policy_logps(model, inputs)
        old_logp_BT = inputs.get("old_per_token_logps", logp_BT.detach())
        is_teacher_BT = inputs["is_teacher"]
        tokens = Tokens(
            logp_BT=logp_BT,
            old_logp_BT=old_logp_BT,
            advantage_BT=inputs["advantages"],
            is_teacher_BT=is_teacher_BT,
            teacher_logp_BT=torch.where(is_teacher_BT, inputs["behaviour_logps"], 0.0).nan_to_num(0.0),
            weight_BT=inputs["token_weights"],
            entropy_BT=entropy_BT.detach(),
        )
        policy_loss_BT = self.method.token_loss(tokens, self.clip) * self._sampler_weights(tokens, inputs)
        loss_BT = policy_loss_BT
        kl_BT = None
        if self.beta != 0.0:
            kl_BT = kl_penalty(logp_BT, inputs["ref_per_token_logps"])
            if getattr(self.args, "use_bias_correction_kl", False):
                kl_BT = kl_BT * torch.exp(logp_BT - old_logp_BT)
            loss_BT = loss_BT + self.beta * kl_BT
        loss = self._aggregated(loss_BT, inputs, self.aggregation)
        if self.args.entropy_coef != 0.0:
            loss = loss - self.args.entropy_coef * self._aggregated(entropy_BT, inputs, Aggregation.TOKEN_MEAN)
        self._tally_loss(tokens, policy_loss_BT, entropy_BT, kl_BT, inputs)
        self._last_inputs = inputs
        self._refuse_non_finite(loss)
        return loss

    def _sampler_weights(self, tokens: Tokens, inputs: dict[str, Tensor]) -> Tensor:
        """Corrects what another program than the trainer sampled; 1 where nothing is to be corrected."""
        is_sampled_BT = inputs["completion_mask"].bool() & ~tokens.is_teacher_BT
        how, low, high = self.correction
        return sampler_weights(tokens.old_logp_BT, inputs["behaviour_logps"], is_sampled_BT, how, low, high)

    def _policy_logps(self, model: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy of every response token, at the sampling temperature."""
        input_ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        attention_mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        logps, entropies, *_ = self._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, inputs["completion_ids"].size(1), compute_entropy=True
        )
        return logps, entropies

    def _aggregated(self, loss_BT: Tensor, inputs: dict[str, Tensor], how: Aggregation) -> Tensor:
        """This micro-batch's share of the loss of one optimiser step.

        The normalisers count the whole generation batch; an optimiser step sees ``gradient_accumulation_steps`` of its
        ``steps_per_generation`` micro-batches.
        """
        training = self.model.training
        share = self.current_gradient_accumulation_steps / self.args.steps_per_generation if training else 1.0
        return aggregate(
            loss_BT,
            inputs["token_weights"],
            how,
            num_rows=inputs["num_weighted_rows"] * share,
            num_tokens=inputs["num_weighted_tokens"] * share,
            max_length=self.max_completion_length,
        )

    def _tally_loss(
        self,
        tokens: Tokens,
        policy_loss_BT: Tensor,
        entropy_BT: Tensor,
        kl_BT: Tensor | None,
        inputs: dict[str, Tensor],
    ) -> None:
        """Figures of the loss that only the loss knows."""
        if not policy_loss_BT.requires_grad:
            return
        weight_BT, behaviour_BT = inputs["token_weights"], inputs["behaviour_logps"]
        tally, is_teacher_BT = self._tally, tokens.is_teacher_BT
        (pull_BT,) = torch.autograd.grad(policy_loss_BT.sum(), tokens.logp_BT, retain_graph=True)
        pull_BT = pull_BT.abs() * weight_BT
        with torch.no_grad():
            tally.ratio("gradient/token_share", (pull_BT > 0).sum(), weight_BT.sum())
            tally.ratio("gradient/teacher_share", (pull_BT * is_teacher_BT).sum(), pull_BT.sum())
            tally.ratio("gradient/teacher_token_share", (weight_BT * is_teacher_BT).sum(), weight_BT.sum())
            tally.ratio("teacher/prob", (tokens.logp_BT.exp() * is_teacher_BT).sum(), is_teacher_BT.sum())
            tally.ratio("entropy", (entropy_BT * weight_BT).sum(), weight_BT.sum())
            self._tally_affinity(tokens, behaviour_BT, inputs["completion_mask"].bool())
            ratio_BT = torch.exp(tokens.logp_BT - tokens.old_logp_BT)
            low = (ratio_BT < 1 - self.clip.low) & (tokens.advantage_BT < 0)
            high = (ratio_BT > 1 + self.clip.high) & (tokens.advantage_BT > 0)
            is_clipped_BT = (low | high) & ~is_teacher_BT
            tally.ratio("clip_ratio/region_mean", (is_clipped_BT * weight_BT).sum(), weight_BT.sum())
            gap_BT = (tokens.old_logp_BT - behaviour_BT).abs().nan_to_num(0.0) * weight_BT * ~is_teacher_BT
            tally.largest("sampler/logp_gap", gap_BT.max())
            if kl_BT is not None:
                tally.ratio("kl", (kl_BT * weight_BT).sum(), weight_BT.sum())

    def _tally_affinity(self, tokens: Tokens, behaviour_BT: Tensor, is_response_BT: Tensor) -> None:
        """How near to the policy salvaged rollouts are: HINT's affinity, 1 for a rollout of the policy's own.

        (Share of the tokens' ratios π_old/behaviour inside the clip band) · exp(−their variance there), for each
        response with teacher tokens; tokens of unknown behaviour are left out.
        """
        ratio_BT = torch.exp(tokens.old_logp_BT - behaviour_BT)
        for row in tokens.is_teacher_BT.any(1).nonzero()[:, 0].tolist():
            known = ratio_BT[row][behaviour_BT[row].isfinite() & is_response_BT[row]]
            inside = known[(known >= 1 - self.clip.low) & (known <= 1 + self.clip.high)]
            if len(known):
                variance = inside.var(unbiased=False).exp().reciprocal() if len(inside) else 0.0
                self._tally.ratio("salvage/affinity", len(inside) / len(known) * float(variance), 1)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL's log, with the figures of groups, salvage and loss added: one value for each logging step."""
        if self.model.training:
            for name, value in self._figures().items():
                self._metrics["train"][name].append(value)
        super().log(logs, start_time)

    def _figures(self) -> dict[str, float]:
        """The figures of all processes since the last time."""
        whole, *others = self.processes.together("figures", lambda: self._tally)
        for other in others:
            whole += other
        self._tally = Tally()
        return whole.flush()

    # --- guards ---------------------------------------------------------------------------------------------------

    def _refuse_non_finite(self, loss: Tensor) -> None:
        for index, value in enumerate(self.processes.together("the loss", loss.item)):
            if not math.isfinite(value):
                where = f" in process {index}" if self.processes.count > 1 else ""
                self.refuse_update(f"the loss is {value}{where}")

    def refuse_update(self, what: str) -> None:
        """Keep the micro-batch and stop before the optimiser moves anything."""
        inputs = self._last_inputs
        part = f"-process-{self.processes.index}" if self.processes.count > 1 else ""
        kept = Path(self.args.output_dir) / f"refused-batch-step-{self.state.global_step + 1:06d}{part}.safetensors"
        kept.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.detach().cpu().contiguous() for k, v in inputs.items() if isinstance(v, Tensor)}, kept)
        raise NonFiniteLoss(
            f"{what} at step {self.state.global_step + 1}; the update was not made and the batch is kept in {kept}. "
            "Lower the learning rate or the clip bounds, or look at the batch for a token of probability zero"
        )


MEMORY_FILE = "method.json"
"""What the method remembers, in a checkpoint."""


class _MethodCallback(TrainerCallback):
    """Keeps what the method remembers in the checkpoints, sets its learning rate, and starts the optimiser anew where a
    stage begins."""

    def __init__(self, trainer: ScopeTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        kept = Path(args.output_dir) / f"checkpoint-{state.global_step}" / MEMORY_FILE

        def remembered() -> dict[str, Any]:
            return json.loads(kept.read_text()) if state.global_step and kept.is_file() else {}

        self.trainer.memory = self.trainer.processes.once("what the method remembers", remembered)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.trainer.processes.is_main:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (checkpoint / MEMORY_FILE).write_text(json.dumps(self.trainer.memory, sort_keys=True) + "\n")

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        step, method = state.global_step + 1, self.trainer.method
        if step > 1 and method.stage(step, args.max_steps) != method.stage(step - 1, args.max_steps):
            kwargs["optimizer"].state.clear()
        # The scheduler sets the rate anew after every step.
        for group in kwargs["optimizer"].param_groups:
            group["lr"] *= method.learning_rate_factor(step, args.max_steps)


class _GradientGuard(TrainerCallback):
    """Looks at the gradients last, when nothing but the optimiser comes after them."""

    def __init__(self, trainer: ScopeTrainer) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # With fp16 the gradient scaler expects overflows and skips such steps itself.
        if args.fp16:
            return
        norms = [p.grad.norm() for p in kwargs["model"].parameters() if p.grad is not None]
        if norms and not torch.isfinite(torch.stack(norms)).all():
            self.trainer.refuse_update("a gradient is not a number")


def problem_of_row(row: dict[str, Any]) -> Problem:
    """The problem in a dataset row; raises ``ValueError`` for a row without prompt or reference."""
    prompt = row.get("prompt")
    text = prompt if isinstance(prompt, str) else prompt[-1]["content"] if prompt else ""
    column = next((k for k in ("reference", "answer", "solution") if row.get(k) not in (None, "")), None)
    reference = "" if column is None else str(row[column])
    solution = row.get("solution") if column != "solution" else None
    if not text or not reference:
        raise ValueError(
            f"a dataset row needs a prompt and a reference (or answer, or solution); this one has {sorted(row)} with "
            f"prompt {text[:60]!r} and reference {reference[:60]!r}"
        )
    digest = hashlib.blake2b(f"{text}\x1f{reference}".encode(), digest_size=8).hexdigest()
    own_id, source = str(row.get("id") or digest), str(row.get("source") or "")
    return Problem(own_id, text, reference, source, row.get("level"), solution)


def _problems_of(inputs: Sequence[dict[str, Any]], num_rows: int) -> list[tuple[Problem, _Prompt]]:
    """The problem of each whole group of rows, and its prompt as it stands there."""
    problems = []
    for start in range(0, len(inputs), num_rows):
        rows = inputs[start : start + num_rows]
        problem = problem_of_row(rows[0])
        if len(rows) != num_rows or any(problem_of_row(row).prompt != problem.prompt for row in rows):
            raise RuntimeError(
                f"rows {start} to {start + len(rows) - 1} do not hold one whole group of {num_rows} equal prompts; "
                "make per_device_train_batch_size x steps_per_generation a multiple of num_generations"
            )
        problems.append((problem, rows[0]["prompt"]))
    return problems


def _digest(groups: Sequence[Group]) -> str:
    """Equal for groups of equal problems whose members are of equal tokens and verdicts."""
    digest = hashlib.blake2b(digest_size=16)
    for group in groups:
        digest.update(repr((group.problem.id, group.prompt_ids)).encode())
        for member in group.members:
            digest.update(repr((member.rollout.token_ids, member.role, member.verdict)).encode())
    return digest.hexdigest()


_ONLY = {
    "use_transformers_continuous_batching": False,
    "importance_sampling_level": "token",
    "multi_objective_aggregation": "sum_then_normalize",
    "top_entropy_quantile": 1.0,
    "off_policy_mask_threshold": None,
    "delta": None,
    "use_adaptive_entropy": False,
    "mask_truncated_completions": False,
    "use_liger_kernel": False,
    "repetition_penalty": 1.0,
    "generation_kwargs": None,
    "use_transformers_paged": False,
    "cache_implementation": None,
}
"""The only values of TRL options that this trainer honours."""


def _refuse_unsupported(args: GRPOConfig, kwargs: dict[str, Any]) -> None:
    for name in ("tools", "environment_factory", "rollout_func"):
        if kwargs.get(name):
            raise UnsupportedOption(f"{name} cannot be used here: the rollouts are made by the method; leave it out")
    for name, only in _ONLY.items():
        value = getattr(args, name, only)
        if value not in (only, {} if only is None else only):
            raise UnsupportedOption(f"{name}={value!r} would be ignored by this trainer; set it to {only!r}")
    for name, known in (("loss_type", AGGREGATIONS), ("scale_rewards", NORMALISATIONS)):
        value = str(getattr(args, name))
        if value not in known:
            raise UnsupportedOption(f"{name}={value!r} is not one of {sorted(known)}")


def _correction_of(args: GRPOConfig) -> tuple[SamplerCorrection, float, float]:
    """How samples of vLLM are corrected, and the bounds of the ratio; TRL has ``None`` for no bound."""
    if not (args.use_vllm and args.vllm_importance_sampling_correction):
        return SamplerCorrection.NONE, 0.0, math.inf
    low, high = args.vllm_importance_sampling_clip_min, args.vllm_importance_sampling_clip_max
    return (
        SamplerCorrection(args.vllm_importance_sampling_mode),
        0.0 if low is None else low,
        math.inf if high is None else high,
    )


def _require_helpers(method: Method, step_scorer: StepScorer | None, teacher: Teacher | None) -> None:
    instead = ", or set max_salvages=0" if "max_salvages" in type(method).model_fields else ""
    if method.needs_step_scorer and step_scorer is None:
        raise ValueError(f"method {method.title} needs a step scorer: give step_scorer=...{instead}")
    if method.needs_teacher and teacher is None:
        raise ValueError(f"method {method.title} needs a teacher: give teacher=...{instead}")


def _require_eval_problems(dataset: Any) -> None:
    """The same for evaluation data: one set, or several by name."""
    if dataset is not None:
        for name, one in dataset.items() if isinstance(dataset, dict) else [("evaluation", dataset)]:
            _require_problems(one, name)


def _require_problems(dataset: Any, name: str) -> None:
    """Every row of a data set of known length must be a problem."""
    if not hasattr(dataset, "__len__"):
        return
    for number, row in enumerate(dataset):
        try:
            problem_of_row(row)
        except ValueError as error:
            raise ValueError(f"row {number} of the {name} data: {error}") from error


def _require_whole_groups(args: GRPOConfig, method: Method, num_processes: int) -> None:
    rows = args.per_device_train_batch_size * (args.steps_per_generation or 1)
    if rows % args.num_generations:
        raise ValueError(
            f"a process holds {rows} rows (per_device_train_batch_size {args.per_device_train_batch_size} x "
            f"steps_per_generation {args.steps_per_generation}), not a multiple of num_generations "
            f"{args.num_generations}: groups would be split over {num_processes} processes; change one of the three"
        )
    if args.num_generations - method.num_reserved_rows < 2:
        raise ValueError(
            f"num_generations {args.num_generations} less {method.num_reserved_rows} reserved for {method.title} leaves "
            "fewer than 2 sampled rollouts in a group; raise num_generations"
        )


class _NoUnscorableWarning(logging.Filter):
    """TRL prints a whole row for each unknown verdict and each empty slot; we count them instead."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "All reward functions returned None" not in record.getMessage()


def _silence_unscorable_warning() -> None:
    logger = logging.getLogger("trl.trainer.grpo_trainer")
    if not any(isinstance(f, _NoUnscorableWarning) for f in logger.filters):
        logger.addFilter(_NoUnscorableWarning())
