"""The ``[teacher]`` section of a configuration: who the teacher is, how it is asked, when it has failed too often."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from scope_rlvr.core.settings import BARE_NAME, BY_KIND, Settings
from scope_rlvr.grading.function import FunctionSettings
from scope_rlvr.servers.settings import ServerSettings, require_no_secret

THE_POLICY = "policy"
"""As a teacher's name: the policy itself, with the weights of the moment."""

EXACT = "exact"
"""As a teacher's name: the problem family's own solver."""

SOLUTIONS = "solutions"
"""As a teacher's name: the worked solutions that the problems came with."""

FUNCTION = "function"
"""As a teacher's name: the function of the user's that ``teacher.function`` names."""

NOBODY = "none"
"""As a teacher's or a judge's name: there is none."""

PLAIN_PROMPT = "{problem}"

NEXT_STEP = """\
Below are a problem and the beginning of a solution, which is right so far. Write the next step of this solution.

Write that one step and nothing else: no greeting, no heading, no remark about the step, and no step after it. Use the \
style and the notation of the steps before it. Only if the step states the final answer, so that the solution ends with it, \
write [end] on a line of its own below it.

The problem:
{problem}

The solution so far:
{prefix}"""

REST = """\
Below are a problem and the beginning of a solution, which is right so far; where there is no beginning yet, you write the \
whole solution. Continue right behind it, up to the final answer in the form that the problem asks for, and repeat nothing of \
what is already there. Put a blank line between steps, and write nothing but the solution.

The problem:
{problem}

The solution so far:
{prefix}"""


class Interface(Settings):
    """What all interfaces of a server have."""

    path: ClassVar[str]
    kind: str
    extra: dict[str, Any] = Field({}, description="further fields of every request, which win over those written here")
    leave_out: tuple[str, ...] = Field((), description="fields that this server does not take, such as `temperature`")

    @field_validator("extra")
    @classmethod
    def _holds_no_secret(cls, extra: dict[str, Any]) -> dict[str, Any]:
        require_no_secret(extra)
        return extra

    def adapted(self, body: dict[str, Any]) -> dict[str, Any]:
        """A request as this server takes it.

        >>> Completions(extra={"top_k": 3}, leave_out=("temperature",)).adapted({"prompt": "2 +", "temperature": 0.0})
        {'prompt': '2 +', 'top_k': 3}
        """
        return {name: value for name, value in body.items() if name not in self.leave_out} | self.extra


class Completions(Interface):
    """``/completions``: the server continues a text, or token ids where it reads the policy's."""

    kind: Literal["completions"] = "completions"
    path: ClassVar[str] = "/completions"
    token_ids: bool = Field(
        False, description="the server's model has the policy's vocabulary: send ids, and take the ids that it returns"
    )


class Chat(Interface):
    """``/chat/completions``: the server is asked in words for the next step, or for the rest."""

    kind: Literal["chat"] = "chat"
    path: ClassVar[str] = "/chat/completions"
    next_step: str = Field(
        NEXT_STEP, description="what asks for one step: {problem}, {prefix}, {rejected_step}, {reference}"
    )
    rest: str = Field(REST, description="what asks for the rest of the solution, with the same places")
    thinking_tokens: int = Field(
        0, ge=0, description="tokens allowed besides the step, for a model that thinks before it answers"
    )


AnyInterface = Annotated[Completions | Chat, BARE_NAME, BY_KIND]


