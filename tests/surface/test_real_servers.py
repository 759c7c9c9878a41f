"""Servers that others wrote, with the embedded teacher in them, as the teacher of a training through TRL.

``transformers serve`` runs where its extra is installed (``pip install transformers[serving]``), vLLM where the environment
variable ``SCOPE_VLLM`` names its executable; the tests of a server that is not there are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from scope_rlvr.core.ports import Fault, JudgeRequest, ScoreRequest
from scope_rlvr.core.prompts import PromptFormat, PromptSection
from scope_rlvr.embedded import model_path
from scope_rlvr.models.local import TokenizerCodec
from scope_rlvr.problems.reduction import make_problem
from scope_rlvr.servers.client import Client
from scope_rlvr.servers.settings import NO_CACHE, ServerSettings
from scope_rlvr.teachers.judge_server import ServerJudge
from scope_rlvr.teachers.local import LocalTeacher
from scope_rlvr.teachers.server import ServerTeacher
from scope_rlvr.teachers.settings import Completions, JudgeChat
from tests.surface.conftest import run_scope, settings
from tests.waiting import wait_until

VLLM = os.environ.get("SCOPE_VLLM", "")
VERBATIM = "{{ messages[0]['content'] }}"
"""A chat template that says what the user says and nothing else, for a model that knows thirty-five words."""

has_transformers_serving = pytest.mark.skipif(
    not all(map(find_spec, ("fastapi", "uvicorn", "openai"))), reason="transformers[serving] is not installed"
)
has_vllm = pytest.mark.skipif(not VLLM, reason="SCOPE_VLLM names no vLLM")


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded teacher with a chat template."""
    folder = tmp_path_factory.mktemp("teacher") / "tiny"
    shutil.copytree(model_path("teacher"), folder)
    described = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(described | {"chat_template": VERBATIM}))
    return folder


@contextmanager
def serving(command: Callable[[int], list[str]], log: Path) -> Iterator[str]:
    """Start a server on a free port, wait until it is healthy, end it afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(command(port), stdout=output, stderr=output, env=environment, cwd=log.parent)
    try:
        wait_until(lambda: is_healthy(port), f"the server is healthy, log in {log}", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
            return response.status == 200
    except (OSError, urllib.error.URLError):
        return False


@pytest.fixture(scope="module")
def transformers_server(teacher_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = str(Path(sys.executable).with_name("transformers"))
    fixed = ["--host", "127.0.0.1", "--device", "cpu", "--dtype", "float32"]
    log = tmp_path_factory.mktemp("transformers") / "log"
    with serving(lambda port: [program, "serve", str(teacher_folder), "--port", str(port), *fixed], log) as url:
        yield url


@pytest.fixture(scope="module")
def vllm_server(teacher_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    fixed = [
        "--served-model-name",
        str(teacher_folder),
        "--dtype",
        "float32",
        "--max-model-len",
        "256",
        "--enforce-eager",
    ]
    log = tmp_path_factory.mktemp("vllm") / "log"
    with serving(lambda port: [VLLM, "serve", str(teacher_folder), "--port", str(port), *fixed], log) as url:
        yield url


def train(out: Path, *overrides: str) -> Path:
    ended = run_scope("train", "--out", out, "--steps", "3", *settings("run.problems_per_step=4", *overrides))
    assert ended.code == 0, ended.err
    return out


def served(url: str, name: Path, *overrides: str) -> tuple[str, ...]:
    own = ("teacher.server.cache=none", "teacher.server.concurrency=2", "teacher.server.request_seconds=120")
    return (f"teacher.model={url}", f"teacher.name={name}", *own, *overrides)


@pytest.fixture(scope="module")
def local_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with the same teacher in the training process."""
    return train(tmp_path_factory.mktemp("local") / "run")


def outcome(run: Path) -> tuple[bytes, dict[str, Any]]:
    """The trained weights, and what became of the questions to the teacher."""
    return (run / "model" / "model.safetensors").read_bytes(), json.loads((run / "summary.json").read_text())


def assert_equals_local(run: Path, local_run: Path) -> None:
    (weights, summary), (local_weights, local_summary) = outcome(run), outcome(local_run)
    assert summary["salvage"] == local_summary["salvage"]
    assert summary["salvage"]["admitted"] > 0
    assert summary["teacher"]["errors"] == 0
    assert summary["teacher"]["requests"] == summary["teacher"]["asked"] > 0
    # A greedy teacher says the same wherever it runs, so that the policy learns the same.
    assert weights == local_weights


