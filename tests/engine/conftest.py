"""A small world for the trainer: embedded models, one generation batch, the TRL release under test."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig

from scope_rlvr.core.ports import JudgeKind, JudgeReply, JudgeRequest
from scope_rlvr.embedded import model_path
from scope_rlvr.engines.trl.trainer import ScopeTrainer
from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.methods import Grpo, Method
from scope_rlvr.models.local import TokenizerCodec
from scope_rlvr.problems import families
from scope_rlvr.salvage.rules import Threshold
from scope_rlvr.scorers.families import TokenClassifier
from scope_rlvr.scorers.token_classifier import TokenClassifierScorer, load_token_classifier
from scope_rlvr.teachers.local import LocalTeacher

torch.set_num_threads(1)


def pytest_report_header() -> str:
    return f"trl {trl.__version__}"


@pytest.fixture(scope="session", autouse=True)
def _the_expected_trl_is_under_test() -> None:
    expected = os.environ.get("SCOPE_EXPECTED_TRL")
    assert expected in (None, trl.__version__), f"these tests were to run on TRL {expected}, not {trl.__version__}"


def load_policy() -> tuple[Any, Any]:
    folder = model_path("policy")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="session")
def scorer() -> TokenClassifierScorer:
    return load_token_classifier(model_path("step_scorer"), TokenClassifier(), Threshold())


@pytest.fixture(scope="session")
def teacher() -> LocalTeacher:
    policy_codec = TokenizerCodec(AutoTokenizer.from_pretrained(model_path("policy")))
    return LocalTeacher.load(model_path("teacher"), policy_codec, dtype=torch.float32)


@pytest.fixture(scope="session")
def rows() -> list[dict[str, Any]]:
    problems = families.get("reduction").sample(level=5, count=32, seed=3)
    return [{"prompt": p.prompt, "reference": p.reference, "id": p.id, "level": p.level} for p in problems]


def grpo_config(folder: Path, **changes: Any) -> GRPOConfig:
    values: dict[str, Any] = {
        "output_dir": str(folder),
        "num_generations": 4,
        "per_device_train_batch_size": 16,
        "gradient_accumulation_steps": 1,
        "steps_per_generation": 1,
        "max_completion_length": 80,
        "max_steps": 2,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "loss_type": "dr_grpo",
        "scale_rewards": "none",
        "temperature": 1.0,
        "seed": 7,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
    }
    return GRPOConfig(**(values | changes))


class EqualJudge:
    """Finds all responses alike where it compares them, and the shorter ones better where it marks them."""

    def judge(self, requests: list[JudgeRequest], *, seed: int) -> list[JudgeReply]:
        return [JudgeReply(tuple(self._score(request, text) for text in request.responses)) for request in requests]

    def _score(self, request: JudgeRequest, text: str) -> float:
        return 1 / (1 + len(text)) if request.kind is JudgeKind.SCORE else 1 / len(request.responses)


MakeTrainer = Callable[..., ScopeTrainer]


@pytest.fixture
def make_trainer(
    tmp_path: Path, rows: list[dict[str, Any]], scorer: TokenClassifierScorer, teacher: LocalTeacher
) -> MakeTrainer:
    """``make_trainer(method, trainer_argument=..., args={...})``"""

    def make(method: Method | None = None, args: dict[str, Any] | None = None, **kwargs: Any) -> ScopeTrainer:
        model, tokenizer = load_policy()
        given = {
            "model": model,
            "processing_class": tokenizer,
            "method": method or Grpo(),
            "verifier": FinalAnswerVerifier(),
            "step_scorer": scorer,
            "teacher": teacher,
            "train_dataset": Dataset.from_list(rows),
            "args": grpo_config(tmp_path, **(args or {})),
        }
        return ScopeTrainer(**(given | kwargs))

    return make


def first_batch(trainer: ScopeTrainer) -> dict[str, Any]:
    """The first generation batch of a run, scored and credited, unshuffled."""
    trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    return trainer._generate_and_score_completions(batch)
