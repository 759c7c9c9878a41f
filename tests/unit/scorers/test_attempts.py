"""A response as ``scope scorer label`` continues it: with the prompt and the ids that the policy sampled it with."""

from __future__ import annotations

import pytest

from scope_rlvr.core.prompts import PromptSection
from scope_rlvr.core.types import Problem
from scope_rlvr.models.local import TokenizerCodec
from scope_rlvr.run.config import RunConfig
from scope_rlvr.scorer_lab.label import Response, attempt_of
from tests.tiny_maths import make_tokenizer

PROBLEM = Problem("p", "What is 1 + 2?", "3")
TEXT = "1 + 2 = 3.\n\nAnswer: 3"


@pytest.fixture(scope="module")
def codec() -> TokenizerCodec:
    return TokenizerCodec(make_tokenizer(), prompt=PromptSection(template="{problem} Be brief.", system="Think."))


def test_the_prompt_of_a_response_without_ids_has_template_system_prompt_and_chat_template(
    codec: TokenizerCodec,
) -> None:
    attempt = attempt_of(Response(1, PROBLEM, TEXT), codec, RunConfig())
    read = codec.tokenizer.decode(list(attempt.prompt_ids), skip_special_tokens=False)
    assert read == (
        "<|im_start|>system\nThink.<|im_end|>\n<|im_start|>user\nWhat is 1 + 2? Be brief.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert "".join(codec.pieces(attempt.token_ids)) == TEXT


def test_sampled_ids_are_kept_though_the_tokenizer_would_cut_the_text_otherwise(codec: TokenizerCodec) -> None:
    # One token a character, and the end token, which writes nothing.
    token_ids = (*(token for character in TEXT for token in codec.encode(character)), codec.end_id)
    assert token_ids[:-1] != codec.encode(TEXT)
    prompt_ids = codec.encode_prompt(PROBLEM.prompt)
    attempt = attempt_of(Response(1, PROBLEM, TEXT, True, prompt_ids, token_ids), codec, RunConfig())
    assert (attempt.prompt_ids, attempt.token_ids) == (prompt_ids, token_ids)


def test_ids_that_mean_something_else_here_are_not_continued(codec: TokenizerCodec) -> None:
    other_prompt = TokenizerCodec(codec.tokenizer).encode_prompt(PROBLEM.prompt)
    beyond = (codec.vocabulary_size,)
    for prompt_ids, token_ids in ((other_prompt, codec.encode("4")), (beyond, beyond)):
        attempt = attempt_of(Response(1, PROBLEM, TEXT, True, prompt_ids, token_ids), codec, RunConfig())
        assert attempt.prompt_ids == codec.encode_prompt(PROBLEM.prompt)
        assert attempt.token_ids == codec.encode(TEXT)
