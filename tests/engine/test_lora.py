"""Training adapters: what is trained, what stays as it was, what the run leaves, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file

from scope_rlvr.check.inputs import check_inputs
from scope_rlvr.check.longest_step import run_longest_step
from scope_rlvr.cli import train as cli_train
from scope_rlvr.core.errors import ExitCode, UserError
from scope_rlvr.embedded import model_path
from scope_rlvr.formulas.readings import HiddenStates
from scope_rlvr.measure.plan import EvaluationPlan, EvaluationRequest, plan_evaluation
from scope_rlvr.measure.policy import prepare
from scope_rlvr.methods import Grpo, Scope
from scope_rlvr.models.local import LocalModel, TokenizerCodec
from scope_rlvr.models.lora import LoraSection, adapted_layers, adapter_config, merged, num_parameters
from scope_rlvr.run.components import load_components
from scope_rlvr.run.components import load_policy as load_policy_of
from scope_rlvr.run.config import dump_config, load_config
from scope_rlvr.run.data import read_data, training_problems
from scope_rlvr.run.metrics import Totals
from scope_rlvr.run.monitor import TrainingMonitor
from scope_rlvr.run.train import RunOutcome, train
from scope_rlvr.run.trainer import make_trainer as run_trainer
from scope_rlvr.store import packages
from scope_rlvr.store.folder import RunFolder
from scope_rlvr.store.journal import read_records
from tests.engine.conftest import MakeTrainer, first_batch, load_policy
from tests.engine.test_run import Killed, Killer, RecordingDisplay, resumed
from tests.journals import rollout_bytes

pytestmark = pytest.mark.trl_seam

SMALL = (
    "run.steps=3",
    "run.problems_per_step=2",
    "run.rollouts_per_problem=4",
    "run.checkpoint_every=2",
    "run.gradient_checkpointing=true",
    "problems.level=4",
    "sampling.max_response_tokens=64",
    "objective.kl=0.05",
    "optimizer.learning_rate=0.005",
    "optimizer.schedule=constant",
    "evaluation.before=false",
    "evaluation.num_problems=2",
    "evaluation.samples_per_problem=2",
    "evaluation.sets=[{role='trained', level=4}]",
    "model.lora.rank=4",
    "model.lora.alpha=8",
    "model.lora.target_modules=['q_proj','down_proj']",
)


def run(path: Path, *overrides: str, display: Any = None) -> tuple[RunFolder, RunOutcome]:
    config = load_config(None, [*SMALL, *overrides])
    folder = RunFolder.create(path, dump_config(config))
    return folder, train(config, read_data(config), folder, display or RecordingDisplay())


def evaluation_of(model: Path) -> EvaluationPlan:
    return plan_evaluation(EvaluationRequest(model=str(model), problems=("reduction:4",)))


def weights(folder: RunFolder) -> bytes:
    return (folder.model / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def base() -> dict[str, torch.Tensor]:
    return load_file(model_path("policy") / "model.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, base: dict[str, torch.Tensor]) -> RunFolder:
    """A run of SCOPE with adapters, from beginning to end."""
    folder, outcome = run(tmp_path_factory.mktemp("lora") / "run")
    assert outcome.exit_code is ExitCode.OK
    assert outcome.summary["salvage"]["admitted"] > 0
    return folder


def test_only_what_was_asked_for_is_changed_and_by_a_low_rank(whole: RunFolder, base: dict[str, torch.Tensor]) -> None:
    trained = load_file(whole.model / "model.safetensors")
    adapter = load_file(whole.checkpoints / "checkpoint-3" / "adapter_model.safetensors")
    assert set(trained) == set(base)
    for name, weight in trained.items():
        if not name.endswith(("q_proj.weight", "down_proj.weight")):
            assert torch.equal(weight, base[name]), name
            continue
        layer = f"base_model.model.{name.removesuffix('.weight')}"
        change = 8 / 4 * adapter[f"{layer}.lora_B.weight"] @ adapter[f"{layer}.lora_A.weight"]
        assert change.abs().max() > 1e-3
        torch.testing.assert_close(weight, base[name] + change, rtol=0, atol=1e-6)
    assert len(adapter) == 2 * 2 * 2, "A and B of two layers in each of two blocks"
    untouched = load_file(model_path("policy") / "model.safetensors")
    assert all(torch.equal(untouched[name], weight) for name, weight in base.items())


def test_a_killed_run_goes_on_as_if_nothing_had_happened(whole: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "killed", display=Killer())
    folder = RunFolder.open(tmp_path / "killed")
    checkpoint = folder.last_checkpoint()
    assert checkpoint is not None
    folder.forget_after(2)
    outcome = resumed(folder)
    assert outcome.exit_code is ExitCode.OK
    assert weights(folder) == weights(whole)
    assert rollout_bytes(folder.path) == rollout_bytes(whole.path)


def test_a_run_killed_in_its_last_evaluation_is_completed_without_another_step(whole: RunFolder) -> None:
    before, records = weights(whole), rollout_bytes(whole.path)
    (whole.model / "model.safetensors").unlink()
    outcome = resumed(whole)
    assert outcome.exit_code is ExitCode.OK
    assert weights(whole) == before
    assert rollout_bytes(whole.path) == records


def test_the_model_it_leaves_is_measured_and_trained_as_any_other(whole: RunFolder, tmp_path: Path) -> None:
    measurement = prepare(plan_evaluation(EvaluationRequest(model=str(whole.path))))
    (result,) = measurement.results()
    after = whole.read_json("summary.json")["after"]["reduction-4"]
    assert result.record()["accuracy"] == after["accuracy"]
    everything = f"model={{policy='{whole.model}'}}"
    folder, outcome = run(tmp_path / "all", everything, "run.steps=1", "run.checkpoint_every=1", "method.name=grpo")
    assert outcome.exit_code is ExitCode.OK
    assert weights(folder) != weights(whole)
    assert RunFolder.open(folder.path).last_checkpoint() == folder.checkpoints / "checkpoint-1"
    assert (folder.checkpoints / "checkpoint-1" / "model.safetensors").is_file()


def test_the_reference_is_the_policy_without_its_adapters(whole: RunFolder, make_trainer: MakeTrainer) -> None:
    kl = [record["policy/kl"] for record in read_records(whole.metrics)]
    assert kl[0] == 0.0
    assert kl[-1] > 0.0
    trainer = make_trainer(Grpo(), peft_config=adapter_config(LoraSection(rank=4)), args={"beta": 0.05})
    assert trainer.ref_model is None
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.2, generator=torch.Generator().manual_seed(0))
    batch = first_batch(trainer)
    plain = make_trainer(Grpo())
    with torch.no_grad():
        expected = plain._policy_reading(plain.model, batch, plain.method, plain.objective)["logprob"]
        present = trainer._policy_reading(trainer.model, batch, trainer.method, trainer.objective)["logprob"]
    is_response = batch["completion_mask"].bool()
    torch.testing.assert_close(batch["ref_per_token_logps"][is_response], expected[is_response])
    assert (present - expected)[is_response].abs().max() > 0.1
    # Rollouts are the adapted policy's own.
    behaviour = batch["behaviour_logps"][is_response]
    torch.testing.assert_close(behaviour, present[is_response], rtol=0, atol=1e-3)


def test_the_longest_step_trains_adapters(make_trainer: MakeTrainer) -> None:
    config = load_config(None, [*SMALL, "sampling.max_response_tokens=24"])
    problems = training_problems(config).problems
    policy = load_policy_of(config, problems)
    run_longest_step(config, policy, problems[:2])
    trained = {name for name, parameter in policy.model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)


def test_equal_seeds_begin_with_equal_adapters_whatever_was_loaded_before(tmp_path: Path) -> None:
    def adapter(*overrides: str) -> dict[str, torch.Tensor]:
        config = load_config(None, [*SMALL, *overrides])
        problems = training_problems(config).problems
        components = load_components(config, problems)
        monitor = TrainingMonitor(RunFolder(tmp_path), config, components, RecordingDisplay(), Totals())
        trainer = run_trainer(config, RunFolder(tmp_path), components, problems, monitor)
        return {name: p.detach() for name, p in trainer.model.named_parameters() if p.requires_grad}

    grpo, scope, other = adapter("method.name=grpo"), adapter(), adapter("run.seed=1")
    assert all(torch.equal(grpo[name], scope[name]) for name in grpo)
    assert not all(torch.equal(grpo[name], other[name]) for name in grpo)
    assert all("lora_B" not in name or not weight.any() for name, weight in grpo.items())


def test_hidden_states_of_an_adapted_model_are_hidden_states(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(Grpo(), peft_config=adapter_config(LoraSection(rank=2)))
    adapted, (plain, tokenizer) = trainer.model, load_policy()
    codec = TokenizerCodec(tokenizer)
    prompt, response = codec.encode_prompt("reduce 1 2 3\n\n"), codec.encode("1 + 2 = 3\n")
    read = [LocalModel(m, codec).read([prompt], [response], [HiddenStates()])[0]["hidden"] for m in (adapted, plain)]
    torch.testing.assert_close(*read)
    assert read[0].shape == (len(response), plain.config.hidden_size)


# --- the section -----------------------------------------------------------------------------------------------------


def test_adapted_layers_and_their_parameters() -> None:
    model, _ = load_policy()
    everything = adapted_layers(model, LoraSection())
    assert len(everything) == 2 * 7
    assert not any("embed" in name or "lm_head" in name for name in everything)
    two = LoraSection(rank=3, target_modules=("v_proj", "layers.0.mlp.up_proj"))
    assert sorted(adapted_layers(model, two)) == [
        "model.layers.0.mlp.up_proj",
        "model.layers.0.self_attn.v_proj",
        "model.layers.1.self_attn.v_proj",
    ]
    assert num_parameters(model, two) == 3 * ((128 + 128) * 2 + (128 + 384))


def test_the_section_is_what_peft_trains(make_trainer: MakeTrainer) -> None:
    for section in (LoraSection(), LoraSection(rank=3, alpha=6, dropout=0.1, target_modules=("v_proj", "up_proj"))):
        config = adapter_config(section)
        assert isinstance(config, LoraConfig)
        assert (config.r, config.lora_alpha, config.lora_dropout) == (section.rank, section.alpha, section.dropout)
        plain, _ = load_policy()
        expected = {f"base_model.model.{name}" for name in adapted_layers(plain, section)}
        trainer = make_trainer(Grpo(), peft_config=config)
        trained = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
        assert {name.split(".lora_")[0] for name in trained} == expected
        assert sum(p.numel() for p in trained.values()) == num_parameters(plain, section)


@pytest.mark.parametrize("target", ["nope", "proj", "lm_head", "embed_tokens"])
def test_a_target_that_names_no_layer_is_refused_before_anything_is_written(tmp_path: Path, target: str) -> None:
    out = tmp_path / "run"
    with pytest.raises(UserError, match=rf"model.lora.target_modules: '{target}' is no linear layer .* v_proj"):
        cli_train.train(overrides=[*SMALL, f"model.lora.target_modules=['q_proj','{target}']"], out=out)
    assert not out.exists()


def test_a_checkpoint_of_adapters_is_no_model(whole: RunFolder) -> None:
    folder = whole.checkpoints / "checkpoint-3"
    for read in (lambda: check_inputs(load_config(None, [f"model.policy='{folder}'"])), lambda: evaluation_of(folder)):
        with pytest.raises(UserError, match="holds adapters and not the model"):
            read()


@pytest.mark.parametrize("override", ["rank=0", "alpha=0", "dropout=1.0", "target_modules=[]", "rnk=3"])
def test_numbers_that_make_no_adapter_are_refused(override: str) -> None:
    with pytest.raises(UserError, match=rf"model\.lora\.{override.partition('=')[0]}"):
        load_config(None, [f"model.lora.{override}"])


def test_without_peft_it_is_said_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'scope-rlvr\[lora\]'"):
        check_inputs(load_config(None, ["model.lora.rank=4"]))
    check_inputs(load_config())


def test_adapters_of_weights_in_16_bits_stay_in_float32_and_lose_nothing_when_merged(make_trainer: MakeTrainer) -> None:
    """As on a graphics processor: the policy as it is stored, autocast, adapters in float32."""
    policy, _ = load_policy()
    policy.to(torch.bfloat16)
    before = {name: weight.clone() for name, weight in policy.state_dict().items()}
    args = {"bf16": True, "max_steps": 1, "beta": 0.01, "per_device_train_batch_size": 8, "max_completion_length": 64}
    trainer = make_trainer(
        Scope(), model=policy, peft_config=adapter_config(LoraSection(target_modules=("up_proj",))), args=args
    )
    trainer.train()
    assert 0 < trainer.state.log_history[0]["sampler/logp_gap"] < 0.2
    adapters = [p for p in trainer.model.parameters() if p.requires_grad]
    assert {p.dtype for p in adapters} == {torch.float32}
    change = trainer.model.get_base_model().model.layers[1].mlp.up_proj.get_delta_weight("default").detach().clone()
    assert change.abs().max() > 0
    whole = merged(trainer.model)
    assert {p.dtype for p in whole.parameters()} == {torch.float32}
    for name, weight in whole.state_dict().items():
        expected = before[name].float()
        if name == "model.layers.1.mlp.up_proj.weight":
            expected = expected + change
        if "layers.0.mlp.up_proj" not in name:
            torch.testing.assert_close(weight, expected, rtol=0, atol=1e-7)
