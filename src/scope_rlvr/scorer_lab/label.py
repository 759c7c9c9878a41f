"""``scope scorer label``: from rollouts to labelled solutions, rows at a time, so that little is lost where it ends."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import Sampling
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.steps import split_steps
from scope_rlvr.core.types import Problem
from scope_rlvr.models.local import LocalModel, TokenizerCodec
from scope_rlvr.models.resolve import resolve_model
from scope_rlvr.problems.rows import shown_complaints
from scope_rlvr.problems.saved import BadRow, RowReader, SavedRollout, rollout_files
from scope_rlvr.run.config import RunConfig, load_config
from scope_rlvr.run.verifier import make_verifier
from scope_rlvr.scorer_lab.labelling import Attempt, Labeller, MonteCarloEstimate
from scope_rlvr.store.digests import files_digest
from scope_rlvr.store.files import require_new_file, write_json
from scope_rlvr.store.journal import append_records
from scope_rlvr.store.rollouts import run_of

LABEL_SCHEMA = 1
_MAX_SHOWN = 5


@dataclass(frozen=True)
class LabelRequest:
    """Labels as the command line asks for them, with ``samples`` continuations for each step."""

    rollouts: Path
    policy: str
    samples: int
    out: Path
    overrides: tuple[str, ...] = ()
    first_error_only: bool = False
    right_above: float = 0.0
    rows_at_once: int = 4
    limit: int | None = None
    skip_bad_rows: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """A row of the input; ``prompt_ids`` and ``token_ids`` are those that were sampled, where the row has them."""

    row: int
    problem: Problem
    text: str
    is_whole: bool = True
    prompt_ids: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class LabelPlan:
    """A request whose rows were read and found good."""

    request: LabelRequest
    files: tuple[Path, ...]
    config: RunConfig
    responses: tuple[Response, ...]
    bad_rows: tuple[str, ...]

    def lines(self) -> list[str]:
        """What is going to be done."""
        request, sampling = self.request, self.config.sampling
        how = "binary search for the first wrong step" if request.first_error_only else "every step"
        bad = [f"{len(self.bad_rows)} bad row(s) left out"] if self.bad_rows else []
        return [
            f"policy    {request.policy}",
            "; ".join([f"rollouts  {request.rollouts}: {len(self.responses)} responses", *bad]),
            *(f"            {mistake}" for mistake in self.bad_rows[:_MAX_SHOWN]),
            f"labels    {how}, {request.samples} continuations each, temperature {sampling.temperature:g}, at most "
            f"{sampling.max_response_tokens} tokens; right above a share of {request.right_above:g}",
            f"prompt    {self.config.prompt.format.value}, {self.config.prompt.template!r}"
            + (f", system prompt {self.config.prompt.system!r}" if self.config.prompt.system is not None else ""),
        ]

    def record(self) -> dict[str, Any]:
        """What decides the labels, to be compared when the work is to go on."""
        request, config = self.request, self.config
        return {
            "schema": LABEL_SCHEMA,
            "rollouts": files_digest(self.files),
            "num_responses": len(self.responses),
            "policy": request.policy,
            "samples": request.samples,
            "first_error_only": request.first_error_only,
            "right_above": request.right_above,
            "rows_at_once": request.rows_at_once,
            "seed": config.run.seed,
            "sampling": config.sampling.model_dump(mode="json"),
            "steps": config.steps.model_dump(mode="json"),
            "verifier": config.verifier.model_dump(mode="json"),
            "prompt": config.prompt.model_dump(mode="json"),
            "dtype": config.model.dtype,
        }


# --- reading ----------------------------------------------------------------------------------------------------------


def plan_labels(request: LabelRequest) -> LabelPlan:
    """Read every row and find every mistake that can be found without a model; raises :class:`UserError`."""
    source = request.rollouts
    files = tuple(rollout_files(source))
    run = run_of(files[0])
    overrides = [*request.overrides, f"model.policy={json.dumps(request.policy)}"]
    config = load_config(
        run / "config.toml" if run is not None and (run / "config.toml").is_file() else None, overrides
    )
    resolve_model(request.policy, "--policy")
    responses, bad_rows = _read(files)
    if bad_rows and not request.skip_bad_rows:
        raise UserError(
            f"{source} has {len(bad_rows)} row(s) that cannot be labelled:\n{shown_complaints(bad_rows)}\nmend them, or leave them out with "
            "--skip-bad-rows"
        )
    if not responses:
        raise UserError(
            f"{source} holds no response to label; give a run folder, or rows with problem, response, reference"
        )
    return LabelPlan(request, files, config, tuple(responses[: request.limit]), tuple(bad_rows))


def _read(files: Sequence[Path]) -> tuple[list[Response], list[str]]:
    responses: list[Response] = []
    bad_rows: list[str] = []
    for row in RowReader(check=_fault).rows(files):
        if isinstance(row, BadRow):
            bad_rows.append(f"{row.place}: {row.why}")
        else:
            responses += map(_response, row)
    return responses, bad_rows


def _fault(rollout: SavedRollout) -> str | None:
    return None if rollout.text and rollout.text.strip() else "no response text"


def _response(rollout: SavedRollout) -> Response:
    return Response(
        row=int(rollout.place.split()[-1]),
        problem=rollout.problem,
        text=rollout.text or "",
        is_whole=not rollout.is_truncated,
        prompt_ids=rollout.prompt_ids or (),
        token_ids=rollout.token_ids or (),
    )


# --- labelling --------------------------------------------------------------------------------------------------------


@dataclass
class LabelJournal:
    """The file of labels, and beside it how far it is complete: rows are finished in groups, each written as a whole."""

    out: Path
    record: dict[str, Any]
    num_done: int = 0
    num_bytes: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    @staticmethod
    def state_of(out: Path) -> Path:
        return out.with_name(f"{out.name}.state.json")

    @classmethod
    def open(cls, plan: LabelPlan, *, resume: bool) -> LabelJournal:
        """A new file, or one to go on with; :class:`UserError` where that cannot be."""
        out, state = plan.request.out, cls.state_of(plan.request.out)
        if not resume:
            for file in (out, state):
                remedy = "name another with --out, or go on with interrupted work by the same command with --resume"
                require_new_file(file, remedy)
            return cls(out, plan.record())
        if not state.is_file() or not out.is_file():
            raise UserError(f"there is no work to go on with at {out}; leave --resume out to begin it")
        before, now = json.loads(state.read_text(encoding="utf-8")), plan.record()
        if differing := [name for name in now if before["request"].get(name) != now[name]]:
            name = differing[0]
            raise UserError(
                f"the work at {out} was begun differently: {name} was {before['request'].get(name)!r} and is {now[name]!r}. "
                "Give the same command as then, or begin anew in another file"
            )
        if before["num_done"] >= len(plan.responses):
            raise UserError(
                f"all {len(plan.responses)} responses are labelled in {out}; there is nothing left to resume"
            )
        os.truncate(out, before["num_bytes"])
        return cls(out, now, before["num_done"], before["num_bytes"], Counter(before["left_out"]))

    def append(self, num_responses: int, rows: Sequence[dict[str, Any]]) -> None:
        """Write the labels of so many responses, then that they are there."""
        self.num_bytes = append_records(self.out, rows, sync=True)
        self.num_done += num_responses
        self.save_state()

    def save_state(self) -> None:
        """Say how far the file is complete."""
        state = {
            "request": self.record,
            "num_done": self.num_done,
            "num_bytes": self.num_bytes,
            "left_out": dict(self.left_out),
        }
        write_json(self.state_of(self.out), state)


def load_labeller(plan: LabelPlan) -> Labeller:
    """The policy, ready to continue these responses; :class:`UserError` where it cannot be used on them."""
    import torch

    from scope_rlvr.models.loading import require_reader
    from scope_rlvr.run.components import load_causal, policy_dtype

    request, config = plan.request, plan.config
    torch.set_num_threads(config.run.threads)
    local: LocalModel = load_causal(request.policy, "--policy", policy_dtype(config), config.prompt)
    require_reader(local.codec.tokenizer, [r.problem for r in plan.responses], f"the policy {request.policy}")
    sampling = config.sampling
    return Labeller(
        policy=local,
        codec=local.codec,
        verifier=make_verifier(config),
        sampling=Sampling(sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p),
        num_samples=request.samples,
        max_tokens=sampling.max_response_tokens,
        context=getattr(local.model.config.get_text_config(), "max_position_embeddings", None),
        right_above=request.right_above,
    )


def tokenizer_codec(labeller: Labeller) -> TokenizerCodec:
    """The codec of a labeller that :func:`load_labeller` loaded."""
    assert isinstance(labeller.codec, TokenizerCodec), "the policy of a labeller is loaded with its tokenizer"
    return labeller.codec


def label_all(plan: LabelPlan, labeller: Labeller, journal: LabelJournal, on_progress: Callable[[int], None]) -> None:
    """Label the remaining responses and write them, some at a time; ``on_progress`` is called with the number of new ones."""
    size, codec = plan.request.rows_at_once, tokenizer_codec(labeller)
    # Without a state file, work that is killed in its first group could not be resumed.
    journal.out.touch()
    journal.save_state()
    # A group's number decides its seed: rows come out the same wherever the work was interrupted.
    for start in range(journal.num_done, len(plan.responses), size):
        some = plan.responses[start : start + size]
        attempts = [attempt_of(response, codec, plan.config) for response in some]
        seed = derive_seed(plan.config.run.seed, "labels", start)
        label = _first_errors if plan.request.first_error_only else _step_labels
        rows = list(label(labeller, some, attempts, seed, journal.left_out))
        journal.append(len(some), rows)
        on_progress(len(some))


def attempt_of(response: Response, codec: TokenizerCodec, config: RunConfig) -> Attempt:
    """The response in the policy's ids: those that were sampled, where they mean the same to this policy, else encoded.

    A sampled prompt counts where it reads as this policy is shown the problem, chat template and special tokens included.
    """
    prompt_ids = codec.encode_prompt(response.problem.prompt)
    if _is_readable(response.prompt_ids, codec) and _as_read(response.prompt_ids, codec) == _as_read(prompt_ids, codec):
        prompt_ids = response.prompt_ids
    token_ids = response.token_ids
    if not _is_readable(token_ids, codec) or "".join(codec.pieces(token_ids)) != response.text:
        token_ids = codec.encode(response.text)
    steps = split_steps(codec.pieces(token_ids), config.steps)
    return Attempt(response.problem, prompt_ids, token_ids, steps, response.is_whole)


def off_policy_warning(plan: LabelPlan, codec: TokenizerCodec) -> str:
    """How many responses were sampled with other ids than those that the policy will continue; empty where none was."""
    sampled = [response for response in plan.responses if response.token_ids]
    num_foreign = sum(not _keeps_ids(response, attempt_of(response, codec, plan.config)) for response in sampled)
    if not num_foreign:
        return ""
    return (
        f"{num_foreign} of {len(sampled)} responses were sampled with other tokens than {plan.request.policy} is shown: they are "
        "encoded anew, and their labels are off-policy. Name the policy that sampled them, and the prompt that it was shown by "
        "--set prompt.template=..."
    )


def _keeps_ids(response: Response, attempt: Attempt) -> bool:
    return (response.prompt_ids, response.token_ids) == (attempt.prompt_ids, attempt.token_ids)


def _is_readable(ids: Sequence[int], codec: TokenizerCodec) -> bool:
    return bool(ids) and max(ids) < len(codec.tokenizer)


def _as_read(ids: Sequence[int], codec: TokenizerCodec) -> str:
    return str(codec.tokenizer.decode(list(ids), skip_special_tokens=False))


def _step_labels(
    labeller: Labeller, responses: Sequence[Response], attempts: Sequence[Attempt], seed: int, left_out: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Rows of stepwise supervision; a response is cut off before a step that no verdict is known of."""
    for response, attempt, estimates in zip(responses, attempts, labeller.label_steps(attempts, seed), strict=True):
        num_known = next((k for k, e in enumerate(estimates) if e.share is None), len(estimates))
        if num_known < len(estimates):
            left_out["steps after one without a known verdict"] += len(estimates) - num_known
        if num_known == 0:
            left_out["responses whose first step has no known verdict"] += 1
            continue
        known = estimates[:num_known]
        yield _row(response, attempt) | {
            "completions": [step.text.strip() for step in attempt.steps[:num_known]],
            "labels": [labeller.is_right(estimate) for estimate in known],
            "soft_labels": [_rounded(estimate) for estimate in known],
            "num_samples": [estimate.num_known for estimate in known],
        }


