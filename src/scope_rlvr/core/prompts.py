"""How a problem is put to the policy: a template around it, a system prompt, and the tokenizer's chat template."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

from pydantic import Field, field_validator, model_validator

from scope_rlvr.core.settings import Settings

PLACE = "{problem}"


class PromptFormat(StrEnum):
    """Whether a prompt is plain text or the user's turn of a conversation."""

    AUTO = "auto"
    CHAT = "chat"
    PLAIN = "plain"


class PromptSection(Settings):
    r"""What the policy is shown in the place of a problem.

    >>> section = PromptSection(template="{problem}\nAnswer in \\boxed{}.", system="Think.")
    >>> section.text("1 + 1?")
    '1 + 1?\nAnswer in \\boxed{}.'
    >>> [message["role"] for message in section.messages("1 + 1?")]
    ['system', 'user']
    """

    template: str = Field(PLACE, description="the text that is shown; `{problem}` is replaced by the problem")
    system: str | None = Field(None, description="system prompt of the conversation")
    format: PromptFormat = Field(
        PromptFormat.AUTO,
        description="`chat`: the tokenizer's chat template; `plain`: the text alone; `auto`: `chat` where the tokenizer has "
        "a chat template",
    )

    @field_validator("template")
    @classmethod
    def _has_one_place(cls, template: str) -> str:
        if template.count(PLACE) != 1:
            raise ValueError(f"{template!r} holds {PLACE} {template.count(PLACE)} times; it must stand there once")
        return template

    @model_validator(mode="after")
    def _has_a_conversation(self) -> PromptSection:
        if self.system is not None and self.format is PromptFormat.PLAIN:
            raise ValueError("a plain prompt has no system prompt; write it into the template, or take format = 'chat'")
        return self

    def text(self, problem: str) -> str:
        """The template, filled in; braces that belong to the problem or to LaTeX stay as they are."""
        return self.template.replace(PLACE, problem)

    def messages(self, problem: str) -> list[dict[str, str]]:
        """The conversation up to the policy's turn."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        # White space at the end of a problem leads over to a response that follows as plain text.
        return [*system, {"role": "user", "content": self.text(problem).rstrip()}]

    def is_chat(self, tokenizer: Any) -> bool:
        """Whether this tokenizer's chat template is used; raises ``ValueError`` where it is asked for and there is none."""
        has_template = bool(getattr(tokenizer, "chat_template", None))
        wants = self.format is PromptFormat.CHAT or self.system is not None
        if wants and not has_template:
            raise ValueError(
                "the tokenizer has no chat template, and prompt.format = 'chat' or prompt.system asks for one; set "
                "prompt.format = 'plain' and write what the policy is to see into prompt.template"
            )
        return has_template and self.format is not PromptFormat.PLAIN


def fill(template: str, **texts: str) -> str:
    """The template with every ``{name}`` that is in ``texts`` filled in; braces in a text mean nothing.

    >>> fill("{prompt} Hint: {hint} {x}", prompt="Solve {hint}.", hint="Try 3.")
    'Solve {hint}. Hint: Try 3. {x}'
    """
    return re.sub(r"\{(\w+)\}", lambda found: texts.get(found[1], found[0]), template)
