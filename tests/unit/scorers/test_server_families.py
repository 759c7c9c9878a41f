"""Step scorers behind servers, real ones on threads of the tests: a critic that talks, and vLLM's pooling."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import Fault
from scope_rlvr.core.types import Problem
from scope_rlvr.salvage.rules import Drop, Threshold
from scope_rlvr.scorers.critic import first_wrong_in
from scope_rlvr.scorers.families import Critic, Qwen, VllmPooling
from scope_rlvr.scorers.loading import load_scorer
from scope_rlvr.scorers.local import LocalScorer
from scope_rlvr.scorers.settings import ScorerSection
from scope_rlvr.servers.replies import BadReply
from tests.unit.scorers import tiny
from tests.unit.scorers.served import HANG, PATIENCE, Served, served
from tests.unit.scorers.tiny import PROBLEM, STEPS

NAME = "theirs"


def refused(url: str, family: Any, *parts: str) -> None:
    with pytest.raises(UserError) as caught:
        load_scorer(ScorerSection(model=url, family=family))
    for part in parts:
        assert part in str(caught.value)


# --- a critic --------------------------------------------------------------------------------------------------------


def says(text: str | None, finish: str = "stop") -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}, "finish_reason": finish}], "usage": {}}


def careful(body: dict[str, Any]) -> dict[str, Any]:
    """Finds the first step with "fish" or "15" in it."""
    steps = re.findall(r"<step_\d+>\n(.*?)\n</step_\d+>", body["messages"][0]["content"], flags=re.DOTALL)
    wrong = [i for i, step in enumerate(steps) if "fish" in step or "15" in step]
    return says(f"<think>\\boxed{{0}}?</think> I looked. \\boxed{{{wrong[0] if wrong else 'none'}}}")


@pytest.fixture
def server() -> Iterator[Served]:
    with served(careful) as state:
        yield state


def critic(server: Served, **options: Any) -> Any:
    family = Critic(server=PATIENCE, **options)
    return load_scorer(ScorerSection(model=server.url, family=family), seed=3)


def test_a_critic_names_the_first_wrong_step(server):
    scorer = critic(server)
    right = ["So 3 * 4 = 12.", "And 12 + 2 = 14."]
    assert scorer.score([(PROBLEM, STEPS), (PROBLEM, right), (PROBLEM, [])]) == [(1.0, 0.0, 0.0), (1.0, 1.0), None]
    assert scorer.rule == Threshold(threshold=0.5)
    path, body = server.asked[-1]
    assert path == "/v1/chat/completions"
    assert (body["model"], body["temperature"], body["max_tokens"]) == (NAME, 0.0, 8192)
    assert PROBLEM.prompt in body["messages"][0]["content"]


def test_tags_in_a_step_are_text(server):
    critic(server).score([(PROBLEM, ["a", "b</step_1>\n<step_2>\n15"])])
    asked = server.asked[-1][1]["messages"][0]["content"]
    assert re.findall(r"\n</?step_\d+>", asked) == ["\n<step_0>", "\n</step_0>", "\n<step_1>", "\n</step_1>"]


def voting(*votes: str) -> Callable[[dict[str, Any]], Any]:
    """Gives the votes in the order of the seeds that a scorer sends, again and again."""
    order: list[int] = []

    def answer(body: dict[str, Any]) -> Any:
        if body["seed"] not in order:
            order.append(body["seed"])
        return says(votes[order.index(body["seed"])])

    return answer


@pytest.mark.parametrize(
    ("votes", "scores"),
    [
        (("\\boxed{1}", "\\boxed{2}", "\\boxed{1}"), (1.0, 0.0, 0.0)),
        (("\\boxed{none}", "\\boxed{2}", "\\boxed{-1}"), (1.0, 1.0, 1.0)),
        (("\\boxed{2}", "\\boxed{0}", "no idea"), (0.0, 0.0, 0.0)),  # a tie: the earlier
        (("\\boxed{none}", "\\boxed{2}", "no idea"), (1.0, 1.0, 0.0)),
        (("\\boxed{1}", "no idea", "\\boxed{7}"), None),  # one vote of three can be read
    ],
)
def test_the_majority_decides(votes, scores, server):
    scorer = critic(server, votes=3, temperature=1.0)
    server.answer = voting(*votes)
    # Votes are told apart by their seeds, whose order at the server is not that of the votes.
    assert scorer.score([(PROBLEM, STEPS)]) == [scores]
    assert len({body["seed"] for _, body in server.asked}) == 3


@pytest.mark.parametrize(
    "reply",
    [
        500,
        HANG,
        {"choices": []},
        {"error": {"message": "dead"}},
        says(""),
        says(None),
        says("I cannot say."),
        says("\\boxed{3}"),  # there are the steps 0 to 2
        says("\\boxed{-2}"),
        says("\\boxed{1", finish="length"),
        says("\\boxed{1}", finish="length"),
    ],
    ids=str,
)
def test_a_bad_answer_costs_one_rollout_and_no_other(reply, server):
    scorer = critic(server)
    server.answer = lambda body: reply if "2 + 12 = 15" in body["messages"][0]["content"] else careful(body)
    assert scorer.score([(PROBLEM, STEPS), (PROBLEM, ["15"])]) == [None, (0.0,)]


def test_a_critic_that_does_not_answer_is_refused_before_any_work(server):
    family = Critic(server=PATIENCE)
    server.answer = lambda body: says("no box")
    refused(server.url, family, "does not answer as it should", "malformed", "in a box")
    server.answer = lambda body: 500
    refused(server.url, family, "HTTP 500")
    server.models = []
    refused(server.url, family, "does not say which models")


def test_the_model_is_named_or_the_only_one(server):
    server.models = [{"id": "a"}, {"id": "b"}]
    refused(server.url, Critic(server=PATIENCE), "serves a, b", "scorer.family.name")
    refused(server.url, Critic(server=PATIENCE, name="c"), "'c'", "serves a, b")
    assert critic(server, name="b").name == "b"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("\\boxed{2}", 2),
        ("first \\boxed{2}, no, \\boxed{ 0 }", 0),
        ("\\boxed{\\text{none}}", None),
        ("\\boxed{None}", None),
        ("\\boxed{-1}", None),
        ("\\boxed{step_4}", 4),
        ("\\boxed{Step 4}", 4),
        ("<think>\\boxed{1}</think>\\boxed{2}", 2),
    ],
)
def test_what_is_read_from_an_answer(text, found):
    assert first_wrong_in(text) == found


@pytest.mark.parametrize(
    "text", ["", "2", "\\boxed{}", "\\boxed{2 or 3}", "\\boxed{two}", "\\boxed{1.5}", "\\boxed{1}</think>"]
)
def test_what_is_no_answer(text):
    with pytest.raises(BadReply) as caught:
        first_wrong_in(text)
    assert caught.value.fault is Fault.MALFORMED


def test_settings_of_a_critic_that_make_no_sense():
    with pytest.raises(ValueError, match="equal votes"):
        Critic(votes=3)
    with pytest.raises(ValueError, match="address of a server"):
        ScorerSection(model="./folder", family="critic")
    with pytest.raises(ValueError, match="name the family, critic or vllm_pooling"):
        ScorerSection(model="http://localhost:8000/v1")
    with pytest.raises(ValueError, match="plain address") as caught:
        ScorerSection(model="http://me:secret@host/v1", family="critic")
    assert "secret" not in str(caught.value.errors()[0]["msg"])


# --- pooling ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, LocalScorer]]:
    makers = {
        "qwen": tiny.qwen_prm,
        "skywork": tiny.skywork_prm,
        "pure": tiny.token_classifier,
        "math_shepherd": lambda folder: tiny.causal(folder, "math_shepherd"),
    }

    def make(kind: str) -> tuple[Path, LocalScorer]:
        folder = makers[kind](tmp_path_factory.mktemp(kind) / "model")
        return folder, load_scorer(ScorerSection(model=str(folder), family={"kind": kind}))  # type: ignore[return-value]

    return make


def pool(scorer: LocalScorer, kind: str, is_of_steps: bool) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What vLLM would answer: the scores of a model that runs here, one entry a place or a token."""

    def entry(score: float) -> list[float]:
        if kind == "skywork":
            return [math.log(score / (1 - score))]
        right = (score + 1) / 2 if kind == "pure" else score
        return [right, 1 - right] if kind == "math_shepherd" else [1 - right, right]

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        ids = body["input"]
        written = next(w for w in scorer.writer.expected if w.token_ids == ids)  # type: ignore[attr-defined]
        places = written.positions if is_of_steps else list(range(len(ids)))
        rows = [type(written)(ids, places)]
        with torch.inference_mode():
            scores = scorer.reader.read({"input_ids": torch.tensor([ids])}, rows)[0].tolist()
        return {"model": NAME, "data": [{"index": 0, "data": [entry(score) for score in scores]}]}

    class Remembering:
        """The writer, which also keeps what it has written, so that the server can find the places of an input."""

        def __init__(self, writer: Any) -> None:
            self.writer, self.expected = writer, []

        def write(self, problem: Problem, steps: Any) -> Any:
            written = self.writer.write(problem, steps)
            self.expected += written
            return written

    scorer.writer = Remembering(scorer.writer)
    return answer


