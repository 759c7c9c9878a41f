"""What it takes to read a response token by token and to split it into steps, by its length and its tokenizer.

    python -m benchmarks.step_splitting [--blocks 5] [--json FILE] [--markdown FILE]

Tokenizers of six kinds, trained on a page of text (``tests/tokenizers_zoo.py``), write steps of one pattern with other
numbers in each, or tokens at random. In every block each length is measured once, with nothing remembered from before,
and beside it the tokenizer decoding the whole response once. Ratios compare measurements of one block: 1 from the longest
to the shortest response is linear. Time is processor time of one thread, which a busy machine disturbs less than the
time on the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import TypeVar

import tokenizers
import transformers
from rich.console import Console
from rich.table import Table

from scope_rlvr.core.steps import PieceReader, StepRule, split_steps
from scope_rlvr.models.local import TokenizerCodec
from tests.tokenizers_zoo import KINDS, tokenizer_of

T = TypeVar("T")

RANDOM = "tokens at random"
WRITTEN = {
    "English and formulas": "We add {a} and {b}, and get $${a} + {b} = {c}.$$\n\n",
    "other scripts and emoji": "第{a}步：{b}加二。 Шаг {c} 😀 e\u0301.\n\n",
    "blocks that never close": "\\[ {a} + {b}\n\n\\begin{{{c}}}\n\n",
}
CASES = (*WRITTEN, RANDOM)
LENGTHS = (100, 1_000, 10_000)
"""Steps in a response."""

_RANDOM_TOKENS = 8
"""Tokens between two separators."""


@dataclass(frozen=True)
class Times:
    """Of one response, microseconds a token."""

    num_tokens: int
    reading: float
    splitting: float
    decoding_once: float
    decoded_per_token: float
    """Tokens that the tokenizer was asked to decode while reading, for each token of the response."""

    @property
    def both(self) -> float:
        return self.reading + self.splitting


@dataclass(frozen=True)
class Measured:
    """One text and kind: in every block a response of each length, the shortest first."""

    case: str
    kind: str
    num_steps: tuple[int, ...]
    blocks: tuple[tuple[Times, ...], ...]

    @property
    def growth(self) -> list[float]:
        """Time a token of the longest response by that of the shortest, in each block."""
        return [block[-1].both / block[0].both for block in self.blocks]

    @property
    def times_decoding(self) -> list[float]:
        """Reading and splitting the longest response by decoding it once, in each block."""
        return [block[-1].both / block[-1].decoding_once for block in self.blocks]


def response(case: str, kind: str, num_steps: int) -> tuple[int, ...]:
    """Token ids of so many steps."""
    codec, rng = TokenizerCodec(tokenizer_of(kind)), Random(0)
    if case in WRITTEN:
        numbers = ({name: rng.randrange(1000) for name in "abc"} for _ in range(num_steps))
        steps = "".join(WRITTEN[case].format(**drawn) for drawn in numbers).split("\n\n")[:num_steps]
        return codec.encode("\n\n".join(steps))
    size, separator = len(tokenizer_of(kind)), codec.encode("\n\n")
    return tuple(token for _ in range(num_steps) for token in (*rng.choices(range(size), k=_RANDOM_TOKENS), *separator))


def measure(case: str, kind: str, lengths: Sequence[int] = LENGTHS, num_blocks: int = 5) -> Measured:
    """Each length once in every block."""
    responses = [response(case, kind, length) for length in lengths]
    blocks = [tuple(times(kind, ids) for ids in responses) for _ in range(num_blocks)]
    return Measured(case, kind, tuple(lengths), tuple(blocks))


def times(kind: str, ids: Sequence[int]) -> Times:
    """Read, split, and decode once."""
    tokenizer, num_decoded = tokenizer_of(kind), 0

    def decode(window: Sequence[int]) -> str:
        nonlocal num_decoded
        num_decoded += len(window)
        return tokenizer.decode(list(window), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    reading, pieces = _timed(lambda: PieceReader(decode).pieces(ids))
    decoded_per_token = num_decoded / len(ids)
    splitting, _ = _timed(lambda: split_steps(pieces, StepRule(max_steps=len(ids))))
    decoding, text = _timed(lambda: decode(ids))
    assert "".join(pieces) == text
    a_token = 1e6 / len(ids)
    return Times(len(ids), reading * a_token, splitting * a_token, decoding * a_token, decoded_per_token)


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def markdown(results: Sequence[Measured]) -> str:
    """The table of docs/performance.md: medians over blocks, ratios with their lowest and highest."""
    lengths = results[0].num_steps
    heads = [
        "text",
        "tokenizer",
        "tokens",
        *(f"µs a token, {n:,} steps" for n in lengths),
        "longest to shortest",
        "to decoding once",
        "decoded a token",
    ]
    lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    lines += ["| " + " | ".join(_cells(result)) + " |" for result in results]
    return "\n".join(lines) + "\n"


def _cells(result: Measured) -> list[str]:
    longest = result.blocks[0][-1]
    return [
        result.case,
        result.kind,
        f"{longest.num_tokens:,}",
        *(f"{median(one.both for one in of_length):.1f}" for of_length in zip(*result.blocks, strict=True)),
        _spread(result.growth),
        _spread(result.times_decoding),
        f"{longest.decoded_per_token:.1f}",
    ]


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def show(results: Sequence[Measured], console: Console) -> None:
    heads, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in markdown(results).splitlines())
    table = Table(*heads, title="reading and splitting", title_justify="left", box=None)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--markdown", type=Path, help="write the table there")
    arguments = parser.parse_args()
    results = [measure(case, kind, num_blocks=arguments.blocks) for case in CASES for kind in KINDS]
    show(results, Console())
    record = {
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "versions": {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__},
        "load": os.getloadavg(),
        "measured": [asdict(result) for result in results],
    }
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if arguments.markdown is not None:
        arguments.markdown.write_text(markdown(results), encoding="utf-8")


if __name__ == "__main__":
    main()