class Helper(Settings):
    """A model that helps the run: in this process, or behind a server."""

    model: str
    name: str | None = Field(None, description='name under which a server (`model = "http://..."`) serves its model')
    temperature: float = Field(0.0, ge=0)
    server: ServerSettings = ServerSettings()

    @property
    def is_served(self) -> bool:
        """Whether the model is behind a server."""
        return self.model.startswith(("http://", "https://"))

    @property
    def title(self) -> str:
        """Who it is, in a few words."""
        return f"{self.name} at {self.model}" if self.is_served else self.model

    @model_validator(mode="after")
    def _names_a_served_model(self) -> Self:
        if not self.is_served and self.name is not None:
            raise ValueError(f"name = {self.name!r} is for a server, and model = {self.model!r} is none; leave it out")
        if not self.is_served:
            return self
        # An address may hold a password, and error messages are shown and kept: it is not repeated.
        address = self.model.partition("://")[2]
        if "@" in address or "?" in address or "#" in address or not address.strip("/"):
            raise ValueError(
                "model is to be a plain address such as http://localhost:8000/v1, without a user, a password or a query; "
                "name the environment variable of an API key in server.api_key_env"
            )
        if not self.name:
            raise ValueError(f"model = {self.model!r} is a server: say in name which of its models to ask")
        return self


class TeacherSection(Helper):
    """The teacher of a run."""

    model: str = "embedded:teacher"
    interface: AnyInterface = Completions()
    prompt: str = Field(PLAIN_PROMPT, description="what the teacher is shown: {problem}, {reference}, {rejected_step}")
    function: FunctionSettings | None = Field(
        None, description='a function of your own that writes steps, for `model = "function"`'
    )
    noise: float = Field(0.0, ge=0, le=1, description="share of the replies in which one number is replaced by another")
    max_failure_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="the run stops when the teacher failed to answer more than this share; 1 never stops it",
    )
    failure_window: int = Field(
        20, ge=1, description="steps with a question to the teacher over which that share is taken"
    )

    @property
    def folders(self) -> list[tuple[str, str]]:
        """The key of the configuration that names a model folder or a Hub model, and the name; empty where it names none."""
        is_model = not self.is_served and self.model not in (EXACT, SOLUTIONS, FUNCTION, THE_POLICY, NOBODY)
        return [("teacher.model", self.model)] if is_model else []

    @model_validator(mode="after")
    def _names_its_function(self) -> Self:
        if (self.model == FUNCTION) != (self.function is not None):
            raise ValueError(
                f'model = {FUNCTION!r} and function = {{path = "package.module:name"}} belong together: give both, or neither'
            )
        return self

    @model_validator(mode="after")
    def _has_a_place_for_its_prompt(self) -> Self:
        if self.prompt != PLAIN_PROMPT and (
            self.model in (EXACT, SOLUTIONS, FUNCTION) or (self.is_served and self.interface.kind == "chat")
        ):
            instead = "write interface.next_step and interface.rest instead" if self.is_served else "leave it out"
            raise ValueError(f"prompt is for a teacher that continues a text; {instead}")
        return self


class JudgeChat(Interface):
    """``/chat/completions``: the judge is asked in a conversation."""

    kind: Literal["chat"] = "chat"
    path: ClassVar[str] = "/chat/completions"


class JudgeCompletions(Interface):
    """``/completions``: the judge continues the question."""

    kind: Literal["completions"] = "completions"
    path: ClassVar[str] = "/completions"


JudgeInterface = Annotated[JudgeChat | JudgeCompletions, BARE_NAME, BY_KIND]


class JudgeSection(Helper):
    """The judge of a run: a model that grades, ranks or compares responses, for methods that ask for one."""

    model: str = Field(
        NOBODY, description="a server's address, a model folder or Hub name, `policy` for the policy itself, or `none`"
    )
    interface: JudgeInterface = JudgeChat()
    max_tokens: int = Field(
        1024, ge=1, description="tokens that a served judge may write for one verdict, thoughts included"
    )
    both_orders: bool = Field(
        True,
        description="compare responses a second time in the reverse order and take the mean, against position bias",
    )

    @model_validator(mode="after")
    def _draws_nothing_in_this_process(self) -> Self:
        if self.temperature and not self.is_served:
            raise ValueError(
                "a judge in this process is read from its probabilities and draws nothing; leave temperature out"
            )
        return self
