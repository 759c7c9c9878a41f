"""How a problem is put to the policy."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from transformers import AutoTokenizer

from scope_rlvr.core.prompts import PromptFormat, PromptSection
from scope_rlvr.embedded import model_path
from scope_rlvr.models.local import TokenizerCodec

CHAT = (
    "{% for m in messages %}answer {{ m['role'] | length }}{{ m['content'] }}{{ '\\n\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}answer{% endif %}"
)


@pytest.fixture
def tokenizer():
    return AutoTokenizer.from_pretrained(model_path("policy"))


@pytest.fixture
def talker(tokenizer):
    tokenizer.chat_template = CHAT
    return tokenizer


def shown(tokenizer, **section) -> str:
    codec = TokenizerCodec(tokenizer, prompt=PromptSection(**section))
    return tokenizer.decode(codec.encode_prompt(" 1 2"))


def test_a_plain_prompt_is_the_template(tokenizer):
    assert shown(tokenizer, template="reduce{problem}") == "reduce 1 2"
    assert shown(tokenizer, template="reduce{problem} 3\n\n") == "reduce 1 2 3\n\n"


def test_a_chat_template_is_used_where_there_is_one(talker):
    assert shown(talker) == "answer 4 1 2\n\nanswer"
    assert shown(talker, template="{problem} 3") == "answer 4 1 2 3\n\nanswer"
    assert shown(talker, system=" 7") == "answer 6 7\n\nanswer 4 1 2\n\nanswer"
    assert shown(talker, format=PromptFormat.PLAIN, template="reduce{problem}") == "reduce 1 2"


def test_white_space_that_leads_over_to_a_response_is_no_part_of_the_users_turn(talker):
    assert shown(talker, template="{problem} 3\n\n") == "answer 4 1 2 3\n\nanswer"


def test_a_codec_without_prompt_never_talks(talker):
    assert talker.decode(TokenizerCodec(talker).encode_prompt("reduce 1 2")) == "reduce 1 2"


@pytest.mark.parametrize("section", [{"format": "chat"}, {"system": "Think."}])
def test_a_missing_chat_template_is_told(tokenizer, section):
    with pytest.raises(ValueError, match=r"no chat template.*prompt\.format = 'plain'"):
        TokenizerCodec(tokenizer, prompt=PromptSection(**section))


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ({"template": "no place"}, "holds {problem} 0 times"),
        ({"template": "{problem}{problem}"}, "holds {problem} 2 times"),
        ({"system": "Think.", "format": "plain"}, "a plain prompt has no system prompt"),
    ],
)
def test_prompts_that_cannot_be(section, reason):
    with pytest.raises(ValidationError, match=reason):
        PromptSection(**section)