CHAT = ('teacher.interface={kind="chat", next_step="{problem}\\n\\n{prefix}\\n\\n", rest="{problem}\\n\\n"}',)


@has_transformers_serving
def test_transformers_serve_by_text(
    transformers_server: str, teacher_folder: Path, local_run: Path, tmp_path: Path
) -> None:
    run = train(tmp_path / "run", *served(transformers_server, teacher_folder))
    assert_equals_local(run, local_run)


@has_transformers_serving
def test_transformers_serve_by_chat(
    transformers_server: str, teacher_folder: Path, local_run: Path, tmp_path: Path
) -> None:
    run = train(tmp_path / "run", *served(transformers_server, teacher_folder, *CHAT))
    _, summary = outcome(run)
    assert summary["teacher"]["errors"] == 0
    assert summary["salvage"]["admitted"] > 0


@has_vllm
@pytest.mark.parametrize("token_ids", ["true", "false"])
def test_vllm_by_ids_and_by_text(
    token_ids: str, vllm_server: str, teacher_folder: Path, local_run: Path, tmp_path: Path
) -> None:
    interface = ("teacher.interface=completions", f"teacher.interface.token_ids={token_ids}")
    run = train(tmp_path / "run", *served(vllm_server, teacher_folder, *interface))
    assert_equals_local(run, local_run)


@has_vllm
def test_vllm_by_chat(vllm_server: str, teacher_folder: Path, tmp_path: Path) -> None:
    run = train(tmp_path / "run", *served(vllm_server, teacher_folder, *CHAT))
    _, summary = outcome(run)
    assert summary["teacher"]["errors"] == 0
    assert summary["salvage"]["admitted"] > 0


@has_vllm
def test_vllm_is_asked_for_its_names(vllm_server: str, teacher_folder: Path, tmp_path: Path) -> None:
    wrong = ("teacher.interface=completions", "teacher.interface.token_ids=true", "teacher.name=nobody")
    ended = run_scope("train", "--out", tmp_path / "run", *settings(*served(vllm_server, teacher_folder, *wrong)))
    assert ended.code == 2
    assert f"served there: {teacher_folder}" in ended.err


@has_vllm
@pytest.mark.parametrize(
    "shape",
    [{}, {"extra": {"prompt_logprobs": 3}, "leave_out": ("echo", "logprobs")}],
    ids=["echo", "prompt_logprobs"],
)
def test_vllm_scores_tokens_as_the_same_model_does_here(
    shape: dict[str, Any], vllm_server: str, teacher_folder: Path
) -> None:
    codec = TokenizerCodec(
        AutoTokenizer.from_pretrained(teacher_folder), prompt=PromptSection(format=PromptFormat.PLAIN)
    )
    problem = make_problem([0, 3, 5, 7])
    requests = [
        ScoreRequest(problem, codec.encode_prompt(problem.prompt), (*codec.encode(text), codec.end_id), text, top_k=k)
        for text in ("0 + 3 = 3 : 3 5 7\n\n", "0 + 3 = 5 : 3 5 7\n\nanswer 2")
        for k in (0, 3)
    ]
    patience = ServerSettings(cache=NO_CACHE, request_seconds=120)
    interface = Completions(token_ids=True, **shape)
    served = ServerTeacher(Client(vllm_server, patience), str(teacher_folder), codec, len(codec.tokenizer), interface)
    served.check_scoring(problem)
    local = LocalTeacher.load(teacher_folder, codec)
    for there, here in zip(served.score(requests), local.score(requests), strict=True):
        assert there.error is None
        assert there.logprobs == pytest.approx(here.logprobs, abs=1e-3)
        assert there.top_ids == here.top_ids


@has_vllm
def test_vllm_judges(vllm_server: str, teacher_folder: Path) -> None:
    """A model of thirty-five words has no verdict to give: its reply is a failed one."""
    judge = ServerJudge(
        Client(vllm_server, ServerSettings(cache=NO_CACHE, request_seconds=120)),
        str(teacher_folder),
        JudgeChat(),
        max_tokens=8,
    )
    (reply,) = judge.judge([JudgeRequest(make_problem([1, 2]), ("1 + 2 = 3 : 3",), "Is it right?")], seed=0)
    assert reply.scores is None
    assert reply.fault in (Fault.MALFORMED, Fault.EMPTY, Fault.REFUSED)
