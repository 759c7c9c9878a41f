"""Bad input, interruptions and endings through the real command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, LlamaConfig, LlamaForTokenClassification, PreTrainedTokenizerFast

from scope_rlvr.embedded import model_path
from scope_rlvr.store.rollouts import Rollouts
from tests.journals import rollout_bytes
from tests.waiting import PATIENCE_SECONDS, wait_until

Scope = Callable[..., Any]
Small = Callable[..., list[str]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the command is given, with files to make mistakes with."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "unknown.toml", "[run]\nstepps = 3\n[runs]\nsteps = 3\n")
    write(tmp_path / "broken.toml", "run = = 3\n")
    write(tmp_path / "empty.jsonl", "\n\n")
    write(tmp_path / "few.jsonl", '{"prompt": "reduce 1 2\\n\\n", "answer": 3}\n')
    rows = ['{"prompt": "reduce 1 2\\n\\n", "answer": 3}', "no", '{"prompt": "reduce 1 2\\n\\n"}', '{"answer": 3}']
    write(tmp_path / "rows.jsonl", "\n".join(rows))
    (tmp_path / "nothing").mkdir()
    (tmp_path / "pickled").mkdir()
    write(tmp_path / "pickled" / "config.json", '{"model_type": "llama"}')
    write(tmp_path / "pickled" / "pytorch_model.bin", "weights")
    return tmp_path


def write(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file and folder below, with when it was last changed and what is in it."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    }


def assert_refused(ended: Any, *parts: str) -> None:
    assert ended.code == 2, ended
    assert ended.err.startswith("scope: ")
    assert "Traceback" not in ended.err
    for part in parts:
        assert part in ended.err


MISTAKES: dict[str, tuple[list[str], list[str]]] = {
    "unknown keys": (
        ["unknown.toml"],
        ["unknown.toml has 2 mistake(s)", "run.stepps: unknown key; did you mean 'steps'?", "runs", "'run'"],
    ),
    "wrong type": (["--set", "run.steps=many"], ["run.steps", "'many'"]),
    "out of range": (["--steps", "0"], ["run.steps", "greater than or equal to 1", "got 0"]),
    "negative interval": (["--eval-every", "-1"], ["evaluation.every", "got -1"]),
    "unknown method": (["--method", "ppo"], ["ppo", "vppo", "scope methods"]),
    "no assignment": (["--set", "run.steps"], ["'run.steps'", "section.key=value"]),
    "no such file": (["missing.toml"], ["missing.toml cannot be read"]),
    "a folder as configuration": (["nothing"], ["nothing cannot be read"]),
    "no TOML": (["broken.toml"], ["broken.toml is not TOML"]),
    "micro batch": (["--set", "run.micro_batch_rows=7"], ["run.micro_batch_rows = 7", "64 rows", "8 problems x 8"]),
    "no teacher": (["--set", "teacher.model=none"], ["needs a teacher", "teacher.model", "max_salvages = 0"]),
    "no scorer": (["--set", "scorer.model=none"], ["needs a scorer", "scorer.model", "max_salvages = 0"]),
    "rule without kind": (["--set", "method.teacher_term.gamma=0.3"], ["method.teacher_term", "kind", "--set"]),
    "unknown family": (["--set", "problems.family=reductoin"], ["problems.family", "reductoin", "reduction"]),
    "unknown embedded model": (["--set", "model.policy=embedded:polcy"], ["model.policy", "polcy", "policy"]),
    "no model name": (["--set", "model.policy=nowhere"], ["model.policy = 'nowhere'", "owner/name"]),
    "no model folder": (["--set", "teacher.model=./absent"], ["teacher.model", "absent holds no model"]),
    "empty model folder": (["--set", "model.policy=nothing"], ["model.policy", "config.json", "save_pretrained"]),
    "pickled weights": (["--set", "scorer.model=pickled"], ["scorer.model", "no safetensors weights"]),
    "no problem file": (["--set", "problems.source=missing.jsonl"], ["missing.jsonl cannot be read", "No such file"]),
    "empty problem file": (["--set", "problems.source=empty.jsonl"], ["empty.jsonl holds no problem"]),
    "too few problems": (["--set", "problems.source=few.jsonl"], ["holds 1 problems", "problems_per_step = 8"]),
    "rows that are no problems": (
        ["--set", "problems.source=rows.jsonl"],
        ["3 row(s)", "line 2: not JSON", "line 3: no answer", "line 4: no problem text", "has answer", "bad_rows"],
    ),
    "evaluation file": (
        ["--set", 'evaluation.sets=[{role="trained", source="rows.jsonl"}]'],
        ["rows.jsonl has 3 row(s)"],
    ),
    "answer pattern": (["--set", "verifier.answer_pattern=(a)(b)"], ["verifier.answer_pattern", "2 groups"]),
}


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.parametrize("out", [(), ("--out", "run")], ids=["", "out"])
def test_a_mistake_is_told_once_and_nothing_is_written(
    name: str, out: tuple[str, ...], here: Path, scope: Scope
) -> None:
    arguments, parts = MISTAKES[name]
    before = contents(here)
    ended = scope("train", *arguments, *out)
    assert_refused(ended, *parts)
    assert ended.out == ""
    assert contents(here) == before


def test_mistakes_are_found_before_any_model_library_is_loaded(here: Path) -> None:
    program = """
