"""A run folder without a training run: scripted players, but the project's own salvage and its own records."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.core.ports import Continuation, Sampling, TeacherReply, TeacherRequest
from scope_rlvr.core.toolbox import Toolbox, continue_rollout
from scope_rlvr.core.types import Outcome, Problem, Rollout, Verdict
from scope_rlvr.methods.metrics import group_tally
from scope_rlvr.problems.reduction import Reduction, add
from scope_rlvr.salvage.salvage import salvage
from scope_rlvr.salvage.settings import SalvageSettings
from scope_rlvr.store.records import group_records
from scope_rlvr.store.rollouts import append_rollouts

SALVAGE = SalvageSettings(max_salvages=2)
GROUP_SIZE = 4
ROOM = 300
END = 0
REMARK = " # "


def _work(step: str) -> str:
    """A step without its remark."""
    return step.split(REMARK)[0]


@dataclass
class Words:
    """Every word with the white space after it is a token; the vocabulary grows as it is used."""

    words: list[str] = field(default_factory=lambda: [""])
    end_id: int = END
    end_ids: frozenset[int] = frozenset({END})

    def pieces(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        return tuple(self.words[token] for token in token_ids)

    def encode(self, text: str) -> tuple[int, ...]:
        pieces = text.replace("\n\n", " \n\n ").replace("  ", " ").split(" ")
        return tuple(self._id(f"{piece} " if piece.strip() else piece) for piece in pieces if piece)

    def _id(self, piece: str) -> int:
        if piece not in self.words:
            self.words.append(piece)
        return self.words.index(piece)


@dataclass
class ForgetfulPolicy:
    """Solves reductions, with a wrong sum every now and then. After every step stands its ``remark``."""

    codec: Words
    error_rate: float
    remark: str

    def extend(
        self, prefixes: Sequence[Sequence[int]], sampling: Sampling, *, max_tokens: Sequence[int], seed: int
    ) -> list[Continuation]:
        rng = Random(seed)
        return [
            self._continue("".join(self.codec.pieces(p)), n, rng) for p, n in zip(prefixes, max_tokens, strict=True)
        ]

    def _continue(self, text: str, room: int, rng: Random) -> Continuation:
        last = _work(text.strip().split("\n\n")[-1])
        if "reduce" not in last and ":" not in last:
            return Continuation((END,), (0.0,), finished=True)
        numbers = [int(word) for word in last.removeprefix("reduce").split(":")[-1].split() if word.isdecimal()]
        steps = []
        while len(numbers) > 1:
            a, b = (numbers.pop(rng.randrange(len(numbers))) for _ in range(2))
            total = add(a, b + (rng.random() < self.error_rate))
            numbers = sorted([*numbers, total])
            steps.append(f"{a} + {b} = {total} : {' '.join(map(str, numbers))}")
        steps.append(f"answer {numbers[0] if numbers else 0}")
        text = "\n\n".join(f"{step}{REMARK}{self.remark}" if self.remark else step for step in steps)
        token_ids = (*self.codec.encode(text), END)[:room]
        return Continuation(token_ids, (-0.5,) * len(token_ids), finished=token_ids[-1] == END)


@dataclass(frozen=True)
class Threshold:
    at: float = 0.5

    def first_wrong(self, step_scores_S: Sequence[float]) -> int | None:
        return next((i for i, score in enumerate(step_scores_S) if score < self.at), None)

    def accepts(self, step_scores_S: Sequence[float]) -> bool:
        return step_scores_S[-1] >= self.at


@dataclass
class NoisyScorer:
    """Knows the first wrong step, and misses it now and then."""

    rng: Random
    rule: Threshold = Threshold()

    def score(self, solutions: Sequence[tuple[Problem, Sequence[str]]]) -> list[tuple[float, ...] | None]:
        return [self._score(problem, steps) for problem, steps in solutions]

    def _score(self, problem: Problem, steps: Sequence[str]) -> tuple[float, ...] | None:
        if self.rng.random() < 0.03:
            return None
        wrong = Reduction().first_wrong_step(problem, [" ".join(_work(step).split()) for step in steps])
        wrong = len(steps) if wrong is None or self.rng.random() < 0.05 else wrong
        return tuple(self.rng.uniform(0.8, 1) if i < wrong else self.rng.uniform(0, 0.3) for i in range(len(steps)))


@dataclass
class HurriedTeacher:
    """Writes one right step, or says nothing, errs or fails now and then."""

    rng: Random

    def continue_from(self, requests: Sequence[TeacherRequest], *, seed: int) -> list[TeacherReply]:
        return [self._reply(request) for request in requests]

    def _reply(self, request: TeacherRequest) -> TeacherReply:
        luck = self.rng.random()
        if luck < 0.05:
            return TeacherReply(error="the server was not reachable")
        last = request.prefix_text.strip().split("\n\n")[-1] or request.problem.prompt
        numbers = [int(word) for word in _work(last).split(":")[-1].split() if word.isdecimal()]
        if len(numbers) < 2:
            return TeacherReply(text=f"answer {request.problem.reference}", finished=True)
        a, b = numbers[0], numbers[1]
        total = add(a, b + (luck < 0.15))
        rest = " ".join(map(str, sorted([*numbers[2:], total])))
        return TeacherReply(text=f"{a} + {b} = {total} : {rest}\n\n")


class LastWord:
    """Reads the last word of a response as its answer."""

    def verify(self, attempts: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        return [self._verdict(problem, text) for problem, text in attempts]

    def _verdict(self, problem: Problem, text: str) -> Verdict:
        if "answer" not in text:
            return Verdict(Outcome.WRONG, None, "no answer")
        answer = text.split("answer")[-1].split()[0]
        return Verdict(Outcome.RIGHT if answer == problem.reference else Outcome.WRONG, answer)


def make_run(
    folder: Path,
    *,
    num_steps: int = 12,
    num_problems: int = 4,
    remark: str = "",
    is_finished: bool = True,
    settings: SalvageSettings = SALVAGE,
) -> Path:
    """Write a run folder in the documented format; the same arguments give the same files.

    ``remark`` is written by the policy after every step, and stands before every prompt.
    """
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(_CONFIG.replace("STEPS", str(num_steps)), encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps({"python": "3.12.3", "torch": "2.9.0"}))
    rng, codec, counts = Random(0), Words(), {"failures": 0.0, "attempted": 0.0, "admitted": 0.0}
    with (folder / "metrics.jsonl").open("w") as metrics:
        for step in range(1, num_steps + 1):
            done = step / num_steps
            policy = ForgetfulPolicy(codec, 0.05 + 0.3 * math.exp(-3 * done), remark)
            groups = _one_step(policy, codec, rng, step, num_problems, settings)
            row = _metrics(groups, step, num_steps, rng)
            metrics.write(json.dumps(row) + "\n")
            rewards = [[float(m.verdict.is_right) for m in group.members] for group in groups]
            append_rollouts(folder, step, group_records(step, groups, rewards, codec))
            counts = {name: total + row[f"salvage/{name}"] for name, total in counts.items()}
    if is_finished:
        (folder / "summary.json").write_text(json.dumps(_summary(num_steps, counts)))
    return folder


def _one_step(
    policy: ForgetfulPolicy, codec: Words, rng: Random, step: int, num_problems: int, settings: SalvageSettings
) -> list[Group]:
    verifier, sampling = LastWord(), Sampling()
    groups = []
    for problem in Reduction().sample(3 + step % 4, num_problems, step):
        prompt_ids = codec.encode(problem.prompt)
        drawn = policy.extend(
            [prompt_ids] * GROUP_SIZE, sampling, max_tokens=[ROOM] * GROUP_SIZE, seed=rng.randrange(9**9)
        )
        rollouts = [continue_rollout(Rollout(prompt_ids, ()), continuation) for continuation in drawn]
        texts = ["".join(codec.pieces(rollout.token_ids)) for rollout in rollouts]
        verdicts = verifier.verify([(problem, text) for text in texts])
        groups.append(Group(problem, tuple(map(Member, rollouts, verdicts))))
    tools = Toolbox(
        policy, verifier, codec, sampling, ROOM, step, step_scorer=NoisyScorer(rng), teacher=HurriedTeacher(rng)
    )
    edited = salvage(groups, settings, tools)
    return [replace(g, problem=replace(g.problem, prompt=f"{policy.remark}{g.problem.prompt}")) for g in edited]


def _metrics(groups: list[Group], step: int, num_steps: int, rng: Random) -> dict[str, float]:
    advantages = [[_streams(member, group) for member in group.members] for group in groups]
    row = {"step": float(step)} | group_tally(groups, advantages).flush()
    done = step / num_steps
    row |= {
        "gradient/token_share": 0.45 + 0.25 * done + rng.gauss(0, 0.04),
        "gradient/teacher_token_share": max(0.0, 0.05 * (1 - done) + rng.gauss(0.01, 0.004)),
        "gradient/teacher_share": max(0.0, 0.04 * (1 - done) + rng.gauss(0.01, 0.004)),
        "policy/entropy": 0.2 + 0.5 * math.exp(-2 * done) + rng.gauss(0, 0.02),
        "policy/loss": rng.gauss(0, 0.01),
        "tokens/sampled": 900.0 * step,
        "tokens/teacher": 30.0 * step,
    }
    seconds = {"sampling": 0.9, "scoring": 0.2, "teacher": 0.15, "continuation": 0.3, "verifying": 0.05}
    row |= {f"seconds/{name}": value * rng.uniform(0.8, 1.2) for name, value in seconds.items()}
    row["seconds/step"] = 2.6 * rng.uniform(0.9, 1.1)
    if step % max(1, num_steps // 5) == 0:
        row |= {"eval/reduction-6/accuracy": 0.21 + 0.45 * done, "eval/reduction-8/accuracy": 0.05 + 0.28 * done**2}
    return row


def _streams(member: Member, group: Group) -> Streams:
    share = sum(m.verdict.is_right for m in group.members) / len(group.members)
    length = len(member.rollout)
    return Streams.of(member.rollout, [member.verdict.is_right - share] * length, [1.0] * length)


def _summary(num_steps: int, counts: dict[str, float]) -> dict[str, object]:
    def evaluation(role: str, level: int, accuracy: float, pass_at_8: float, distinct: float) -> dict[str, object]:
        return {
            "role": role,
            "level": level,
            "num_problems": 100,
            "samples_per_problem": 8,
            "accuracy": accuracy,
            "accuracy_interval": [accuracy - 0.04, accuracy + 0.05],
            "pass_at_8": pass_at_8,
            "diversity": {"distinct_right_solutions": distinct, "text_bleu": 0.412 + distinct / 100},
        }

    return {
        "schema": 1,
        "method": "scope",
        "seed": 7,
        "steps": num_steps,
        "stopped_because": "finished",
        "seconds": 2.6 * num_steps,
        "before": {
            "reduction-6": evaluation("trained", 6, 0.19, 0.6, 1.3),
            "reduction-8": evaluation("out of distribution", 8, 0.06, 0.27, 0.5),
        },
        "after": {
            "reduction-6": evaluation("trained", 6, 0.69, 0.93, 3.1),
            "reduction-8": evaluation("out of distribution", 8, 0.36, 0.71, 2.2),
        },
        "salvage": counts,
        "tokens": {"sampled": 900 * num_steps, "teacher": 30 * num_steps, "continuation": 120 * num_steps},
    }


_CONFIG = """
[run]
seed = 7
steps = STEPS
problems_per_step = 4

[model]
policy = "embedded:policy"

[steps]
separator = "\\n\\n"

[method]
name = "scope"
max_salvages = 2
ranking = "longest_prefix"
guards = { repeated = true, answer_leak = true, low_score = true }

[teacher]
model = "server"
api_key = "very-secret"

[[evaluation.sets]]
role = "trained"
level = 6
"""
