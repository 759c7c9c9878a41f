"""Files that nobody should have to read: broken in every way that a disk, an editor or an enemy can break them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from safetensors.torch import load_file, save_file

from scope_rlvr.embedded import model_path

Make = Callable[[Path], None]
"""Makes what a case needs in the folder that it is given, in which the command then runs."""


@dataclass(frozen=True, slots=True)
class BadFile:
    """A command, and what makes the file that it cannot use. ``may_begin``: it may turn out to be usable."""

    name: str
    arguments: tuple[str, ...]
    make: Make
    may_begin: bool = False


def bad_files(run: Path) -> Iterator[BadFile]:
    """Every broken file; ``run`` is a finished run of a few steps, copies of which are broken."""
    yield from _configurations()
    yield from _problem_files()
    yield from _other_inputs()
    yield from _models()
    yield from _run_folders(run)


# --- what a file can be in the place of what it should be -------------------------------------------------------------

_WHOLES: Mapping[str, bytes] = {
    "empty": b"",
    "a byte-order mark alone": b"\xef\xbb\xbf",
    "blanks": b" \n" * 1000,
    "null bytes": b"\x00" * 4096,
    "no UTF-8": b"\xff\xfe\x00text",
    "half a character": b'{"prompt": "\\ud800"}\n',
    "null": b"null\n",
    "a number": b"7\n",
    "a text": b'"text"\n',
    "a list": b"[]\n",
    "an object": b"{}\n",
    "not a number": b'{"a": NaN, "b": -Infinity}\n',
    "brackets": b"[" * 5000 + b"]" * 5000,
    "braces": b'{"a":' * 100_000,
    "digits": b'{"answer": 1' + b"0" * 20_000 + b"}\n",
    "a long line": b'{"prompt": "' + b"x" * 2_000_000 + b'"}\n',
    "an image": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 10,
    "escape sequences": b"\x1b[2J\x1b]0;owned\x07\n",
}


def _replaced(content: bytes, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def _fifo(file: Path) -> None:
    file.unlink(missing_ok=True)
    os.mkfifo(file)


def _folder(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.mkdir()


def _link(target: str, file: Path) -> None:
    file.unlink(missing_ok=True)
    file.symlink_to(target)


def _gone(file: Path) -> None:
    file.unlink(missing_ok=True)


_KINDS: Mapping[str, Make] = {
    "a pipe": _fifo,
    "a folder": _folder,
    "a link to itself": lambda file: _link(file.name, file),
    "a device without end": partial(_link, "/dev/zero"),
    "gone": _gone,
}


def _in_the_place_of(name: str) -> Iterator[tuple[str, Make]]:
    """What makes each of these things in the place of the file ``name``."""
    for title, content in _WHOLES.items():
        yield title, lambda folder, content=content: _replaced(content, folder / name)
    for title, make in _KINDS.items():
        yield title, lambda folder, make=make: make(folder / name)


def _damaged(content: bytes, seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """A content cut off, with bytes that are others, with parts that are twice there or not at all."""
    rng = Random(seed)
    for number in range(count):
        at, length = rng.randrange(len(content) + 1), rng.randrange(1, 1 + max(1, len(content) // 4))
        noise = rng.randbytes(min(length, 64))
        choices = {
            "cut off": content[:at],
            "noise": content[:at] + noise + content[at + len(noise) :],
            "a part gone": content[:at] + content[at + length :],
            "a part twice": content[: at + length] + content[at:],
            "null bytes": content[:at] + b"\x00" * length + content[at + length :],
        }
        title = rng.choice(sorted(choices))
        yield f"{title} {number}", choices[title]


# --- configurations ---------------------------------------------------------------------------------------------------

_TOML = b'[run]\nsteps = 3\nseed = 1\n[method]\nname = "scope"\nmax_salvages = 1\n[evaluation]\nbefore = false\n'


def _configurations() -> Iterator[BadFile]:
    train = ("train", "bad.toml", "--out", "run")
    own = {
        "nested tables": b"a = " + b"{b = " * 5000 + b"1" + b"}" * 5000,
        "nested lists": b"a = " + b"[" * 5000 + b"]" * 5000,
        "a long dotted key": b".".join([b"a"] * 5000) + b" = 1",
        "digits": b"[run]\nseed = 1" + b"0" * 20_000,
        "a byte-order mark": b"\xef\xbb\xbf[run]\nflat_steps_limit = -1",
        "a section as a value": b"run = 7",
        "a section as a list": b"[[run]]\nsteps = 3\n[[run]]\nsteps = 4",
        "a key twice": b"[run]\nsteps = 3\nsteps = 4",
        "an unknown section": b"[rum]\nsteps = 3",
        "half a character": b'[model]\npolicy = "\\ud800"',
    }
    for title, content in own.items():
        yield BadFile(f"configuration: {title}", train, partial(lambda c, f: _replaced(c, f / "bad.toml"), content))
    for title, make in _in_the_place_of("bad.toml"):
        is_toml = title in ("empty", "a byte-order mark alone", "blanks")
        yield BadFile(f"configuration: {title}", train, make, may_begin=is_toml)
    for title, content in _damaged(_TOML, 0, 60):
        make = partial(lambda c, f: _replaced(c, f / "bad.toml"), content)
        yield BadFile(f"configuration: {title}", train, make, may_begin=True)


# --- problems, responses, labels --------------------------------------------------------------------------------------

_ROWS = b"".join(
    json.dumps({"prompt": f"reduce {i} {i + 1} 3\n\n", "answer": str((2 * i + 4) % 13), "id": f"p{i}"}).encode() + b"\n"
    for i in range(9)
)
_CSV = b"prompt,answer\n" + b"".join(f'"reduce {i} {i + 1} 3",{(2 * i + 4) % 13}\n'.encode() for i in range(9))
_ROW_VALUES: tuple[Any, ...] = (
    *(None, "", " ", True, 7, -7.5, [], {}, ["a", "b"], [[]], {"content": "x"}, "\x00", "\x1b[2J", "x" * 200_000),
    [{"role": "user"}],
    [{"role": "user", "content": 7}],
)


def _parquet(rows: list[dict[str, Any]], file: Path) -> bytes:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.read_bytes()


def _problem_files() -> Iterator[BadFile]:
    for suffix, sound in ((".jsonl", _ROWS), (".csv", _CSV), (".parquet", None)):
        name = f"bad{suffix}"
        train = ("train", "--set", f"problems.source={name}", "--out", "run")
        for title, make in _in_the_place_of(name):
            yield BadFile(f"problems{suffix}: {title}", train, make)
        for number in range(40):
            make = partial(_damaged_problems, sound, suffix, number)
            yield BadFile(f"problems{suffix}: damaged {number}", train, make, may_begin=True)
    for column in ("prompt", "answer", "id", "level", "solution", "split", "source"):
        for value in _ROW_VALUES:
            row = json.dumps({"prompt": "reduce 1 2\n\n", "answer": "3"} | {column: value}).encode() + b"\n"
            make = partial(lambda c, f: _replaced(c, f / "bad.jsonl"), row * 1 + _ROWS)
            train = ("train", "--set", "problems.source=bad.jsonl", "--out", "run")
            yield BadFile(f"a row with {column} = {value!r:.30}", train, make, may_begin=True)


def _damaged_problems(sound: bytes | None, suffix: str, number: int, folder: Path) -> None:
    file = folder / f"bad{suffix}"
    content = _parquet([json.loads(line) for line in _ROWS.splitlines()], file) if sound is None else sound
    _, damaged = list(_damaged(content, 1, number + 1))[-1]
    file.write_bytes(damaged)


def _other_inputs() -> Iterator[BadFile]:
    """Files of other commands: responses to be graded, rollouts to be salvaged or labelled, labelled solutions, a study."""
    commands = {
        "graded": ("grade", "bad.jsonl", "--verifier", "exact"),
        "salvaged": ("salvage", "bad.jsonl", "--out", "new.jsonl", "--scorer", "embedded:step_scorer"),
        "labelled": (
            "scorer",
            "label",
            "bad.jsonl",
            "--policy",
            "embedded:policy",
            "--samples",
            "2",
            "--out",
            "new.jsonl",
        ),
        "benchmark": ("scorer", "bench", "embedded:step_scorer", "--data", "bad.jsonl", "--out", "new"),
        "training of a scorer": ("scorer", "train", "--data", "bad.jsonl", "--base", "embedded:policy", "--out", "new"),
        "study": ("study", "bad.jsonl", "--out", "new", "--dry-run"),
        "calibration": ("train", "--set", "scorer.calibration=bad.jsonl", "--out", "run"),
        "measured": ("eval", "embedded:policy", "--problems", "bad.jsonl", "--samples", "1", "--out", "new.json"),
    }
    for what, arguments in commands.items():
        for title, make in _in_the_place_of("bad.jsonl"):
            is_empty_study = what == "study" and title in ("empty", "blanks", "a byte-order mark alone")
            yield BadFile(f"{what}: {title}", arguments, make, may_begin=is_empty_study)


# --- models -----------------------------------------------------------------------------------------------------------

_SETTINGS: tuple[Any, ...] = (None, -1, 0, 1, 3, 10**9, 10**30, 1.5, "x", [], {}, True)


def _models() -> Iterator[BadFile]:
    train = ("train", "--set", "model.policy=./model", "--out", "run")
    whole = Path(model_path("policy"))
    for name in (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "model.safetensors",
    ):
        needed = name in ("config.json", "model.safetensors", "tokenizer.json")
        for title, make in _in_the_place_of(f"model/{name}"):
            yield BadFile(f"model, {name}: {title}", train, partial(_copied, make), may_begin=not needed)
        for title, content in _damaged((whole / name).read_bytes(), 2, 25):
            make = partial(lambda n, c, f: _replaced(c, f / "model" / n), name, content)
            yield BadFile(f"model, {name}: {title}", train, partial(_copied, make), may_begin=True)
    for key in json.loads((whole / "config.json").read_text()):
        for value in _SETTINGS:
            make = partial(_with_key, "config.json", key, value)
            yield BadFile(f"model, {key} = {value!r:.20}", train, partial(_copied, make), may_begin=True)
    for title, make in _BROKEN_MODELS.items():
        is_ignored = title == "code of its own"
        yield BadFile(f"model: {title}", train, partial(_copied, make), may_begin=is_ignored)


def _copied(make: Make, folder: Path) -> None:
    shutil.copytree(model_path("policy"), folder / "model", copy_function=shutil.copyfile)
    make(folder)


def _with_key(name: str, key: str, value: Any, folder: Path) -> None:
    file = folder / "model" / name
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))


def _with_weights(change: Callable[[dict[str, Any]], dict[str, Any]], folder: Path) -> None:
    file = folder / "model" / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def _template(text: str) -> Make:
    return partial(_with_key, "tokenizer_config.json", "chat_template", text)


_BROKEN_MODELS: Mapping[str, Make] = {
    "fewer layers than weights": partial(_with_key, "config.json", "num_hidden_layers", 1),
    "more layers than weights": partial(_with_key, "config.json", "num_hidden_layers", 3),
    "heads that do not divide": partial(_with_key, "config.json", "num_attention_heads", 3),
    "a smaller vocabulary than the tokenizer's": partial(_with_key, "config.json", "vocab_size", 20),
    "an unknown kind of number": partial(_with_key, "config.json", "dtype", "float99"),
    "an unknown architecture": partial(_with_key, "config.json", "model_type", "no_such_model"),
    "code of its own": partial(_with_key, "config.json", "auto_map", {"AutoConfig": "mine.Config"}),
    "a tensor gone": partial(_with_weights, lambda w: dict(sorted(w.items())[1:])),
    "a tensor more": partial(
        _with_weights, lambda w: w | {"model.layers.0.extra.weight": next(iter(w.values())).clone()}
    ),
    "weights that are no numbers": partial(_with_weights, lambda w: {n: t * float("nan") for n, t in w.items()}),
    "tensors of another shape": partial(_with_weights, lambda w: {n: t[:1].clone() for n, t in w.items()}),
    "a chat template that raises": _template("{{ raise_exception('no') }}"),
    "a chat template that is none": _template("{% for %}"),
    "a chat template that leaves the problem out": _template("hello"),
    "a chat template that calls what is not there": _template("{{ messages[0].x.y.z() }}"),
    "a chat template that loops": _template(
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}"
    ),
    "a chat template that reads what it should not": _template("{{ messages.__class__.__mro__ }}"),
    "no end token": partial(_with_key, "tokenizer_config.json", "eos_token", None),
}


# --- run folders ------------------------------------------------------------------------------------------------------


def _run_folders(run: Path) -> Iterator[BadFile]:
    """A run that is taken up again, reported, shown, measured and salvaged, with one of its files broken."""
    commands = {
        "resumed": ("train", "--resume", "run"),
        "reported": ("report", "run"),
        "shown": ("show", "run"),
    }
    names = ["config.toml", "start.json", "environment.json", "metrics.jsonl", "rollouts/00000001.zst", "summary.json"]
    checkpoint = max(run.glob("checkpoints/checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]))
    names += sorted(str(file.relative_to(run)) for file in checkpoint.iterdir() if file.is_file())
    for what, arguments in commands.items():
        for name in names if what == "resumed" else names[:6]:
            for title, make in _in_the_place_of(f"run/{name}"):
                yield BadFile(f"{what}, {name}: {title}", arguments, partial(_run_copied, run, make), may_begin=True)


def _run_copied(run: Path, make: Make, folder: Path) -> None:
    shutil.copytree(run, folder / "run", copy_function=shutil.copyfile)
    for name in ("report.html", "summary.json"):
        (folder / "run" / name).unlink(missing_ok=True)
    make(folder)
