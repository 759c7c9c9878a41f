"""A teacher's words as tokens: as they stand between their neighbours, in every kind of tokenizer."""

from __future__ import annotations

from functools import cache

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from scope_rlvr.core.teacher_text import encode_in_place
from scope_rlvr.models.local import TokenizerCodec
from tests.tokenizers_zoo import END, KINDS, LOSSLESS, UNKNOWN, tokenizer_of

STEPS = ["First, let x = 3.\n\n", "Then 12 + 345 = 357.\n\n", "Step 2: we add 12.\n\n"]
GPT2 = "byte-level BPE, as GPT-2"


@cache
def gpt2_like() -> PreTrainedTokenizerFast:
    """GPT-2's way to cut: a blank line before a word is two tokens, at the end of a text it is one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False, special_tokens=[END])
    tokenizer.train_from_iterator(["".join(STEPS) + "\n\n"] * 20 + ["a\n\n"] * 50, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=AddedToken(END), unk_token=UNKNOWN)


def codec_of(kind: str) -> TokenizerCodec:
    return TokenizerCodec(gpt2_like() if kind == GPT2 else tokenizer_of(kind))


def test_the_case_that_spoils_a_policy() -> None:
    codec = codec_of(GPT2)
    whole = codec.encode("".join(STEPS))
    alone = codec.encode(STEPS[1])
    placed = encode_in_place(codec, STEPS[1], before=STEPS[0], goes_on=True)
    assert codec.pieces(alone)[-1] == "\n\n"
    assert codec.pieces(placed)[-2:] == ("\n", "\n")
    start = len(encode_in_place(codec, STEPS[0], goes_on=True))
    assert whole[start : start + len(placed)] == placed


@pytest.mark.parametrize("kind", [GPT2, *LOSSLESS])
def test_steps_in_their_places_are_the_whole_solution(kind: str) -> None:
    codec, text = codec_of(kind), "".join(STEPS)
    found: list[int] = []
    for i, step in enumerate(STEPS):
        found += encode_in_place(codec, step, before="".join(STEPS[:i]), goes_on=i + 1 < len(STEPS))
    assert "".join(codec.pieces(found)) == text
    if kind == GPT2:
        assert tuple(found) == codec.encode(text)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before", ["", STEPS[0], "x"])
def test_the_text_stays_the_text(kind: str, before: str) -> None:
    codec = codec_of(kind)
    plain = "".join(codec.pieces(codec.encode(STEPS[1])))
    for goes_on in (False, True):
        placed = "".join(codec.pieces(encode_in_place(codec, STEPS[1], before=before, goes_on=goes_on)))
        assert placed.split() == plain.split()
