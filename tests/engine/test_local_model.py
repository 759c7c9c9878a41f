"""The sampler, the local teacher and the token-classification scorer against slow, independent readings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from scope_rlvr.core.groups import Group
from scope_rlvr.core.ports import Sampling, TeacherRequest
from scope_rlvr.core.prompts import PromptSection
from scope_rlvr.core.types import Problem
from scope_rlvr.methods.exploration.arpo import Arpo
from scope_rlvr.models.local import LocalModel, TokenizerCodec
from scope_rlvr.problems import families
from scope_rlvr.scorers.token_classifier import TokenClassifierScorer
from scope_rlvr.teachers.local import LocalTeacher
from tests.doubles import toolbox
from tests.engine.conftest import load_policy

FAMILY = families.get("reduction")


@pytest.fixture(scope="module")
def policy() -> LocalModel:
    model, tokenizer = load_policy()
    return LocalModel(model, TokenizerCodec(tokenizer))


@pytest.fixture(scope="module")
def prefixes(policy: LocalModel) -> list[tuple[int, ...]]:
    """Prompts of different lengths, so that rows are padded."""
    problems = [FAMILY.sample(level=level, count=3, seed=1)[i] for level in (3, 6, 4) for i in range(3)]
    return [policy.codec.encode_prompt(problem.prompt) for problem in problems]


def reread(policy: LocalModel, prefix: Sequence[int], written: Sequence[int], temperature: float) -> list[float]:
    """Log-probabilities of written tokens, one row alone, in one forward pass without a cache."""
    with torch.no_grad():
        logits = policy.model(torch.tensor([[*prefix, *written]])).logits[0] / temperature
    logps = logits.log_softmax(-1)
    return [logps[len(prefix) + i - 1, token].item() for i, token in enumerate(written)]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probabilities_are_those_of_the_model_row_by_row(
    policy: LocalModel, prefixes: list[tuple[int, ...]], temperature: float
) -> None:
    written = policy.extend(prefixes, Sampling(temperature), max_tokens=[90] * len(prefixes), seed=3)
    assert len({len(c.token_ids) for c in written}) > 1
    for prefix, continuation in zip(prefixes, written, strict=True):
        expected = reread(policy, prefix, continuation.token_ids, temperature)
        assert continuation.logprobs == pytest.approx(expected, abs=2e-4)


def test_a_prompt_is_read_once_for_all_rollouts_of_its_group(
    policy: LocalModel, prefixes: list[tuple[int, ...]]
) -> None:
    groups, read = [prefixes[i] for i in (0, 4, 0, 8, 4, 0)], list[tuple[int, ...]]()
    hook = policy.model.register_forward_pre_hook(
        lambda module, given, named: read.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    written = policy.extend(groups, Sampling(), max_tokens=[40] * 6, seed=5)
    hook.remove()
    assert read[:2] == [(3, max(map(len, groups))), (6, 1)]
    assert len({written[i].token_ids for i in (0, 2, 5)}) == 3, "each rollout has draws of its own"
    for prefix, continuation in zip(groups, written, strict=True):
        assert continuation.logprobs == pytest.approx(reread(policy, prefix, continuation.token_ids, 1.0), abs=2e-4)


def test_greedy_is_transformers_own_greedy(policy: LocalModel, prefixes: list[tuple[int, ...]]) -> None:
    written = policy.extend(prefixes, Sampling(temperature=0.0), max_tokens=[90] * len(prefixes), seed=0)
    for prefix, continuation in zip(prefixes, written, strict=True):
        ids = torch.tensor([prefix])
        theirs = policy.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=90, do_sample=False)
        assert continuation.token_ids == tuple(theirs[0, len(prefix) :].tolist())


def test_rows_end_for_the_right_reason(policy: LocalModel, prefixes: list[tuple[int, ...]]) -> None:
    whole = policy.extend(prefixes, Sampling(), max_tokens=[90] * len(prefixes), seed=1)
    assert all(c.finished and not c.stopped and c.token_ids[-1] == policy.codec.end_id for c in whole)
    budgets = [i % 4 for i in range(len(prefixes))]
    short = policy.extend(prefixes, Sampling(), max_tokens=budgets, seed=1)
    assert [len(c.token_ids) for c in short] == budgets
    assert not any(c.finished or c.stopped for c in short)
    steps = policy.extend(prefixes, Sampling(stop_texts=("\n\n",)), max_tokens=[90] * len(prefixes), seed=1)
    for continuation in steps:
        text = "".join(policy.codec.pieces(continuation.token_ids))
        assert continuation.stopped
        assert text.endswith("\n\n")
        assert text.count("\n\n") == 1
    assert policy.extend([], Sampling(), max_tokens=[], seed=0) == []


def test_equal_seeds_give_equal_tokens_and_leave_the_global_generator_alone(
    policy: LocalModel, prefixes: list[tuple[int, ...]]
) -> None:
    before = torch.random.get_rng_state()
    one, other, third = (
        policy.extend(prefixes, Sampling(), max_tokens=[90] * len(prefixes), seed=seed) for seed in (5, 5, 6)
    )
    assert one == other
    assert [c.token_ids for c in one] != [c.token_ids for c in third]
    assert torch.equal(before, torch.random.get_rng_state())


def test_samples_follow_the_models_distribution(policy: LocalModel, prefixes: list[tuple[int, ...]]) -> None:
    prefix, count = prefixes[0], 4000
    drawn = policy.extend([prefix] * count, Sampling(), max_tokens=[1] * count, seed=2)
    with torch.no_grad():
        expected = policy.model(torch.tensor([prefix])).logits[0, -1].softmax(-1)
    frequency = torch.bincount(torch.tensor([c.token_ids[0] for c in drawn]), minlength=len(expected)) / count
    assert (frequency - expected).abs().max() < 0.03
    best = policy.extend([prefix] * 200, Sampling(top_k=1), max_tokens=[1] * 200, seed=2)
    assert {c.token_ids[0] for c in best} == {int(expected.argmax())}


def test_sampling_restores_the_training_mode(policy: LocalModel, prefixes: list[tuple[int, ...]]) -> None:
    policy.model.train()
    policy.extend(prefixes[:1], Sampling(), max_tokens=[2], seed=0)
    assert policy.model.training
    policy.model.eval()


def request(policy: LocalModel, problem: Problem, prefix_text: str, stop_text: str | None) -> TeacherRequest:
    return TeacherRequest(
        problem=problem,
        prompt_ids=policy.codec.encode_prompt(problem.prompt),
        prefix_ids=policy.codec.encode(prefix_text),
        prefix_text=prefix_text,
        max_tokens=60,
        stop_text=stop_text,
    )


def test_a_teacher_of_the_same_vocabulary_answers_in_ids(policy: LocalModel, teacher: LocalTeacher) -> None:
    problem = Problem("p", "reduce 3 5 7 9\n\n", "11")
    requests = [request(policy, problem, "5 + 9 = 1 : 1 3 7\n\n", stop) for stop in ("\n\n", None)]
    step, suffix = teacher.continue_from(requests, seed=0)
    assert step.token_ids is not None
    assert suffix.token_ids is not None
    assert "".join(policy.codec.pieces(step.token_ids)) == "1 + 3 = 4 : 4 7\n\n"
    assert not step.finished
    assert step.logprobs is not None
    assert len(step.logprobs) == len(step.token_ids)
    text = "".join(policy.codec.pieces(suffix.token_ids))
    assert suffix.finished
    assert FAMILY.first_wrong_step(problem, ["5 + 9 = 1 : 1 3 7", *text.split("\n\n")]) is None


def character_tokenizer() -> PreTrainedTokenizerFast:
    characters = ["<eos>", *"\n 0123456789+=:abcdefghijklmnopqrstuvwxyz"]
    tokenizer = Tokenizer(models.WordLevel({c: i for i, c in enumerate(characters)}, unk_token="<eos>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>")


def test_a_teacher_of_another_vocabulary_answers_in_text(policy: LocalModel) -> None:
    tokenizer = character_tokenizer()
    # Unseeded weights would now and then begin with the end-of-sequence token.
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        eos_token_id=0,
        pad_token_id=0,
    )
    stranger = LocalTeacher(LocalModel(LlamaForCausalLM(config).eval(), TokenizerCodec(tokenizer)), policy.codec)
    assert not stranger.shares_vocabulary
    problem = Problem("p", "reduce 3 5\n\n", "8")
    (reply,) = stranger.continue_from([request(policy, problem, "", "\n\n")], seed=0)
    assert reply.token_ids is None
    assert reply.logprobs is None
    assert reply.text


def test_a_teacher_of_another_vocabulary_is_put_the_problem_in_its_own_chat_template(policy: LocalModel) -> None:
    tokenizer = character_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}:{{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    codec = TokenizerCodec(tokenizer, (), PromptSection(template="{problem} write the answer"))
    stranger = LocalTeacher(
        LocalModel(LlamaForCausalLM(config), codec), policy.codec, prompt="{problem} it is {reference}:"
    )
    asked = replace(request(policy, Problem("p", "reduce 3 5\n\n", "8"), "3 + 5", None), reference="8")
    shown = tokenizer.decode(stranger._prefix(asked))
    assert shown == "user:reduce 3 5\n\n it is 8: write the answer\nassistant:3 + 5"


def test_a_teacher_with_somebody_elses_tokenizer_is_refused(policy: LocalModel) -> None:
    config = LlamaConfig(vocab_size=9, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    with pytest.raises(ValueError, match="its own tokenizer"):
        LocalTeacher(LocalModel(LlamaForCausalLM(config), policy.codec), policy.codec)


def solutions(policy: LocalModel) -> list[tuple[Problem, list[str]]]:
    problems = [p for level in (3, 5, 7) for p in FAMILY.sample(level=level, count=4, seed=2)]
    prompts = [policy.codec.encode_prompt(p.prompt) for p in problems]
    written = policy.extend(prompts, Sampling(), max_tokens=[120] * len(prompts), seed=4)
    texts = ["".join(policy.codec.pieces(c.token_ids)) for c in written]
    return [(p, [f"{step}\n\n" for step in text.split("\n\n")]) for p, text in zip(problems, texts, strict=True)]


def test_the_scorer_reads_each_step_at_its_separator(policy: LocalModel, scorer: TokenClassifierScorer) -> None:
    judged = solutions(policy)
    for (problem, steps), scores in zip(judged, scorer.score(judged), strict=True):
        expected = []
        for end in range(1, len(steps) + 1):
            text = problem.prompt + "".join(f"{step.strip()}\n\n" for step in steps[:end])
            ids = scorer.tokenizer(text, return_tensors="pt").input_ids
            with torch.no_grad():
                expected.append(scorer.model(ids).logits[0, -1].softmax(-1)[1].item())
        assert scores == pytest.approx(expected, abs=1e-5)


def test_batches_and_order_do_not_change_a_score(policy: LocalModel, scorer: TokenClassifierScorer) -> None:
    judged = solutions(policy)
    alone = TokenClassifierScorer(scorer.model, scorer.tokenizer, scorer.rule, tokens_a_pass=1).score(judged)
    together = scorer.score(judged)
    backwards = scorer.score(judged[::-1])[::-1]
    for one, other, third in zip(alone, together, backwards, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
        assert one == pytest.approx(third, abs=1e-5)


def test_what_cannot_be_scored_gets_none(scorer: TokenClassifierScorer) -> None:
    problem = Problem("p", "reduce 3 5\n\n", "8")
    endless = ["3 + 5 = 8 : 8"] * 200
    none, too_long, ordinary = scorer.score([(problem, []), (problem, endless), (problem, ["3 + 5 = 8 : 8\n\n"])])
    assert none is None
    assert too_long is None
    assert ordinary is not None
    assert len(ordinary) == 1


def test_a_separator_inside_a_step_makes_no_step_of_its_own(scorer: TokenClassifierScorer) -> None:
    problem = Problem("p", "reduce 3 5\n\n", "8")
    (scores,) = scorer.score([(problem, ["3 + 5\n\n= 8 : 8\n\n", "answer 8"])])
    assert scores is not None
    assert len(scores) == 2


class Counting:
    """Changes nothing, and writes down where in its response each row is."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def adjust(self, logits_BV: torch.Tensor, num_written_B: Sequence[int]) -> torch.Tensor:
        self.seen.append(list(num_written_B))
        return logits_BV


