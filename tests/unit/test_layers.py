"""Which parameters train, and that nothing is back-propagated below them."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from scope_rlvr.models.layers import num_trained, train_only
from tests.tiny_gguf import make_llama


def trained(model) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def test_the_upper_layers_and_the_final_norm_train():
    model = make_llama()
    train_only(model, 1)
    names = trained(model)
    assert names[-1] == "model.norm.weight"
    assert len(names) == 10
    assert all(name.startswith("model.layers.1.") for name in names[:-1])
    # 64 wide, 96 inside, keys 32 wide: 2*64*64 + 2*64*32 + 3*64*96 + 2*64, and the norm's 64.
    assert num_trained(model) == 8192 + 4096 + 18432 + 128 + 64


def test_the_layers_of_another_kind_of_model_are_found():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=3, n_head=2))
    train_only(model, 2)
    assert {name.split(".")[2] for name in trained(model) if ".h." in name} == {"1", "2"}
    assert [name for name in trained(model) if ".h." not in name] == [
        "transformer.ln_f.weight",
        "transformer.ln_f.bias",
    ]


def test_patterns_name_parameters():
    model = make_llama()
    train_only(model, ("model.layers.0.mlp.*", "*.norm.weight"))
    assert trained(model) == [
        *(f"model.layers.0.mlp.{part}_proj.weight" for part in ("gate", "up", "down")),
        "model.norm.weight",
    ]


def test_what_cannot_be_trained_is_told():
    with pytest.raises(ValueError, match="the model has 2 layers, and 3 cannot be trained"):
        train_only(make_llama(), 3)
    with pytest.raises(ValueError, match=r"'layers\.1' fits the name of no parameter; there are 'model\.embed_tokens"):
        train_only(make_llama(), ("layers.1",))


def test_no_graph_is_built_below_the_layers_that_train():
    model, seen = make_llama(), list[bool]()
    train_only(model, 1)
    for layer in model.model.layers:
        layer.register_forward_hook(lambda module, given, found: seen.append(found.requires_grad))
    loss = model(input_ids=torch.arange(8)[None]).logits.logsumexp(-1).sum()
    loss.backward()
    assert seen == [False, True]
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in model.parameters())
