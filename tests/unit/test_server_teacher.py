"""What a served teacher is asked, and what is made of every reply it may give."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import Effort, Fault, TeacherReply, TeacherRequest
from scope_rlvr.core.teacher_text import read_reply
from scope_rlvr.problems.reduction import make_problem
from scope_rlvr.servers.client import Client
from scope_rlvr.servers.replies import BadReply
from scope_rlvr.servers.settings import NO_CACHE, ServerSettings
from scope_rlvr.teachers.server import ServerTeacher, chat_text, read_chat
from scope_rlvr.teachers.settings import AnyInterface, Chat, Completions
from tests.doubles import END, CharCodec, toolbox
from tests.faulty_server import HOSTILE, MODEL, FaultyServer

PATIENCE = ServerSettings(cache=NO_CACHE, request_seconds=10, batch_seconds=20, retries=0)
PROBLEM = make_problem([0, 3, 5, 7])
FIRST, SECOND, LAST = "0 + 3 = 3 : 3 5 7\n\n", "3 + 5 = 8 : 7 8\n\n", "answer 2"
IDS = Completions(token_ids=True)
TEXT = Completions()


class Codec(CharCodec):
    """One token a character, prompts as any text."""

    def encode_prompt(self, text: str) -> tuple[int, ...]:
        return self.encode(text)


CODEC = Codec()
BY_IDS = (lambda ids: "".join(map(chr, ids)), CODEC.encode)


def teacher(url: str = "http://127.0.0.1:9/v1", interface: AnyInterface = TEXT, **options: Any) -> ServerTeacher:
    return ServerTeacher(Client(url, PATIENCE), MODEL, CODEC, 200, interface, **options)


def request(prefix: str = "", stop_text: str | None = "\n\n", **options: Any) -> TeacherRequest:
    ids = CODEC.encode(PROBLEM.prompt), CODEC.encode(prefix)
    return TeacherRequest(PROBLEM, *ids, prefix, max_tokens=60, stop_text=stop_text, **options)


def body_of(request: TeacherRequest, **options: Any) -> dict[str, Any]:
    """The body that the teacher sends."""
    with FaultyServer(codec=BY_IDS) as server:
        teacher(server.url, **options).continue_from([request], seed=1)
        return server.bodies[0]


def reading(reply: Any, interface: AnyInterface = TEXT, request: TeacherRequest | None = None) -> TeacherReply:
    """What the teacher makes of a server's reply."""
    asked = request or globals()["request"]()
    one = teacher(interface=interface)
    return one._question(asked, one._body(asked)).read(reply)


def choice(text: str = FIRST, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"text": text, "finish_reason": finish, **more}]}


# --- what is asked --------------------------------------------------------------------------------------------------


def test_a_text_server_is_asked_for_what_every_server_knows() -> None:
    body = body_of(request(FIRST))
    assert body == {"model": MODEL, "max_tokens": 60, "temperature": 0.0, "prompt": PROBLEM.prompt + FIRST}


def test_ids_go_out_as_they_were_sampled() -> None:
    body = body_of(request(FIRST), interface=IDS)
    assert body["prompt"] == [*CODEC.encode(PROBLEM.prompt), *CODEC.encode(FIRST)]
    assert body["stop"] == ["\n\n"]
    assert body["include_stop_str_in_output"] is body["return_token_ids"] is True
    assert "stop" not in body_of(request(FIRST, None), interface=IDS)


def test_a_prompt_of_its_own_is_encoded_and_stands_before_the_sampled_ids() -> None:
    body = body_of(request(FIRST, reference="2"), interface=IDS, prompt="{problem}It is {reference}.\n\n")
    assert body["prompt"] == [*CODEC.encode(f"{PROBLEM.prompt}It is 2.\n\n"), *CODEC.encode(FIRST)]


def test_a_chat_server_is_asked_in_words() -> None:
    (message,) = body_of(request(FIRST), interface=Chat(thinking_tokens=500))["messages"]
    assert message["role"] == "user"
    assert "Write that one step and nothing else" in message["content"]
    assert f"The problem:\n{PROBLEM.prompt.strip()}\n" in message["content"]
    assert message["content"].endswith(f"The solution so far:\n{FIRST.strip()}")
    assert body_of(request(), interface=Chat(thinking_tokens=500))["max_tokens"] == 560


