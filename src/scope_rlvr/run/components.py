"""From a configuration to live objects: models, scorer, teacher, judge, verifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import Judge, Policy, Sampling, StepScorer, Teacher, Verifier, scoring_refusal
from scope_rlvr.core.processes import ONE_PROCESS, Processes
from scope_rlvr.core.prompts import PromptSection
from scope_rlvr.core.types import Problem
from scope_rlvr.evaluation.evaluate import Evaluator
from scope_rlvr.methods.parts.base import Need
from scope_rlvr.models.layers import train_only
from scope_rlvr.models.loading import UNLOADABLE, device, inference_dtype, require_reader, why_unloadable
from scope_rlvr.models.local import LocalModel, TokenizerCodec
from scope_rlvr.models.lora import adapted_layers
from scope_rlvr.models.precision import Precision, has_bfloat16, require_hardware
from scope_rlvr.models.resolve import resolve_model
from scope_rlvr.run.config import RunConfig
from scope_rlvr.run.verifier import family_of, make_verifier
from scope_rlvr.scorers.families import Ensemble, MonteCarlo
from scope_rlvr.scorers.loading import load_scorer
from scope_rlvr.scorers.monte_carlo import ContinuationSetup
from scope_rlvr.servers.client import Client
from scope_rlvr.teachers.exact import ExactTeacher
from scope_rlvr.teachers.function import FunctionTeacher
from scope_rlvr.teachers.judge_local import LocalJudge
from scope_rlvr.teachers.judge_server import ServerJudge
from scope_rlvr.teachers.local import LocalTeacher
from scope_rlvr.teachers.noisy import NoisyTeacher
from scope_rlvr.teachers.server import ServerTeacher
from scope_rlvr.teachers.settings import EXACT, SOLUTIONS, THE_POLICY, Completions
from scope_rlvr.teachers.solutions import SolutionTeacher

Dtype = torch.dtype | Literal["auto"]


@dataclass(frozen=True)
class Components:
    """Everything a run works with."""

    policy: PreTrainedModel
    codec: TokenizerCodec
    verifier: Verifier
    step_scorer: StepScorer | None = None
    teacher: Teacher | None = None
    judge: Judge | None = None
    reference: PreTrainedModel | None = None


@dataclass(frozen=True)
class Spending:
    """What a run has spent on servers: ``totals`` of the part that is already done, by the names of the metrics, and the
    files that keep it over a kill, for each helper (``None``: nothing is kept)."""

    totals: Mapping[str, float] = field(default_factory=dict)
    record_of: Callable[[str], Path | None] = lambda helper: None


NOTHING_SPENT = Spending()


def load_components(config: RunConfig, problems: Sequence[Problem], spending: Spending = NOTHING_SPENT) -> Components:
    """Load what the configuration names.

    Raises :class:`UserError` if a model cannot be used for these problems, or a server does not answer.
    """
    return load_helpers(config, load_policy(config, problems), problems, spending)


def load_helpers(
    config: RunConfig, policy: LocalModel, problems: Sequence[Problem], spending: Spending = NOTHING_SPENT
) -> Components:
    """The policy, and everybody that it works with."""
    verifier = make_verifier(config)
    teacher = load_teacher(config, policy, problems, spending) if config.method.needs_teacher else None
    scorer = load_step_scorer(config, problems, policy) if config.method.needs_step_scorer else None
    judge = load_judge(config, policy, spending) if Need.JUDGE in config.method.needs else None
    reference = None
    if Need.REFERENCE in config.method.needs and config.model.reference is not None:
        reference = load_causal(config.model.reference, "model.reference", inference_dtype(), config.prompt).model
    return Components(policy.model, policy.codec, verifier, scorer, teacher, judge, reference)


def load_policy(config: RunConfig, problems: Sequence[Problem]) -> LocalModel:
    """The policy; :class:`UserError` where it cannot be loaded, or cannot read these problems."""
    lora = config.model.lora
    # Trained weights stay in float32, even if a GPU computes in bfloat16: small updates would be rounded away. If only
    # adapters are trained, a GPU holds the weights beside them as they are stored.
    dtype: Dtype = "auto" if lora is not None and device().type == "cuda" else torch.float32
    policy = load_causal(config.model.policy, "model.policy", dtype, config.prompt)
    policy.dtype = policy_dtype(config)
    if config.model.train_layers is not None:
        try:
            train_only(policy.model, config.model.train_layers)
        except ValueError as error:
            raise UserError(f"model.train_layers: {error}") from error
    if lora is not None:
        try:
            adapted_layers(policy.model, lora)
        except ValueError as error:
            raise UserError(f"model.lora.target_modules: {error}") from error
    require_reader(policy.codec.tokenizer, problems, f"the policy {config.model.policy}")
    return policy


def load_shell(config: RunConfig, problems: Sequence[Problem]) -> LocalModel:
    """The policy without its weights, which are on a server: its tokenizer, and what its configuration says.

    Raises :class:`UserError` where these cannot be read, or cannot read the problems.
    """
    name = config.model.policy
    source = resolve_model(name, "model.policy")
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source, trust_remote_code=False))
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        shell = LocalModel(model, TokenizerCodec.of(tokenizer, model, config.prompt))
    except UNLOADABLE as error:
        raise UserError(f"model.policy = {name!r}: no tokenizer can be loaded: {why_unloadable(error)}") from error
    require_reader(tokenizer, problems, f"the policy {name}")
    for key, asked in (("teacher.model", config.teacher.model), ("judge.model", config.judge.model)):
        if asked == THE_POLICY:
            raise UserError(f"{key} = {asked!r}: the policy is on a server and does not help here; name another model")
    return shell


def policy_dtype(config: RunConfig) -> torch.dtype:
    """What the policy is sampled and trained in; :class:`UserError` for bfloat16 on a machine that cannot compute in it."""
    asked = config.model.dtype
    if asked is None:
        return inference_dtype()
    if asked is Precision.AUTO:
        # Only a run measures which one is faster.
        return torch.bfloat16 if has_bfloat16() else torch.float32
    require_hardware(asked, "model.dtype")
    return asked.dtype


def load_step_scorer(config: RunConfig, problems: Sequence[Problem], policy: LocalModel) -> StepScorer:
    """The step scorer, tested; :class:`UserError` where it cannot be used. ``policy`` may have to continue solutions."""
    continuations = None
    if isinstance(config.scorer.family, MonteCarlo | Ensemble):
        continuations = ContinuationSetup(
            policy=policy,
            codec=policy.codec,
            verifier=make_verifier(config),
            sampling=config.sampling.sampling(),
            max_response_tokens=config.sampling.max_response_tokens,
            separator=config.steps.separator,
        )
    return load_scorer(
        config.scorer,
        problems=problems,
        problem_family=family_of(config),
        continuations=continuations,
        seed=config.run.seed,
    )


def make_evaluator(
    config: RunConfig,
    components: Components,
    model: PreTrainedModel | None = None,
    processes: Processes = ONE_PROCESS,
) -> Evaluator:
    """The evaluator of a run, on the policy or on a wrapped model that is being trained."""
    policy = LocalModel(components.policy if model is None else model, components.codec, dtype=policy_dtype(config))
    return evaluator_of(config, components, policy, processes)


def evaluator_of(
    config: RunConfig, components: Components, policy: Policy, processes: Processes = ONE_PROCESS
) -> Evaluator:
    """The evaluator of a run, on a policy wherever it is."""
    section = config.evaluation
    temperature = config.sampling.temperature if section.temperature is None else section.temperature
    return Evaluator(
        policy=policy,
        codec=components.codec,
        verifier=components.verifier,
        sampling=Sampling(temperature=temperature),
        samples_per_problem=section.samples_per_problem,
        max_response_tokens=section.max_response_tokens,
        seed=config.run.seed,
        batch_rows=section.batch_rows,
        processes=processes,
    )


def load_causal(name: str, key: str, dtype: Dtype, prompt: PromptSection | None = None) -> LocalModel:
    """Load the causal language model that the configuration names at ``key``; :class:`UserError` if it is none.

    ``dtype`` ``"auto"`` is that of the stored weights. ``prompt`` says how problems are shown to it.
    """
    source = resolve_model(name, key)
    try:
        local = LocalModel.load(source, prompt, dtype=dtype)
    except UNLOADABLE as error:
        raise UserError(
            f"{key} = {name!r} cannot be loaded as a causal language model: {why_unloadable(error)}"
        ) from error
    local.model.to(device())
    return local


def load_teacher(
    config: RunConfig, policy: LocalModel, problems: Sequence[Problem], spending: Spending = NOTHING_SPENT
) -> Teacher:
    """The teacher; :class:`UserError` where it cannot be loaded or reached, or cannot do what the method needs."""
    section, teacher = config.teacher, _plain_teacher(config, policy, problems, spending)
    if Need.TEACHER_SCORES in config.method.needs and (refusal := scoring_refusal(teacher)) is not None:
        raise UserError(
            f"method {config.method.name!r} needs a teacher that scores tokens; teacher.model = {section.model!r}: {refusal}"
        )
    return NoisyTeacher(teacher, section.noise, policy.codec, config.run.seed) if section.noise else teacher


def _plain_teacher(config: RunConfig, policy: LocalModel, problems: Sequence[Problem], spending: Spending) -> Teacher:
    section = config.teacher
    if section.model == EXACT:
        return ExactTeacher(family_of(config))
    if section.model == SOLUTIONS:
        return SolutionTeacher(config.steps.separator)
    if section.function is not None:
        return FunctionTeacher(section.function)
    if section.is_served:
        return _server_teacher(config, policy, problems, spending)
    model = policy
    if section.model != THE_POLICY:
        model = load_causal(section.model, "teacher.model", inference_dtype(), config.prompt)
        require_reader(model.codec.tokenizer, problems, f"the teacher {section.model}")
    return LocalTeacher(model, policy.codec, Sampling(temperature=section.temperature), section.prompt)


def _server_teacher(config: RunConfig, policy: LocalModel, problems: Sequence[Problem], spending: Spending) -> Teacher:
    section, spent, needs = config.teacher, spending.totals, config.method.needs
    assert section.name is not None, "the configuration asks for the name of a server's model"
    teacher = ServerTeacher(
        Client(
            section.model,
            section.server,
            config.run.seed,
            tokens_spent=int(spent.get("teacher/prompt_tokens", 0) + spent.get("teacher/reply_tokens", 0)),
            money_spent=spent.get("teacher/money", 0.0),
            spending=spending.record_of("teacher"),
        ),
        section.name,
        policy.codec,
        policy.model.get_input_embeddings().num_embeddings,
        section.interface,
        temperature=section.temperature,
        prompt=_prompt_of_server(config, policy),
    )
    if Need.TEACHER in needs or Need.TEACHER_SCORES not in needs:
        teacher.check(problems[0])
    if Need.TEACHER_SCORES in needs:
        teacher.check_scoring(problems[0])
    return teacher


def load_judge(config: RunConfig, policy: LocalModel, spending: Spending = NOTHING_SPENT) -> Judge:
    """The judge; :class:`UserError` where it cannot be loaded or reached, or has no verdict to give."""
    section = config.judge
    if section.is_served:
        assert section.name is not None, "the configuration asks for the name of a server's model"
        client = Client(section.model, section.server, config.run.seed, spending=spending.record_of("judge"))
        served = ServerJudge(
            client,
            section.name,
            section.interface,
            temperature=section.temperature,
            max_tokens=section.max_tokens,
            both_orders=section.both_orders,
        )
        served.check()
        return served
    if section.model == THE_POLICY:
        codec = TokenizerCodec.of(policy.codec.tokenizer, policy.model, PromptSection())
        model = LocalModel(policy.model, codec)
    else:
        # What the policy is shown around a problem is not for a judge; only the chat template is.
        model = load_causal(section.model, "judge.model", inference_dtype(), PromptSection())
    try:
        return LocalJudge(model, both_orders=section.both_orders)
    except ValueError as error:
        raise UserError(f"judge.model = {section.model!r} cannot judge: {error}") from error


def _prompt_of_server(config: RunConfig, policy: LocalModel) -> str:
    """What a server sees in place of the problem.

    If it reads token ids, the policy's codec adds the chat template around the problem. If it reads text, the template is part of
    the text, and after a chat template a separator marks where the response begins.
    """
    section = config.teacher
    if isinstance(section.interface, Completions) and section.interface.token_ids:
        return section.prompt
    is_chat = config.prompt.is_chat(policy.codec.tokenizer)
    return config.prompt.text(section.prompt) + (config.steps.separator if is_chat else "")
