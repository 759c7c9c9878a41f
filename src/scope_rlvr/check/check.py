"""Everything that can fail in a run is tried before anybody pays for it.

:func:`quick_findings` needs no model and is what ``scope train`` begins with. :func:`model_findings` loads what the run
would load, asks each helper something, and runs the longest step there can be.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scope_rlvr.check.memory import GIB, estimate, room_beside_vllm, shape_of
from scope_rlvr.core.errors import UserError
from scope_rlvr.core.findings import Finding, Severity, error, ok, warning
from scope_rlvr.core.ports import TeacherRequest
from scope_rlvr.core.types import Problem
from scope_rlvr.engines.samplers import VllmSampler
from scope_rlvr.grading.gold import reference_findings
from scope_rlvr.grading.math_answer import MathVerifier
from scope_rlvr.grading.settings import BOX_REMEDY, NO_BOX, FunctionKind, PatternKind, asks_for_no_box, reads_boxes
from scope_rlvr.models.lora import num_parameters
from scope_rlvr.problems.sources import is_family
from scope_rlvr.run.config import RunConfig
from scope_rlvr.run.context import context_rooms
from scope_rlvr.run.sources import RunData, answer_pattern, check_sources, make_verifier, run_data, training_table
from scope_rlvr.store.packages import package_findings

if TYPE_CHECKING:
    from scope_rlvr.core.ports import StepScorer, Teacher
    from scope_rlvr.models.local import LocalModel, TokenizerCodec

_JOURNAL_BYTES_PER_TOKEN = 16
_KEPT_CHECKPOINTS = 3
"""Two are kept, and a third is there while it is written."""

_TEACHER_TOKENS = 200
_MOST_SHOWN = 2000
"""Characters of a prompt or of a reply that are printed."""
_GUESSED_PROMPT_TOKENS = 1024


def is_passed(findings: list[Finding]) -> bool:
    """Whether nothing was found that would stop the run."""
    return not any(finding.severity is Severity.ERROR for finding in findings)


# --- without models -------------------------------------------------------------------------------------------------


def quick_findings(config: RunConfig, out: Path, num_processes: int = 1, zero_stage: int = 0) -> Iterator[Finding]:
    """What can be found without loading a model: packages, the output folder, data, references, memory by arithmetic."""
    yield from package_findings()
    try:
        share = config.share(num_processes)
    except UserError as found:
        yield error("processes", str(found))
        return
    if num_processes > 1:
        problems = config.run.problems_per_step // num_processes
        yield ok("processes", f"each of {num_processes} trains on {problems} problems of a step, {share.rows} rows")
    sampler = config.sampling.sampler
    if isinstance(sampler, VllmSampler) and num_processes % sampler.tensor_parallel:
        yield error(
            "processes",
            f"sampling.sampler.tensor_parallel = {sampler.tensor_parallel} does not divide {num_processes} process(es)",
            "start a number of processes that it divides, or lower it",
        )
    yield _folder(out)
    try:
        yield _disk(config, out)
        check_sources(config)
        data = run_data(config)
    except UserError as found:
        yield error("configuration", str(found))
        return
    yield ok("data", data.lines()[0])
    for said in data.shared.values():
        yield warning("data", said, "remove them from the training problems, or measure on another set")
    yield from _references(config, data)
    yield from _memory(config, num_processes, zero_stage)


def _folder(out: Path) -> Finding:
    """Whether something can be written where the run would write."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        remedy = f"name another with --out, or go on with that run by 'scope train --resume {out}'"
        return error("folder", f"the output folder {out} exists and is not empty", remedy)
    parent = _existing(out)
    try:
        with tempfile.TemporaryFile(dir=parent):
            return ok("folder", f"{out} can be written")
    except OSError as found:
        said = f"the output folder {out} cannot be written: {found.strerror or found} ({parent})"
        return error("folder", said, "name another with --out")