def test_what_stands_in_the_place_of_the_problem_is_what_every_interface_asks_about() -> None:
    shown = f"{PROBLEM.prompt}Answer in \\boxed{{}}."
    own = {"prompt": "{problem}Answer in \\boxed{}."}
    (message,) = body_of(request(FIRST), interface=Chat(), **own)["messages"]
    assert f"The problem:\n{shown}\n\nThe solution so far:" in message["content"]
    assert body_of(request(FIRST), interface=TEXT, **own)["prompt"] == shown + FIRST


def test_what_the_request_shows_is_said_where_the_template_has_no_place_for_it() -> None:
    asked = request(FIRST, rejected_step="3 + 5 = 9\n\n", reference="2")
    text = chat_text(Chat(), asked, asked.problem.prompt)
    assert text.index("3 + 5 = 9") < text.index("arrives at it):\n2")
    own = chat_text(Chat(next_step="{problem}|{prefix}|{rejected_step}|{reference}"), asked, asked.problem.prompt)
    assert own == f"{PROBLEM.prompt.strip()}|{FIRST.strip()}|3 + 5 = 9|2"


def test_the_rest_is_asked_for_with_words_of_its_own() -> None:
    assert "up to the final answer" in chat_text(Chat(), request(stop_text=None), "?")
    assert "(nothing yet)" in chat_text(Chat(), request(), "?")


def test_braces_in_a_problem_mean_nothing() -> None:
    problem = make_problem([1, 2])
    asked = TeacherRequest(problem, (), (), "{problem} {reference}", max_tokens=9, stop_text="\n\n")
    assert chat_text(Chat(next_step="{prefix}"), asked, asked.problem.prompt) == "{problem} {reference}"


def test_fields_can_be_added_and_left_out() -> None:
    own = Completions(extra={"top_k": 3, "max_tokens": 7}, leave_out=("temperature",))
    body = body_of(request(), interface=own)
    assert body == {"model": MODEL, "max_tokens": 7, "prompt": PROBLEM.prompt, "top_k": 3}


def test_equal_questions_are_answered_twice_only_where_that_can_differ() -> None:
    for temperature, num_requests in ((0.0, 1), (0.8, 3)):
        with FaultyServer() as server:
            one = teacher(server.url, temperature=temperature)
            replies = one.continue_from([request(), request(), request()], seed=5)
            assert server.num_requests == num_requests
            seeds = {body.get("seed") for body in server.bodies}
        assert len(replies) == 3
        assert len(seeds) == num_requests
        assert all(seed is None or 0 <= seed < 2**31 for seed in seeds)


def test_seeds_are_those_of_the_call_and_of_the_question() -> None:
    def seeds(call: int, *requests: TeacherRequest) -> list[Any]:
        with FaultyServer() as server:
            teacher(server.url, temperature=1.0).continue_from(requests, seed=call)
            return sorted((body["prompt"], body["seed"]) for body in server.bodies)

    assert seeds(1, request(), request(FIRST)) == seeds(1, request(FIRST), request())
    assert seeds(1, request()) != seeds(2, request())


# --- what is answered -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interface", [TEXT, IDS, Chat()], ids=["text", "ids", "chat"])
@pytest.mark.parametrize(
    ("prefix", "step", "finished"),
    [("", FIRST, False), (FIRST, SECOND, False), (FIRST + SECOND + "7 + 8 = 2 : 2\n\n", LAST, True)],
)
def test_of_every_interface_one_step_is_taken(interface: AnyInterface, prefix: str, step: str, finished: bool) -> None:
    with FaultyServer(codec=BY_IDS) as server:
        (reply,) = teacher(server.url, interface).continue_from([request(prefix)], seed=0)
    written = read_reply(reply, toolbox(), step_tokens=60)
    assert "".join(CODEC.pieces(written.segment.token_ids)) == step
    assert (written.ended, written.finished) == (True, finished)
    assert (written.segment.token_ids[-1] == END) is finished


@pytest.mark.parametrize("interface", [TEXT, IDS, Chat()], ids=["text", "ids", "chat"])
def test_of_every_interface_the_whole_rest_is_taken(interface: AnyInterface) -> None:
    with FaultyServer(codec=BY_IDS) as server:
        (reply,) = teacher(server.url, interface).continue_from([request(FIRST, None)], seed=0)
    written = read_reply(reply, toolbox())
    assert "".join(CODEC.pieces(written.segment.token_ids)) == f"{SECOND}7 + 8 = 2 : 2\n\n{LAST}"
    assert written.finished


def test_ids_and_their_log_probabilities_are_taken_as_they_are() -> None:
    ids = list(CODEC.encode(FIRST))
    reply = reading(choice(token_ids=ids, logprobs={"token_logprobs": [-0.5] * len(ids)}), IDS)
    assert reply == TeacherReply(tuple(ids), logprobs=(-0.5,) * len(ids))


