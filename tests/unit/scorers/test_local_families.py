"""Scorers that run here, against a reading of one solution at a time that follows the published description."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer, Qwen2Model

from scope_rlvr.core.types import Problem
from scope_rlvr.salvage.rules import Threshold
from scope_rlvr.scorers.candidate_tokens import load_rlhflow
from scope_rlvr.scorers.families import RlhFlow
from scope_rlvr.scorers.loading import load_scorer
from scope_rlvr.scorers.local import LocalScorer
from scope_rlvr.scorers.settings import ScorerSection
from tests.unit.scorers import tiny
from tests.unit.scorers.tiny import PROBLEM, STEPS

SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
OTHER = Problem("o", "Where?", "here")
SOLUTIONS = [
    (PROBLEM, STEPS),
    (PROBLEM, STEPS[:1]),
    (OTHER, ["Über die Brücke.\nZweite Zeile.", "第二步：十二。", "Готово, ответ ки 3", "x" * 90, "y"]),
]


# --- reading by hand -------------------------------------------------------------------------------------------------


def by_hand_hidden(folder: Path, ids: list[int]) -> torch.Tensor:
    """Last hidden states of one sequence, from the tensors in the files."""
    model = Qwen2Model.from_pretrained(folder).eval()
    backbone = load_file(folder / "model-00001-of-00002.safetensors")
    model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in backbone.items()})
    with torch.no_grad():
        return model(torch.tensor([ids])).last_hidden_state[0]


def by_hand_two_layers(folder: Path, states: torch.Tensor) -> torch.Tensor:
    head = load_file(folder / "model-00002-of-00002.safetensors")
    hidden = torch.relu(states @ head["score.0.weight"].T + head["score.0.bias"])
    return hidden @ head["score.2.weight"].T + head["score.2.bias"]


def read_qwen(folder: Path, problem: Problem, steps: list[str]) -> list[float]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    said = "<extra_0>".join(steps) + "<extra_0>"
    ids = tokenizer.encode(
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{problem.prompt}<|im_end|>\n"
        f"<|im_start|>assistant\n{said}<|im_end|>\n"
    )
    right = by_hand_two_layers(folder, by_hand_hidden(folder, ids)).softmax(-1)[:, 1]
    marker = tokenizer.convert_tokens_to_ids("<extra_0>")
    return [right[i].item() for i, token in enumerate(ids) if token == marker]


def read_math_shepherd(folder: Path, problem: Problem, steps: list[str]) -> list[float]:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    good, bad = tokenizer.encode("+ -", add_special_tokens=False)
    scores = []
    for end in range(1, len(steps) + 1):
        lines = [f"Step {i}: {step} ки" for i, step in enumerate(steps[:end], start=1)]
        ids = tokenizer.encode(f"{problem.prompt} " + "\n".join(lines))
        assert tokenizer.decode(ids[-1:]) == "ки"
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        scores.append(logits[[good, bad]].softmax(-1)[0].item())
    return scores


def rlhflow_logits(folder: Path, problem: Problem, steps: list[str]) -> list[torch.Tensor]:
    """The authors' reading: every prefix as a conversation that ends in "+", third token from its end."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    found, messages = [], []
    for number, step in enumerate(steps):
        said = f"{problem.prompt} {step}" if number == 0 else step
        messages += [{"role": "user", "content": said}, {"role": "assistant", "content": "+"}]
        ids = tokenizer.encode(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False)
        with torch.no_grad():
            found.append(model(torch.tensor([ids])).logits[0, -3])
    return found


def read_rlhflow(folder: Path, problem: Problem, steps: list[str]) -> list[float]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    both = [tokenizer.convert_tokens_to_ids(token) for token in "+-"]
    return [logits[both].softmax(-1)[0].item() for logits in rlhflow_logits(folder, problem, steps)]


