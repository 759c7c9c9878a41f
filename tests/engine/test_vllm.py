"""vLLM by way of TRL: options, calls, weights and corrections. TRL's side is real; vLLM itself is a stand-in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import trl
from packaging.version import Version
from trl import GRPOConfig, GRPOTrainer

from scope_rlvr.check.inputs import check_inputs
from scope_rlvr.check.quick import quick_check
from scope_rlvr.core.errors import ExitCode, UserError
from scope_rlvr.core.findings import Severity
from scope_rlvr.core.ports import Sampling
from scope_rlvr.embedded import model_path
from scope_rlvr.engines.samplers import LocalSampler, VllmSampler, VllmServer
from scope_rlvr.engines.trl.options import UnsupportedOption
from scope_rlvr.engines.trl.trainer import ScopeTrainer
from scope_rlvr.engines.trl.vllm import VllmPolicy
from scope_rlvr.formulas.losses import SamplerCorrection, sampler_weights
from scope_rlvr.methods import Grpo, Scope
from scope_rlvr.models.lora import LoraSection, adapter_config
from scope_rlvr.run.config import dump_config, load_config
from scope_rlvr.run.data import read_data, training_problems
from scope_rlvr.run.train import train
from scope_rlvr.run.trainer import trl_config
from scope_rlvr.store import packages
from scope_rlvr.store.folder import RunFolder
from scope_rlvr.store.journal import read_records
from tests import fake_vllm
from tests.engine.conftest import MakeTrainer, first_batch
from tests.engine.test_run import RecordingDisplay

pytestmark = pytest.mark.trl_seam

SAMPLERS = {
    "vllm": VllmSampler(
        memory_share=0.4, max_tokens=200, sleep=False, correction="token_mask", least_ratio=0.5, most_ratio=2
    ),
    "vllm_server": VllmServer(url="http://elsewhere:9000/", start_seconds=7, weights_port=51000, correction="none"),
}
TOKEN_TRUNCATE = VllmSampler(correction="token_truncate", most_ratio=1.2)


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with fake_vllm.installed(monkeypatch, model_path("policy")):
        yield


@pytest.fixture
def make_trainer(make_trainer: MakeTrainer) -> MakeTrainer:
    """The same with smaller batches."""
    small = {"per_device_train_batch_size": 8, "max_completion_length": 64}
    return lambda method, args=None, **kwargs: make_trainer(method, args=small | (args or {}), **kwargs)


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", [LocalSampler(), VllmSampler(), *SAMPLERS.values()], ids=repr)
def test_options_are_those_of_trl(sampler: Any, tmp_path: Path) -> None:
    named = sampler.in_trl()
    assert set(named) <= {field.name for field in fields(GRPOConfig)}
    config = load_config(None, [])
    config = config.model_copy(update={"sampling": config.sampling.model_copy(update={"sampler": sampler})})
    args = trl_config(config, RunFolder(tmp_path))
    assert {name: getattr(args, name) for name in named} == named
    assert args.use_vllm is not isinstance(sampler, LocalSampler)


def test_our_defaults_are_trls(tmp_path: Path) -> None:
    plain = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    for sampler in (VllmSampler(), VllmServer()):
        ours = sampler.in_trl()
        for name in set(ours) - {"use_vllm", "vllm_mode", "vllm_server_base_url"}:
            assert ours[name] == getattr(plain, name), name


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("{kind='vllm', memory_share=1.0}", "memory_share: Input should be less than 1"),
        ("{kind='vllm', least_ratio=3}", "least_ratio = 3 is not below most_ratio = 3"),
        ("{kind='vllm', url='http://here'}", "url: unknown key"),
        ("{kind='vllm_server', url='localhost:8000'}", "is not the address of a server"),
        ("{kind='vllm_server', url='http://here/v1'}", "is not the address of a server"),
        ("{kind='vllm_server', correction='half'}", "correction: Input should be 'none', 'token_truncate'"),
        ("sglang", "there is no 'sglang'; known here: local, vllm, vllm_server"),
    ],
)
def test_what_is_no_sampler_is_refused(override: str, match: str) -> None:
    with pytest.raises(UserError, match=match):
        load_config(None, [f"sampling.sampler={override}"])


def test_batches_are_vllms_own() -> None:
    with pytest.raises(UserError, match="batch_rows means nothing to the sampler 'vllm'"):
        load_config(None, ["sampling.sampler=vllm", "sampling.batch_rows=8"])


@pytest.mark.parametrize("kind", ["vllm", "vllm_server"])
def test_without_vllm_it_is_said_before_any_work(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"'{kind}' needs the package vllm.*pip install 'trl\[vllm\]'"):
        check_inputs(load_config(None, [f"sampling.sampler={kind}"]))


def test_processes_that_cannot_share_a_model_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: SimpleNamespace(name=name))
    config = load_config(None, [*SMALL, "method.name=grpo", "sampling.sampler={kind='vllm', tensor_parallel=2}"])
    for num_processes in (1, 2):
        findings = quick_check(config, tmp_path / "run", num_processes).findings
        told = [f.message for f in findings if f.severity is Severity.ERROR]
        expected = "sampling.sampler.tensor_parallel = 2 does not divide 1 process(es)"
        assert told == ([expected] if num_processes == 1 else [])


# --- continuations ---------------------------------------------------------------------------------------------------


class Script:
    """An engine that continues every prompt by counting up to a number, and ends there."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.calls: list[tuple[list[int], int]] = []

    def generate(self, prompts: Sequence[list[int]], images: Any, num_generations: int) -> tuple[Any, ...]:
        assert (images, num_generations) == (None, 1)
        self.calls.append(([len(p) for p in prompts], self.max_completion_length))
        ids = [list(range(p[-1] + 1, self.last + 1))[: self.max_completion_length] for p in prompts]
        return prompts, ids, [[[-0.5] for _ in row] for row in ids], None


