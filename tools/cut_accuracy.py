"""How often each rule finds the first wrong step of a failure, where the problem family knows it.

python -m tools.cut_accuracy 60    failures among 8 rollouts of the embedded policy to each of 60 problems
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from scope_rlvr.core.groups import Group
from scope_rlvr.core.ports import Sampling
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Outcome
from scope_rlvr.embedded import model_path
from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.models.local import LocalModel, TokenizerCodec
from scope_rlvr.problems import families
from scope_rlvr.salvage.cuts import CutRule, EntropyJump, FirstWrong, RandomStep, SiblingDisagreement, TeacherDrop
from scope_rlvr.salvage.failure import Failure
from scope_rlvr.salvage.rules import Threshold
from scope_rlvr.scorers.families import TokenClassifier
from scope_rlvr.scorers.token_classifier import load_token_classifier
from scope_rlvr.teachers.local import LocalTeacher

FAMILY = families.get("reduction")
RULES: tuple[CutRule, ...] = (
    FirstWrong(),
    TeacherDrop(),
    TeacherDrop(sure=0.0),
    EntropyJump(),
    SiblingDisagreement(),
    RandomStep(),
)


def toolbox(seed: int) -> Toolbox:
    """The embedded policy, teacher and step scorer."""
    folder = model_path("policy")
    codec = TokenizerCodec(AutoTokenizer.from_pretrained(folder))
    return Toolbox(
        policy=LocalModel(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), codec),
        verifier=FinalAnswerVerifier(FAMILY.answer_pattern),
        codec=codec,
        sampling=Sampling(),
        max_response_tokens=120,
        seed=seed,
        teacher=LocalTeacher.load(model_path("teacher"), codec, dtype=torch.float32),
        step_scorer=load_token_classifier(model_path("step_scorer"), TokenClassifier(), Threshold()),
    )


def failures(num_problems: int, tools: Toolbox) -> tuple[list[Failure], list[int]]:
    """Finished failures, and the first wrong step of each."""
    problems = FAMILY.sample(level=6, count=num_problems, seed=11)
    groups = tools.sample([Group(p, (), prompt_ids=tools.codec.encode_prompt(p.prompt)) for p in problems], 8)
    found = []
    for number, group in enumerate(groups):
        for index, member in enumerate(group.members):
            if member.verdict.outcome is Outcome.WRONG and not member.rollout.is_truncated:
                found.append(Failure(number, group, index, steps=tools.split(member.rollout)))
    truth = [FAMILY.first_wrong_step(f.problem, [step.text for step in f.steps]) for f in found]
    known = [(failure, first) for failure, first in zip(found, truth, strict=True) if first is not None]
    return [failure for failure, _ in known], [first for _, first in known]


def row(rule: CutRule, failed: Sequence[Failure], truth: Sequence[int], tools: Toolbox) -> str:
    """The shares of failures that are cut at the first wrong step, before it, after it, and not at all."""
    for failure in failed:
        failure.outcome = failure.cut_step = None
    rule.locate(failed, tools)
    gaps = [None if f.cut_step is None else f.cut_step - k for f, k in zip(failed, truth, strict=True)]
    shares = [
        sum(gap is not None and gap == 0 for gap in gaps),
        sum(gap is not None and gap < 0 for gap in gaps),
        sum(gap is not None and gap > 0 for gap in gaps),
        sum(gap is None for gap in gaps),
    ]
    settings = ", ".join(f"{name} = {value}" for name, value in rule.model_dump().items() if name != "kind")
    name = f"`{rule.model_dump()['kind']}`" + (f", {settings}" if settings else "")
    return f"| {name} | {' | '.join(f'{share / len(gaps):.0%}' for share in shares)} |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    tools = toolbox(seed=1)
    failed, truth = failures(int(sys.argv[1]), tools)
    print(f"{len(failed)} failures\n\n| cut | at the first wrong step | before | after | none |\n|---|---|---|---|---|")
    for rule in RULES:
        print(row(rule, failed, truth, tools))