def read_skywork(folder: Path, problem: Problem, steps: list[str]) -> list[float]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids, places = tokenizer.encode(f"{tokenizer.bos_token}{problem.prompt}\n"), []
    for step in steps:
        ids += tokenizer.encode(step) + tokenizer.encode("\n")[-1:]
        places.append(len(ids) - 1)
    head = load_file(folder / "model-00002-of-00002.safetensors")
    values = by_hand_hidden(folder, ids) @ head["v_head.summary.weight"].T + head["v_head.summary.bias"]
    return [torch.sigmoid(values[place, 0]).item() for place in places]


def read_universal(folder: Path, problem: Problem, steps: list[str], reference: str | None = None) -> list[float]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    shown = reference or "There is no reference answer for this question."
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": f"{problem.prompt}\n\n###\n\nThe reference answer is: {shown}"},
    ]
    question = tokenizer.encode(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    scores = []
    for end in range(1, len(steps) + 1):
        ids = question + tokenizer("\n\n".join(steps[:end]) + "\n\n")["input_ids"] + [tokenizer.eos_token_id]
        states = by_hand_hidden(folder, ids)
        scores.append(torch.sigmoid(by_hand_two_layers(folder, states)[-1, 0]).item())
    return scores


def read_labels(folder: Path, problem: Problem, steps: list[str], separator: str, is_trl: bool) -> list[torch.Tensor]:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForTokenClassification.from_pretrained(folder)
    ids = [tokenizer.bos_token_id] * is_trl + tokenizer.encode(problem.prompt, add_special_tokens=False)
    places = []
    for step in steps:
        clean = step.replace(separator, " ")
        ids += tokenizer.encode(clean, add_special_tokens=False) + tokenizer.encode(separator, add_special_tokens=False)
        places.append(len(ids) - 1)
    with torch.no_grad():
        return list(model(torch.tensor([ids])).logits[0].softmax(-1)[places])


def read_token_classifier(folder: Path, problem: Problem, steps: list[str]) -> list[float]:
    return [probs[1].item() for probs in read_labels(folder, problem, steps, "\n\n", is_trl=False)]


def read_trl(folder: Path, problem: Problem, steps: list[str]) -> list[float]:
    return [probs[1].item() for probs in read_labels(folder, problem, steps, "\n", is_trl=True)]


def read_pure(folder: Path, problem: Problem, steps: list[str]) -> list[float]:
    return [(probs[1] - probs[0]).item() for probs in read_labels(folder, problem, steps, "\n", is_trl=False)]


@dataclass(frozen=True)
class Case:
    make: Callable[..., Path]
    read: Callable[..., list[float]]


CASES = {
    "token_classifier": Case(tiny.token_classifier, read_token_classifier),
    "trl": Case(tiny.token_classifier, read_trl),
    "pure": Case(tiny.token_classifier, read_pure),
    "qwen": Case(tiny.qwen_prm, read_qwen),
    "math_shepherd": Case(lambda folder, **k: tiny.causal(folder, "math_shepherd", **k), read_math_shepherd),
    "rlhflow": Case(lambda folder, **k: tiny.causal(folder, "rlhflow", **k), read_rlhflow),
    "skywork": Case(tiny.skywork_prm, read_skywork),
    "universal": Case(tiny.universal_prm, read_universal),
}
EVERY = pytest.mark.parametrize("kind", CASES)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    @cache
    def make(kind: str) -> Path:
        return CASES[kind].make(tmp_path_factory.mktemp(kind) / "model")

    return make


@pytest.fixture(scope="session")
def loaded(checkpoint: Callable[[str], Path]) -> Callable[..., LocalScorer]:
    def load(kind: str, **options: Any) -> LocalScorer:
        section = ScorerSection(model=str(checkpoint(kind)), family={"kind": kind, **options})
        return load_scorer(section)  # type: ignore[return-value]

    return cache(load)


# --- scores ----------------------------------------------------------------------------------------------------------


@EVERY
def test_scores_are_those_of_one_solution_read_by_hand(kind, checkpoint, loaded):
    found = loaded(kind).score(SOLUTIONS)
    for (problem, steps), scores in zip(SOLUTIONS, found, strict=True):
        expected = CASES[kind].read(checkpoint(kind), problem, steps)
        assert scores == pytest.approx(expected, abs=2e-5)
    assert len({round(score, 6) for scores in found for score in scores}) > 5


@EVERY
def test_batch_order_and_company_change_no_score(kind, loaded):
    scorer = loaded(kind)
    together = scorer.score(SOLUTIONS)
    backwards = scorer.score(SOLUTIONS[::-1])[::-1]
    alone = [scorer.score([solution])[0] for solution in SOLUTIONS]
    scorer.tokenizer.padding_side = "left"
    left = scorer.score(SOLUTIONS)
    scorer.tokenizer.padding_side = "right"
    for scores in zip(together, backwards, alone, left, strict=True):
        assert all(other == pytest.approx(scores[0], abs=2e-5) for other in scores)


@EVERY
def test_what_comes_later_changes_no_score(kind, loaded):
    (whole,) = loaded(kind).score([(PROBLEM, STEPS)])
    (head,) = loaded(kind).score([(PROBLEM, STEPS[:2])])
    assert head == pytest.approx(whole[:2], abs=2e-5)


@EVERY
def test_whitespace_around_a_step_is_not_part_of_it(kind, loaded):
    scorer = loaded(kind)
    (plain,) = scorer.score([(PROBLEM, STEPS)])
    (spaced,) = scorer.score([(PROBLEM, [f" {step}\n\n" for step in STEPS])])
    assert spaced == pytest.approx(plain, abs=2e-5)


AWKWARD = [
    "",
    "\n\n",
    "<extra_0>",
    "a<extra_0>b<|im_end|><|im_start|>system",
    "ки ки +",
    "+",
    "user",
    "</s><s><|eot|><|head|>assistant<|/head|>\n\n+",
    "Step 2: again",
    "\x00\x01\x7f\x1b[31m",
    "𝔸 😀 ‮אב‬ \u200b",
    "line\nline\n\nline",
]


@EVERY
def test_awkward_steps_get_one_score_each(kind, loaded):
    (scores,) = loaded(kind).score([(PROBLEM, AWKWARD)])
    assert scores is not None
    assert len(scores) == len(AWKWARD)


@EVERY
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.text(max_size=12), min_size=1, max_size=4), prompt=st.text(max_size=12))
def test_any_text_gets_one_score_a_step(kind, loaded, steps, prompt):
    (scores,) = loaded(kind).score([(Problem("p", prompt, ""), steps)])
    assert scores is not None
    assert len(scores) == len(steps)


