"""A prompt as a model reads it, and whether it asks for what the verifier looks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scope_rlvr.core.types import Problem
from scope_rlvr.grading.settings import reads_boxes
from scope_rlvr.run.config import RunConfig

if TYPE_CHECKING:
    from scope_rlvr.models.local import TokenizerCodec

_MOST_SHOWN = 2000

NO_BOX = r"nothing in the prompt asks for \boxed{}, and the verifier reads no answer anywhere else"
BOX_REMEDY = (
    r'set prompt.template = "{problem}\nPlease reason step by step, and put your final answer within \\boxed{}.", or '
    "verifier.answer_pattern; leave it where the model writes boxes unasked"
)


def prompt_as_read(codec: TokenizerCodec, problem: Problem) -> str:
    """The whole prompt, special tokens included."""
    return str(codec.tokenizer.decode(list(codec.encode_prompt(problem.prompt)), skip_special_tokens=False))


def asks_for_no_box(config: RunConfig, shown: str) -> bool:
    """Whether the verifier reads the last box alone and the prompt does not speak of one."""
    return reads_boxes(config.verifier) and "boxed" not in shown


def abbreviated(text: str) -> str:
    """A text for the screen: of a very long one, its beginning and its end.

    >>> abbreviated("x" * 5000).replace("x", "")
    '\\n[... 3,000 characters ...]\\n'
    """
    half, left_out = _MOST_SHOWN // 2, len(text) - _MOST_SHOWN
    return text if left_out <= 0 else f"{text[:half]}\n[... {left_out:,} characters ...]\n{text[-half:]}"