def counting(last: int, num_positions: int, end_id: int) -> VllmPolicy:
    return VllmPolicy(Script(last), SimpleNamespace(codec=SimpleNamespace(end_ids={end_id})), num_positions)


def test_rows_of_unlike_budgets_keep_theirs() -> None:
    policy = counting(last=50, num_positions=20, end_id=9)
    prefixes, budgets = [[1], [5], [20], [30], [1] * 10], [4, 12, 6, 0, 9]
    found = policy.extend(prefixes, Sampling(), max_tokens=budgets, seed=0)
    assert [c.token_ids for c in found] == [
        (2, 3, 4, 5),
        (6, 7, 8, 9),
        (21, 22, 23, 24, 25, 26),
        (),
        (2, 3, 4, 5, 6, 7, 8, 9),
    ]
    assert [c.finished for c in found] == [False, True, False, False, True]
    assert [len(c.logprobs) for c in found] == [len(c.token_ids) for c in found]
    assert policy.engine.calls == [([1, 1, 1, 10], 10)]


def test_a_call_leaves_room_behind_its_longest_row() -> None:
    policy = counting(last=99, num_positions=12, end_id=-1)
    (short, long) = policy.extend([[1], [1] * 9], Sampling(), max_tokens=[11, 3], seed=0)
    assert short.token_ids == tuple(range(2, 13))
    assert long.token_ids == (2, 3, 4)
    assert not short.finished
    assert policy.engine.calls == [([1, 9], 3), ([4], 8)]


def test_an_engine_that_writes_nothing_ends_the_row() -> None:
    (row,) = counting(last=1, num_positions=12, end_id=-1).extend([[1]], Sampling(), max_tokens=[5], seed=0)
    assert (row.token_ids, row.finished) == ((), False)


