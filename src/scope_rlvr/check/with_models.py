"""What only shows once a run's models are loaded: each helper is asked something, and the longest step is run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from scope_rlvr.check.duration import run_duration
from scope_rlvr.check.longest_step import OutOfMemory, run_longest_step
from scope_rlvr.check.memory import GIB
from scope_rlvr.check.separators import separator_findings
from scope_rlvr.core.errors import UserError
from scope_rlvr.core.findings import Finding, error, is_passed, ok, warning
from scope_rlvr.core.ports import ScoreRequest, StepScorer, Teacher, TeacherRequest, TokenScorer
from scope_rlvr.core.types import Problem
from scope_rlvr.grading.settings import BOX_REMEDY, NO_BOX, asks_for_no_box
from scope_rlvr.methods.parts.base import Need
from scope_rlvr.models.layers import num_trained
from scope_rlvr.models.local import LocalModel, TokenizerCodec, same_vocabulary
from scope_rlvr.models.lora import num_parameters
from scope_rlvr.run.components import load_judge, load_policy, load_step_scorer, load_teacher
from scope_rlvr.run.config import RunConfig
from scope_rlvr.run.context import MeasuredPrompts, context_fits
from scope_rlvr.run.data import RunData
from scope_rlvr.scorers.settings import CALCULATOR, EXACT
from scope_rlvr.teachers.settings import SOLUTIONS

_TEACHER_TOKENS = 200
_MOST_SHOWN = 2000
"""Characters of a prompt or of a reply that are printed."""


@dataclass
class _Loaded:
    """What could be loaded."""

    policy: LocalModel
    teacher: Teacher | None = None
    scorer: StepScorer | None = None


def model_findings(config: RunConfig, data: RunData) -> Iterator[Finding]:
    """Load what the run would load, and try it: prompts, tokenizers, scorer, teacher, the longest step."""
    problems = data.training.problems
    try:
        loaded = _Loaded(load_policy(config, problems))
    except UserError as found:
        yield error("policy", str(found))
        return
    yield ok("policy", f"{config.model.policy}: {_size(config, loaded.policy)}")
    prompts = MeasuredPrompts.of(problems, loaded.policy.codec)
    admitted = prompts.at_most(config.problems.max_prompt_tokens)
    yield from _prompts(config, loaded.policy.codec, prompts, admitted)
    yield from separator_findings(config, loaded.policy, problems)
    yield from _helpers(config, loaded, problems)
    yield from _vocabularies(loaded)
    fits = list(_context(config, loaded.policy, admitted, data))
    yield from fits
    if is_passed(fits):
        yield from _longest_step(config, loaded, admitted.longest_first()[: config.run.problems_per_step], data)


def _size(config: RunConfig, policy: LocalModel) -> str:
    """How many parameters there are, and how many of them are trained."""
    lora, said = config.model.lora, f"{policy.model.num_parameters():,} parameters"
    if lora is not None:
        return f"{said}; adapters of {num_parameters(policy.model, lora):,} are trained"
    return said if config.model.train_layers is None else f"{said}; {num_trained(policy.model):,} of them are trained"


def _prompts(
    config: RunConfig, codec: TokenizerCodec, prompts: MeasuredPrompts, admitted: MeasuredPrompts
) -> Iterator[Finding]:
    """A prompt as the policy reads it, whether it asks for what the verifier reads, and how long prompts are."""
    shown = codec.prompt_as_read((*admitted.problems, *prompts.problems)[0].prompt)
    yield ok("prompt", f"the policy is shown:\n{_abbreviated(shown)}")
    if asks_for_no_box(config.verifier, shown):
        yield warning("prompt", NO_BOX, BOX_REMEDY)
    lengths = sorted(prompts.tokens_P)
    said = f"{lengths[len(lengths) // 2]} tokens in the middle, {lengths[-1]} at most"
    left_out = len(lengths) - len(admitted.problems)
    if left_out:
        limit = config.problems.max_prompt_tokens
        said += f"; {left_out} of {len(lengths)} problems are left out by problems.max_prompt_tokens = {limit}"
    yield ok("prompt", said)


def _abbreviated(text: str) -> str:
    """A text for the screen: of a very long one, its beginning and its end.

    >>> _abbreviated("x" * 5000).replace("x", "")
    '\\n[... 3,000 characters ...]\\n'
    """
    half, left_out = _MOST_SHOWN // 2, len(text) - _MOST_SHOWN
    return text if left_out <= 0 else f"{text[:half]}\n[... {left_out:,} characters ...]\n{text[-half:]}"


def _helpers(config: RunConfig, loaded: _Loaded, problems: Sequence[Problem]) -> Iterator[Finding]:
    """Load and try the step scorer and the teacher, where the method needs them."""
    if config.method.needs_step_scorer:
        try:
            loaded.scorer = load_step_scorer(config, problems, loaded.policy)
            tried = "works" if config.scorer.model in (CALCULATOR, EXACT) else "is loaded and passed its self-test"
            yield ok("scorer", f"{config.scorer.model} {tried}")
        except UserError as found:
            yield error("scorer", str(found))
    if config.method.needs_teacher:
        try:
            loaded.teacher = load_teacher(config, loaded.policy, problems)
            if Need.TEACHER in config.method.needs:
                yield _teacher(config, loaded, _question_for(config, problems))
            if Need.TEACHER_SCORES in config.method.needs:
                yield _scoring_teacher(config, loaded, problems[0])
        except UserError as found:
            yield error("teacher", str(found))
    if Need.JUDGE in config.method.needs:
        try:
            load_judge(config, loaded.policy)
            yield ok("judge", f"{config.judge.title} is there and gives verdicts that can be read")
        except UserError as found:
            yield error("judge", str(found))


def _question_for(config: RunConfig, problems: Sequence[Problem]) -> Problem:
    """A problem that the teacher has to know; of recorded solutions, one that has one."""
    if config.teacher.model != SOLUTIONS:
        return problems[0]
    return next(problem for problem in problems if problem.solution is not None)


def _teacher(config: RunConfig, loaded: _Loaded, problem: Problem) -> Finding:
    """One question to the teacher, as training would ask it for a whole solution."""
    assert loaded.teacher is not None
    codec, separator = loaded.policy.codec, config.steps.separator
    request = TeacherRequest(
        problem, codec.encode_prompt(problem.prompt), (), "", _TEACHER_TOKENS, separator, reference=problem.reference
    )
    (reply,) = loaded.teacher.continue_from([request], seed=config.run.seed)
    if reply.error is not None:
        return error(
            "teacher",
            f"{config.teacher.model} was asked for a first step and failed: {reply.error}",
            "look at the section [teacher] and at what listens there",
        )
    text = reply.text if reply.text is not None else "".join(codec.pieces(reply.token_ids or ()))
    if not text.strip():
        return warning("teacher", f"{config.teacher.model} wrote nothing", "look at teacher.prompt and its template")
    return ok("teacher", f"{config.teacher.model} was asked for a first step and wrote:\n{_abbreviated(text.strip())}")


def _scoring_teacher(config: RunConfig, loaded: _Loaded, problem: Problem) -> Finding:
    """The teacher's log-probabilities of a text, as training would ask for those of a rollout."""
    codec = loaded.policy.codec
    request = ScoreRequest(problem, codec.encode_prompt(problem.prompt), codec.encode(problem.prompt), problem.prompt)
    (reply,) = cast(TokenScorer, loaded.teacher).score([request])
    if reply.error is not None:
        return error(
            "teacher",
            f"{config.teacher.model} was asked to score tokens and failed: {reply.error}",
            "look at the section [teacher] and at what listens there",
        )
    return ok("teacher", f"{config.teacher.model} scored {reply.num_tokens} tokens")


