"""A failing teacher is noticed: in the log of questions, in the window over the steps, on the screen."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from scope_rlvr.core.accounting import TeacherLog
from scope_rlvr.core.ports import Effort, Fault, TeacherReply
from scope_rlvr.report.live import LiveDisplay
from scope_rlvr.teachers.failures import TeacherFailureMonitor
from tests.doubles import PROBLEM, ScriptedTeacher, group, salvaged, toolbox

DOWN = TeacherReply(error="no whole reply within 60 s", fault=Fault.TIMEOUT, effort=Effort(4, 61.5))
FINE = TeacherReply(text="good", effort=Effort(2, 1.0, 100, 20, 0.5))
KNOWN = TeacherReply(text="good", effort=Effort())


def log_of(*replies: TeacherReply) -> TeacherLog:
    log = TeacherLog()
    log.add(replies)
    return log


def test_every_question_is_counted_with_what_it_took() -> None:
    assert log_of(FINE, KNOWN, DOWN, TeacherReply(error="?")).counts == {
        "teacher/asked": 4,
        "teacher/errors": 2,
        "teacher/errors/timeout": 1,
        "teacher/errors/other": 1,
        "teacher/requests": 6,
        "teacher/retries": 4,
        "teacher/cache_hits": 1,
        "teacher/request_seconds": 62.5,
        "teacher/prompt_tokens": 100,
        "teacher/reply_tokens": 20,
        "teacher/money": 0.5,
    }


def test_of_a_local_teacher_only_questions_and_errors_are_counted() -> None:
    assert log_of(TeacherReply(text="good")).counts == {"teacher/asked": 1, "teacher/errors": 0}


@pytest.mark.parametrize(("reply", "num_errors"), [("good\n\n", 0), (DOWN, 1)])
def test_a_salvage_leaves_its_questions_in_the_log(reply: str | TeacherReply, num_errors: int) -> None:
    tools = toolbox(teacher=ScriptedTeacher([reply]))
    salvaged(group("good\n\nbad\n\nanswer 3|", "answer 7|", problem=PROBLEM), tools)
    assert (tools.teacher_log.counts["teacher/asked"], tools.teacher_log.counts["teacher/errors"]) == (1, num_errors)


def test_the_wrong_number_of_replies_is_a_failure_of_all() -> None:
    class Short:
        def continue_from(self, requests, *, seed):
            return []

    tools = toolbox(teacher=Short())
    salvaged(group("good\n\nbad\n\nanswer 3|", "answer 7|"), tools)
    assert tools.teacher_log.messages == {"other": "0 replies to 1 requests"}


def test_only_the_latest_steps_with_a_question_count() -> None:
    monitor = TeacherFailureMonitor(max_share=0.5, window=2)
    for step, replies in ((1, [DOWN, DOWN]), (2, []), (3, [FINE, DOWN])):
        list(monitor.record(step, log_of(*replies)))
    assert "3 of 4 questions in the last 2 steps" in monitor.reason_to_stop()
    list(monitor.record(4, log_of(FINE)))
    assert monitor.reason_to_stop() == ""


def test_batches_of_one_step_are_one_step() -> None:
    monitor = TeacherFailureMonitor(max_share=0.5, window=2)
    for step in (1, 1, 1):
        list(monitor.record(step, log_of(DOWN)))
    assert monitor.reason_to_stop() == ""
    list(monitor.record(2, log_of(DOWN)))
    assert "4 of 4" in monitor.reason_to_stop()


def test_the_share_itself_is_allowed() -> None:
    monitor = TeacherFailureMonitor(max_share=0.5, window=1)
    list(monitor.record(1, log_of(DOWN, FINE)))
    assert monitor.reason_to_stop() == ""


def test_each_kind_of_fault_is_told_once() -> None:
    monitor = TeacherFailureMonitor(max_share=1, window=1)
    told = [list(monitor.record(step, log_of(DOWN))) for step in (1, 2)]
    assert told == [["the teacher failed (timeout): no whole reply within 60 s"], []]
    other = TeacherReply(error="HTTP 500: worker died", fault=Fault.SERVER)
    assert list(monitor.record(3, log_of(other, DOWN))) == ["the teacher failed (server): HTTP 500: worker died"]


def test_the_live_display_shows_what_is_not_answered() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    display = LiveDisplay(console, 10, [])
    for step in (1, 2):
        counts = log_of(DOWN, FINE, FINE).counts
        display.update({"step": step, **counts})
    console.print(display._view())
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "2 of 6 questions to the teacher unanswered" in shown
    assert "(timeout) 2" in shown
