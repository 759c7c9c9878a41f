"""How a solution is written for a token classifier, in training and in use alike."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from scope_rlvr.scorers.writing import escape_of, plain_ids


def encode_steps(
    tokenizer: PreTrainedTokenizerBase, prompt: str, steps: Sequence[str], separator: str
) -> tuple[list[int], list[int]]:
    """Token ids of the prompt and of every step with the separator after it, and where each step ends.

    A step ends at the last token of its separator. Everything is tokenised piece by piece: in one text a full stop and
    the separator could become one token, and there would be no place to read. A separator inside a step, which would
    be read as the end of another step, becomes a space; special tokens in model text are broken by one.

    >>> from scope_rlvr.embedded.tokenizer import make_tokenizer
    >>> ids, ends = encode_steps(make_tokenizer(), "reduce 3 7\\n\\n", ["3 + 7 = 10 : 10", "answer 10"], "\\n\\n")
    >>> [make_tokenizer().decode(ids[: end + 1])[-4:] for end in ends]
    ['10\\n\\n', '10\\n\\n']
    """
    escape, separator_ids = escape_of(tokenizer), plain_ids(tokenizer, separator)
    if not separator_ids:
        raise ValueError(f"the tokenizer writes the separator {separator!r} without a token; name another separator")
    ids, ends = plain_ids(tokenizer, escape(prompt)), []
    for step in steps:
        ids += plain_ids(tokenizer, escape(step.strip().replace(separator, " "))) + separator_ids
        ends.append(len(ids) - 1)
    return ids, ends
