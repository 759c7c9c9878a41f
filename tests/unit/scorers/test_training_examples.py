"""Where labels stand, for tokenizers of several kinds, and the order in which rows are seen."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE, WordLevel
from transformers import PreTrainedTokenizerFast

from scope_rlvr.core.types import Problem
from scope_rlvr.embedded.tokenizer import make_tokenizer as embedded_tokenizer
from scope_rlvr.problems.labelled import LabelledSolution
from scope_rlvr.salvage.rules import Threshold
from scope_rlvr.scorer_lab.training.examples import IGNORED, Example, collate, make_example, training_order
from scope_rlvr.scorer_lab.training.trainer import step_end_loss
from scope_rlvr.scorers.families import TokenClassifier
from scope_rlvr.scorers.token_classifier import TokenClassifierScorer


def byte_level():
    """Every byte a token, but a full stop and the blank line after it one token in joined text."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ċ", "Ċ"), (".", "ĊĊ")]
    raw = Tokenizer(BPE(vocab={piece: i for i, piece in enumerate([*letters, "ĊĊ", ".ĊĊ"])}, merges=merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken("<s>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>")


def sentence_pieces():
    """Words with a mark in front of each, also in front of a text; characters for all the rest."""
    letters = [chr(code) for code in range(32, 127)] + ["\n", "▁"]
    raw = Tokenizer(BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    raw.decoder = decoders.Metaspace(prepend_scheme="first")
    return PreTrainedTokenizerFast(tokenizer_object=raw)


def with_special_tokens():
    """Puts special tokens around every text that it is given, as BERT's does."""
    words = ["[CLS]", "[SEP]", "[UNK]", "\n\n", "Sum", "2", "3", "+", "=", "5", "6", "?", "."]
    raw = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n\n", "isolated"), pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Punctuation()]
    )
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")


TOKENIZERS = {
    "embedded": embedded_tokenizer,
    "byte level": byte_level,
    "sentence pieces": sentence_pieces,
    "special tokens": with_special_tokens,
}
PROBLEM = Problem("p", "Sum 2 + 3 ?", "5")
STEPS = ("2 + 3 = 5 .", "5 .", "6 .", "6 .")


def solution(first_wrong, steps=STEPS):
    return LabelledSolution(PROBLEM, steps, first_wrong)


SEPARATORS = {"embedded": ["\n\n"], "special tokens": ["\n\n"]}
CASES = [(name, separator) for name in TOKENIZERS for separator in SEPARATORS.get(name, ["\n\n", "\n", " ---\n"])]


@pytest.mark.parametrize(("name", "separator"), CASES)
def test_a_label_stands_on_the_last_token_of_each_separator_and_nowhere_else(name, separator):
    tokenizer = TOKENIZERS[name]()

    def ids(text):
        return tokenizer.encode(text, add_special_tokens=False)

    expected_ids, expected_labels = ids(PROBLEM.prompt), [IGNORED] * len(ids(PROBLEM.prompt))
    for step, label in zip(STEPS, [1, 1, 0, IGNORED], strict=True):
        piece = [*ids(step), *ids(separator)]
        expected_ids += piece
        expected_labels += [IGNORED] * (len(piece) - 1) + [label]
    example = make_example(tokenizer, solution(2), TokenClassifier(separator=separator))
    # Nothing is computed after the last step that fits; all of them fit here, so the whole solution is there.
    assert (list(example.ids), list(example.labels)) == (expected_ids, expected_labels)


def test_joined_text_would_lose_the_place_and_pieces_do_not():
    tokenizer = byte_level()
    joined = tokenizer.convert_ids_to_tokens(tokenizer.encode("5.\n\n", add_special_tokens=False))
    assert ".ĊĊ" in joined, "the tokenizer of this test no longer merges a full stop and a blank line"
    example = make_example(tokenizer, solution(None, ("5.",)), TokenClassifier())
    assert tokenizer.convert_ids_to_tokens(list(example.ids[-2:])) == [".", "ĊĊ"]
    assert example.labels[-1] == 1


def test_right_solutions_have_every_step_labelled():
    example = make_example(embedded_tokenizer(), solution(None), TokenClassifier())
    assert [label for label in example.labels if label != IGNORED] == [1, 1, 1, 1]


@pytest.mark.parametrize("family", [TokenClassifier(), TokenClassifier(bos=True, after_prompt=True, separator="\n")])
def test_labels_stand_where_the_scorer_reads(family):
    tokenizer = byte_level()
    example = make_example(tokenizer, solution(None), family)
    seen = []

    class Recorder(torch.nn.Module):
        config = type("Config", (), {"max_position_embeddings": 999, "hidden_size": 8})
        device = torch.device("cpu")

        def forward(self, input_ids, attention_mask, use_cache):
            seen.append(input_ids[0].tolist())
            # The chance of "right" at a position is a function of the position.
            logits = torch.zeros(*input_ids.shape, 2)
            logits[..., 1] = torch.arange(input_ids.shape[1]) / 100
            return type("Output", (), {"logits": logits})

    [scores] = TokenClassifierScorer(Recorder(), tokenizer, Threshold(), family).score([(PROBLEM, STEPS)])
    assert seen == [list(example.ids)]
    places = [place for place, label in enumerate(example.labels) if label != IGNORED]
    assert scores == pytest.approx([torch.tensor(place / 100).sigmoid().item() for place in places])


def test_what_does_not_fit_is_cut_off_at_the_end_of_a_step():
    tokenizer = embedded_tokenizer()
    whole = make_example(tokenizer, solution(2), TokenClassifier())
    ends = [place for place, label in enumerate(whole.labels) if label != IGNORED]
    for room in (ends[1] + 1, ends[1] + 2, ends[2]):
        cut = make_example(tokenizer, solution(2), TokenClassifier(), room)
        assert cut == Example(whole.ids[: ends[1] + 1], whole.labels[: ends[1] + 1])
    assert make_example(tokenizer, solution(2), TokenClassifier(), ends[0]) is None


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 7), st.integers(1, 12))
def test_every_row_is_seen_equally_often(lengths, batch_rows, num_batches):
    order = training_order(lengths, num_batches, batch_rows, seed=3)
    assert len(order) == num_batches * batch_rows
    assert order == training_order(lengths, num_batches, batch_rows, seed=3)
    # Leftovers of an epoch begin the next, whose own rows may come before them where batches are shuffled.
    counts = [order.count(row) for row in range(len(lengths))]
    assert max(counts) - min(counts) <= 2