def test_how_to_draw_is_passed_on_and_stop_texts_are_refused() -> None:
    policy = counting(last=3, num_positions=12, end_id=-1)
    policy.extend([[1]], Sampling(temperature=0.6, top_p=0.9, top_k=5, min_p=0.1), max_tokens=[5], seed=0)
    engine = policy.engine
    assert (engine.temperature, engine.top_p, engine.top_k, engine.min_p) == (0.6, 0.9, 5, 0.1)
    with pytest.raises(ValueError, match="stop at a text"):
        policy.extend([[1]], Sampling(stop_texts=("\n",)), max_tokens=[5], seed=0)


# --- training --------------------------------------------------------------------------------------------------------


def require_own_samples(trainer: ScopeTrainer, batch: dict[str, Any]) -> None:
    """What the policy wrote was drawn with the policy's probabilities, but for what vLLM is made to tell wrong."""
    with torch.no_grad():
        logps = trainer._policy_reading(trainer.model, batch, trainer.method, trainer.objective)["logprob"]
    is_own = batch["completion_mask"].bool() & ~batch["is_teacher"]
    gap = (batch["behaviour_logps"] - logps)[is_own]
    assert gap.isnan().any(), "some log-probabilities are unknown"
    known = gap[gap.isfinite()]
    assert torch.all((known.abs() < 1e-3) | ((known - fake_vllm.ERROR).abs() < 1e-3))


@pytest.mark.parametrize("kind", ["vllm", "vllm_server"])
def test_rollouts_are_those_of_the_weights_that_vllm_was_sent(make_trainer: MakeTrainer, vllm: None, kind: str) -> None:
    trainer = make_trainer(Scope(), args=SAMPLERS[kind].in_trl())
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.mul_(1.01)
    batch = first_batch(trainer)
    copy = fake_vllm.LLM.made.copy if kind == "vllm" else fake_vllm.Client.made.copy
    options = fake_vllm.LLM.made.options if kind == "vllm" else fake_vllm.Client.made.options
    expected = (
        {"gpu_memory_utilization": 0.4, "max_model_len": 200, "tensor_parallel_size": 1, "enable_sleep_mode": False}
        if kind == "vllm"
        else {"base_url": "http://elsewhere:9000", "group_port": 51000, "connection_timeout": 7.0}
    )
    assert expected.items() <= options.items()
    for own, theirs in zip(trainer.model.parameters(), copy.model.parameters(), strict=True):
        assert torch.equal(own, theirs)
    # Fresh rollouts in one call, and at least one to go on behind a teacher's step.
    assert len(copy.calls) > 1
    assert copy.calls[0]["num_prompts"] == 8
    assert copy.calls[0]["max_tokens"] == 64
    assert copy.calls[0]["temperature"] == 1.0
    require_own_samples(trainer, batch)
    assert batch["is_teacher"].any()


HOWS = [how for how in SamplerCorrection if how is not SamplerCorrection.NONE]


def test_teacher_tokens_are_not_corrected(make_trainer: MakeTrainer, vllm: None) -> None:
    trainer = make_trainer(Scope(), args=TOKEN_TRUNCATE.in_trl() | {"per_device_train_batch_size": 16})
    trainer.current_gradient_accumulation_steps = 1
    batch = first_batch(trainer)
    assert not {"importance_sampling_ratio", "sampling_per_token_logps"} & set(batch), "TRL corrects nothing itself"
    kept = trainer._policy_reading(trainer.model, batch, trainer.method, trainer.objective)
    logps = kept["logprob"].detach().requires_grad_()
    trainer._policy_reading = lambda *_: kept | {"logprob": logps}

    def pull_of(how: SamplerCorrection) -> torch.Tensor:
        trainer.objective = replace(trainer.objective, correction=(how, 0.0, 0.9))
        return torch.autograd.grad(trainer._compute_loss(trainer.model, batch), logps)[0]

    is_teacher = batch["is_teacher"]
    is_own = batch["completion_mask"].bool() & ~is_teacher
    plain = pull_of(SamplerCorrection.NONE)
    assert plain[is_teacher].abs().max() > 0
    for how in HOWS:
        pull = pull_of(how)
        assert torch.equal(pull[is_teacher], plain[is_teacher])
        assert not torch.allclose(pull[is_own], plain[is_own])
        weights = sampler_weights(logps.detach(), batch["behaviour_logps"], is_own, how, 0.0, 0.9)
        torch.testing.assert_close(pull, plain * weights)
        unknown = is_own & batch["behaviour_logps"].isnan()
        assert unknown.any()
        assert torch.all(weights[unknown] == 1)


