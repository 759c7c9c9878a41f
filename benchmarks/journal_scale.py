"""How much room the rollouts of a long run take, and how long it takes to resume and to read one: lines against blocks.

    SCOPE_DATA=FOLDER python -m benchmarks.journal_scale --folder /tmp/scale [--rollouts 1000000] [--tokens 100] [--json FILE]

Writes the same rollouts once as JSON lines, as older versions did, and once in blocks, and measures both. Text is that of
the solutions in SCOPE_DATA, read by a byte-level BPE tokenizer that is trained on it; no text comes twice in a step while
it lasts (some 1.7 million tokens). Rollouts of real groups have more in common, so real runs compress better. Half of
the rollouts are failures with a salvage: a kept half, a teacher's correction and a continuation.

Times are processor time of one thread, which a busy machine disturbs less than the time on the clock; waiting for the disk is
not in them. Lines of 1,000,000 long rollouts would not fit on most disks, so ``--tokens`` is small by default and what a rollout of
another length takes is measured on fewer rollouts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from scope_rlvr.store.journal import append_records, read_records, rewrite_records
from scope_rlvr.store.packing import JoinedText
from scope_rlvr.store.records import SCHEMA_VERSION
from scope_rlvr.store.rollouts import PLAIN, Rollouts, append_rollouts, cut_rollouts_after, rollout_files

FILES = ("processbench_math", "processbench_gsm8k", "prm800k_phase1_test_sample", "gsm8k_train")
_GROUP = 8
_TEACHER_TOKENS = 40
_WRONG = {"outcome": "wrong", "answer": "8", "reason": "unequal: 8 is not 7"}
_VOCABULARY = 32_000

Record = dict[str, Any]
Token = tuple[int, str]


@dataclass(frozen=True)
class Form:
    """How the rollouts of a run are written and cut."""

    name: str
    append: Callable[[Path, int, Sequence[Mapping[str, Any]]], object]
    cut: Callable[[Path, int], object]


def _append_lines(run: Path, step: int, records: Sequence[Mapping[str, Any]]) -> None:
    append_records(run / PLAIN, records, sync=True)


def _rewrite(run: Path, step: int) -> None:
    """How a resumed run forgot later steps before it cut files."""
    journal = run / PLAIN
    rewrite_records(journal, (record for record in read_records(journal) if record["step"] <= step))


FORMS = (Form("lines", _append_lines, _rewrite), Form("blocks", append_rollouts, cut_rollouts_after))


# --- rollouts ---------------------------------------------------------------------------------------------------------


def tokens_of_solutions(folder: Path) -> list[Token]:
    """All solutions one after the other, each token with the text that it contributes."""
    texts = [_text(json.loads(line)) for name in FILES for line in (folder / f"{name}.jsonl").open(encoding="utf-8")]
    Random(0).shuffle(texts)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=_VOCABULARY, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    found: list[Token] = []
    for text in texts:
        encoding = tokenizer.encode(text)
        bounds = [*(start for start, _ in encoding.offsets), len(text)]
        found += zip(encoding.ids, (text[start:end] for start, end in pairwise(bounds)), strict=True)
    return found


def _text(row: Mapping[str, Any]) -> str:
    steps = row["steps"] if "steps" in row else row["solution"].split("\n")
    return "\n\n".join([row["problem"], *steps, ""])


def _segment(tokens: Sequence[Token], origin: str = "policy") -> Record:
    return {"origin": origin, "text": JoinedText.of([p for _, p in tokens]), "token_ids": [i for i, _ in tokens]}


def _steps(tokens: Sequence[Token]) -> list[Record]:
    ends = [at for at, (_, piece) in enumerate(tokens, start=1) if piece.endswith("\n\n")]
    bounds = [0, *ends, *([len(tokens)] if ends[-1:] != [len(tokens)] else [])]
    return [{"text": "".join(p for _, p in tokens[a:b]), "start": a, "end": b} for a, b in pairwise(bounds)]


def _salvage(tokens: Sequence[Token], other: Sequence[Token], rng: Random) -> Record:
    steps, half = _steps(tokens), len(tokens) // 2
    correction, continuation = other[:_TEACHER_TOKENS], other[_TEACHER_TOKENS:half]
    text = "".join(piece for _, piece in correction)
    parts = [_segment(tokens[:half]), _segment(correction, "teacher"), _segment(continuation)]
    return {
        "outcome": "still wrong",
        "steps": steps,
        "step_scores": [round(rng.random(), 6) for _ in steps],
        "first_wrong_step": len(steps) // 2,
        "cut_step": len(steps) // 2,
        "num_kept_tokens": half,
        "corrections": [{"at_token": half, "text": text, "num_tokens": len(correction), "score": rng.random()}],
        "num_continuations": 1,
        "num_continuation_tokens": len(continuation),
        "attempt": parts,
        "verdict": _WRONG,
    }


def rollouts_of_a_run(tokens: Sequence[Token], num_tokens: int, salvaged: float) -> Iterator[Record]:
    """Rollouts without end, from the solutions in their order, each of ``num_tokens`` tokens; the step is not set."""
    rng, number = Random(1), 0
    while True:
        for start in range(0, len(tokens) - num_tokens, num_tokens):
            own, other = tokens[start : start + num_tokens], tokens[start - num_tokens : start] or tokens[:num_tokens]
            problem = "".join(piece for _, piece in own[:40])
            yield {
                "schema": SCHEMA_VERSION,
                "step": 0,
                "group": number // _GROUP,
                "group_class": "mixed",
                "problem": f"train-{number // _GROUP % 5000}",
                "level": 3,
                "prompt": problem,
                "reference": "7",
                "role": "sampled",
                "reward": 0.0,
                "verdict": _WRONG,
                "is_truncated": False,
                "prompt_ids": [i for i, _ in own[:40]],
                "segments": [_segment(own)],
                "scoring": None,
                "salvage": _salvage(own, other, rng) if rng.random() < salvaged else None,
            }
            number += 1


# --- measuring --------------------------------------------------------------------------------------------------------


def write(form: Form, run: Path, made: Iterator[Record], num_steps: int, per_step: int) -> dict[str, float]:
    """Write all steps; what it took."""
    run.mkdir(parents=True)
    seconds = 0.0
    for step in range(1, num_steps + 1):
        records = [next(made) | {"step": step} for _ in range(per_step)]
        started = time.process_time()
        form.append(run, step, records)
        seconds += time.process_time() - started
    size = sum(file.stat().st_size for file in rollout_files(run))
    return {
        "bytes a rollout": size / (num_steps * per_step),
        "GB": size / 1e9,
        "seconds to write a step": seconds / num_steps,
    }


def read(run: Path) -> dict[str, float]:
    """Seconds to find one thing, each in a new look at the run, and to read everything."""
    number = len(Rollouts.of(run)) * 2 // 3
    step, problem = Rollouts.of(run).record(number)["step"], Rollouts.of(run).record(number)["problem"]
    return {
        "seconds to one rollout": _timed(lambda: Rollouts.of(run).record(number)),
        "seconds to one step": _timed(lambda: list(Rollouts.of(run).records(step))),
        "seconds to one problem": _timed(lambda: list(Rollouts.of(run).of_problem(problem))),
        "seconds to all, without tokens": _timed(lambda: _exhaust(Rollouts.of(run).heads())),
    }


def read_all(run: Path) -> dict[str, float]:
    """Seconds and memory to read every rollout, one after the other."""
    before = _most_memory()
    seconds = _timed(lambda: _exhaust(Rollouts.of(run).records()))
    return {"seconds to all": seconds, "MB of memory for all": _most_memory() - before}


def _most_memory() -> float:
    """The most that this process has had, in MB (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:", 1)[1].split()[0]) / 1024


def _exhaust(items: Iterator[object]) -> None:
    for _ in items:
        pass


def _timed(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def measure(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Both forms, each read in a process of its own so that its memory is its own."""
    tokens = tokens_of_solutions(Path(os.environ["SCOPE_DATA"]))
    num_steps = max(2, arguments.rollouts // arguments.rollouts_a_step)
    found: dict[str, dict[str, float]] = {}
    for form in FORMS:
        run = arguments.folder / form.name
        made = rollouts_of_a_run(tokens, arguments.tokens, arguments.salvaged)
        found[form.name] = write(form, run, made, num_steps, arguments.rollouts_a_step)
        for reading in (read, read_all):
            with multiprocessing.get_context("spawn").Pool(1) as process:
                found[form.name] |= process.apply(reading, (run,))
        found[form.name]["seconds to resume"] = _timed(lambda run=run, form=form: form.cut(run, num_steps - 1))  # type: ignore[misc]
        print(form.name, found[form.name], flush=True)
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="a new folder for the two runs")
    parser.add_argument("--rollouts", type=int, default=1_000_000)
    parser.add_argument("--rollouts-a-step", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=100, help="tokens of a response")
    parser.add_argument("--salvaged", type=float, default=0.5, help="share of rollouts with a salvage")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = measure(arguments)
    asked = {key: str(value) for key, value in vars(arguments).items()}
    record = {"asked": asked, "machine": platform.platform(), "python": platform.python_version(), "found": found}
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
