"""The word-level tokenizer that the three embedded models share.

A word and the space before it are one token, as in the byte-level vocabularies of large models: " 7" in the middle of
a line and "7" at its start are two tokens. The text of a sequence is therefore the plain concatenation of the texts of
its tokens, wherever it is cut, and a blank line is one token.
"""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from scope_rlvr.problems.reduction import MODULUS, SEPARATOR

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"

VOCABULARY = (
    *(PAD, EOS, UNK, SEPARATOR, "reduce", "answer", " +", " =", " :"),
    *(f"{number}" for number in range(MODULUS)),
    *(f" {number}" for number in range(MODULUS)),
)

ID = {token: index for index, token in enumerate(VOCABULARY)}

MAX_TOKENS = 256


def make_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, ready to be saved into a model folder. It pads on the left and adds no special tokens.

    >>> tokenizer = make_tokenizer()
    >>> ids = tokenizer.encode("reduce 3 7\\n\\n3 + 7 = 10 : 10\\n\\nanswer 10")
    >>> tokenizer.convert_ids_to_tokens(ids)[:6]
    ['reduce', ' 3', ' 7', '\\n\\n', '3', ' +']
    >>> tokenizer.decode(ids)
    'reduce 3 7\\n\\n3 + 7 = 10 : 10\\n\\nanswer 10'
    """
    tokenizer = Tokenizer(models.WordLevel(dict(ID), unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n\n| ?\S+|\s"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        padding_side="left",
        truncation_side="left",
        model_max_length=MAX_TOKENS,
        clean_up_tokenization_spaces=False,
    )
