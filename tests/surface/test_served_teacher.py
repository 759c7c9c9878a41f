"""A server as the teacher of ``scope train``: asked before the run, counted in it, shown, and left where it fails too often."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scope_rlvr.store.rollouts import Rollouts
from tests.faulty_server import MODEL, FaultyServer, solve
from tests.surface.conftest import SCORES, served_by, settings
from tests.waiting import wait_until

KEY = "sk-canary-51ac"


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def test_faults_are_counted_in_metrics_and_summary(served_run: Path) -> None:
    summary = json.loads((served_run / "summary.json").read_text())
    asked = sum(line.get("teacher/asked", 0) for line in lines(served_run))
    errors = sum(line.get("teacher/errors", 0) for line in lines(served_run))
    assert 0 < errors < asked
    assert (summary["teacher"]["asked"], summary["teacher"]["errors"]) == (asked, errors)
    assert summary["teacher"]["requests"] == asked
    assert summary["salvage"]["admitted"] > 0
    assert all(
        line["teacher/errors"] == sum(n for key, n in line.items() if key.startswith("teacher/errors/"))
        for line in lines(served_run)
        if "teacher/errors" in line
    )


def test_faults_are_shown(served_run: Path) -> None:
    page = (served_run / "report.html").read_text()
    assert "questions to the teacher unanswered: the server says that it failed (server)" in page


def test_the_display_says_that_the_teacher_fails(tmp_path: Path, scope: Callable[..., Any]) -> None:
    with FaultyServer("500", num_spared=1) as server:
        ended = scope("train", "--out", tmp_path / "run", "--steps", "2", *settings(*served_by(server)))
    assert ended.code == 0, ended.err
    assert "the teacher failed (server): HTTP 500: worker died" in ended.out
    assert "questions to the teacher unanswered: the server says that it failed (server)" in ended.out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["salvage"]["admitted"] == 0
    assert summary["teacher"]["errors"] == summary["teacher"]["asked"] > 0


def test_a_teacher_that_fails_too_often_ends_the_run_which_can_go_on(tmp_path: Path, scope: Callable[..., Any]) -> None:
    run = tmp_path / "run"
    with FaultyServer("HTML page", num_spared=1) as server:
        overrides = settings(*served_by(server, "teacher.failure_window=2"))
        ended = scope("train", "--out", run, "--steps", "12", *overrides)
        assert ended.code == 5, ended.err
        assert "more than teacher.max_failure_share = 0.5 allows" in ended.out
        assert "malformed" in ended.out
        summary = json.loads((run / "summary.json").read_text())
        assert summary["stopped_because"].startswith("the teacher did not answer")
        assert 2 <= summary["steps"] < 12
        server.fault = None
        again = scope("train", "--resume", run)
    assert again.code == 0, again.err
    summary = json.loads((run / "summary.json").read_text())
    assert summary["stopped_because"] == "finished"
    assert [line["step"] for line in lines(run)] == list(range(1, 13))
    assert summary["salvage"]["admitted"] > 0


def test_a_share_of_one_never_ends_a_run(tmp_path: Path, scope: Callable[..., Any]) -> None:
    with FaultyServer("HTML page", num_spared=1) as server:
        limits = ("teacher.failure_window=1", "teacher.max_failure_share=1")
        ended = scope("train", "--out", tmp_path / "run", "--steps", "3", *settings(*served_by(server, *limits)))
    assert ended.code == 0, ended.err


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (("teacher.name=solvr",), "served there: solver"),
        (("teacher.model=http://127.0.0.1:9/v1",), "Start the server"),
        (("teacher.server.api_key_env=NO_SUCH_KEY",), "no such environment variable"),
        (("teacher.interface=chat", "teacher.interface.kind=chats"), "teacher.interface"),
        (("teacher.server.max_tokens=1",), "Raise teacher.server.max_tokens"),
        (("teacher.prompt=Hello {problem}", "teacher.interface=chat"), "prompt is for a teacher that continues a text"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_written(
    changes: tuple[str, ...], told: str, tmp_path: Path, scope: Callable[..., Any]
) -> None:
    with FaultyServer() as server:
        ended = scope("train", "--out", tmp_path / "run", *settings(*served_by(server, *changes)))
    assert ended.code == 2
    assert told in ended.err
    assert not (tmp_path / "run").exists()


def test_a_repeated_run_asks_one_question_and_ends_in_the_same_weights(
    tmp_path: Path, scope: Callable[..., Any]
) -> None:
    with FaultyServer() as server:
        overrides = settings(*served_by(server, f"teacher.server.cache={tmp_path / 'cache'}"))
        first = scope("train", "--out", tmp_path / "first", "--steps", "3", *overrides)
        asked = server.num_requests
        second = scope("train", "--out", tmp_path / "second", "--steps", "3", *overrides)
        assert (first.code, second.code) == (0, 0), second.err
        assert asked > 2
        # Whether the server is there at all is asked anew each time.
        assert server.num_requests == asked + 1
    assert weights(tmp_path / "first") == weights(tmp_path / "second")
    hits = sum(line.get("teacher/cache_hits", 0) for line in lines(tmp_path / "second"))
    assert hits == sum(line.get("teacher/asked", 0) for line in lines(tmp_path / "second"))


def test_the_key_is_in_no_file_and_on_no_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: Callable[..., Any]
) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    with FaultyServer("500", rate=0.5, num_spared=1) as server:
        own = (f"teacher.server.cache={tmp_path / 'cache'}", "teacher.server.api_key_env=TEACHER_KEY")
        ended = scope("train", "--out", tmp_path / "run", "--steps", "2", *settings(*served_by(server, *own)))
        assert ended.code == 0, ended.err
        assert all(headers["Authorization"] == f"Bearer {KEY}" for headers in server.headers)
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(file.is_relative_to(tmp_path / "cache") for file in written)
    assert [file for file in written if KEY.encode() in file.read_bytes()] == []
    assert KEY not in ended.out + ended.err


def test_a_key_in_an_address_is_refused_and_not_repeated(tmp_path: Path, scope: Callable[..., Any]) -> None:
    for address in (f"http://user:{KEY}@127.0.0.1/v1", f"http://127.0.0.1/v1?key={KEY}"):
        model = f"teacher.model={address}"
        ended = scope("train", "--out", tmp_path / "run", "--set", model, "--set", f"teacher.name={MODEL}")
        assert ended.code == 2
        assert "plain address" in ended.err
        assert KEY not in ended.out + ended.err
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "extra",
    [
        f'{{api_key="{KEY}"}}',
        f'{{headers={{X-Api-Key="{KEY}"}}}}',
        f'{{Authorization="Bearer {KEY}"}}',
        f'{{user="{KEY}-and-more"}}',
    ],
)
def test_a_key_among_the_fields_of_requests_is_refused_and_not_repeated(
    extra: str, tmp_path: Path, scope: Callable[..., Any]
) -> None:
    with FaultyServer() as server:
        own = served_by(server, "teacher.interface=completions", f"teacher.interface.extra={extra}")
        ended = scope("train", "--out", tmp_path / "run", *settings(*own))
        assert server.num_requests == 0
    assert ended.code == 2
    assert "name that in server.api_key_env" in ended.err
    assert KEY not in ended.out + ended.err
    assert not (tmp_path / "run").exists()


def test_the_budget_is_kept_over_an_interruption(tmp_path: Path, scope: Callable[..., Any]) -> None:
    run = tmp_path / "run"
    with FaultyServer("HTML page", num_spared=4) as server:
        limits = ("teacher.failure_window=2", "teacher.server.max_tokens=4000", "run.checkpoint_every=1")
        ended = scope("train", "--out", run, "--steps", "12", *settings(*served_by(server, *limits)))
        assert ended.code == 5, ended.err
        before = json.loads((run / "summary.json").read_text())["teacher"]
        server.fault = None
        assert scope("train", "--resume", run).code == 0
    after = json.loads((run / "summary.json").read_text())["teacher"]
    assert 0 < before["reply_tokens"] < after["reply_tokens"]
    assert after["prompt_tokens"] + after["reply_tokens"] <= 4000


def kill_after(num_requests: int, server: FaultyServer, *arguments: str | Path) -> None:
    """Start ``scope`` in a process of its own and kill it while its requests are under way."""
    command = [sys.executable, "-m", "scope_rlvr", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wanted = server.num_requests + num_requests
    try:
        wait_until(lambda: server.num_requests >= wanted, "its requests", process)
    finally:
        process.kill()
        process.communicate()


def test_the_budget_is_kept_over_kills(tmp_path: Path, scope: Callable[..., Any]) -> None:
    run = tmp_path / "run"

    def slowly(before: str) -> str:
        time.sleep(0.05)
        return solve(before)

    with FaultyServer(write=slowly) as server:
        limits = ("teacher.server.max_tokens=1500", "run.checkpoint_every=1", "teacher.max_failure_share=1")
        kill_after(6, server, "train", "--out", run, "--steps", "8", *settings(*served_by(server, *limits)))
        kill_after(3, server, "train", "--resume", run)
        killed_at = server.num_tokens
        ended = scope("train", "--resume", run)
    assert ended.code == 0, ended.err
    assert 0 < killed_at <= server.num_tokens <= 1500
    kept = json.loads((run / "teacher-spending.json").read_text())
    assert server.num_tokens <= kept["tokens"] <= 1500
    assert (kept["tokens_under_way"], kept["schema"]) == (0, 1)


def test_no_spending_is_kept_where_nothing_is_limited(served_run: Path) -> None:
    assert not list(served_run.glob("*spending*"))


# --- scores and verdicts ----------------------------------------------------------------------------------------------


def test_scored_tokens_are_counted_apart_from_written_ones(scored_run: Path) -> None:
    summary = json.loads((scored_run / "summary.json").read_text())
    scored = lines(scored_run)[-1]["tokens/scored"]
    assert summary["tokens"]["scored"] == scored > 0
    assert summary["tokens"]["teacher"] == 0
    assert 0 < summary["teacher"]["errors"] < summary["teacher"]["asked"] == 2 * 8
    assert summary["teacher"]["prompt_tokens"] > scored
    # A rollout that could not be scored is paid by the verifier alone.
    rewards = [record["reward"] for record in Rollouts.of(scored_run)]
    assert any(0 < reward % 1 < 0.1 for reward in rewards)
    assert any(reward in (0, 1) for reward in rewards)


def test_a_local_teacher_scores_in_a_run(tmp_path: Path, scope: Callable[..., Any]) -> None:
    ended = scope("train", "--out", tmp_path / "run", "--steps", "2", *settings(SCORES))
    assert ended.code == 0, ended.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["tokens"]["scored"] > 0
    assert summary["teacher"]["errors"] == 0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (("teacher.model=exact",), "ExactTeacher cannot score tokens"),
        (("teacher.model=exact", "teacher.noise=0.5"), "ExactTeacher cannot score tokens"),
    ],
)
def test_a_teacher_that_cannot_score_is_refused_before_anything_is_written(
    changes: tuple[str, ...], told: str, tmp_path: Path, scope: Callable[..., Any]
) -> None:
    ended = scope("train", "--out", tmp_path / "run", *settings(SCORES, *changes))
    assert ended.code == 2
    assert told in ended.err
    assert not (tmp_path / "run").exists()


def test_a_server_that_cannot_score_is_refused_before_anything_is_written(
    tmp_path: Path, scope: Callable[..., Any]
) -> None:
    ids = ("teacher.interface=completions", "teacher.interface.token_ids=true")
    for server, own, told in (
        (FaultyServer(), (), "is asked by text"),
        (FaultyServer(), ("teacher.interface=chat",), "is asked by text"),
        (FaultyServer(scores_as="not at all"), ids, "does not score tokens as it should"),
    ):
        with server:
            ended = scope("train", "--out", tmp_path / "run", *settings(*served_by(server, SCORES, *own)))
        assert ended.code == 2
        assert told in ended.err
        assert not (tmp_path / "run").exists()


JUDGED = 'method={name="grpo", parts=["tests.helper_parts:JudgedStyle"]}'


def judged_by(server: FaultyServer, *own: str) -> list[str]:
    return settings(JUDGED, f"judge.model={server.url}", f"judge.name={MODEL}", "judge.server.cache=none", *own)


def test_a_served_judge_pays_in_a_run(tmp_path: Path, scope: Callable[..., Any]) -> None:
    run = tmp_path / "run"
    with FaultyServer(say=lambda asked: f"Not bad.\nVerdict: {len(asked) % 10}") as server:
        own = ("judge.server.max_tokens=1000000",)
        ended = scope("train", "--out", run, "--steps", "2", *judged_by(server, *own))
        assert ended.code == 0, ended.err
        assert server.num_requests > 2 * 8 / 2
    rewards = [record["reward"] for record in Rollouts.of(run)]
    assert any(0 < reward % 1 <= 0.1 for reward in rewards)
    assert json.loads((run / "judge-spending.json").read_text())["tokens"] > 0


def test_a_judge_that_gives_no_verdict_is_refused_before_anything_is_written(
    tmp_path: Path, scope: Callable[..., Any]
) -> None:
    with FaultyServer(say=lambda asked: "Very nice!") as server:
        ended = scope("train", "--out", tmp_path / "run", *judged_by(server))
    assert ended.code == 2
    assert "does not judge as it should" in ended.err
    for own, told in (((), "needs a judge and judge.model is 'none'"), (("judge.model=policy",), "cannot judge")):
        ended = scope("train", "--out", tmp_path / "run", *settings(JUDGED, *own))
        assert ended.code == 2
        assert told in ended.err
    assert not (tmp_path / "run").exists()


def test_check_tries_scores_and_verdicts(scope: Callable[..., Any]) -> None:
    ended = scope("check", *settings(SCORES))
    assert "embedded:teacher scored" in " ".join(ended.out.split())
    with FaultyServer(say=lambda asked: "Verdict: 5") as server:
        ended = scope("check", *judged_by(server))
    assert "gives verdicts that can be read" in " ".join(ended.out.split())


def test_the_exact_solver_as_the_teacher(tmp_path: Path, scope: Callable[..., Any]) -> None:
    ended = scope(
        "train", "--out", tmp_path / "run", "--steps", "3", *settings("teacher.model=exact", "scorer.model=exact")
    )
    assert ended.code == 0, ended.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["salvage"]["admitted"] > 0
    assert summary["teacher"]["errors"] == 0


def test_the_exact_solver_knows_its_own_problems_alone(tmp_path: Path, scope: Callable[..., Any]) -> None:
    problems = tmp_path / "problems.jsonl"
    problems.write_text('{"prompt": "1 + 1?", "reference": "2"}\n' * 1)
    own = ("teacher.model=exact", f"problems.source={problems}")
    ended = scope("train", "--out", tmp_path / "run", *settings(*own))
    assert ended.code == 2
    assert "teacher.model = 'exact' knows the problems of the family" in ended.err
