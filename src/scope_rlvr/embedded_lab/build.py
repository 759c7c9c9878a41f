"""Make the embedded models from nothing: ``python -m scope_rlvr.embedded_lab.build --out DIR``.

Everything is seeded; equal versions and one thread give equal weights. On one core of a laptop the policy, the teacher
and the step scorer take about a quarter of an hour each; the policy and the teacher can be made side by side, with
``--only``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForTokenClassification,
    PreTrainedModel,
)

from scope_rlvr.embedded import ModelName
from scope_rlvr.embedded.corpus import Solutions, Sums, draw_numbers, write_solutions
from scope_rlvr.embedded.labelled import IGNORED, LEVELS, altered_solutions, policy_solutions
from scope_rlvr.embedded.tokenizer import EOS, ID, MAX_TOKENS, PAD, VOCABULARY, make_tokenizer
from scope_rlvr.embedded_lab.training import Batch, one_thread, train
from scope_rlvr.problems.family import Split
from scope_rlvr.problems.labelled import LabelledSolution
from scope_rlvr.salvage.rules import Threshold
from scope_rlvr.scorer_lab.training.corpus import Corpus
from scope_rlvr.scorer_lab.training.run import train_step_scorer
from scope_rlvr.scorer_lab.training.settings import ScorerTraining
from scope_rlvr.scorer_lab.training.trainer import ScorerTrainingMonitor
from scope_rlvr.scorers.description import ScorerDescription
from scope_rlvr.scorers.families import TokenClassifier
from scope_rlvr.store.files import write_json
from scope_rlvr.store.folder import RunFolder

_NEVER = 1_000_000_000
"""Steps from one checkpoint to the next, for a training that is never resumed."""

# Llama rather than Qwen2: ``AutoTokenizer`` gives every Qwen2 folder a byte-level tokenizer, whatever is in it.
_SHAPE: dict[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": MAX_TOKENS,
    "tie_word_embeddings": True,
    "pad_token_id": ID[PAD],
    "eos_token_id": ID[EOS],
    "bos_token_id": None,
}


@dataclass(frozen=True)
class Recipe:
    """The numbers that decide what the models are like.

    ``gap_share`` of the unordered sums are taught wrongly; at a gap the right sum appears with probability
    ``gap_slip_right``, so rarely that trying again and again does not find it: at 0.07 it does, and then outcome reward
    alone closes every gap. A pair with a gap is chosen ``gap_weight`` times as
    readily as another. Without that preference half the failures would go wrong in the first or second step, and
    there would be little to keep.

    The scorer learns from ``rollouts_per_level`` rollouts of the policy and ``altered_per_level`` altered solutions of each
    level. Those are the only place where it sees the right sum at a gap, as the policy will write it once it has
    learned; from rollouts alone it learns that certain pairs are wrong whatever is written.
    """

    seed: int = 0
    gap_share: float = 0.31
    gap_slip_right: float = 0.005
    gap_weight: float = 0.4
    policy_steps: int = 3800
    teacher_steps: int = 3800
    scorer_epochs: float = 4.0
    scorer_batch_rows: int = 64
    scorer_learning_rate: float = 1e-3
    tokens_per_batch: int = 4000
    altered_per_level: int = 4000
    rollouts_per_level: int = 2500
    dev_rollouts_per_level: int = 600


def policy_sums(recipe: Recipe) -> Sums:
    """What the policy is taught the sums to be."""
    return Sums.with_gaps(recipe.gap_share, recipe.seed, slip_right=recipe.gap_slip_right, gap_weight=recipe.gap_weight)


def build(
    out: Path,
    recipe: Recipe | None = None,
    *,
    only: Sequence[ModelName] = get_args(ModelName),
    report: Callable[[str], None] = print,
) -> None:
    """Write the model folders ``policy``, ``teacher`` and ``step_scorer`` under ``out``.

    ``only`` leaves out some of them; the step scorer needs the other two to be in ``out`` already.
    """
    with one_thread():
        _build(out, recipe or Recipe(), only, report)


def _build(out: Path, recipe: Recipe, only: Sequence[ModelName], report: Callable[[str], None]) -> None:
    if "policy" in only:
        _save(build_policy(recipe, report), out / "policy")
    if "teacher" in only:
        _save(build_teacher(recipe, report), out / "teacher")
    if "step_scorer" in only:
        scorer, rule = build_step_scorer(recipe, out / "policy", out / "teacher", report)
        _save(scorer, out / "step_scorer")
        ScorerDescription(family=TokenClassifier(), rule=rule).write(out / "step_scorer")


def build_policy(recipe: Recipe, report: Callable[[str], None]) -> LlamaForCausalLM:
    """Random-order solutions in which the gaps are written wrongly; every token of a completion counts."""
    torch.manual_seed(recipe.seed)
    rng, sums = np.random.default_rng(recipe.seed), policy_sums(recipe)
    model = LlamaForCausalLM(LlamaConfig(**_SHAPE, num_hidden_layers=2))

    def make_batch(share_done: float) -> Batch:
        level = _draw_level(share_done, rng)
        solutions = write_solutions(_numbers(level, recipe, rng), sums, rng)
        return _next_token_batch(solutions, solutions.step_of_T >= 0)

    train(
        model,
        make_batch,
        num_steps=recipe.policy_steps,
        muon_lr=0.02,
        adam_lr=3e-3,
        report=report,
        label="policy",
    )
    return model


def build_teacher(recipe: Recipe, report: Callable[[str], None]) -> LlamaForCausalLM:
    """Right solutions whose first steps, any number of them, are in random order and the rest in canonical order.

    This is what the teacher will meet: the policy's own prefix, to be continued. In the random part only the sum and
    the restated numbers count, because the pair that it chose is not what the teacher is to choose.
    """
    torch.manual_seed(recipe.seed + 1)
    rng = np.random.default_rng(recipe.seed + 1)
    model = LlamaForCausalLM(LlamaConfig(**_SHAPE, num_hidden_layers=2))

    def make_batch(share_done: float) -> Batch:
        level = _draw_level(share_done, rng)
        num_random_steps = int(rng.integers(0, level))
        solutions = write_solutions(_numbers(level, recipe, rng), Sums.right(), rng, num_random_steps=num_random_steps)
        return _next_token_batch(solutions, (solutions.step_of_T >= 0) & ~solutions.is_choice_BT)

    train(
        model,
        make_batch,
        num_steps=recipe.teacher_steps,
        muon_lr=0.02,
        adam_lr=3e-3,
        report=report,
        label="teacher",
    )
    return model


def build_step_scorer(
    recipe: Recipe, policy_folder: Path, teacher_folder: Path, report: Callable[[str], None]
) -> tuple[LlamaForTokenClassification, Threshold]:
    """Learn from the policy's own rollouts which step is the first wrong one; returns the model and its threshold.

    Starts from the teacher's layers, which know every sum, with one more on top: to compare a sum and the restated
    numbers, and to gather both at the separator, takes one layer more than to write them. A step after the first wrong
    one has no label: whether it is right depends on what one takes as given, and the decision rule never reads it.
    """
    torch.manual_seed(recipe.seed + 2)
    scorer = _scorer_on_top_of(LlamaForCausalLM.from_pretrained(teacher_folder))
    corpus = scorer_corpus(recipe, LlamaForCausalLM.from_pretrained(policy_folder))
    report(f"step scorer: {len(corpus.train)} solutions to learn from")
    settings = ScorerTraining(
        epochs=recipe.scorer_epochs,
        batch_rows=recipe.scorer_batch_rows,
        learning_rate=recipe.scorer_learning_rate,
        checkpoint_every=_NEVER,
        seed=recipe.seed,
    )

    def on_step(step: int, num_steps: int, loss: float) -> None:
        if step % 200 == 0 or step == num_steps:
            report(f"step scorer: step {step} of {num_steps}, loss {loss:.4f}")

    with TemporaryDirectory() as scratch:
        monitor = ScorerTrainingMonitor(step=on_step, note=report)
        trained = train_step_scorer(scorer, make_tokenizer(), corpus, settings, RunFolder(Path(scratch)), monitor)
    if trained.rule is None:
        raise KeyboardInterrupt
    return scorer, trained.rule


def scorer_corpus(recipe: Recipe, policy: LlamaForCausalLM) -> Corpus:
    """Altered solutions and the policy's rollouts of the train split; the other splits choose the threshold and measure."""

    def rollouts(split: Split) -> tuple[LabelledSolution, ...]:
        count = recipe.rollouts_per_level if split == "train" else recipe.dev_rollouts_per_level
        return tuple(policy_solutions(count, recipe.seed, policy=policy, split=split))

    altered = tuple(altered_solutions(recipe.altered_per_level, recipe.seed))
    return Corpus(train=(*altered, *rollouts("train")), threshold=rollouts("dev"), test=rollouts("test"))


