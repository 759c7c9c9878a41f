"""SCOPE from a script of your own, as with ``trl.GRPOTrainer``. Runs on a laptop CPU in under a minute.

python examples/trl_script.py [STEPS]
"""

from __future__ import annotations

import sys
import tempfile

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig

from scope_rlvr import LocalTeacher, RewardVerifier, Scope, ScopeTrainer, ScorerSection, TokenizerCodec, load_scorer
from scope_rlvr.embedded import model_path
from scope_rlvr.problems import families


def right_answer(completions: list[str], answer: list[str], **_: object) -> list[float]:
    """A reward function of the kind that TRL knows."""
    return [float(text.strip().endswith(f"answer {wanted}")) for text, wanted in zip(completions, answer, strict=True)]


def main(num_steps: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_path("policy"))
    policy = AutoModelForCausalLM.from_pretrained(model_path("policy"))
    teacher = LocalTeacher.load(model_path("teacher"), TokenizerCodec(tokenizer))
    problems = families.get("reduction").sample(level=6, count=8 * num_steps, seed=0)

    trainer = ScopeTrainer(
        model=policy,
        processing_class=tokenizer,
        args=GRPOConfig(
            output_dir=tempfile.mkdtemp(),
            max_steps=num_steps,
            num_generations=8,
            per_device_train_batch_size=64,
            gradient_accumulation_steps=1,
            max_completion_length=96,
            learning_rate=1.5e-4,
            loss_type="dr_grpo",
            scale_rewards="none",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_list([{"prompt": p.prompt, "answer": p.reference} for p in problems]),
        method=Scope(max_salvages=1),
        verifier=RewardVerifier(right_answer, right_at=1.0),
        step_scorer=load_scorer(ScorerSection(model="embedded:step_scorer")),
        teacher=teacher,
    )
    trainer.train()
    accuracies = [entry["accuracy"] for entry in trainer.state.log_history if "accuracy" in entry]
    print(f"accuracy of plain rollouts: {accuracies[0]:.2f} in the first step, {accuracies[-1]:.2f} in the last")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
