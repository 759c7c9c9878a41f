"""How likely a teacher finds tokens that the policy wrote: in this process, behind a server, and who cannot say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import Fault, ScoreReply, ScoreRequest, TeacherRequest, scoring_refusal
from scope_rlvr.core.types import Problem
from scope_rlvr.embedded import model_path
from scope_rlvr.models.local import TokenizerCodec
from scope_rlvr.problems.reduction import Reduction, make_problem
from scope_rlvr.servers.client import Client
from scope_rlvr.servers.replies import BadReply
from scope_rlvr.servers.settings import NO_CACHE, ServerSettings
from scope_rlvr.teachers.exact import ExactTeacher
from scope_rlvr.teachers.local import LocalTeacher
from scope_rlvr.teachers.noisy import NoisyTeacher
from scope_rlvr.teachers.server import ServerTeacher
from scope_rlvr.teachers.server_scores import read_scores
from scope_rlvr.teachers.settings import AnyInterface, Chat, Completions
from scope_rlvr.teachers.solutions import SolutionTeacher
from tests.faulty_server import FAULTS, HOSTILE, MODEL, FaultyServer, logprob_of

PROBLEM = make_problem([0, 3, 5, 7])
FIRST = "0 + 3 = 3 : 3 5 7\n\n"

# --- in this process ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def codec() -> TokenizerCodec:
    return TokenizerCodec(AutoTokenizer.from_pretrained(model_path("policy")))


@pytest.fixture(scope="module")
def local(codec: TokenizerCodec) -> LocalTeacher:
    return LocalTeacher.load(model_path("teacher"), codec)


def request_of(codec: TokenizerCodec, response: str, problem: Problem = PROBLEM, **more: Any) -> ScoreRequest:
    return ScoreRequest(problem, codec.encode_prompt(problem.prompt), codec.encode(response), response, **more)


def by_hand(prompt_ids: Sequence[int], response_ids: Sequence[int]) -> torch.Tensor:
    """``log_softmax`` of the whole text's logits, in one piece: ``(T, V)``."""
    model = AutoModelForCausalLM.from_pretrained(model_path("teacher")).eval()
    with torch.no_grad():
        logits_LV = model(torch.tensor([[*prompt_ids, *response_ids]])).logits[0]
    return logits_LV[len(prompt_ids) - 1 : -1].log_softmax(-1)


def test_scores_are_the_log_probabilities_of_the_students_tokens(local: LocalTeacher, codec: TokenizerCodec) -> None:
    right, wrong = request_of(codec, FIRST), request_of(codec, "0 + 3 = 5 : 3 5 7\n\n")
    for request, reply in zip((right, wrong), local.score([right, wrong]), strict=True):
        expected = by_hand(request.prompt_ids, request.response_ids).gather(-1, torch.tensor([request.response_ids]).T)
        assert reply.logprobs == pytest.approx(expected[:, 0].tolist(), abs=1e-4)
        assert reply.num_tokens == len(request.response_ids)
        assert reply.error is None
    # The right step is what this teacher would write; the wrong number is what it finds unlikely.
    assert sum(local.score([right])[0].logprobs or ()) > sum(local.score([wrong])[0].logprobs or ()) + 5


def test_the_likeliest_tokens_come_with_their_scores(local: LocalTeacher, codec: TokenizerCodec) -> None:
    request = request_of(codec, FIRST, top_k=3)
    (reply,) = local.score([request])
    expected = by_hand(request.prompt_ids, request.response_ids).topk(3)
    assert reply.top_ids == tuple(map(tuple, expected.indices.tolist()))
    assert [x for row in reply.top_logprobs or () for x in row] == pytest.approx(
        expected.values.flatten().tolist(), abs=1e-4
    )


def test_what_a_teacher_writes_it_scores_as_it_wrote_it(local: LocalTeacher, codec: TokenizerCodec) -> None:
    prompt_ids = codec.encode_prompt(PROBLEM.prompt)
    (written,) = local.continue_from([TeacherRequest(PROBLEM, prompt_ids, (), "", max_tokens=40)], seed=0)
    assert written.token_ids is not None
    (scored,) = local.score([ScoreRequest(PROBLEM, prompt_ids, written.token_ids, "")])
    assert scored.logprobs == pytest.approx(written.logprobs, abs=1e-4)