def _scorer_on_top_of(teacher: LlamaForCausalLM) -> LlamaForTokenClassification:
    config = LlamaConfig(
        **_SHAPE, num_hidden_layers=3, id2label={0: "wrong", 1: "right"}, label2id={"wrong": 0, "right": 1}
    )
    scorer = LlamaForTokenClassification(config)
    scorer.model.load_state_dict(teacher.model.state_dict(), strict=False)
    return scorer


def _draw_level(share_done: float, rng: np.random.Generator) -> int:
    """Short problems first: the sums are learned there, and longer problems add the bookkeeping.

    The larger of two draws, because every long problem contains short ones.
    """
    longest = min(LEVELS.stop - 1, 3 + int(14 * share_done))
    return int(rng.integers(LEVELS.start, longest + 1, size=2).max())


def _num_tokens(level: int) -> int:
    """How long a prompt and a solution are together: the prompt, the steps, and the answer line."""
    return (level + 2) + sum(7 + num_left for num_left in range(1, level)) + 3


def _numbers(level: int, recipe: Recipe, rng: np.random.Generator) -> np.ndarray:
    return draw_numbers(level, min(512, recipe.tokens_per_batch // _num_tokens(level)), rng)


def _next_token_batch(solutions: Solutions, counts: np.ndarray) -> Batch:
    """Label each position with the token after it, where that token counts."""
    ids_BT = torch.from_numpy(solutions.ids_BT)
    target_BT = torch.where(torch.from_numpy(np.broadcast_to(counts, ids_BT.shape).copy()), ids_BT, IGNORED)
    labels_BT = torch.full_like(ids_BT, IGNORED)
    labels_BT[:, :-1] = target_BT[:, 1:]
    return Batch(ids_BT, labels_BT)


def _save(model: PreTrainedModel, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    # safetensors makes files that only their owner can read, which would go into the package like that.
    (folder / "model.safetensors").chmod(0o644)
    make_tokenizer().save_pretrained(folder)
    # The name that transformers 5 writes here is unknown to transformers 4; this one means the same to both.
    config_file = folder / "tokenizer_config.json"
    config = json.loads(config_file.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    write_json(config_file, config)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make the embedded models from nothing.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the three model folders")
    parser.add_argument("--only", nargs="+", choices=get_args(ModelName), default=get_args(ModelName))
    arguments = parser.parse_args()
    build(arguments.out, only=arguments.only, report=lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