import sys
from scope_rlvr.cli.main import main
for arguments in {all_arguments!r}:
    sys.argv = ["scope", "train", *arguments]
    try:
        main()
    except SystemExit as end:
        assert end.code == 2, arguments
print([name for name in ("transformers", "trl", "datasets", "accelerate") if name in sys.modules])
"""
    all_arguments = [arguments for arguments, _ in MISTAKES.values()]
    ended = python("-c", program.format(all_arguments=all_arguments), cwd=here)
    assert ended.stdout == "[]\n"
    assert ended.stderr.count("scope: ") == len(MISTAKES)
    assert "Traceback" not in ended.stderr


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A real process; its warnings are part of what a user would see."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["train", "--set", "run.step=3"], ["scope: ", "run.step: unknown key; did you mean 'steps'?"]),
        (["train", "--bogus"], ["No such option", "--bogus"]),
        (["trian"], ["trian"]),
        (["show", "nowhere"], ["scope: ", "no run folder at nowhere"]),
    ],
)
def test_a_real_process_ends_with_code_2_and_a_message_on_stderr(
    arguments: list[str], parts: list[str], here: Path
) -> None:
    before = contents(here)
    ended = python("-m", "scope_rlvr", *arguments, cwd=here)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    assert "Warning" not in ended.stderr
    for part in parts:
        assert part in ended.stderr
    assert contents(here) == before


def test_version_and_help(here: Path, scope: Scope) -> None:
    import scope_rlvr

    assert scope("version").out == f"{scope_rlvr.__version__}\n"
    ended = scope("train", "--help")
    assert ended.code == 0
    assert "--resume" in ended.out


# --- models that cannot be used -------------------------------------------------------------------------------------


def other_vocabulary(folder: Path) -> Path:
    """A step scorer that is fine in itself, for problems in other words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = Tokenizer(WordLevel({"<unk>": 0, "<pad>": 1, "what": 2, "is": 3}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", pad_token="<pad>")
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForTokenClassification(LlamaConfig(vocab_size=4, num_labels=2, **shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write(folder / "scorer.json", '{"family": "token_classifier"}')
    return folder


def garbage(folder: Path) -> Path:
    """An embedded model's folder, its weights overwritten."""
    shutil.copytree(model_path("step_scorer"), folder)
    (folder / "model.safetensors").write_bytes(b"no weights at all")
    return folder


def other_shape(folder: Path) -> Path:
    """The embedded policy's folder, its configuration of another size."""
    shutil.copytree(model_path("policy"), folder)
    config = json.loads((folder / "config.json").read_text())
    write(folder / "config.json", json.dumps(config | {"intermediate_size": 2 * config["intermediate_size"]}))
    return folder


def no_end(folder: Path) -> Path:
    """The embedded policy with a tokenizer that names no end of sequence."""
    shutil.copytree(model_path("policy"), folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    return folder


def own_code(folder: Path) -> Path:
    """A model folder that would run code of its own."""
    shutil.copytree(model_path("policy"), folder)
    config = json.loads((folder / "config.json").read_text())
    hook = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModelForCausalLM": "mine.Mine"}}
    write(folder / "config.json", json.dumps(config | hook))
    write(folder / "mine.py", "from pathlib import Path\nPath('ran').touch()\nclass Mine: pass\n")
    return folder


@pytest.mark.parametrize(
    ("key", "make", "parts"),
    [
        ("scorer.model", other_vocabulary, ["step scorer", "separator", "without a token"]),
        ("scorer.model", garbage, ["scorer.model", "no safetensors weights"]),
        ("model.policy", garbage, ["model.policy", "no safetensors weights"]),
        ("model.policy", other_shape, ["model.policy", "cannot be loaded"]),
        ("model.policy", no_end, ["model.policy", "eos_token"]),
        ("model.policy", own_code, ["model.policy", "cannot be loaded"]),
        ("teacher.model", garbage, ["teacher.model", "no safetensors weights"]),
    ],
)
def test_a_model_that_cannot_be_used_leaves_no_run(
    key: str, make: Callable[[Path], Path], parts: list[str], here: Path, scope: Scope
) -> None:
    make(here / "model")
    before = contents(here)
    assert_refused(scope("train", "--set", f"{key}=./model", "--out", "run"), *parts)
    assert contents(here) == before


def test_a_policy_is_no_step_scorer(here: Path, scope: Scope) -> None:
    overrides = ("--set", "scorer.model=embedded:policy", "--set", 'scorer.rule={kind="threshold",threshold=0.5}')
    assert_refused(scope("train", *overrides, "--out", "run"), "scorer.model = 'embedded:policy'", "scorer.family")
    assert not (here / "run").exists()


def test_a_step_scorer_is_no_policy(here: Path, scope: Scope) -> None:
    ended = scope("train", "--set", "model.policy=embedded:step_scorer", "--out", "run")
    assert_refused(ended, "model.policy = 'embedded:step_scorer'", "it is a classifier (LlamaForTokenClassification)")
    assert not (here / "run").exists()


def test_a_reporter_that_is_not_installed_is_named(here: Path, scope: Scope) -> None:
    ended = scope("train", "--set", 'logging.report_to=["nobody"]', "--out", "run")
    assert_refused(ended, "logging.report_to", "nobody", "installed here")
    assert not (here / "run").exists()


# --- folders --------------------------------------------------------------------------------------------------------


def test_an_output_folder_with_anything_in_it_is_left_alone(here: Path, scope: Scope) -> None:
    (here / "run").mkdir()
    write(here / "run" / "notes.txt", "mine")
    before = contents(here)
    assert_refused(scope("train", "--out", "run"), "output folder run exists and is not empty", "--out", "--resume run")
    assert_refused(scope("train", "--out", "run/notes.txt"), "notes.txt exists")
    assert_refused(scope("train", "--out", "run/notes.txt/below"), "cannot be written")
    assert_refused(scope("embedded", "build", "--out", "run"), "output folder run exists", "--out")
    assert contents(here) == before


def test_only_an_unfinished_run_can_be_resumed(here: Path, scope: Scope, plain_run: Path) -> None:
    shutil.copytree(plain_run, here / "run")
    (here / "damaged").mkdir()
    write(here / "damaged" / "config.toml", "[run]\nstepps = 3\n")
    before = contents(here)
    assert_refused(scope("train", "--resume", "nowhere"), "nowhere is not a run folder", "config.toml")
    assert_refused(scope("train", "--resume", "nothing"), "nothing is not a run folder")
    assert_refused(scope("train", "--resume", "damaged"), "damaged/config.toml", "run.stepps")
    assert_refused(scope("train", "--resume", "run"), "run has done its 4 steps", "nothing left to resume")
    for more in (["--steps", "0"], ["--set", "run.steps=9"], ["--out", "other"], ["--method", "grpo"]):
        assert_refused(scope("train", "--resume", "run", *more), "--resume", "no other argument")
    assert contents(here) == before


def test_reports_need_a_run(here: Path, scope: Scope, plain_run: Path) -> None:
    before = contents(here)
    for command in ("report", "show"):
        assert_refused(scope(command, "nowhere"), "no run folder at nowhere")
        assert_refused(scope(command, "nothing"), "nothing", "no metrics")
    assert_refused(scope("report", plain_run, "--out", "nothing"), "is a folder")
    assert_refused(scope("show", plain_run, "--step", "99"), "99")
    assert contents(here) == before


def test_reports_of_a_run(here: Path, scope: Scope, plain_run: Path) -> None:
    ended = scope("report", plain_run, "--out", "mine.html")
    assert (ended.code, ended.out) == (0, "mine.html\n")
    assert "<html" in (here / "mine.html").read_text()
    ended = scope("show", plain_run, "--limit", "1")
    assert ended.code == 0
    assert "scope" in ended.out


# --- how a run ends -------------------------------------------------------------------------------------------------


def summary_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text())


def steps_of(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_that_learns_nothing_ends_with_code_5(here: Path, scope: Scope, small: Small) -> None:
    write(here / "hard.jsonl", "".join(f'{{"prompt": "reduce {i} 3 4\\n\\n", "answer": "77"}}\n' for i in range(4)))
    overrides = ("problems.source=hard.jsonl", "run.flat_steps_limit=1")
    ended = scope("train", "--method", "grpo", "--out", "run", *small(*overrides))
    assert ended.code == 5
    assert "nothing could be learned for 1 steps in a row" in ended.out
    assert "every rollout is wrong" in ended.out
    assert "Traceback" not in ended.err
    assert summary_of(here / "run")["after"] is None
    assert (here / "run" / "report.html").is_file()


def test_an_interruption_while_measuring_can_be_resumed(
    here: Path, scope: Scope, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scope_rlvr.run import train

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train, "_evaluate", interrupted)
        ended = scope("train", "--steps", "2", "--out", "run", *small())
    assert ended.code == 130
    assert "scope train --resume run" in ended.err
    measured, calls = train._evaluate, []

    def interrupted_at_the_end(*arguments: Any) -> Any:
        calls.append(arguments)
        return measured(*arguments) if len(calls) == 1 else interrupted()

    with monkeypatch.context() as patched:
        patched.setattr(train, "_evaluate", interrupted_at_the_end)
        ended = scope("train", "--resume", "run")
    assert ended.code == 130
    assert summary_of(here / "run")["stopped_because"] == "running"
    assert steps_of(here / "run") == [1, 2]
    journals = (here / "run" / "metrics.jsonl").read_bytes(), rollout_bytes(here / "run")
    ended = scope("train", "--resume", "run")
    assert ended.code == 0, ended.err
    assert summary_of(here / "run")["stopped_because"] == "finished"
    assert summary_of(here / "run")["after"] is not None
    assert journals == ((here / "run" / "metrics.jsonl").read_bytes(), rollout_bytes(here / "run"))


def interrupt(process: subprocess.Popen[str], run: Path, after_step: int, number: signal.Signals) -> tuple[str, str]:
    """Send a signal once the run has done more than ``after_step`` steps; returns stdout and stderr."""
    try:
        wait_until(lambda: len(steps_of_growing(run)) >= after_step + 2, "the run gets going", process)
        process.send_signal(number)
        return process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()


def steps_of_growing(run: Path) -> list[str]:
    file = run / "metrics.jsonl"
    return file.read_text().splitlines() if file.is_file() else []


def start(*arguments: str | Path, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "scope_rlvr", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, stdout=pipe, stderr=pipe, text=True, env=dict(os.environ))


def assert_interrupted(process: subprocess.Popen[str], out: str, err: str, run: Path, number: signal.Signals) -> int:
    """Everything is there to look at and to go on from; returns the step of the last checkpoint."""
    assert process.returncode == 130, (out, err)
    assert err == ""
    assert f"interrupted by {number.name}" in out
    assert "scope train --resume run" in out
    summary = summary_of(run)
    assert summary["stopped_because"] == f"interrupted by {number.name}"
    assert summary["after"] is not None
    last = f"checkpoint-{summary['steps']}"
    assert (run / "checkpoints" / last / "COMPLETE").is_file()
    assert (run / "report.html").is_file()
    assert (run / "model" / "model.safetensors").is_file()
    assert steps_of(run) == list(range(1, summary["steps"] + 1))
    assert summary["steps"] < 60
    return summary["steps"]


def test_a_run_stopped_by_ctrl_c_and_by_sigterm_goes_on_to_its_end(here: Path, scope: Scope, small: Small) -> None:
    run = here / "run"
    process = start("train", "--steps", "40", "--out", "run", *small("run.checkpoint_every=20"), cwd=here)
    out, err = interrupt(process, run, 0, signal.SIGINT)
    first = assert_interrupted(process, out, err, run, signal.SIGINT)
    process = start("train", "--resume", "run", cwd=here)
    out, err = interrupt(process, run, first, signal.SIGTERM)
    assert f"from step {first}" in out
    second = assert_interrupted(process, out, err, run, signal.SIGTERM)
    assert second > first
    ended = scope("train", "--resume", "run")
    assert ended.code == 0, ended.err
    assert steps_of(run) == list(range(1, 41))
    rollouts = list(Rollouts.of(run))
    trained = [r["step"] for r in rollouts if r["role"] != "replaced"]
    assert trained == [step for step in range(1, 41) for _ in range(8)]
    assert summary_of(run)["stopped_because"] == "finished"
    assert summary_of(run)["steps"] == 40


def test_a_report_that_cannot_be_written_is_refused(scope: Scope, rich_run: Path, here: Path) -> None:
    assert_refused(scope("report", rich_run, "--out", here / "rows.jsonl" / "report.html"), "cannot be written")