def test_a_server_without_ids_is_read_as_text() -> None:
    assert reading(choice(LAST), IDS) == TeacherReply(text=LAST, finished=True)


def test_a_text_that_its_budget_ended_is_cut_off() -> None:
    assert reading(choice("3 + ", "length")) == TeacherReply(text="3 + ", is_cut_off=True)


def test_a_stop_text_of_the_users_own_ends_no_solution() -> None:
    assert not reading(choice(FIRST)).finished
    assert not reading(choice("0 + 3", stop_reason="\n\n")).finished
    assert reading(choice(LAST, stop_reason=7)).finished


OTHERS = [10**6, -1, 200, True, "7", None, 1.5]
MILLION = [65] * 1_000_000


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (None, "no list of choices"),
        ([], "no list of choices"),
        ({"choices": "x"}, "no list of choices"),
        ({"choices": ["x"]}, "no list of choices"),
        ({"choices": []}, "0 choices"),
        ({"choices": choice()["choices"] * 2}, "2 choices"),
        (choice(finish=None), "no finish_reason"),
        (choice(finish=["stop"]), "no finish_reason"),
        (choice(text=3), "text is no text"),  # type: ignore[arg-type]
        (choice("half \ud83d"), "text is no text"),
        *[(choice(token_ids=[other]), "ids below 200") for other in OTHERS],
        (choice(token_ids="abc"), "ids below 200"),
        (choice(token_ids=MILLION), "1000000 ids, and 60 were asked for"),
        (choice(token_ids=[120, 121]), "not those of the text"),
        (choice(token_ids=list(CODEC.encode(FIRST)), prompt_token_ids=[1, 2]), "another prompt"),
        *[
            (choice(token_ids=list(CODEC.encode(FIRST)), logprobs=given), "logprobs")
            for given in (
                {"token_logprobs": [-1.0]},
                {"token_logprobs": [0.5] * len(FIRST)},
                {"token_logprobs": [None] * len(FIRST)},
                {"token_logprobs": [float("inf")] * len(FIRST)},
                {"token_logprobs": [-int("9" * 400)] * len(FIRST)},
                {"token_logprobs": [False] * len(FIRST)},
                {},
                [1],
            )
        ],
    ],
)
def test_what_is_not_as_it_should_be_is_malformed(reply: Any, told: str) -> None:
    with pytest.raises(BadReply, match=told) as error:
        reading(reply, IDS)
    assert error.value.fault is Fault.MALFORMED


def test_ids_are_counted_before_they_are_looked_at() -> None:
    class Untouchable(Codec):
        def pieces(self, token_ids: Any) -> Any:
            raise AssertionError(f"{len(token_ids)} ids were decoded")

    one = ServerTeacher(Client("http://127.0.0.1:9", PATIENCE), MODEL, Untouchable(), 200, IDS)
    with pytest.raises(BadReply):
        one._question(request(), one._body(request())).read(choice(token_ids=MILLION))


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_a_budget_of_the_users_own_bounds_the_reply(limit: str) -> None:
    for num_tokens, is_refused in ((70, False), (71, True)):
        reply = choice("x" * num_tokens, token_ids=list(CODEC.encode("x" * num_tokens)))
        interface = Completions(token_ids=True, extra={limit: 70})
        if is_refused:
            with pytest.raises(BadReply, match="71 ids"):
                reading(reply, interface)
        else:
            assert reading(reply, interface).token_ids == CODEC.encode("x" * num_tokens)


def test_a_reply_may_be_as_long_as_its_tokens_allow() -> None:
    one = teacher(interface=IDS)
    small, large = (one._question(asked, one._body(asked)) for asked in (request(), replace(request(), max_tokens=600)))
    assert small.max_bytes < large.max_bytes < 1_000_000
    with FaultyServer("endless body") as server:
        (reply,) = teacher(server.url).continue_from([request()], seed=0)
    assert reply.fault is Fault.MALFORMED


@pytest.mark.parametrize("fault", HOSTILE)
def test_hostile_replies_are_failed_replies(fault: str) -> None:
    with FaultyServer(fault, codec=BY_IDS) as server:
        (reply,) = teacher(server.url, IDS).continue_from([request()], seed=0)
    if fault == "deep nesting" and reply.error is None:
        return  # this Python reads that deep, and what was asked for is there
    assert reply.error
    assert reply.error.isprintable()
    assert reply.fault in (Fault.MALFORMED, Fault.RATE_LIMIT, Fault.REFUSED)


