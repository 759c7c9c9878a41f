"""What a method may use while it makes and edits groups, with every token and every second accounted for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from scope_rlvr.core.accounting import Stopwatch, TeacherLog
from scope_rlvr.core.groups import Group, Member, StepScores
from scope_rlvr.core.ports import (
    Continuation,
    DecisionRule,
    Fault,
    Judge,
    JudgeReply,
    JudgeRequest,
    Policy,
    ProblemPool,
    ReadableModel,
    Reducer,
    Sampling,
    ScoreReply,
    ScoreRequest,
    StepScorer,
    Teacher,
    TeacherReply,
    TeacherRequest,
    TextCodec,
    Verifier,
    is_served,
    scoring_refusal,
)
from scope_rlvr.core.processes import ONE_PROCESS, Processes
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.steps import Step, StepRule, split_steps
from scope_rlvr.core.types import Origin, Outcome, Problem, Rollout, Segment, Verdict

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def trusted_scores(
    scores: Sequence[tuple[float, ...] | None], num_steps: Sequence[int]
) -> list[tuple[float, ...] | None]:
    """A scorer's reply as far as it can be used: ``None`` for a solution with missing, surplus or non-finite scores.

    >>> trusted_scores([(0.9, 0.1), (0.9,), (float("nan"), 0.5)], num_steps=[2, 2, 2])
    [(0.9, 0.1), None, None]
    """
    if len(scores) != len(num_steps):
        return [None] * len(num_steps)
    return [
        s if s is not None and len(s) == count and all(math.isfinite(x) for x in s) else None
        for s, count in zip(scores, num_steps, strict=True)
    ]


def trusted_token_scores(replies: Sequence[ScoreReply], num_tokens: Sequence[int]) -> list[ScoreReply]:
    """A teacher's replies as far as they can be used: failed ones for missing, surplus or non-finite log-probabilities.

    >>> [reply.error for reply in trusted_token_scores([ScoreReply((-0.5, -2.0)), ScoreReply((-0.5,))], num_tokens=[2, 2])]
    [None, '1 log-probabilities for 2 tokens, or not all of them are finite']
    """
    if len(replies) != len(num_tokens):
        return [ScoreReply(error=f"{len(replies)} replies to {len(num_tokens)} requests")] * len(num_tokens)
    return [
        reply
        if reply.error is not None or (reply.num_tokens == count and all(map(math.isfinite, reply.logprobs or ())))
        else ScoreReply(
            error=f"{reply.num_tokens} log-probabilities for {count} tokens, or not all of them are finite",
            fault=Fault.MALFORMED,
            effort=reply.effort,
        )
        for reply, count in zip(replies, num_tokens, strict=True)
    ]


@dataclass(frozen=True)
class Toolbox:
    """What a method may use. ``step_scorer`` and ``teacher`` may be missing.

    ``step`` of ``num_steps`` is the optimiser step that this batch begins with, from 1. ``memory`` is what the method
    remembers from one step to the next: JSON values, saved with every checkpoint. ``tokens`` counts what was written:
    ``sampled`` (fresh rollouts), ``continuation`` (everything else that the policy wrote), ``teacher``, whether it
    was used or thrown away, and ``scored``, tokens that a teacher was asked about; ``teacher_log`` what became of the
    questions to the teacher. ``processes`` share the work out; a method does the same in all of them.

    ``readers`` are the models that can be read, by name. ``pool`` holds all training problems. ``tensors`` is a second
    memory, for tensors by name, saved with every checkpoint as ``memory`` is. ``figures`` are the metrics of the step before,
    and ``told`` are figures that the method wants among this step's, by name; they are logged as ``method/NAME``.
    """

    policy: Policy
    verifier: Verifier
    codec: TextCodec
    sampling: Sampling
    max_response_tokens: int
    seed: int
    steps: StepRule = field(default_factory=StepRule)
    step_scorer: StepScorer | None = None
    teacher: Teacher | None = None
    step: int = 1
    num_steps: int = 1
    prompt_reader: Callable[[Problem, str], tuple[int, ...]] | None = None
    problem_source: Callable[[int, int], Sequence[Group]] | None = None
    pool: ProblemPool | None = None
    readers: Mapping[str, ReadableModel] = field(default_factory=dict)
    judge: Judge | None = None
    memory: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Any] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    told: dict[str, float] = field(default_factory=dict)
    processes: Processes = ONE_PROCESS
    clock: Stopwatch = field(default_factory=Stopwatch)
    tokens: Counter[str] = field(default_factory=Counter)
    teacher_log: TeacherLog = field(default_factory=TeacherLog)

    # --- reading ----------------------------------------------------------------------------------------------

    def text(self, rollout: Rollout) -> str:
        """The text of a response."""
        return "".join(self.codec.pieces(rollout.token_ids))

    def split(self, rollout: Rollout) -> tuple[Step, ...]:
        """The steps of a response."""
        return split_steps(self.codec.pieces(rollout.token_ids), self.steps)

    def read_prompt(self, problem: Problem, text: str) -> tuple[int, ...]:
        """The ids of a problem's prompt with ``text`` in the place of the problem's own."""
        return self.codec.encode_prompt(text) if self.prompt_reader is None else self.prompt_reader(problem, text)

    @property
    def vocabulary_size(self) -> int:
        """How many tokens the policy can choose from."""
        return self.codec.vocabulary_size

    def fresh_problems(self, count: int, *names: int | str) -> list[Group]:
        """Further training problems, drawn at random, as groups without members."""
        if self.problem_source is None:
            raise ValueError("this method draws further problems, and the engine gave it none to draw from")
        return list(self.problem_source(count, derive_seed(self.seed, "problems", *names)))

    # --- the policy -------------------------------------------------------------------------------------------

    def sample(self, groups: Sequence[Group], num_rollouts: int, *names: int | str) -> list[Group]:
        """Each group with ``num_rollouts`` fresh, verified rollouts as its members."""
        starts = [Rollout(group.prompt_ids, ()) for group in groups for _ in range(num_rollouts)]
        rollouts = self.extend(starts, "sampling", *names)
        problems = [group.problem for group in groups for _ in range(num_rollouts)]
        members = self.verified(list(zip(problems, rollouts, strict=True)))
        return [
            replace(group, members=tuple(members[i * num_rollouts : (i + 1) * num_rollouts]))
            for i, group in enumerate(groups)
        ]

    def extend(
        self,
        starts: Sequence[Rollout],
        *names: int | str,
        stop_texts: tuple[str, ...] = (),
        max_tokens: int | None = None,
    ) -> list[Rollout]:
        """What the policy makes of unfinished rollouts. ``names`` seed the draw; the first is the phase's name.

        Each goes on until the policy ends it, at most up to the longest response; with ``stop_texts`` only until one of
        these is written, and with ``max_tokens`` by no more than so many tokens. What ends for another reason than that the
        policy ended it, comes back as truncated, and may be extended again.
        """
        if not starts:
            return []
        phase = str(names[0])
        rooms = [self.max_response_tokens - len(start) for start in starts]
        controlled = {} if self.sampling.control is None else {"num_written": [len(start) for start in starts]}
        with self.clock.phase(phase):
            continuations = self.policy.extend(
                [(*start.prompt_ids, *start.token_ids) for start in starts],
                replace(self.sampling, stop_texts=stop_texts) if stop_texts else self.sampling,
                max_tokens=rooms if max_tokens is None else [min(room, max_tokens) for room in rooms],
                seed=derive_seed(self.seed, *names),
                **controlled,
            )
        written = sum(len(c.token_ids) for c in continuations)
        self.tokens["sampled" if phase == "sampling" else "continuation"] += written
        return [continue_rollout(start, c) for start, c in zip(starts, continuations, strict=True)]

    def entropies(self, rollouts: Sequence[Rollout]) -> list[tuple[float, ...]]:
        """The policy's entropy in nats before each token of each response."""
        with self.clock.phase("entropy"):
            return self.policy.entropies(
                [r.prompt_ids for r in rollouts], [r.token_ids for r in rollouts], self.sampling.temperature or 1.0
            )

    def read(
        self, reader: str, texts: Sequence[tuple[Sequence[int], Sequence[int]]], reducers: Sequence[Reducer]
    ) -> list[dict[str, Any]]:
        """What the reducers keep of each text, a prompt and a response, as the model of this name reads it."""
        if not texts:
            return []
        if reader not in self.readers:
            raise ValueError(
                f"the model {reader!r} is to be read here, and there is none; known: {', '.join(self.readers)}"
            )
        model = self.readers[reader]

        def reading(part: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[dict[str, Any]]:
            prompts, responses = [prompt for prompt, _ in part], [response for _, response in part]
            return model.read(prompts, responses, reducers, self.sampling.temperature or 1.0)

        with self.clock.phase("reading"):
            return self.processes.spread(f"reading by the {reader}", texts, reading)

    # --- the others -------------------------------------------------------------------------------------------

    def verify(self, attempts: Sequence[tuple[Problem, Rollout]]) -> list[Verdict]:
        """Verdicts of rollouts; a truncated one is wrong without asking."""

        def judged(part: Sequence[tuple[Problem, Rollout]]) -> list[Verdict]:
            return self.verifier.verify([(problem, self.text(rollout)) for problem, rollout in part])

        ended = [(problem, rollout) for problem, rollout in attempts if not rollout.is_truncated]
        with self.clock.phase("verifying"):
            verdicts = iter(self.processes.spread("verifying", ended, judged))
        truncated = Verdict(Outcome.WRONG, reason="truncated")
        return [truncated if rollout.is_truncated else next(verdicts) for _, rollout in attempts]

    def verify_texts(self, attempts: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """Verdicts of texts, which need not be whole responses."""
        with self.clock.phase("verifying"):
            return self.processes.spread("verifying", attempts, self.verifier.verify)

    def verified(self, attempts: Sequence[tuple[Problem, Rollout]]) -> list[Member]:
        """Verified members of a group."""
        verdicts = self.verify(attempts)
        return [Member(rollout, verdict) for (_, rollout), verdict in zip(attempts, verdicts, strict=True)]

    def ask(self, requests: Sequence[TeacherRequest], *names: int | str) -> list[TeacherReply]:
        """One reply a request; a teacher that answers with another number of replies has failed for all."""
        if not requests:
            return []
        if self.teacher is None:
            raise ValueError("a teacher is needed here, and none was given")
        teacher, index = self.teacher, self.processes.index
        # Two processes with one seed would draw the same for different requests.
        seed = derive_seed(self.seed, *names, "teacher", *([index] if index else []))

        def asked(part: Sequence[TeacherRequest]) -> list[TeacherReply]:
            replies = teacher.continue_from(part, seed=seed)
            if len(replies) != len(part):
                return [TeacherReply(error=f"{len(replies)} replies to {len(part)} requests")] * len(part)
            return replies

        with self.clock.phase("teacher"):
            replies = self._helped("asking the teacher", teacher, requests, asked)
        self.teacher_log.add(replies)
        return replies

    def score_tokens(
        self, texts: Sequence[tuple[Problem, Sequence[int], Sequence[int]]], *, top_k: int = 0
    ) -> list[dict[str, Any]]:
        """The teacher's log-probability of each token of responses that it did not write.

        ``logprob`` and, with ``top_k`` above 0, ``top_ids`` and ``top_logprobs``, for each problem, prompt and response;
        nothing for a response that the teacher could not score.
        """
        if not texts:
            return []
        refusal = "none was given" if self.teacher is None else scoring_refusal(self.teacher)
        if refusal is not None:
            raise ValueError(f"a teacher that scores tokens is needed here, and {refusal}")
        teacher: Any = self.teacher
        requests = [
            ScoreRequest(problem, tuple(prompt), tuple(response), "".join(self.codec.pieces(response)), top_k=top_k)
            for problem, prompt, response in texts
        ]
        with self.clock.phase("teacher"):
            replies = self._helped("scoring tokens by the teacher", teacher, requests, teacher.score)
        replies = trusted_token_scores(replies, [len(request.response_ids) for request in requests])
        self.teacher_log.add(replies)
        self.tokens["scored"] += sum(reply.num_tokens for reply in replies)
        return [_kept_of(reply) for reply in replies]

    def ask_judge(self, requests: Sequence[JudgeRequest], *names: int | str) -> list[tuple[float, ...] | None]:
        """One number for each response of each request; ``None`` where the judge failed."""
        if not requests:
            return []
        if self.judge is None:
            raise ValueError("a judge is needed here, and none was given")
        judge, seed = self.judge, derive_seed(self.seed, *names, "judge")

        def judged(part: Sequence[JudgeRequest]) -> list[JudgeReply]:
            return judge.judge(part, seed=seed)

        with self.clock.phase("judging"):
            replies = self._helped("asking the judge", judge, requests, judged)
        return trusted_scores([reply.scores for reply in replies], [len(request.responses) for request in requests])

    def score(self, solutions: Sequence[tuple[Problem, Sequence[Step]]]) -> list[tuple[float, ...] | None]:
        """Scores that can be trusted: ``None`` for a solution with missing, surplus or non-finite scores."""
        if not solutions:
            return []
        if self.step_scorer is None:
            raise ValueError("a step scorer is needed here, and none was given")
        scorer = self.step_scorer

        def scored(part: Sequence[tuple[Problem, Sequence[Step]]]) -> list[tuple[float, ...] | None]:
            scores = scorer.score([(problem, [s.text for s in steps]) for problem, steps in part])
            return trusted_scores(scores, [len(steps) for _, steps in part])

        with self.clock.phase("scoring"):
            return self._helped("scoring", scorer, solutions, scored)

    @property
    def decision_rule(self) -> DecisionRule:
        """The rule that reads the step scorer's scores."""
        if self.step_scorer is None:
            raise ValueError("a step scorer is needed here, and none was given")
        return self.step_scorer.rule

    def _helped(
        self, what: str, helper: object, items: Sequence[_Item], work: Callable[[Sequence[_Item]], list[_Result]]
    ) -> list[_Result]:
        """A helper's work; what stands behind a server is asked by one process, whose budget and patience are the run's."""
        if is_served(helper):
            return self.processes.once(what, lambda: work(items))
        return self.processes.spread(what, items, work)

    def score_members(self, groups: Sequence[Group], wanted: Callable[[Member], bool]) -> list[Group]:
        """The groups, with step scores on every member that is ``wanted`` and could be scored."""
        chosen = [(group.problem, m, self.split(m.rollout)) for group in groups for m in group.members if wanted(m)]
        scores = iter(self.score([(problem, steps) for problem, _, steps in chosen]))
        scored = {id(m): self._step_scores(steps, next(scores)) for _, m, steps in chosen}
        return [
            replace(
                group,
                members=tuple(replace(m, step_scores=scored[id(m)]) if id(m) in scored else m for m in group.members),
            )
            for group in groups
        ]

    def _step_scores(self, steps: tuple[Step, ...], scores_S: tuple[float, ...] | None) -> StepScores | None:
        return None if scores_S is None else StepScores(steps, scores_S, self.decision_rule.first_wrong(scores_S))


def _kept_of(reply: ScoreReply) -> dict[str, Any]:
    if reply.logprobs is None:
        return {}
    return {"logprob": reply.logprobs, "top_ids": reply.top_ids, "top_logprobs": reply.top_logprobs}


def continue_rollout(start: Rollout, continuation: Continuation) -> Rollout:
    """``start`` with what the policy sampled after it."""
    segment = Segment(continuation.token_ids, Origin.POLICY, continuation.logprobs)
    return start.then(segment, is_truncated=not continuation.finished)
