"""What can be found out about a run without loading a model. ``scope train`` begins with it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scope_rlvr.check.inputs import check_inputs
from scope_rlvr.check.memory import GIB, memory_fit, shape_of
from scope_rlvr.check.solutions import solution_findings
from scope_rlvr.core.errors import UserError
from scope_rlvr.core.findings import Finding, error, ok, warning
from scope_rlvr.core.ports import Verifier
from scope_rlvr.engines.samplers import VllmSampler
from scope_rlvr.grading.function import FunctionVerifier
from scope_rlvr.grading.gold import reference_findings
from scope_rlvr.grading.math_answer import MathVerifier
from scope_rlvr.grading.settings import FunctionKind, PatternKind, reads_boxes
from scope_rlvr.problems.sources import is_family
from scope_rlvr.run.config import RunConfig, Share
from scope_rlvr.run.data import RunData
from scope_rlvr.run.verifier import answer_pattern, make_verifier
from scope_rlvr.store.folder import RunFolder
from scope_rlvr.store.packages import package_findings

_JOURNAL_BYTES_PER_TOKEN = 16
_KEPT_CHECKPOINTS = 3
"""Two are kept, and a third is there while it is written."""


@dataclass
class QuickCheck:
    """What was found, and the problems of the run, ``None`` where they could not be read."""

    findings: list[Finding]
    data: RunData | None = None


def quick_check(config: RunConfig, out: Path, num_processes: int = 1, zero_stage: int = 0) -> QuickCheck:
    """Everything that can be found without loading a model. ``out`` is the folder that the run would be written to."""
    try:
        check = QuickCheck(list(setup_findings(config, out, num_processes)))
    except UserError as found:
        return QuickCheck([*package_findings(), error("processes", str(found))])
    try:
        check.data = check_inputs(config)
        check.findings += input_findings(config, check.data, out, num_processes, zero_stage)
    except UserError as found:
        check.findings.append(error("configuration", str(found)))
    return check


def setup_findings(config: RunConfig, out: Path, num_processes: int = 1) -> Iterator[Finding]:
    """Packages, processes, the output folder; :class:`UserError` where a step cannot be shared by so many processes."""
    share = config.share(num_processes)
    yield from package_findings()
    yield from _processes(config, share, num_processes)
    yield _folder(out)


def input_findings(
    config: RunConfig, data: RunData, out: Path, num_processes: int = 1, zero_stage: int = 0
) -> Iterator[Finding]:
    """Problems, references, and by arithmetic the sizes of what the configuration names."""
    yield _disk(config, out)
    yield ok("data", data.lines()[0])
    for said in data.shared.values():
        yield warning("data", said, "remove them from the training problems, or measure on another set")
    yield from _answers(config, data)
    yield from _memory(config, num_processes, zero_stage)


def _processes(config: RunConfig, share: Share, num_processes: int) -> Iterator[Finding]:
    """How a step is shared by the processes of the run."""
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


def _folder(out: Path) -> Finding:
    """Whether something can be written where the run would write."""
    if not RunFolder.is_free(out):
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
    """Checkpoints hold all weights, or adapters alone, with 4 bytes a parameter, and two moments of 4 bytes a trained one; the
    model holds 4 a parameter, the journal some for every token."""
    shape = shape_of(config.model.policy, "model.policy")
    journal = config.run.steps * config.rows_per_step * config.sampling.max_response_tokens * _JOURNAL_BYTES_PER_TOKEN
    model, lora = 0, config.model.lora
    if shape is not None:
        num_trained = shape.num_trained_parameters(config.model)
        num_kept = shape.num_parameters if lora is None else num_trained
        moments = 8 * num_trained * config.run.checkpoint_optimizer
        model = _KEPT_CHECKPOINTS * (4 * num_kept + moments) + 4 * shape.num_parameters
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


def _answers(config: RunConfig, data: RunData) -> Iterator[Finding]:
    """References and worked solutions graded, a sample of each set."""
    verifier = make_verifier(config)
    yield from _references(config, data, verifier)
    yield from solution_findings(config, data.training.problems, verifier)
    if isinstance(verifier, MathVerifier | FunctionVerifier):
        verifier.close()


def _references(config: RunConfig, data: RunData, verifier: Verifier) -> Iterator[Finding]:
    """References graded against themselves."""
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
    sets |= {f"evaluation set {held_out.name}": held_out.problems for held_out in data.test_sets}
    for name, problems in sets.items():
        yield from reference_findings(name, problems, verifier, pattern, in_boxes=reads_boxes(config.verifier))


def _memory(config: RunConfig, num_processes: int, zero_stage: int) -> Iterator[Finding]:
    """The arithmetic of memory against what there is."""
    shape = shape_of(config.model.policy, "model.policy")
    if shape is None:
        return
    fit = memory_fit(config, shape, num_processes, zero_stage)
    of_each = "" if num_processes == 1 else " for each process"
    said = (
        f"about {fit.needed.total / GIB:.1f} GiB of {fit.available / GIB:.1f} on {fit.device}{of_each}"
        f"{' beside vLLM' if fit.is_beside_vllm else ''} ({', '.join(fit.needed.lines()) or 'little'})"
    )
    if fit.fits:
        yield ok("memory", said)
    else:
        yield warning(
            "memory",
            said,
            "lower run.micro_batch_rows, sampling.batch_rows, evaluation.batch_rows or sampling.max_response_tokens, set "
            "run.gradient_checkpointing = true, or take a smaller model",
        )