def _first_errors(
    labeller: Labeller, responses: Sequence[Response], attempts: Sequence[Attempt], seed: int, left_out: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Rows as ProcessBench has them; a response is left out whole where a verdict that the search needs is not known."""
    for response, attempt, probed in zip(responses, attempts, labeller.first_wrong_steps(attempts, seed), strict=True):
        if any(estimate.share is None for estimate in probed.values()):
            left_out["responses with a step without a known verdict"] += 1
            continue
        first_wrong = labeller.first_wrong(probed)
        yield _row(response, attempt) | {
            "steps": [step.text.strip() for step in attempt.steps],
            "label": -1 if first_wrong is None else first_wrong,
            "soft_labels": {str(k): _rounded(estimate) for k, estimate in sorted(probed.items())},
        }


def _row(response: Response, attempt: Attempt) -> dict[str, Any]:
    problem = response.problem
    return {
        "schema": LABEL_SCHEMA,
        "id": f"{problem.id}-row{response.row}",
        "prompt": problem.prompt,
        "reference": problem.reference,
        "row": response.row,
        "has_sampled_ids": bool(response.token_ids) and _keeps_ids(response, attempt),
    }


def _rounded(estimate: MonteCarloEstimate) -> float | None:
    return None if estimate.share is None else round(estimate.share, 6)