def test_a_prompt_of_its_own_stands_before_the_students_tokens(codec: TokenizerCodec) -> None:
    own = LocalTeacher.load(model_path("teacher"), codec)
    own.prompt = "{problem}answer {reference}\n\n"
    request = request_of(codec, FIRST, reference="2")
    prompt_ids = codec.encode_prompt(f"{PROBLEM.prompt}answer 2\n\n")
    expected = by_hand(prompt_ids, request.response_ids).gather(-1, torch.tensor([request.response_ids]).T)
    (reply,) = own.score([request])
    assert reply.logprobs == pytest.approx(expected[:, 0].tolist(), abs=1e-4)
    assert reply.logprobs != own.score([replace(request, reference=None)])[0].logprobs


def test_an_empty_response_has_no_scores(local: LocalTeacher, codec: TokenizerCodec) -> None:
    assert local.score([request_of(codec, "")]) == [ScoreReply(logprobs=())]


def test_an_id_that_the_teacher_does_not_embed_costs_one_row(local: LocalTeacher, codec: TokenizerCodec) -> None:
    good = request_of(codec, FIRST)
    replies = local.score([good, replace(good, response_ids=(7, local.num_ids)), good])
    assert [reply.error is None for reply in replies] == [True, False, True]
    assert f"a token has the id {local.num_ids}" in (replies[1].error or "")
    assert replies[0] == replies[2]


# --- who cannot -----------------------------------------------------------------------------------------------------


IDS = Completions(token_ids=True)


def served(url: str = "http://127.0.0.1:9/v1", interface: AnyInterface = IDS) -> ServerTeacher:
    patience = ServerSettings(cache=NO_CACHE, request_seconds=10, batch_seconds=20, retries=0)
    return ServerTeacher(Client(url, patience), MODEL, CODEC, 200, interface)


class CharacterCodec:
    """One token a character, prompts as any text."""

    end_id = 0
    end_ids = frozenset({0})

    def pieces(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        return tuple(map(chr, token_ids))

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))

    encode_prompt = encode


CODEC = CharacterCodec()
BY_IDS = (lambda ids: "".join(map(chr, ids)), CODEC.encode)


def test_teachers_that_cannot_score_say_so_with_the_remedy(local: LocalTeacher) -> None:
    assert scoring_refusal(local) is scoring_refusal(served()) is None
    for teacher in (ExactTeacher(Reduction()), SolutionTeacher()):
        assert "take a model with the same vocabulary" in (scoring_refusal(teacher) or "")
    for interface in (Chat(), Completions()):
        refusal = scoring_refusal(served(interface=interface))
        assert refusal is not None
        assert 'interface = {kind = "completions", token_ids = true}' in refusal
        (reply,) = served(interface=interface).score([ScoreRequest(PROBLEM, (5,), (6,), "")])
        assert reply.error == refusal


def test_another_vocabulary_is_refused(codec: TokenizerCodec) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_path("policy"))
    tokenizer.add_tokens(["a token of its own"])
    other = LocalTeacher.load(model_path("teacher"), TokenizerCodec(tokenizer))
    assert "another vocabulary" in (scoring_refusal(other) or "")
    (reply,) = other.score([request_of(codec, FIRST)])
    assert (reply.logprobs, reply.error) == (None, other.scoring_refusal)


def test_noise_is_for_what_a_teacher_writes(local: LocalTeacher, codec: TokenizerCodec) -> None:
    noisy = NoisyTeacher(local, share=1.0, codec=codec, seed=0)
    request = request_of(codec, FIRST)
    assert scoring_refusal(noisy) is None
    assert noisy.score([request]) == local.score([request])
    assert scoring_refusal(NoisyTeacher(SolutionTeacher(), 1.0, codec, 0)) == scoring_refusal(SolutionTeacher())


# --- behind a server ------------------------------------------------------------------------------------------------