def test_a_control_is_told_where_in_the_response_a_row_is(policy: LocalModel, prefixes: list[tuple[int, ...]]) -> None:
    first, later, alone = Counting(), Counting(), policy.extend(prefixes, Sampling(), max_tokens=[3] * 9, seed=0)
    assert policy.extend(prefixes, Sampling(control=first), max_tokens=[3] * 9, seed=0) == alone
    assert first.seen == [[0] * 9, [1] * 9, [2] * 9]
    longer = [(*prefix, *c.token_ids) for prefix, c in zip(prefixes, alone, strict=True)]
    # A row without room is none of those that are written.
    policy.extend(longer, Sampling(control=later), max_tokens=[0, *[2] * 8], seed=1, num_written=[3, *[3] * 7, 5])
    assert later.seen == [[3] * 7 + [5], [4] * 7 + [6]]


def test_a_response_that_grows_step_by_step_is_annealed_by_its_length(policy: LocalModel) -> None:
    problem, control = FAMILY.sample(level=5, count=1, seed=1)[0], Counting()
    tools = toolbox(policy=policy, codec=policy.codec, sampling=Sampling(control=control), max_response_tokens=80)
    prompt = policy.codec.encode_prompt(problem.prompt)
    (group,) = Arpo(first_share=1).sample([Group(problem, (), prompt_ids=prompt)], 1, tools)
    assert [seen[0] for seen in control.seen] == list(range(len(group.members[0].rollout)))
    assert len(group.members[0].rollout.segments) > 1
