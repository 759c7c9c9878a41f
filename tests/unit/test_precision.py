"""Number formats: the weights that train are never rounded, and what a machine cannot do is told."""

from __future__ import annotations

import pytest
import torch

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import Sampling
from scope_rlvr.embedded import model_path
from scope_rlvr.models import precision
from scope_rlvr.models.local import LocalModel
from scope_rlvr.models.precision import Precision, weights_in
from scope_rlvr.run import speed
from scope_rlvr.run.components import policy_dtype
from scope_rlvr.run.config import load_config
from tests.tiny_gguf import make_llama


def test_weights_come_back_bit_for_bit():
    model = make_llama()
    own = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with weights_in(model, torch.bfloat16):
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert all(torch.equal(parameter, own[name]) for name, parameter in model.named_parameters())
    model(input_ids=torch.arange(4)[None]).logits.sum().backward()
    assert model.model.norm.weight.grad.dtype == torch.float32


def test_sampling_in_bfloat16_draws_from_nearly_the_same_distribution():
    local = LocalModel.load(model_path("policy"), dtype=torch.float32)
    prompts = [local.codec.encode_prompt(" 4 + 7 + 9 =")] * 4
    exact = local.extend(prompts, Sampling(temperature=0.0), max_tokens=[4] * 4, seed=0)
    local.dtype = torch.bfloat16
    rounded = local.extend(prompts, Sampling(temperature=0.0), max_tokens=[4] * 4, seed=0)
    assert local.model.dtype == torch.float32
    assert rounded[0].logprobs != exact[0].logprobs
    assert rounded[0].logprobs[0] == pytest.approx(exact[0].logprobs[0], abs=0.05)


def test_bfloat16_is_refused_where_the_machine_has_it_not(monkeypatch):
    config = load_config(overrides=["model.dtype=bfloat16"])
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    with pytest.raises(UserError, match=r"model\.dtype = 'bfloat16'.*take 'float32', or 'auto'"):
        policy_dtype(config)
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    assert policy_dtype(config) is torch.bfloat16


@pytest.fixture
def clock(monkeypatch):
    """Seconds that each way takes, in the place of measured ones."""
    seconds: dict[str, float] = {}
    monkeypatch.setattr(speed._Trial, "seconds_in", lambda self, way: seconds[way])
    monkeypatch.setattr(speed._Trial, "seconds_with_threads", lambda self, way: seconds[way])
    monkeypatch.setattr(speed, "has_bfloat16", lambda: True)
    monkeypatch.setattr(speed, "usable_cores", lambda: 3)
    return seconds


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes in bfloat16 unmeasured")
@pytest.mark.parametrize(("seconds", "chosen"), [(0.5, "bfloat16"), (0.95, "float32"), (2.0, "float32")])
def test_auto_is_what_was_clearly_faster(clock, seconds, chosen):
    clock |= {"float32": 1.0, "bfloat16": seconds}
    config, lines = speed.settled(load_config(overrides=["model.dtype=auto"]))
    assert config.model.dtype is Precision(chosen)
    assert lines == [f"dtype     {chosen}: the same small work took float32 1000 ms, bfloat16 {1000 * seconds:.0f} ms"]
    assert speed.settled(config) == (config, [])


def test_the_number_of_threads_is_measured(clock):
    clock |= {"1": 1.0, "2": 0.7, "3": 0.8}
    config, (line,) = speed.settled(load_config(overrides=["run.num_threads=auto"]))
    assert config.run.num_threads == 2
    assert line.startswith("threads   2 thread(s): the same small work took 1 1000 ms, 2 700 ms, 3 800 ms")


def test_the_small_work_is_done_in_both_formats():
    config = load_config(overrides=["model.dtype=auto"])
    trial = speed._Trial.of(config)
    assert all(trial.seconds_in(way) > 0 for way in ("float32", "bfloat16"))
    assert {parameter.dtype for parameter in trial.model.parameters()} == {torch.float32}