def test_a_filter_is_reported() -> None:
    with pytest.raises(BadReply, match="content_filter") as error:
        reading(choice(finish="content_filter"))
    assert error.value.fault is Fault.REPORTED


@pytest.mark.parametrize("text", ["", " \n\n", None])
def test_nothing_written_is_empty(text: Any) -> None:
    for reply, interface in (
        (choice(text), TEXT),
        ({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}, Chat()),
    ):
        with pytest.raises(BadReply) as error:
            reading(reply, interface)
        assert error.value.fault is Fault.EMPTY


@pytest.mark.parametrize(
    ("content", "is_step", "is_cut_off", "text", "finished"),
    [
        ("  3 + 5 = 8\n", True, False, "3 + 5 = 8", False),
        ("so 8\n[end]\nbye", True, False, "so 8", True),
        ("<think>hm\n\nhm</think>\n\nso 8", True, False, "so 8", False),
        ("so 8", False, False, "so 8", True),
        ("so 8", False, True, "so 8", False),
        ("a\n\nb\n\nc", True, True, "a\n\nb\n\nc", False),
    ],
)
def test_what_a_chat_model_says(content: str, is_step: bool, is_cut_off: bool, text: str, finished: bool) -> None:
    reply = read_chat(content, request(stop_text="\n\n" if is_step else None), is_cut_off)
    assert (reply.text, reply.finished, reply.is_cut_off) == (text, finished, is_cut_off)


def test_a_model_that_only_thought_has_written_nothing() -> None:
    with pytest.raises(BadReply, match="give it more tokens"):
        read_chat("<think>hm hm hm", request(), is_cut_off=True)


SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["stop", "length", "[end]"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "text",
                    "message",
                    "content",
                    "finish_reason",
                    "token_ids",
                    "logprobs",
                    "token_logprobs",
                    "usage",
                ]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@given(reply=SHAPES | st.builds(lambda c: {"choices": [c]}, SHAPES))
@pytest.mark.parametrize("interface", [TEXT, IDS, Chat()], ids=["text", "ids", "chat"])
def test_no_reply_breaks_the_reader(interface: AnyInterface, reply: Any) -> None:
    try:
        read = reading(reply, interface)
    except BadReply:
        return
    assert read.error is None
    assert read.text or read.token_ids


# --- failures, and the question before the run ----------------------------------------------------------------------


def test_failures_are_replies() -> None:
    with FaultyServer("500") as server:
        replies = teacher(server.url).continue_from([request(), request(FIRST)], seed=0)
    assert [reply.fault for reply in replies] == [Fault.SERVER] * 2
    assert all(reply.error and reply.effort and reply.effort.num_requests == 1 for reply in replies)


def test_what_it_took_is_told() -> None:
    with FaultyServer() as server:
        (reply,) = teacher(server.url).continue_from([request()], seed=0)
    assert reply.effort is not None
    assert reply.effort == Effort(1, reply.effort.seconds, num_prompt_tokens=5, num_reply_tokens=26)
    assert reply.effort.seconds > 0


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("refused", "Start the server"),
        ("HTML page", "Look at what listens there"),
        ("empty text", "thinking_tokens"),
        ("500", "the server's own log"),
        ("429", "Wait"),
    ],
)
def test_the_question_before_the_run_says_what_is_wrong(fault: str, told: str) -> None:
    with FaultyServer(fault) as server, pytest.raises(UserError, match=told) as error:
        teacher(server.url).check(PROBLEM)
    assert server.url in str(error.value)


def test_a_wrong_name_is_answered_with_the_right_ones() -> None:
    with FaultyServer() as server:
        wrong = ServerTeacher(Client(server.url, PATIENCE), "solvr", CODEC, 200, TEXT)
        with pytest.raises(UserError, match="served there: solver"):
            wrong.check(PROBLEM)


def test_names_that_act_on_a_screen_are_not_shown() -> None:
    with FaultyServer(models="escape sequences") as server:
        wrong = ServerTeacher(Client(server.url, PATIENCE), "solvr", CODEC, 200, TEXT)
        with pytest.raises(UserError, match=r"\(served there: solver\)") as error:
            wrong.check(PROBLEM)
    assert str(error.value).isprintable()


def test_the_question_before_the_run_passes_where_all_is_well() -> None:
    for interface in (TEXT, IDS, Chat()):
        with FaultyServer(codec=BY_IDS) as server:
            teacher(server.url, interface).check(PROBLEM)
            assert json.dumps(server.bodies)
            assert server.num_requests == 1