def remember(scorer: LocalScorer, *solutions: Any) -> None:
    from scope_rlvr.scorers.selftest import IN_WORDS

    for problem, steps in [*IN_WORDS, *solutions]:
        scorer.writer.write(problem, steps)


@pytest.mark.parametrize("kind", ["qwen", "skywork", "pure", "math_shepherd"])
@pytest.mark.parametrize("reply", ["step", "token"])
def test_pooled_scores_are_those_of_the_model_run_here(kind, reply, local):
    folder, scorer = local(kind)
    solutions = [(PROBLEM, STEPS), (Problem("o", "Où ?", ""), ["ici", "là"])]
    expected = scorer.score(solutions)
    family = VllmPooling(of={"kind": kind}, tokenizer=str(folder), reply=reply, server=PATIENCE)
    with served(pool(scorer, kind, reply == "step")) as server:
        remember(scorer, *solutions)
        remote = load_scorer(ScorerSection(model=server.url, family=family))
        found = remote.score([*solutions, (PROBLEM, [])])
        assert {path for path, _ in server.asked} == {"/pooling"}
        assert all(isinstance(token, int) for _, body in server.asked for token in body["input"])
    assert found[2] is None
    for scores, wanted in zip(found[:2], expected, strict=True):
        assert scores == pytest.approx(wanted, abs=2e-5)
    assert remote.rule == (Drop(drop=0.05) if kind == "skywork" else scorer.rule)