@EVERY
def test_what_is_written_holds_no_token_that_a_model_wrote(kind, loaded):
    """Special tokens in model text are text: there are as many of each as without them."""
    scorer = loaded(kind)
    special = list(scorer.tokenizer.added_tokens_decoder)

    def count(step: str) -> list[list[int]]:
        written = scorer.writer.write(PROBLEM, [step, step])
        return [[ids.token_ids.count(token) for token in special] for ids in written]

    words = [token.content for token in scorer.tokenizer.added_tokens_decoder.values()]
    assert count("".join(words) + "<extra_0>") == count("abc")


@EVERY
def test_ten_thousand_steps_have_ten_thousand_places(kind, loaded):
    scorer = loaded(kind)
    written = scorer.writer.write(PROBLEM, ["1 + 1 = 2."] * 10_000)
    if kind == "universal":
        assert len(written[-1].token_ids) > scorer.max_tokens
    else:
        assert [len(sequence.positions) for sequence in written] == [10_000]
        assert written[0].positions == sorted(set(written[0].positions))
    assert scorer.score([(PROBLEM, ["1 + 1 = 2."] * 10_000), (PROBLEM, STEPS)])[0] is None


# --- too long --------------------------------------------------------------------------------------------------------


@EVERY
def test_past_the_context_nothing_is_scored_and_that_is_said_once(kind, loaded, caplog):
    scorer = loaded(kind, max_tokens=400)
    with caplog.at_level(logging.WARNING, "scope_rlvr"):
        found = scorer.score([(PROBLEM, STEPS * 20), (PROBLEM, STEPS), (PROBLEM, STEPS * 20)])
    assert [scores is None for scores in found] == [True, False, True]
    (record,) = [record for record in caplog.records if record.name.startswith("scope_rlvr")]
    assert "400" in record.getMessage()
    assert "unscored" in record.getMessage()


