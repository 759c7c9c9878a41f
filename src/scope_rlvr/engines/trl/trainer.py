"""SCOPE and its peers on Hugging Face TRL: a ``GRPOTrainer`` whose groups, credit and token losses are a method's.

``ScopeTrainer`` is used like ``trl.GRPOTrainer``. It takes over three seams and copies no method body: rollouts are
made in ``rollout_func`` (:mod:`.rollouts`), advantages are replaced by the method's token streams after
``_generate_and_score_completions``, and ``_compute_loss`` computes the loss of :mod:`scope_rlvr.methods.loss`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_utils import get_last_checkpoint
from trl import GRPOConfig, GRPOTrainer

from scope_rlvr.core.groups import Streams
from scope_rlvr.core.ports import Judge, StepScorer, Teacher, Verifier
from scope_rlvr.core.prompts import PromptSection
from scope_rlvr.core.steps import StepRule
from scope_rlvr.core.types import Problem
from scope_rlvr.engines.pool import Pool
from scope_rlvr.engines.processes import meet
from scope_rlvr.engines.randomness import same_random_numbers_after
from scope_rlvr.engines.trl.callbacks import GradientGuard, MethodState, require_own_checkpoint
from scope_rlvr.engines.trl.loss import counts_of, rows_to_read, tally_loss
from scope_rlvr.engines.trl.options import (
    UnsupportedOption,
    abilities,
    objective_of,
    refuse_further_rewards,
    refuse_unsupported,
    refuse_unsupported_model,
    require_helpers,
    silence_unscorable_warning,
    with_objective,
)
from scope_rlvr.engines.trl.problems import data_of, problems_of_data, require_eval_problems, with_index
from scope_rlvr.engines.trl.references import PolicyAverage, reference_of
from scope_rlvr.engines.trl.rollouts import RolloutBatch, RolloutMaker
from scope_rlvr.engines.trl.side_update import SideUpdates
from scope_rlvr.formulas.readings import Entropy, LogProb
from scope_rlvr.grading.reward import RewardVerifier
from scope_rlvr.methods.loss import Objective, batch_loss, loss_reducers, needs_advantage, stream_tensors, tokens_of
from scope_rlvr.methods.method import Method, SideUpdate
from scope_rlvr.methods.metrics import Tally, batch_tally
from scope_rlvr.methods.step import StepResult, give_credit
from scope_rlvr.models.local import TokenizerCodec, evaluating
from scope_rlvr.models.reading import read_last
from scope_rlvr.store.files import replacing, writing

__all__ = ["NonFiniteLoss", "ScopeTrainer", "StepResult", "UnsupportedOption"]

_logger = logging.getLogger(__name__)

UNAIDED = Method()
"""What evaluation credits and computes the loss by: its rollouts are the policy's own, which no part edits, reads or pays."""


class NonFiniteLoss(RuntimeError):
    """A loss or gradient that is not a number. Raised before the optimiser step; weights are as they were."""


