"""Grading processes: nothing a judge does reaches the program, and every healthy question is answered."""

from __future__ import annotations

import gc
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.types import Outcome
from scope_rlvr.grading.pipes import Lines
from scope_rlvr.grading.pool import WorkerPool
from scope_rlvr.grading.supervisor import Supervisor
from tests.waiting import PATIENCE_SECONDS, wait_until

MISBEHAVING = "tests.unit.grading_functions:make_misbehaving"


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    """One pool for all tests: each must leave it as good as it found it."""
    with WorkerPool(MISBEHAVING, {}, num_workers=1, deadline=1.0) as opened:
        yield opened


def asked(pool: WorkerPool, *what: str) -> list[tuple[str, str]]:
    return [(a.outcome.value, a.reason.split(" ")[0].rstrip(":")) for a in pool.ask([{"do": do} for do in what])]


def is_running(pid: int) -> bool:
    """Whether a process is there and not a zombie that somebody else has to reap."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("sleep", "time_out"),
        ("compute", "time_out"),
        ("ignore the end", "time_out"),
        ("crash", "worker_crashed"),
        ("leave", "worker_crashed"),
        ("raise", "grader_error"),
        ("recurse", "grader_error"),
    ],
)
def test_what_a_judge_does_costs_its_own_verdict_alone(pool: WorkerPool, do: str, reason: str) -> None:
    assert asked(pool, "answer", do, "answer", do, "answer") == [
        ("right", "pid"),
        ("unknown", reason),
        ("right", "pid"),
        ("unknown", reason),
        ("right", "pid"),
    ]


def test_a_worker_that_holds_too_much_is_killed_before_its_deadline() -> None:
    with WorkerPool(MISBEHAVING, {}, deadline=60.0, memory_mib=150) as pool:
        assert asked(pool, "hold memory", "answer") == [("unknown", "out_of_memory"), ("right", "pid")]


def test_a_question_gets_all_of_its_deadline(pool: WorkerPool) -> None:
    answers = pool.ask([{"do": do} for do in ("sleep", "compute", "answer")])
    assert all(answer.seconds >= pool.deadline for answer in answers[:2])
    assert answers[2].outcome is Outcome.RIGHT


class TimedWorker:
    """A worker that has been busy for so many seconds, as the supervisor sees it."""

    file, pid, is_busy = 0, 0, True

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.was_killed = False

    def memory_mib(self) -> float:
        return 0.0

    def finish(self) -> int:
        return 7

    def kill(self) -> None:
        self.was_killed = True


@pytest.mark.parametrize(
    ("seconds", "wait", "is_killed"), [(0.2, 0.05, False), (0.97, 0.03, False), (1.0, 0.0, True), (1.3, 0.0, True)]
)
def test_a_worker_is_looked_at_when_its_deadline_is_reached_and_killed_then(
    seconds: float, wait: float, is_killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(selectors.DefaultSelector, "register", lambda *_: None)
    monkeypatch.setattr(selectors.DefaultSelector, "select", lambda _, timeout: waits.append(timeout) or [])
    said, says = os.pipe()
    supervisor = Supervisor(lambda: ("right", ""), Lines(said), says, num_workers=1, deadline=1.0, memory_mib=100)
    worker = TimedWorker(seconds)
    supervisor._workers[worker.file] = worker  # type: ignore[assignment]
    supervisor._files_with_news()
    supervisor._watch(worker)  # type: ignore[arg-type]
    assert waits == [pytest.approx(wait)]
    assert worker.was_killed is is_killed
    assert list(supervisor._workers) == ([] if is_killed else [worker.file])
    os.close(says)
    assert b"time_out: no verdict within 1 s" in os.read(said, 1000) if is_killed else os.read(said, 1000) == b""
    os.close(said)


def test_answers_come_in_the_order_of_the_questions() -> None:
    with WorkerPool(MISBEHAVING, {}, num_workers=3, deadline=1.0) as pool:
        what = ["answer", "sleep", "answer", "raise"] * 3
        said = asked(pool, *what)
        assert [outcome for outcome, _ in said] == ["right", "unknown", "right", "unknown"] * 3
        assert len({answer.reason for answer in pool.ask([{"do": "answer"}] * 200)}) <= 3


def test_what_a_judge_prints_does_not_come_between_the_answers(pool: WorkerPool, capfd: pytest.CaptureFixture) -> None:
    assert asked(pool, "print", "answer") == [("right", "printed"), ("right", "pid")]
    assert capfd.readouterr().out == ""


def test_long_questions_and_many_do_not_block_each_other() -> None:
    with WorkerPool("tests.unit.grading_functions:make_misbehaving", {}, num_workers=2) as pool:
        answers = pool.ask([{"do": "answer" + "x" * 300_000}] * 40 + [{"do": "answer"}] * 40)
        assert [a.outcome.value for a in answers] == ["unknown"] * 40 + ["right"] * 40


def test_options_reach_the_judge_and_nothing_asked_is_nothing_answered() -> None:
    with WorkerPool(MISBEHAVING, {"word": "hello"}) as pool:
        assert pool.ask([]) == []
        assert pool.ask([{"do": "answer"}])[0].reason.endswith("hello")


@pytest.mark.parametrize(
    ("judge", "word"),
    [
        ("tests.unit.grading_functions:make_nothing", "no judge today"),
        ("tests.unit.no_such_module:judge", "no_such_module"),
        ("tests.unit.grading_functions:no_such_function", "no_such_function"),
    ],
)
def test_a_judge_that_cannot_be_made_is_a_mistake_that_is_named(judge: str, word: str) -> None:
    with WorkerPool(judge, {}) as pool:
        with pytest.raises(UserError, match=word):
            pool.wait_until_ready()
        with pytest.raises(UserError, match=word):
            pool.ask([{"do": "answer"}])


# --- ends -----------------------------------------------------------------------------------------------------------


def processes_of(pool: WorkerPool) -> list[int]:
    return [pool.pid, *(child.pid for child in psutil.Process(pool.pid).children(recursive=True))]


def test_closing_ends_every_process_and_leaves_no_zombie(pool: WorkerPool) -> None:
    asked(pool, "answer", "sleep", "answer")
    processes = processes_of(pool)
    assert len(processes) == 2
    pool.close()
    pool.close()
    assert not any(map(psutil.pid_exists, processes))
    assert asked(pool, "answer") == [("right", "pid")]
    assert pool.pid not in processes


def test_a_worker_takes_what_it_started_with_it(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    with WorkerPool(MISBEHAVING, {"file": str(file)}, deadline=2.0) as pool:
        assert asked(pool, "start another") == [("unknown", "time_out")]
        wait_until(lambda: not is_running(int(file.read_text())), "the end of what the worker started")


def test_a_pool_that_is_forgotten_ends(pool: WorkerPool) -> None:
    other = WorkerPool(MISBEHAVING, {})
    asked(other, "answer")
    processes = processes_of(other)
    del other
    gc.collect()
    assert not any(map(psutil.pid_exists, processes))


def test_a_supervisor_that_is_killed_costs_what_was_under_way(pool: WorkerPool) -> None:
    pool.wait_until_ready()
    killer = threading.Timer(0.3, os.kill, (pool.pid, signal.SIGKILL))
    killer.start()
    assert asked(pool, "sleep", "answer") == [("unknown", "worker_crashed")] * 2
    assert asked(pool, "answer") == [("right", "pid")]


def test_an_interrupted_batch_does_not_answer_the_next_one(pool: WorkerPool) -> None:
    pool.wait_until_ready()
    interrupt = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        asked(pool, "sleep", "sleep", "sleep")
    assert asked(pool, "answer", "raise") == [("right", "pid"), ("unknown", "grader_error")]


def test_any_thread_may_ask(pool: WorkerPool) -> None:
    said: list[list[tuple[str, str]]] = []
    threads = [threading.Thread(target=lambda: said.append(asked(pool, "answer", "raise"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [[("right", "pid"), ("unknown", "grader_error")]] * 4


def test_a_fork_starts_processes_of_its_own_and_leaves_the_parents_alone(pool: WorkerPool) -> None:
    asked(pool, "answer")
    child = os.fork()
    if not child:
        code = 1
        try:
            parents = pool.pid
            code = 0 if asked(pool, "answer") == [("right", "pid")] and pool.pid != parents else 2
            pool.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert asked(pool, "answer") == [("right", "pid")]


PROGRAM = """
import sys, time
from scope_rlvr.grading.pool import WorkerPool
# Not guarded by __name__, as many training scripts are not: nothing imports the main program again.
print("started", flush=True)
pool = WorkerPool("tests.unit.grading_functions:make_misbehaving", {}, num_workers=2, deadline=60)
pool.ask([{"do": "answer"}])
print(pool.pid, flush=True)
if sys.argv[1] == "busy":
    pool.ask([{"do": "sleep"}, {"do": "compute"}])
if sys.argv[1] == "fail":
    raise SystemExit(3)
"""


def program(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        process_group=0,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )


def has_left(group_leader: int) -> bool:
    return not any(is_running(p.pid) for p in psutil.process_iter() if _group_of(p.pid) == group_leader)


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


@pytest.mark.parametrize(("how", "code"), [("finish", 0), ("fail", 3)])
def test_a_program_that_ends_leaves_nothing_behind(how: str, code: int) -> None:
    process = program(how)
    said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert said.split()[0] == "started"
    assert process.returncode == code
    wait_until(lambda: has_left(int(said.split()[1])), "the end of the grading processes")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_program_that_is_ended_takes_its_busy_workers_with_it(how: signal.Signals) -> None:
    process = program("busy")
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    supervisor = psutil.Process(int(process.stdout.readline()))
    wait_until(lambda: len(supervisor.children()) == 2, "two workers")
    processes = [supervisor.pid, *(child.pid for child in supervisor.children())]
    os.killpg(process.pid, how)
    process.wait(timeout=PATIENCE_SECONDS)
    process.stdout.close()
    wait_until(lambda: not any(map(is_running, processes)), "the end of the grading processes")