def test_the_correction_is_trls_own_where_all_was_sampled(
    make_trainer: MakeTrainer, vllm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The oldest TRL takes no unknown log-probabilities.
    monkeypatch.setattr(fake_vllm, "told", lambda logprobs: [p + 0.1 * (i % 3 - 1) for i, p in enumerate(logprobs)])
    trainer = make_trainer(Grpo(), args=TOKEN_TRUNCATE.in_trl() | {"beta": 0.05})
    trainer.current_gradient_accumulation_steps = 1
    first_batch(trainer)
    done = trainer._batch

    def again(self: ScopeTrainer, prompts: Any) -> dict[str, Any]:
        """The same rollouts, and what TRL needs to correct by itself."""
        self._batch = done
        rollouts = [member.rollout for member in done.rows if member is not None]
        return {
            "prompt_ids": [list(rollout.prompt_ids) for rollout in rollouts],
            "completion_ids": [list(rollout.token_ids) for rollout in rollouts],
            "logprobs": [list(rollout.logprob_T) for rollout in rollouts],
        }

    monkeypatch.setattr(ScopeTrainer, "_rollouts", again)
    trainer.vllm_importance_sampling_correction = True
    for how, (low, high) in zip(HOWS, [(None, 1.2), (0.95, 1.5)] * 2, strict=True):
        trainer.vllm_importance_sampling_mode = how.value
        trainer.vllm_importance_sampling_clip_min, trainer.vllm_importance_sampling_clip_max = low, high
        trainer.objective = replace(trainer.objective, correction=(how, low or 0.0, high))
        batch = first_batch(trainer)
        is_response = batch["completion_mask"].bool()
        trls = batch["importance_sampling_ratio"].expand_as(is_response)[is_response]
        assert (trls != 1).any()
        is_own = is_response & ~batch["is_teacher"]
        bounds = trainer.objective.correction
        ours = sampler_weights(batch["old_per_token_logps"], batch["behaviour_logps"], is_own, *bounds)
        torch.testing.assert_close(ours[is_response], trls)
        own = trainer._compute_loss(trainer.model, batch)
        theirs = GRPOTrainer._compute_loss(trainer, trainer.model, batch)
        torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-7)


def test_bounds_of_trls_own_options(make_trainer: MakeTrainer, vllm: None) -> None:
    trainer = make_trainer(
        Grpo(),
        args={"use_vllm": True, "vllm_importance_sampling_clip_max": None, "vllm_importance_sampling_clip_min": 0.2},
    )
    assert trainer.objective.correction == (SamplerCorrection.SEQUENCE_MASK, 0.2, math.inf)
    assert make_trainer(Grpo()).objective.correction == (SamplerCorrection.NONE, 0.0, math.inf)


def test_adapters_are_sent_merged(make_trainer: MakeTrainer, vllm: None) -> None:
    trainer = make_trainer(
        Grpo(),
        args=TOKEN_TRUNCATE.in_trl(),
        peft_config=adapter_config(LoraSection(rank=2, target_modules=("v_proj",))),
    )
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.2, generator=torch.Generator().manual_seed(0))
    first_batch(trainer)
    layer = trainer.model.get_base_model().model.layers[0].self_attn.v_proj
    copy = fake_vllm.LLM.made.copy
    sent = copy.model.model.layers[0].self_attn.v_proj.weight
    torch.testing.assert_close(sent, layer.base_layer.weight + layer.get_delta_weight("default"))
    # They are there again afterwards, beside weights that are as they were.
    torch.testing.assert_close(
        layer.base_layer.weight, make_trainer(Grpo()).model.model.layers[0].self_attn.v_proj.weight
    )


