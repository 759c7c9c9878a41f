"""Entropies and embeddings of finished responses against what the model says when asked row by row."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from transformers import AutoModel, AutoTokenizer
from transformers import Gemma2Config as GemmaConfig
from transformers import Gemma2ForCausalLM as GemmaModel

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.ports import Sampling
from scope_rlvr.core.types import Origin, Outcome, Rollout, Segment, Verdict
from scope_rlvr.embedded import model_path
from scope_rlvr.evaluation.measures import Sample
from scope_rlvr.evaluation.readers import PolicyReader, TextReader
from scope_rlvr.formulas.diversity import embedding_diversity
from scope_rlvr.formulas.features import OutputGradient, SemanticEntropy
from scope_rlvr.formulas.readings import Entropy, LogProb, SelfCertainty, TopK
from scope_rlvr.models import local as engine
from scope_rlvr.models import reading
from scope_rlvr.models.local import LocalModel
from scope_rlvr.models.reading import read_tokens
from scope_rlvr.problems import families

BOTH = frozenset({"policy_entropy", "embedding"})


@pytest.fixture(scope="module")
def local() -> LocalModel:
    return LocalModel.load(model_path("policy"), dtype=torch.float32)


def sample_of(local: LocalModel, level: int, temperature: float, count: int = 4) -> Sample:
    problem = families.get("reduction").sample(level, 1, seed=1)[0]
    prompt = local.codec.encode_prompt(problem.prompt)
    drawn = local.extend([prompt] * count, Sampling(temperature), max_tokens=[60] * count, seed=level)
    members = tuple(
        Member(Rollout(prompt, (Segment(c.token_ids, Origin.POLICY, c.logprobs),)), Verdict(Outcome.WRONG))
        for c in drawn
    )
    return Sample(Group(problem, members), tuple("".join(local.codec.pieces(c.token_ids)) for c in drawn))


@torch.inference_mode()
def by_hand(local: LocalModel, sample: Sample, temperature: float) -> tuple[float, float]:
    """Mean entropy over tokens and embedding diversity, each row alone, hidden states asked for openly."""
    entropies, vectors = [], []
    for member in sample.group.members:
        prompt, response = member.rollout.prompt_ids, member.rollout.token_ids
        said = local.model(torch.tensor([[*prompt, *response]]), output_hidden_states=True)
        for position in range(len(prompt) - 1, len(prompt) + len(response) - 1):
            p = (said.logits[0, position] / temperature).softmax(-1)
            entropies.append(-sum(x * math.log(x) for x in p.tolist() if x > 0))
        vectors.append(said.hidden_states[-1][0, len(prompt) :].mean(0).tolist())
    return sum(entropies) / len(entropies), embedding_diversity(vectors)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_one_pass_over_a_batch_says_what_each_row_says_alone(local: LocalModel, temperature: float):
    samples = [sample_of(local, level, temperature) for level in (3, 7)]
    read = PolicyReader(local, temperature, BOTH)(samples)
    for sample, values in zip(samples, read, strict=True):
        entropy, embedding = by_hand(local, sample, temperature)
        assert values["policy_entropy"] == pytest.approx(entropy, abs=1e-5)
        assert values["embedding"] == pytest.approx(embedding, abs=1e-5)


def test_entropy_is_the_mean_surprise_of_many_samples(local: LocalModel):
    sample = sample_of(local, level=5, temperature=1.0, count=400)
    surprise = [-logprob for member in sample.group.members for logprob in member.rollout.logprob_T]
    entropy = PolicyReader(local, 1.0, BOTH)([sample])[0]["policy_entropy"]
    assert entropy == pytest.approx(sum(surprise) / len(surprise), rel=0.05)


def test_batches_are_bounded_and_change_nothing(local: LocalModel, monkeypatch: pytest.MonkeyPatch):
    samples = [sample_of(local, level, 1.0) for level in (3, 7)]
    whole = PolicyReader(local, 1.0, BOTH)(samples)
    monkeypatch.setattr(engine, "_BATCH_NUMBERS", 1)
    monkeypatch.setattr(reading, "LOGITS_AT_ONCE", 1)
    for values, expected in zip(PolicyReader(local, 1.0, BOTH)(samples), whole, strict=True):
        assert values == pytest.approx(expected, abs=1e-5)


def test_a_policys_entropies_are_the_readers_and_as_bounded(local: LocalModel, monkeypatch: pytest.MonkeyPatch):
    sample = sample_of(local, 6, 1.0)
    rollouts = [member.rollout for member in sample.group.members]
    prompts, responses = [r.prompt_ids for r in rollouts], [*(r.token_ids for r in rollouts[1:]), ()]
    whole = local.entropies(prompts, responses, 1.0)
    assert [len(entropy_T) for entropy_T in whole] == [len(response) for response in responses]
    mean = sum(sum(entropy_T) for entropy_T in whole[:3]) / sum(map(len, responses))
    assert mean == pytest.approx(
        by_hand(local, Sample(replace(sample.group, members=sample.group.members[1:]), ()), 1.0)[0]
    )
    sizes: list[int] = []
    monkeypatch.setattr(engine, "_BATCH_NUMBERS", 1)
    monkeypatch.setattr(reading, "LOGITS_AT_ONCE", 1)
    hook = local.model.register_forward_pre_hook(
        lambda _, __, given: sizes.append(len(given["input_ids"])), with_kwargs=True
    )
    alone = local.entropies(prompts, responses, 1.0)
    hook.remove()
    assert sizes == [1] * 4
    for entropy_T, expected_T in zip(alone, whole, strict=True):
        assert entropy_T == pytest.approx(expected_T, abs=1e-5)


def test_only_what_is_asked_for_is_read(local: LocalModel):
    sample = sample_of(local, 3, 1.0)
    assert list(PolicyReader(local, 1.0, {"embedding"})([sample])[0]) == ["embedding"]
    assert list(PolicyReader(local, 1.0, {"policy_entropy"})([sample])[0]) == ["policy_entropy"]


class Given:
    """Hidden states that are the logits themselves."""

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        return states


def entropies_of(logits_TV: torch.Tensor, temperature: float) -> torch.Tensor:
    ids_BT = torch.zeros(1, len(logits_TV), dtype=torch.long)
    return read_tokens(logits_TV[None], ids_BT, Given(logits_TV.size(1)), [Entropy()], temperature)["entropy"][0]


def test_entropies_by_hand():
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0], [100.0, 0.0]])
    quarter = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    assert entropies_of(logits, 1.0).tolist() == pytest.approx([math.log(2), quarter, 0.0], abs=1e-6)
    # Twice the temperature makes the odds 3 to 1 their root; 0 stands for the distribution as it is.
    odds = math.sqrt(3) / (1 + math.sqrt(3))
    warmer = -odds * math.log(odds) - (1 - odds) * math.log(1 - odds)
    assert entropies_of(logits, 2.0)[1].item() == pytest.approx(warmer, abs=1e-6)
    assert torch.equal(entropies_of(logits, 0.0), entropies_of(logits, 1.0))


def test_a_part_at_a_time_has_the_values_and_gradients_of_the_whole(monkeypatch: pytest.MonkeyPatch):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=generator)
    ids_BT = torch.randint(7, (3, 5), generator=generator)
    reducers = [LogProb(), Entropy(), SelfCertainty()]

    def read() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        states = logits.clone().requires_grad_()
        kept = read_tokens(states, ids_BT, Given(7), reducers, 0.7)
        sum((n + 1) * values.square().sum() for n, values in enumerate(kept.values())).backward()
        return {name: values.detach() for name, values in kept.items()}, states.grad

    whole, gradient = read()
    monkeypatch.setattr(reading, "LOGITS_AT_ONCE", 14)
    parts, of_parts = read()
    assert gradient.abs().max() > 0
    torch.testing.assert_close(of_parts, gradient)
    for name, values in whole.items():
        torch.testing.assert_close(parts[name], values)


def test_the_likeliest_tokens_come_with_their_ids():
    logits = torch.tensor([[[0.0, 2.0, 1.0]]])
    kept = read_tokens(logits, torch.tensor([[0]]), Given(3), [TopK(k=2)], 1.0)["top_k"]
    total = 1 + math.e**2 + math.e
    assert kept[0, 0, 0].tolist() == pytest.approx([math.log(math.e**2 / total), math.log(math.e / total)], abs=1e-6)
    assert kept[0, 0, 1].tolist() == [1, 2]


def test_a_model_that_caps_its_logits_is_read_as_it_is():
    config = GemmaConfig(
        vocab_size=11, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=4, final_logit_softcapping=0.05, sliding_window=8,
    )  # fmt: skip
    torch.manual_seed(0)
    model = GemmaModel(config).eval()
    model.lm_head.weight.data *= 100
    project = reading.projection_of(model)
    ids = torch.tensor([[3, 5, 7]])
    with torch.no_grad():
        logits = project(reading.hidden_states(model, ids, torch.ones_like(ids)))
        torch.testing.assert_close(logits, model(input_ids=ids).logits)
    assert 0.04 < logits.abs().max() <= 0.05


def test_a_model_with_other_logits_is_refused():
    model = LocalModel.load(model_path("policy"), dtype=torch.float32).model
    forward = model.forward

    def shifted(*args, **kwargs):
        said = forward(*args, **kwargs)
        return replace(said, logits=said.logits.roll(1, -1))

    model.forward = shifted
    with pytest.raises(ValueError, match="cannot be computed for a few tokens at a time"):
        reading.projection_of(model)


def test_another_model_reads_texts_alone():
    reader = TextReader.load(str(model_path("teacher")))
    texts = ["3 + 4 = 7 : 7\n\nanswer 7", "answer 7", ""]
    model, tokenizer = (
        AutoModel.from_pretrained(model_path("teacher")),
        AutoTokenizer.from_pretrained(model_path("teacher")),
    )
    with torch.inference_mode():
        expected = [model(**tokenizer(text, return_tensors="pt"))[0][0].mean(0).tolist() for text in texts[:2]]
    vectors = reader.vectors(texts)
    for vector, alone in zip(vectors[:2], expected, strict=True):
        assert vector == pytest.approx(alone, abs=1e-5)
    assert len(vectors[2]) == len(vectors[0])


def test_under_autocast_the_backward_pass_computes_parts_as_the_forward_pass_did(monkeypatch: pytest.MonkeyPatch):
    model = LocalModel.load(model_path("policy"), dtype=torch.float32).model.train()
    ids = torch.randint(5, model.config.vocab_size, (3, 20), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    dtypes = set()
    project = reading.Projection.__call__

    def watched(self, states):
        logits = project(self, states)
        dtypes.add(logits.dtype)
        return logits

    def gradient(at_once: int, is_half: bool) -> tuple[torch.Tensor, torch.Tensor]:
        monkeypatch.setattr(reading, "LOGITS_AT_ONCE", at_once)
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
            kept = reading.read_last(model, ids, mask, 12, [LogProb(), Entropy()], 0.7)
        (kept["logprob"] + 0.1 * kept["entropy"]).mean().backward()
        return kept["logprob"].detach(), torch.cat([p.grad.flatten() for p in model.parameters()])

    whole, parts = 1 << 24, 5 * model.config.vocab_size
    exact_logp, exact = gradient(whole, is_half=False)
    monkeypatch.setattr(reading.Projection, "__call__", watched)
    for at_once in (whole, parts):
        logp, half = gradient(at_once, is_half=True)
        assert dtypes == {torch.bfloat16}, "the second time, too"
        assert logp.dtype is torch.float32
        torch.testing.assert_close(logp, exact_logp, rtol=0.03, atol=0.05)
        assert torch.cosine_similarity(half, exact, dim=0) > 0.99
        assert half.norm() == pytest.approx(exact.norm().item(), rel=0.02)


def test_gradients_of_the_output_layer_are_those_of_autograd(local: LocalModel):
    prompts, responses = [(4, 12, 25)] * 2, [(7, 8, 9, 10), (5,)]
    read = local.read(prompts, responses, [OutputGradient(), SemanticEntropy(k=3), Entropy()])
    embedding = local.model.get_output_embeddings().weight
    for prompt, response, kept in zip(prompts, responses, read, strict=True):
        ids = torch.tensor([(*prompt, *response)])
        states = local.model.base_model(input_ids=ids).last_hidden_state[0, len(prompt) - 1 : -1].detach()
        states.requires_grad_()
        logp = (states @ embedding.T).log_softmax(-1).gather(-1, torch.tensor(response)[:, None]).sum()
        (gradient,) = torch.autograd.grad(logp, states)
        assert torch.allclose(kept["output_gradient"], gradient.mean(0), atol=1e-5)
        assert len(kept["semantic_entropy"]) == len(kept["entropy"]) == len(response)
        assert (kept["semantic_entropy"] <= kept["entropy"] + 1e-5).all()


def test_the_first_look_at_a_model_draws_no_random_numbers() -> None:
    """Else a resumed run, which looks in another step, would go on with other dropout masks."""
    model = LocalModel.load(model_path("policy")).model
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    model.train()
    before = torch.get_rng_state()
    reading.projection_of(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