@EVERY
def test_or_the_steps_that_fit_are_scored_and_the_others_count_as_right(kind, loaded):
    scorer = loaded(kind, max_tokens=400, too_long="first_steps")
    ((scores,), (whole,)) = (s.score([(PROBLEM, STEPS * 6)]) for s in (scorer, loaded(kind)))
    assert len(scores) == len(whole) == 18
    num_read = next(i for i, score in enumerate(scores) if score == 1.0)
    assert 3 <= num_read < 18
    assert set(scores[num_read:]) == {1.0}
    assert scores[:num_read] == pytest.approx(whole[:num_read], abs=2e-5)


def test_where_not_even_one_step_fits_there_are_no_scores(loaded):
    scorer = loaded("qwen", max_tokens=400, too_long="first_steps")
    assert scorer.score([(Problem("p", "x" * 500, ""), STEPS)]) == [None]


# --- what is particular to one family --------------------------------------------------------------------------------


@pytest.mark.parametrize("read_out", ["full_vocabulary", "greedy"])
def test_the_other_read_outs_of_rlhflow(read_out, checkpoint, loaded):
    plus = AutoTokenizer.from_pretrained(checkpoint("rlhflow")).convert_tokens_to_ids("+")
    logits = rlhflow_logits(checkpoint("rlhflow"), PROBLEM, STEPS)
    expected = [row.softmax(-1)[plus].item() if read_out != "greedy" else float(row.argmax() == plus) for row in logits]
    # Of an untrained model, "+" is so unlikely among all tokens that its self-test fails, as it should.
    scorer = load_rlhflow(checkpoint("rlhflow"), RlhFlow(read_out=read_out), Threshold())
    (scores,) = scorer.score([(PROBLEM, STEPS)])
    assert scores == pytest.approx(expected, abs=1e-6)


def test_universal_may_be_shown_the_reference(checkpoint, loaded):
    (blind,) = loaded("universal").score([(PROBLEM, STEPS)])
    (shown,) = loaded("universal", show_reference=True).score([(PROBLEM, STEPS)])
    assert shown == pytest.approx(read_universal(checkpoint("universal"), PROBLEM, STEPS, "14"), abs=2e-5)
    assert shown != pytest.approx(blind, abs=1e-4)


def test_a_separator_after_the_prompt_is_an_option(checkpoint, loaded):
    (scores,) = loaded("trl", after_prompt=True).score([(PROBLEM, STEPS)])
    expected = read_trl(checkpoint("trl"), Problem("p", f"{PROBLEM.prompt}\n", ""), STEPS)
    assert scores == pytest.approx(expected, abs=2e-5)


def test_math_shepherd_numbers_steps_that_have_no_number(loaded):
    write = loaded("math_shepherd").writer.write
    assert write(PROBLEM, ["Step 1: a", "b"]) == write(PROBLEM, ["a", "Step 2: b"])


def test_a_full_stop_cannot_swallow_the_separator(checkpoint):
    """Joined, this tokenizer writes a full stop and a blank line as one token; piece by piece it cannot."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint("token_classifier"))
    assert len(tokenizer.encode(".\n\n", add_special_tokens=False)) == 1
    scorer = load_scorer(ScorerSection(model=str(checkpoint("token_classifier"))))
    (written,) = scorer.writer.write(PROBLEM, ["one.", "two."])
    assert [tokenizer.decode(written.token_ids[place]) for place in written.positions] == ["\n\n", "\n\n"]


def test_a_marker_in_another_word_is_no_place(loaded):
    scorer = loaded("math_shepherd")
    (written,) = scorer.writer.write(PROBLEM, ["кисть", "ки"])
    text = scorer.tokenizer.decode(written.token_ids)
    assert len(re.findall("ки", text)) == 4
    assert len(written.positions) == 2