def test_sleep_is_refused_where_trl_would_wake_up_old_weights(make_trainer: MakeTrainer, vllm: None) -> None:
    args = VllmSampler(sleep=True).in_trl()
    if Version(trl.__version__) >= Version("1.12"):
        trainer = make_trainer(Scope(), args=args)
        require_own_samples(trainer, first_batch(trainer))
        copy = fake_vllm.LLM.made.copy
        assert len(copy.calls) > 1
        assert not any(parameter.any() for parameter in copy.model.parameters()), "it sleeps, and has forgotten them"
    else:
        with pytest.raises(UnsupportedOption, match=r"trl>=1\.12"):
            make_trainer(Grpo(), args=args)


# --- runs ------------------------------------------------------------------------------------------------------------

SMALL = (
    "run.steps=2",
    "run.problems_per_step=2",
    "run.rollouts_per_problem=3",
    "problems.level=4",
    "sampling.max_response_tokens=48",
    "optimizer.schedule=constant",
    "evaluation.before=false",
    "evaluation.num_problems=2",
    "evaluation.samples_per_problem=2",
    "evaluation.sets=[{role='trained', level=4}]",
)


def test_a_run_from_its_configuration(tmp_path: Path, vllm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: SimpleNamespace(name=name))
    config = load_config(None, [*SMALL, "sampling.sampler={kind='vllm', correction='token_truncate'}"])
    check_inputs(config)
    assert config.plan()[2].endswith("; sampled by vllm")
    folder = RunFolder.create(tmp_path / "run", dump_config(config))
    assert load_config(folder.path / "config.toml") == config
    outcome = train(config, read_data(config), folder, RecordingDisplay())
    assert outcome.exit_code is ExitCode.OK
    assert outcome.summary["salvage"]["admitted"] > 0
    copy = fake_vllm.LLM.made.copy
    assert [len(names) > 10 for names in copy.updates] == [True, True, False], "all weights, once a step"
    metrics = list(read_records(folder.metrics))
    assert [record["sampler/logp_gap"] for record in metrics] == pytest.approx([fake_vllm.ERROR] * 2, abs=1e-3)


def test_the_longest_step_ends_no_response(tmp_path: Path, vllm: None) -> None:
    from scope_rlvr.check.longest_step import run_longest_step
    from scope_rlvr.run.components import load_policy

    config = load_config(None, [*SMALL, "sampling.sampler=vllm"])
    problems = training_problems(config).problems
    run_longest_step(config, load_policy(config, problems), problems[:2])
    (call,) = fake_vllm.LLM.made.copy.calls
    assert (call["num_prompts"], call["max_tokens"], call["ignore_eos"]) == (6, 48, True)


def test_a_server_that_is_not_there_is_named(tmp_path: Path, vllm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(**_: Any) -> None:
        raise ConnectionError("The vLLM server can't be reached at http://elsewhere:9000 after 7.0 seconds.")

    monkeypatch.setattr("trl.generation.vllm_generation.VLLMClient", nobody)
    config = load_config(
        None, [*SMALL, "method.name=grpo", "sampling.sampler={kind='vllm_server', url='http://elsewhere:9000'}"]
    )
    folder = RunFolder.create(tmp_path / "run", dump_config(config))
    with pytest.raises(
        UserError, match=r"sampling.sampler.url = 'http://elsewhere:9000': The vLLM server can't be reached"
    ):
        train(config, read_data(config), folder, RecordingDisplay())