def test_a_whole_number_of_batches_sees_every_row_once_an_epoch():
    lengths = list(range(12))
    order = training_order(lengths, num_batches=6, batch_rows=4, seed=0)
    assert sorted(order[:12]) == sorted(order[12:]) == lengths
    batches = [order[k : k + 4] for k in range(0, 12, 4)]
    assert sorted(map(sorted, batches)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_batches_are_padded_on_the_right():
    batch = collate([Example((5, 6), (IGNORED, 1)), Example((7, 8, 9), (IGNORED, 1, 0))], pad_id=4)
    assert batch["input_ids"].tolist() == [[5, 6, 4], [7, 8, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["labels"].tolist() == [[IGNORED, 1, IGNORED], [IGNORED, 1, 0]]


def test_the_loss_is_a_mean_over_labelled_step_ends():
    # log(1 + e^-2) for a right step at +2, log(1 + e^1) for a wrong step at +1, the unlabelled token adds nothing.
    logits = torch.tensor([[[0.0, 2.0], [0.0, 1.0], [9.0, 0.0]]])
    labels = torch.tensor([[1, 0, IGNORED]])
    expected = (0.126928 + 1.313262) / 2
    assert step_end_loss({"logits": logits}, labels).item() == pytest.approx(expected, abs=1e-5)
    # The other micro-batches of the step hold six more labels.
    assert step_end_loss({"logits": logits}, labels, 8).item() == pytest.approx(expected / 4, abs=1e-5)