REQUEST = ScoreRequest(PROBLEM, CODEC.encode(PROBLEM.prompt), CODEC.encode(FIRST), FIRST)
SHAPES = ("prompt_logprobs", "echo by id", "echo by text")


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_real_servers_is_read(shape: str) -> None:
    with FaultyServer(scores_as=shape) as server:
        (reply,) = served(server.url).score([REQUEST])
        (body,) = server.bodies
    assert reply.logprobs == tuple(map(logprob_of, REQUEST.response_ids))
    assert body["prompt"] == [*REQUEST.prompt_ids, *REQUEST.response_ids]
    assert (body["echo"], body["max_tokens"], body["temperature"], body["logprobs"]) == (True, 1, 1.0, 1)
    assert reply.effort is not None
    assert (reply.effort.num_prompt_tokens, reply.effort.num_reply_tokens) == (len(body["prompt"]), 1)


def test_a_servers_likeliest_tokens() -> None:
    request = replace(REQUEST, response_ids=(14, 6), top_k=2)
    with FaultyServer() as server:
        (reply,) = served(server.url).score([request])
    assert reply.logprobs == (-0.125, -1.625)
    assert reply.top_ids == ((0, 14), (0, 6))
    assert reply.top_logprobs == ((-0.0625, -0.125), (-0.0625, -1.625))
    with FaultyServer(scores_as="echo by text") as server:
        (reply,) = served(server.url).score([request])
    assert reply.fault is Fault.MALFORMED


def test_a_servers_teacher_has_a_prompt_of_its_own() -> None:
    with FaultyServer() as server:
        teacher = served(server.url)
        teacher.prompt = "{problem}It is {reference}.\n\n"
        (reply,) = teacher.score([replace(REQUEST, reference="2")])
        assert server.bodies[0]["prompt"] == [*CODEC.encode(f"{PROBLEM.prompt}It is 2.\n\n"), *REQUEST.response_ids]
    assert reply.num_tokens == len(REQUEST.response_ids)


def test_nothing_is_asked_about_nothing() -> None:
    with FaultyServer() as server:
        replies = served(server.url).score([replace(REQUEST, response_ids=()), REQUEST])
        assert server.num_requests == 1
    assert replies[0] == ScoreReply(logprobs=())
    assert replies[1].num_tokens == len(REQUEST.response_ids)


@pytest.mark.parametrize("fault", [f for f in (*FAULTS, *HOSTILE) if f not in ("the same reply twice", "deep nesting")])
def test_a_failure_costs_the_rows_that_it_meets(fault: str) -> None:
    requests = [replace(REQUEST, response_ids=REQUEST.response_ids[:n]) for n in range(1, 9)]
    with FaultyServer(fault, rate=0.5, seed=3, codec=BY_IDS, delay=30) as server:
        teacher = served(server.url)
        teacher.client.settings = teacher.client.settings.model_copy(update={"request_seconds": 3.0})
        replies = teacher.score(requests)
        assert 0 < server.num_faults < len(requests)
    failed = [reply for reply in replies if reply.error is not None]
    assert len(failed) == server.num_faults
    for request, reply in zip(requests, replies, strict=True):
        assert reply.error is not None or reply.logprobs == tuple(map(logprob_of, request.response_ids))
        assert (reply.logprobs is None) == (reply.error is not None) == (reply.fault is not None)


def listed(*entries: Any, **more: Any) -> dict[str, Any]:
    return {"choices": [{"prompt_logprobs": list(entries), **more}]}


def echoed(tokens: Any, logprobs: Any, **more: Any) -> dict[str, Any]:
    return {"choices": [{"logprobs": {"tokens": tokens, "token_logprobs": logprobs}, **more}]}


def one(token: int, logprob: Any) -> dict[str, Any]:
    return {str(token): {"logprob": logprob}}