PAIR = [0.25, 0.75]


def entries(*rows: Any, name: str = NAME) -> dict[str, Any]:
    return {"model": name, "data": [{"data": list(rows)}]}


@pytest.mark.parametrize(
    ("reply", "part"),
    [
        (entries(PAIR, PAIR), "2 entries for 3 steps"),
        (entries(*[PAIR] * 4), "4 entries for 3 steps"),
        (entries(*[PAIR] * 3, name="another"), "of the model 'another'"),
        (entries(PAIR, PAIR, [float("nan"), 0.5]), "not JSON"),
        (entries(PAIR, PAIR, [None, 0.5]), "no list of numbers"),
        (entries(PAIR, PAIR, [2.3, -1.1]), "not two probabilities"),
        (entries(PAIR, PAIR, [0.5, 0.9]), "not two probabilities"),
        (entries(PAIR, PAIR, [0.2, 0.3, 0.5]), "not two probabilities"),
        (entries(PAIR, PAIR, 0.5), "not two probabilities"),
        ({"model": NAME, "data": []}, "without model and data[0].data"),
        ({"data": [{"data": [PAIR] * 3}]}, "without model and data[0].data"),
        ({"error": {"message": "no such task"}}, "no such task"),
        (500, "HTTP 500"),
        (404, "HTTP 404"),
        (HANG, "no whole reply"),
    ],
    ids=str,
)
def test_a_reply_that_is_not_what_was_asked_for(reply, part, local, caplog):
    folder, scorer = local("qwen")
    family = VllmPooling(of=Qwen(), tokenizer=str(folder), server=PATIENCE)
    with served(lambda body: reply) as server:
        refused(server.url, family, "does not answer as it should", part)
        right = pool(scorer, "qwen", is_of_steps=True)
        remember(scorer, (PROBLEM, ["a"]))
        server.answer = right
        remote = load_scorer(ScorerSection(model=server.url, family=family))
        server.answer = lambda body: (
            right(body) if body["input"] in [w.token_ids for w in scorer.writer.expected] else reply
        )
        found = remote.score([(PROBLEM, STEPS), (PROBLEM, ["a"])])
    assert found[0] is None
    assert found[1] is not None
    assert part in caplog.text


def test_flat_scores_of_a_server_stop_before_any_work(local):
    folder, _ = local("qwen")
    with served(lambda body: entries(*[PAIR] * 3)) as server:
        refused(server.url, VllmPooling(tokenizer=str(folder), server=PATIENCE), "self-test", "score alike")


def test_what_the_server_cannot_read_is_not_sent(local):
    folder, scorer = local("qwen")
    with served(pool(scorer, "qwen", is_of_steps=True)) as server:
        remember(scorer)
        server.models = [{"id": NAME, "max_model_len": 700}]
        remote = load_scorer(
            ScorerSection(model=server.url, family=VllmPooling(tokenizer=str(folder), server=PATIENCE))
        )
        num_asked = len(server.asked)
        assert remote.score([(PROBLEM, ["x" * 700])]) == [None]
        assert len(server.asked) == num_asked


def test_a_tokenizer_that_cannot_be_used_is_refused(local, tmp_path):
    folder, _ = local("pure")
    with served(lambda body: 500) as server:
        refused(server.url, VllmPooling(tokenizer=str(folder), server=PATIENCE), "scorer.family.tokenizer", "<extra_0>")
        refused(server.url, VllmPooling(tokenizer=str(tmp_path), server=PATIENCE), "scorer.family.tokenizer")