def _vocabularies(loaded: _Loaded) -> Iterator[Finding]:
    """Whether policy, teacher and scorer read the same tokens."""
    own = loaded.policy.codec.tokenizer
    for name, helper in (("teacher", loaded.teacher), ("scorer", loaded.scorer)):
        tokenizer = _tokenizer_of(helper)
        if tokenizer is None or tokenizer is own:
            continue
        if same_vocabulary(own, tokenizer):
            yield ok("tokenizers", f"the {name} has the policy's vocabulary")
        else:
            passed = "its corrections are passed as text" if name == "teacher" else "it is shown text"
            yield ok("tokenizers", f"the {name} has another vocabulary than the policy: {passed}")


def _tokenizer_of(helper: Any) -> Any:
    """The tokenizer of a helper or of the one inside it, ``None`` where it reads text alone."""
    while helper is not None:
        codec = getattr(getattr(helper, "model", None), "codec", None)
        tokenizer = getattr(helper, "tokenizer", None) or getattr(codec, "tokenizer", None)
        if tokenizer is not None:
            return tokenizer
        helper = getattr(helper, "teacher", None) or getattr(helper, "scorer", None)
    return None


def _context(config: RunConfig, policy: LocalModel, admitted: MeasuredPrompts, data: RunData) -> Iterator[Finding]:
    """Whether the longest prompt and the longest response fit into the policy's context, while training and measuring."""
    num_admitted = len(admitted.problems)
    if num_admitted < config.run.problems_per_step:
        yield error(
            "context",
            f"{num_admitted} problems are left and a step needs run.problems_per_step = {config.run.problems_per_step}",
            "raise problems.max_prompt_tokens, or lower run.problems_per_step",
        )
        return
    for where, fit, remedy in context_fits(config, policy.model, policy.codec, admitted, data):
        yield ok("context", f"{where}: {fit}") if fit.fits else error("context", f"{where}: {fit}", remedy)


def _longest_step(config: RunConfig, loaded: _Loaded, longest: list[Problem], data: RunData) -> Iterator[Finding]:
    """One whole step on the longest prompts whose every response runs to the budget, the memory that it took, and what
    follows for the whole run."""
    rows = f"{config.rows_per_step} rows of {config.sampling.max_response_tokens} response tokens"
    try:
        measured = run_longest_step(config, loaded.policy, longest)
    except OutOfMemory as found:
        yield error(
            "longest step",
            f"{rows} do not fit: {found}",
            "lower run.micro_batch_rows, sampling.batch_rows or sampling.max_response_tokens, or set "
            "run.gradient_checkpointing = true",
        )
        return
    yield ok(
        "longest step",
        f"{rows}, sampled and trained on in {measured.seconds:.1f} s; at most {measured.peak_bytes / GIB:.2f} GiB of "
        f"{measured.where}",
    )
    yield ok("whole run", run_duration(config, data, measured))
