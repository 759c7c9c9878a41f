"""Adapters as files: what is loaded is what peft makes of the same files, and an adapter of another model is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from scope_rlvr.core.errors import UserError
from scope_rlvr.embedded import adapter_path
from scope_rlvr.embedded_lab.join_adapters import join
from scope_rlvr.models.adapters import adapted_folder
from tests.tiny_gguf import make_llama
from tests.tiny_maths import make_tokenizer


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    make_llama().save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def adapt(base: Path, folder: Path) -> torch.nn.Module:
    """Write an adapter with random weights; what peft makes of base and adapter together."""
    config = LoraConfig(r=3, lora_alpha=12, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    torch.manual_seed(1)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    adapted.save_pretrained(folder)
    return adapted.merge_and_unload()


def test_the_folder_holds_what_peft_would_merge(base: Path, tmp_path: Path) -> None:
    expected = adapt(base, tmp_path / "adapter")
    folder = adapted_folder(base, tmp_path / "adapter", "model.policy")
    found = dict(AutoModelForCausalLM.from_pretrained(folder).named_parameters())
    for name, weight in expected.named_parameters():
        torch.testing.assert_close(found[name], weight)
    original = dict(AutoModelForCausalLM.from_pretrained(base).named_parameters())
    moved = {name.split(".")[-2] for name in found if not torch.equal(found[name], original[name])}
    assert moved == {"q_proj", "down_proj"}
    assert (folder / "tokenizer.json").is_file()


def test_it_is_made_once(base: Path, tmp_path: Path) -> None:
    adapt(base, tmp_path / "adapter")
    folder = adapted_folder(base, tmp_path / "adapter", "model.policy")
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert adapted_folder(base, tmp_path / "adapter", "model.policy") == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_an_adapter_of_another_model_is_refused(base: Path, tmp_path: Path) -> None:
    adapt(base, tmp_path / "adapter")
    model = AutoModelForCausalLM.from_pretrained(base)
    model.config.num_hidden_layers = 1
    model.model.layers = model.model.layers[:1]
    model.save_pretrained(tmp_path / "other")
    with pytest.raises(
        UserError, match=r"does not belong to the model in .*'model\.layers\.1\.mlp\.down_proj\.weight'"
    ):
        adapted_folder(tmp_path / "other", tmp_path / "adapter", "model.policy")


def test_what_ships_is_small_and_whole() -> None:
    folder = adapter_path("stories_policy")
    weights = load_file(folder / "adapter_model.safetensors")
    settings = json.loads((folder / "adapter_config.json").read_text())
    # 30 layers of SmolLM2 with 7 linear layers each.
    assert len(weights) == 30 * 7 * 2
    assert all(min(weight.shape) == settings["r"] and torch.isfinite(weight).all() for weight in weights.values())
    assert sum(file.stat().st_size for file in folder.iterdir()) < 12e6


def test_two_adapters_become_one_that_changes_as_much(base: Path, tmp_path: Path) -> None:
    first = adapt(base, tmp_path / "first")
    first.save_pretrained(tmp_path / "after_first")
    second = adapt(tmp_path / "after_first", tmp_path / "second")
    assert join("base", [tmp_path / "first", tmp_path / "second"], 6, tmp_path / "joined") < 1e-9
    folder = adapted_folder(base, tmp_path / "joined", "model.policy")
    found = dict(AutoModelForCausalLM.from_pretrained(folder).named_parameters())
    for name, weight in second.named_parameters():
        torch.testing.assert_close(found[name], weight, atol=0.05, rtol=0.02)