SENT = [5, 6, 7]
NAMED = ["token_id:5", "token_id:6", "token_id:7"]


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ({"choices": [{}]}, "has no logprobs"),
        (listed(None, one(6, -1.0)), "2 entries for 3 tokens"),
        (listed(None, one(6, -1.0), one(7, -1.0), one(8, -1.0)), "4 entries for 3 tokens"),
        ({"choices": [{"prompt_logprobs": "abc"}]}, "no list for 3 tokens"),
        (listed(None, one(6, -1.0), None), "nothing about the token 7"),
        (listed(None, None, one(7, -1.0)), "nothing about the token 6"),
        (listed(None, one(6, -1.0), one(8, -1.0)), "nothing about the token 7"),
        (listed(None, one(6, -1.0), {"7": -1.0}), "nothing about the token 7"),
        (listed(None, one(6, 0.5), one(7, -1.0)), "no log-probability: 0.5"),
        (listed(None, one(6, True), one(7, -1.0)), "no log-probability"),
        (listed(None, one(6, "-1"), one(7, -1.0)), "no log-probability"),
        (listed(None, one(6, float("nan")), one(7, -1.0)), "no log-probability"),
        (listed(None, one(6, -(10**400)), one(7, -1.0)), "no log-probability"),
        (listed(None, one(6, -1.0) | {"x": {"logprob": -1.0}}, one(7, -1.0)), "not named by their ids"),
        (listed(None, one(6, -1.0) | {"9" * 5000: {"logprob": -1.0}}, one(7, -1.0)), "not named by their ids"),
        (listed(None, one(6, -1.0), one(7, -1.0), prompt_token_ids=[5, 6, 8]), "another prompt"),
        (echoed(NAMED, [None, -1.0]), "2 entries for 3 tokens"),
        (echoed(NAMED, [None] + [-1.0] * 4), "5 entries for 3 tokens"),
        (echoed(NAMED, [None, -1.0, None]), "no log-probability: None"),
        (echoed(NAMED, [None, 0.01, -1.0]), "no log-probability: 0.01"),
        (echoed(["token_id:5", "token_id:6", "token_id:8"], [None, -1.0, -1.0]), "does not say which ids"),
        (echoed(["a", "b", "c"], [None, -1.0, -1.0]), "does not say which ids"),
        (echoed(None, [None, -1.0, -1.0]), "does not say which ids"),
        (echoed(["a", "b", "c"], [None, -1.0, -1.0], prompt_token_ids=[5, 6]), "another prompt"),
    ],
)
def test_what_is_not_as_it_should_be_is_malformed(reply: Any, told: str) -> None:
    with pytest.raises(BadReply, match=told) as error:
        read_scores(reply, SENT, num_scored=2, top_k=0)
    assert error.value.fault is Fault.MALFORMED


def test_rounding_above_zero_is_taken_off_and_what_is_impossible_stays_finite() -> None:
    reply = read_scores(listed(None, one(6, 0.0005), one(7, -9999.0)), SENT, num_scored=2, top_k=0)
    assert reply.logprobs == (0.0, -9999.0)


def test_the_first_token_of_all_has_no_score() -> None:
    with pytest.raises(BadReply, match="nothing about the token 5"):
        read_scores(listed(None, one(6, -1.0), one(7, -1.0)), SENT, num_scored=3, top_k=0)


def test_too_few_alternatives_are_malformed() -> None:
    with pytest.raises(BadReply, match="1 alternatives for a token, and 2 were asked for"):
        read_scores(listed(None, one(6, -1.0), one(7, -1.0)), SENT, num_scored=2, top_k=2)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(NAMED),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "prompt_logprobs", "logprobs", "tokens", "token_logprobs", "logprob", "6", "7"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@given(reply=JSON | st.builds(lambda c: {"choices": [c]}, JSON) | st.builds(lambda c: listed(None, *c), st.lists(JSON)))
@pytest.mark.parametrize("top_k", [0, 2])
def test_no_reply_breaks_the_reader(reply: Any, top_k: int) -> None:
    try:
        read = read_scores(reply, SENT, num_scored=2, top_k=top_k)
    except BadReply:
        return
    assert read.num_tokens == 2
    assert all(-float("inf") < logprob <= 0 for logprob in read.logprobs or ())


def test_a_server_is_tried_before_the_run() -> None:
    with FaultyServer() as server:
        served(server.url).check_scoring(PROBLEM)
        assert server.num_requests == 1
    with FaultyServer(scores_as="not at all") as server, pytest.raises(UserError, match="does not score tokens"):
        served(server.url).check_scoring(PROBLEM)
    with pytest.raises(UserError, match="is asked by text"):
        served(interface=Chat()).check_scoring(PROBLEM)
