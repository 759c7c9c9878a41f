"""Tokenizers of the kinds in use, trained in a moment on a page of text: the libraries' code, small vocabularies."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

_PAGE = """First, let $x = 3$. Then $$x^2 = 9$$ and so on.

We add 12 and 345: 12 + 345 = 357.\n\nTherefore \\boxed{357}. It's done, isn't it?
Step 2: schöne Größe, déjà vu; 数学は美しい。答えは四十二です。 Ответ: сорок два. الجواب ٤٢
\tdef f(x):\n\t\treturn x ** 2\n\n\n😀 fin 👩‍🔬 €5.
"""
_PAGES = [_PAGE] * 3

END, UNKNOWN = "<end>", "<unk>"
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen and Llama 3 cut text into words; the gap says how many digits make one."""


def _byte_level(digits: str, normalizer: normalizers.Normalizer | None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    split = pre_tokenizers.Split(Regex(_WORDS % digits), behavior="isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False, special_tokens=[END])
    tokenizer.train_from_iterator(_PAGES, trainer)
    return tokenizer


def qwen_like() -> Tokenizer:
    """Byte-level BPE; a digit is a token; text is brought to NFC."""
    return _byte_level("", normalizers.NFC())


def llama3_like() -> Tokenizer:
    """Byte-level BPE; up to three digits are a token; text stays as it is."""
    return _byte_level("{1,3}", None)


def unigram_like() -> Tokenizer:
    """SentencePiece's unigram model: a space begins the token behind it, and the first one is not written."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = [END, UNKNOWN]
    trainer = trainers.UnigramTrainer(vocab_size=250, special_tokens=special, unk_token=UNKNOWN, show_progress=False)
    tokenizer.train_from_iterator(_PAGES, trainer)
    return tokenizer


def byte_fallback_like() -> Tokenizer:
    """SentencePiece's BPE as Llama 2 has it: what has no token, line breaks among it, is written byte by byte."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token=UNKNOWN, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    spaces, first_space = decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)
    tokenizer.decoder = decoders.Sequence([spaces, decoders.ByteFallback(), decoders.Fuse(), first_space])
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=[END, UNKNOWN, *_BYTES], show_progress=False)
    tokenizer.train_from_iterator(["".join(letter for letter in _PAGE if " " <= letter <= "~")] * 3, trainer)
    # The trainer knows no other way to have the bytes as tokens, but they are not special: they are read as text.
    described = json.loads(tokenizer.to_str())
    described["added_tokens"] = [token for token in described["added_tokens"] if token["content"] not in _BYTES]
    return Tokenizer.from_str(json.dumps(described))


def wordpiece_like() -> Tokenizer:
    """WordPiece: words and their ``##`` continuations, joined by spaces again; line breaks are words, which BERT drops."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    spaces = pre_tokenizers.Split(Regex(r"[^\S\n]+"), behavior="removed")
    lines = pre_tokenizers.Split(Regex(r"\n\n|\n"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([spaces, lines, pre_tokenizers.Punctuation()])
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=[END, UNKNOWN], show_progress=False)
    tokenizer.train_from_iterator(_PAGES, trainer)
    return tokenizer


def characters() -> Tokenizer:
    """A character is a token."""
    vocabulary = {word: number for number, word in enumerate([END, UNKNOWN, *sorted(set(_PAGE))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


_MAKERS: dict[str, Callable[[], Tokenizer]] = {
    "byte-level BPE, as Qwen": qwen_like,
    "byte-level BPE, as Llama 3": llama3_like,
    "unigram": unigram_like,
    "byte fallback, as Llama 2": byte_fallback_like,
    "WordPiece": wordpiece_like,
    "characters": characters,
}
KINDS = tuple(_MAKERS)
LOSSLESS = ("byte-level BPE, as Llama 3", "byte fallback, as Llama 2")
"""Kinds that give any text back."""

OF_BYTES = ("byte-level BPE, as Qwen", *LOSSLESS)
"""Kinds with tokens that are a part of a character."""


@cache
def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    """A Hugging Face tokenizer of a kind."""
    return PreTrainedTokenizerFast(tokenizer_object=_MAKERS[kind](), eos_token=AddedToken(END), unk_token=UNKNOWN)