class ScopeTrainer(GRPOTrainer):
    """``trl.GRPOTrainer`` with a method, a verifier and, where the method needs them, a step scorer, a teacher and a judge.

    Args beyond ``GRPOTrainer``'s:

    * ``method``: what to do with the groups, e.g. ``Scope(max_salvages=1)`` or ``Grpo()``.
    * ``verifier``: the one reward that says right or wrong, called once a row; right is worth 1, wrong 0, unknown takes
      no part. A TRL reward function becomes one by :class:`~scope_rlvr.grading.reward.RewardVerifier`.
      ``reward_funcs`` are further rewards: they add to it and never admit a salvage. A method that draws problems of its
      own (DAPO, ReLIFT) refuses them.
    * ``step_scorer``, ``teacher``, ``judge``: as :mod:`scope_rlvr.core.ports` describes them.
    * ``reference``: what a method reads as the reference model; the policy as it is now, without it.
    * ``problems``: the training problems, in the place of ``train_dataset``.
    * ``step_rule``: how responses are split into steps.
    * ``sampling_rows``: rollouts sampled at a time; all of a generation batch without it.
    * ``prompt``: how the text of a problem is put to the policy; as it is, without it. Conversations in the data set are
      put to it as they are.
    * ``peft_config`` (``GRPOTrainer``'s own): train adapters; ``args.use_vllm``: sample by vLLM. See docs/lora.md and
      docs/vllm.md.
    * ``on_groups``: called with a :class:`~scope_rlvr.methods.step.StepResult` for every generation batch.

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
        train_dataset: Any = None,
        problems: Sequence[Problem] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        step_scorer: StepScorer | None = None,
        teacher: Teacher | None = None,
        judge: Judge | None = None,
        reference: PreTrainedModel | None = None,
        step_rule: StepRule | None = None,
        prompt: PromptSection | None = None,
        sampling_rows: int | None = None,
        reward_funcs: Sequence[Callable[..., Any]] = (),
        on_groups: Callable[[StepResult], None] | None = None,
        **kwargs: Any,
    ) -> None:
        refuse_unsupported(args, kwargs)
        require_helpers(method, step_scorer, teacher, judge)
        refuse_further_rewards(method, reward_funcs, args)
        require_eval_problems(kwargs.get("eval_dataset"))
        self.method, self.verifier, self.step_scorer = method, verifier, step_scorer
        self.teacher, self.judge = teacher, judge
        self.step_rule, self.sampling_rows, self.on_groups = step_rule or StepRule(), sampling_rows, on_groups
        self.problems = problems_of_data(train_dataset, "training") if problems is None else list(problems)
        method.refuse_without(abilities(self.problems is not None), "TRL with training data of unknown length")
        self.objective = objective_of(args, method)
        self._start_empty()
        super().__init__(
            model=model,
            reward_funcs=[self._verifier_reward(), *reward_funcs],
            args=with_objective(args, self.objective),
            train_dataset=with_index(train_dataset, self.problems) if problems is None else data_of(problems),
            processing_class=processing_class,
            rollout_func=lambda prompts, _: self._rollouts(prompts),
            # Before the caller's, who may take a checkpoint for whole as soon as they hear of it.
            callbacks=[self.method_state, self.side_updates, *(kwargs.pop("callbacks", None) or ())],
            **kwargs,
        )
        # The loss corrects what was sampled; TRL would correct the teacher's tokens, too.
        self.vllm_importance_sampling_correction = False
        self.processes = meet(args.ddp_timeout)
        refuse_unsupported_model(self)
        self.codec = TokenizerCodec.of(self.processing_class, self.model, prompt)
        self.rollouts.reference = reference_of(self, reference)
        self._add_callbacks()

    def _start_empty(self) -> None:
        """What the trainer remembers from one batch to the next."""
        self.memory: dict[str, Any] = {}
        self.tensors: dict[str, Tensor] = {}
        self.last_figures: dict[str, float] = {}
        self.rollouts = RolloutMaker(self)
        self.method_state = MethodState(self)
        self.side_updates = SideUpdates(self)
        self.pool = None if self.problems is None else Pool(self.problems, self.rollouts.begin)
        self._inputs: list[dict[str, Any]] = []
        self._batch: RolloutBatch | None = None
        self._rewards: Tensor | None = None
        self._term_weights: dict[str, float] = {}
        self._tally = Tally()
        self._last_inputs: dict[str, Tensor] = {}
        silence_unscorable_warning()

    def _add_callbacks(self) -> None:
        """The average of the policies, where the method reads one, and what looks at the gradients, last."""
        if self.method.average_decay is not None:
            average = PolicyAverage(self, self.method.average_decay)
            self.rollouts.average = average.reader
            self.add_callback(average)
        self.add_callback(GradientGuard(self))

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """TRL's training; what the method remembers comes from the checkpoint that is resumed."""
        folder = resume_from_checkpoint
        if folder is True:
            folder = get_last_checkpoint(self.args.output_dir)
        self.method_state.begins_from = Path(folder) if folder else None
        if folder:
            require_own_checkpoint(Path(folder), self.method.name)
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    # --- from rows to streams -------------------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._inputs = inputs
        output = super()._generate_and_score_completions(inputs)
        return output | self._credited(output["completion_ids"].size(1))

    def _rollouts(self, prompts: list[Any]) -> dict[str, Any]:
        """TRL's ``rollout_func``: exactly one row for each row given, in the same order."""
        self._batch = self.rollouts.make(self._inputs)
        return self.rollouts.in_trl(self._batch)

    def _verifier_reward(self) -> Callable[..., list[float | None]]:
        """The verdicts already given, as TRL's first reward function; what TRL lends to such functions goes to ours."""
        if isinstance(self.verifier, RewardVerifier):
            # Read at each call: the trainer's state is another object once it trains.
            self.verifier.belong_to(lambda: {"trainer_state": self.state, "log_metric": self._log_metric})

        def verifier(**_: Any) -> list[float | None]:
            return [None if row is None else row.verdict.pay for row in self._now.rows[self._now.own]]

        return verifier

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        self._log_extras()
        # TRL hands out the rewards of all processes.
        rewards_per_func = super()._calculate_rewards(*args, **kwargs)
        # An unknown verdict makes the whole reward unknown, whatever other rewards say.
        total = (rewards_per_func * self.reward_weights.to(rewards_per_func.device)).nansum(1)
        self._rewards = torch.where(rewards_per_func[:, 0].isnan(), torch.nan, total)
        return rewards_per_func

    def _log_extras(self) -> None:
        """What the verifier wants to be shown beside each row, for TRL's table of completions."""
        extras = [{} if row is None else row.verdict.extra for row in self._now.rows[self._now.own]]
        for name in dict.fromkeys(name for extra in extras for name in extra):
            self._log_completion_extra(name, [extra.get(name) for extra in extras])

    @property
    def _now(self) -> RolloutBatch:
        assert self._batch is not None, "TRL asks for rollouts before it asks for anything about them"
        return self._batch

    def _credited(self, num_tokens: int) -> dict[str, Tensor]:
        """The method's streams as ``(rows, T)`` tensors of this process's rows, and the normalisers of the whole batch."""
        assert self._rewards is not None, "TRL calculates rewards before it returns the batch"
        batch, device, normalisation = self._now, self.accelerator.device, self.objective.normalisation
        rewards_PG = batch.by_group(self._rewards.tolist())
        if self.model.training:
            streams_PG = give_credit(self.method, batch.groups, rewards_PG, normalisation, batch.tools)
            self._term_weights = self.method.term_weights(self.last_figures, batch.tools)
            side_updates = self.method.side_updates(batch.groups, batch.tools)
            self.side_updates.waiting += side_updates
            self._report(batch, rewards_PG, streams_PG, side_updates)
        else:
            streams_PG = UNAIDED.credit(batch.groups, rewards_PG, normalisation)
        names = dict.fromkeys(name for streams_G in streams_PG for s in streams_G for name in s.extras)
        streams = stream_tensors(batch.by_row(streams_PG), num_tokens, tuple(names))
        weight_BT = streams["token_weights"].to(device)
        return {name: tensor.to(device) for name, tensor in streams.items()} | {
            "num_weighted_rows": self._shared_count((weight_BT.sum(1) > 0).sum()),
            "num_weighted_tokens": self._shared_count(weight_BT.sum()),
        }

    def _shared_count(self, own: Tensor) -> Tensor:
        """A count over the whole batch / the number of processes: gradients are averaged over processes, and with this divisor
        the average is the gradient of the whole batch."""
        counts = self.processes.together("counting", own.item)
        return torch.tensor(sum(counts) / len(counts), device=own.device)

    def _report(
        self,
        batch: RolloutBatch,
        rewards_PG: Sequence[tuple[float | None, ...]],
        streams_PG: Sequence[tuple[Streams, ...]],
        side_updates: Sequence[SideUpdate],
    ) -> None:
        if self.processes.is_main:
            self._tally += batch_tally(batch.groups, streams_PG, batch.tools)
        number = self.rollouts.batch_number()
        result = StepResult.of(number, batch.groups, rewards_PG, streams_PG, side_updates, batch.tools)
        if self.on_groups is not None:
            self.on_groups(result)
            return
        if not self.processes.is_main:
            return
        if result.no_gradient_because is not None:
            _logger.warning("no gradient in step %d: %s", result.step, result.no_gradient_because)
        for fault, message in result.teacher_log.messages.items():
            _logger.warning("the teacher failed in step %d (%s): %s", result.step, fault, message)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """TRL's evaluation: the policy unaided and GRPO's loss, with the same draws each time at the same step. What is trained
        afterwards is what would have been trained without it."""
        self.rollouts.num_eval_batches = 0
        with same_random_numbers_after():
            return super().evaluate(*args, **kwargs)

    # --- loss -----------------------------------------------------------------------------------------------------

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        method = self.method if self.model.training else UNAIDED
        self._last_inputs, weight = inputs, inputs["token_weights"].sum()
        inputs = rows_to_read(inputs, needs_advantage(method, self.objective))
        kept = self._policy_reading(model, inputs, method, self.objective)
        tokens = tokens_of(kept, inputs, inputs.get("old_per_token_logps"))
        found = batch_loss(
            method,
            tokens,
            self.objective,
            counts_of(self, inputs),
            entropy_BT=kept["entropy"],
            is_response_BT=inputs["completion_mask"].bool(),
            sampler_logp_BT=inputs["behaviour_logps"],
            ref_logp_BT=inputs["ref_per_token_logps"] if self.objective.kl != 0.0 else None,
            term_weights=self._term_weights,
        )
        tally_loss(self._tally, tokens, found, kept["entropy"], self.objective, inputs, weight)
        self._refuse_non_finite(found.loss)
        return found.loss

    def _policy_reading(
        self, model: Any, inputs: dict[str, Tensor], method: Method, objective: Objective
    ) -> dict[str, Tensor]:
        """What the method's loss wants to know of every response token, at the sampling temperature."""
        input_ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        attention_mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        reducers, num_tokens = loss_reducers(method, objective), inputs["completion_ids"].size(1)
        with self.accelerator.autocast():
            return read_last(model, input_ids, attention_mask, num_tokens, reducers, self.temperature)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **_: Any,
    ) -> tuple[Tensor, Tensor | None, None]:
        """What TRL asks of the policy before an update, and of its reference: in the same arithmetic as the loss, and without
        dropout, as rollouts are sampled."""
        reducers = [LogProb(), Entropy()] if compute_entropy else [LogProb()]
        size = batch_size or len(input_ids)
        with evaluating(model), self.accelerator.autocast():
            parts = [
                read_last(model, ids, mask, logits_to_keep, reducers, self.temperature)
                for ids, mask in zip(input_ids.split(size), attention_mask.split(size), strict=True)
            ]
        whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return whole["logprob"], whole.get("entropy"), None

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with writing(Path(self.args.output_dir)):
            super()._save_checkpoint(*args, **kwargs)

    # --- figures and guards -----------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL's log, with the figures of groups, salvage and loss added: one value for each logging step."""
        if self.model.training:
            figures = self._figures()
            self.last_figures |= {n: v for n, v in figures.items() if not n.startswith("seconds/")}
            for name, value in figures.items():
                self._metrics["train"][name].append(value)
        super().log(logs, start_time)

    def _figures(self) -> dict[str, float]:
        """The figures of all processes since the last time."""
        whole, *others = self.processes.together("figures", lambda: self._tally)
        for other in others:
            whole += other
        self._tally = Tally()
        return whole.flush()

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
        with replacing(kept) as beside:
            save_file({k: v.detach().cpu().contiguous() for k, v in inputs.items() if isinstance(v, Tensor)}, beside)
        raise NonFiniteLoss(
            f"{what} at step {self.state.global_step + 1}; the update was not made and the batch is kept in {kept}. "
            "Lower the learning rate or the clip bounds, or look at the batch for a token of probability zero"
        )