def _existing(path: Path) -> Path:
    """The nearest folder above that is there."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())


def _disk(config: RunConfig, out: Path) -> Finding:
    """Checkpoints hold 12 bytes a trained parameter (weights and two moments), the model 4 a parameter, the journal some
    for every token."""
    shape = shape_of(config.model.policy, "model.policy")
    journal = config.run.steps * config.rows_per_step * config.sampling.max_response_tokens * _JOURNAL_BYTES_PER_TOKEN
    model, lora = 0, config.model.lora
    if shape is not None:
        num_trained = shape.num_parameters if lora is None else shape.num_adapter_parameters(lora)
        model = 12 * _KEPT_CHECKPOINTS * num_trained + 4 * shape.num_parameters
    free = shutil.disk_usage(_existing(out)).free
    size = f"up to {(model + journal) / GIB:.1f} GiB ({model / GIB:.1f} checkpoints and model, {journal / GIB:.1f} rollouts)"
    if model + journal > free:
        return warning(
            "disk",
            f"{free / GIB:.1f} GiB are free and a run writes {size}",
            "name a folder on another disk with --out, or free some space",
        )
    known = "" if shape is not None else "; the size of the policy is not known before it is loaded"
    return ok("disk", f"{free / GIB:.1f} GiB are free; a run writes {size}{known}")


def _references(config: RunConfig, data: RunData) -> Iterator[Finding]:
    """References graded against themselves, a sample of each set."""
    if isinstance(config.verifier, FunctionKind):
        yield ok("answers", "a function of your own judges; what it would say of the references is not known here")
        return
    pattern, source = answer_pattern(config), config.problems.source
    if source is not None and not is_family(source) and config.verifier == PatternKind():
        yield warning(
            "answers",
            f"final answers are read by the pattern of the embedded problems, {pattern!r}",
            "set verifier = 'math' for boxed answers, or verifier.answer_pattern",
        )
    sets = {"training problems": data.training.problems}
    sets |= {f"evaluation set {held_out.name}": held_out.problems for held_out in data.held_out}
    verifier = make_verifier(config)
    for name, problems in sets.items():
        yield from reference_findings(name, problems, verifier, pattern, in_boxes=reads_boxes(config.verifier))
    if isinstance(verifier, MathVerifier):
        verifier.close()


def _memory(config: RunConfig, num_processes: int, zero_stage: int) -> Iterator[Finding]:
    """The arithmetic of memory against what there is; without a graphics processor, the machine's own, which processes
    share."""
    shape = shape_of(config.model.policy, "model.policy")
    if shape is None:
        return
    device, whole = device_memory()
    room = room_beside_vllm(config, whole)
    needed = estimate(
        config,
        shape,
        prompt_tokens_of(config),
        on_gpu=device != "cpu",
        num_processes=num_processes,
        zero_stage=zero_stage,
    )
    room = room / num_processes if device == "cpu" else room
    of_each = "" if num_processes == 1 else " for each process"
    said = (
        f"about {needed.total / GIB:.1f} GiB of {room / GIB:.1f} on {device}{of_each}{' beside vLLM' if room < whole else ''} "
        f"({', '.join(needed.lines()) or 'little'})"
    )
    if needed.total > room:
        yield warning(
            "memory",
            said,
            "lower run.micro_batch_rows, sampling.batch_rows, evaluation.batch_rows or sampling.max_response_tokens, set "
            "run.gradient_checkpointing = true, or take a smaller model",
        )
    else:
        yield ok("memory", said)


def prompt_tokens_of(config: RunConfig) -> int:
    """The longest prompt that arithmetic counts with: the limit, else a guess."""
    return config.problems.max_prompt_tokens or min(_GUESSED_PROMPT_TOKENS, config.sampling.max_response_tokens)


def device_memory() -> tuple[str, int]:
    """The device that a run would use, and its memory in bytes."""
    import psutil
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return properties.name, int(properties.total_memory)
    return "cpu", int(psutil.virtual_memory().total)


# --- with models ----------------------------------------------------------------------------------------------------


@dataclass
class _Loaded:
    """What could be loaded."""

    policy: LocalModel
    teacher: Teacher | None = None
    scorer: StepScorer | None = None


def model_findings(config: RunConfig) -> Iterator[Finding]:
    """Load what the run would load, and try it: prompts, tokenizers, scorer, teacher, the longest step."""
    from scope_rlvr.run.components import load_policy, load_step_scorer, load_teacher

    problems = list(training_table(config).problems)
    try:
        loaded = _Loaded(load_policy(config, problems))
    except UserError as found:
        yield error("policy", str(found))
        return
    yield ok("policy", f"{config.model.policy}: {_size(config, loaded.policy)}")
    admitted = _admitted(problems, loaded.policy.codec, config)
    yield from _prompts(config, loaded.policy.codec, problems, admitted)
    if config.method.needs_step_scorer:
        try:
            loaded.scorer = load_step_scorer(config, problems, loaded.policy)
            yield ok("scorer", f"{config.scorer.model} is loaded and passed its self-test")
        except UserError as found:
            yield error("scorer", str(found))
    if config.method.needs_teacher:
        try:
            loaded.teacher = load_teacher(config, loaded.policy, problems)
            yield _teacher(config, loaded, problems[0])
        except UserError as found:
            yield error("teacher", str(found))
    yield from _vocabularies(config, loaded)
    rooms = list(_rooms(config, loaded.policy, admitted))
    yield from rooms
    if is_passed(rooms):
        yield _longest_step(config, loaded, admitted[: config.run.problems_per_step])


def _size(config: RunConfig, policy: LocalModel) -> str:
    """How many parameters there are, and how many of them are trained."""
    lora, said = config.model.lora, f"{policy.model.num_parameters():,} parameters"
    return said if lora is None else f"{said}; adapters of {num_parameters(policy.model, lora):,} are trained"


def _admitted(problems: list[Problem], codec: TokenizerCodec, config: RunConfig) -> list[Problem]:
    """The problems that training admits by the length of their prompts, the longest first."""
    limit = config.problems.max_prompt_tokens
    sized = [(len(codec.encode_prompt(problem.prompt)), problem) for problem in problems]
    admitted = [(size, problem) for size, problem in sized if limit is None or size <= limit]
    admitted.sort(key=lambda item: -item[0])
    return [problem for _, problem in admitted]


def _prompts(
    config: RunConfig, codec: TokenizerCodec, problems: list[Problem], admitted: list[Problem]
) -> Iterator[Finding]:
    """A prompt as the policy reads it, whether it asks for what the verifier reads, and how long prompts are."""
    first = next((problem for problem in problems if problem in admitted), problems[0])
    shown = codec.prompt_as_read(first.prompt)
    yield ok("prompt", f"the policy is shown:\n{_abbreviated(shown)}")
    if asks_for_no_box(config.verifier, shown):
        yield warning("prompt", NO_BOX, BOX_REMEDY)
    lengths = sorted(len(codec.encode_prompt(problem.prompt)) for problem in problems)
    said = f"{lengths[len(lengths) // 2]} tokens in the middle, {lengths[-1]} at most"
    if len(admitted) < len(problems):
        left_out = len(problems) - len(admitted)
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


def _vocabularies(config: RunConfig, loaded: _Loaded) -> Iterator[Finding]:
    """Whether policy, teacher and scorer read the same tokens."""
    from scope_rlvr.models.local import same_vocabulary

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


def _rooms(config: RunConfig, policy: LocalModel, admitted: list[Problem]) -> Iterator[Finding]:
    """Whether the longest prompt and the longest response fit into the policy's context, while training and measuring."""
    if len(admitted) < config.run.problems_per_step:
        yield error(
            "context",
            f"{len(admitted)} problems are left and a step needs run.problems_per_step = {config.run.problems_per_step}",
            "raise problems.max_prompt_tokens, or lower run.problems_per_step",
        )
        return
    for where, room, remedy in context_rooms(config, policy.model, policy.codec, admitted):
        yield ok("context", f"{where}: {room}") if room.is_enough else error("context", f"{where}: {room}", remedy)


def _longest_step(config: RunConfig, loaded: _Loaded, longest: list[Problem]) -> Finding:
    """One whole step on the longest prompts whose every response runs to the budget, and the memory that it took."""
    from scope_rlvr.check.longest_step import OutOfMemory, run_longest_step

    rows = f"{config.rows_per_step} rows of {config.sampling.max_response_tokens} response tokens"
    try:
        measured = run_longest_step(config, loaded.policy, longest)
    except OutOfMemory as found:
        return error(
            "longest step",
            f"{rows} do not fit: {found}",
            "lower run.micro_batch_rows, sampling.batch_rows or sampling.max_response_tokens, or set "
            "run.gradient_checkpointing = true",
        )
    return ok(
        "longest step",
        f"{rows}, sampled and trained on in {measured.seconds:.1f} s; at most {measured.peak_bytes / GIB:.2f} GiB of "
        f"{measured.where}",
    )
