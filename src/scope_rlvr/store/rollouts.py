"""The rollouts of a run: written step by step, read from the first to the last, or any of them at once.

They are in the folder ``rollouts``, in files of compressed blocks, each named by its first step. Older versions wrote
``rollouts.jsonl``, one JSON object a line; a run that was begun so goes on in blocks. One reader reads both, and holds
one block in memory.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from scope_rlvr.store.blocks import Block, DamagedBlock, Gap, append_block, cut_blocks_after, read_blocks
from scope_rlvr.store.files import to_disk, writing
from scope_rlvr.store.journal import has_torn_end, truncate_after
from scope_rlvr.store.packing import Unpacker
from scope_rlvr.store.plain import PlainBlock, PlainRecords, plain_blocks
from scope_rlvr.store.records import record_fault

PLAIN = "rollouts.jsonl"
FOLDER = "rollouts"
SUFFIX = ".zst"
_MAX_FILE_BYTES = 1 << 30
_MAX_BLOCK_TOKENS = 1 << 23
_MAX_SHOWN = 3

Record = dict[str, Any]


def rollout_files(run: Path) -> tuple[Path, ...]:
    """The files of a run's rollouts, in the order of their steps; none where it has written none."""
    return tuple(file for file in (run / PLAIN, *_block_files(run)) if file.is_file())


def run_of(file: Path) -> Path | None:
    """The run folder that a file of rollouts is in; ``None`` for a file of another name.

    >>> run_of(Path("runs/first/rollouts/00000001.zst")), run_of(Path("mine.jsonl"))
    (PosixPath('runs/first'), None)
    """
    if file.suffix == SUFFIX:
        return file.parent.parent
    return file.parent if file.name == PLAIN else None


def _block_files(run: Path) -> list[Path]:
    return sorted(file for file in (run / FOLDER).glob(f"*{SUFFIX}") if file.is_file())


# --- writing ----------------------------------------------------------------------------------------------------------


def append_rollouts(run: Path, step: int, records: Iterable[Mapping[str, Any]]) -> None:
    """Write the rollouts of a step and wait until they are on the disk."""
    folder = run / FOLDER
    with writing(folder):
        folder.mkdir(exist_ok=True)
        last = max(_block_files(run), default=None)
        is_new = last is None or last.stat().st_size >= _MAX_FILE_BYTES
        path = folder / f"{step:08}{SUFFIX}" if last is None or is_new else last
        with path.open("ab") as file:
            for block in _blocks_of(records):
                append_block(file, step, block)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            to_disk(folder)
            to_disk(run)


def _blocks_of(records: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Records as they are to share a block: all of a step, unless that would be too much to hold at once."""
    block, num_tokens = list[Mapping[str, Any]](), 0
    for record in records:
        block.append(record)
        num_tokens += sum(len(segment["token_ids"]) for segment in record["segments"])
        if num_tokens >= _MAX_BLOCK_TOKENS:
            yield block
            block, num_tokens = [], 0
    if block:
        yield block


def cut_rollouts_after(run: Path, step: int) -> None:
    """Cut off the rollouts of steps after ``step``, and what was not written to its end; nothing is rewritten."""
    truncate_after(run / PLAIN, step)
    for path in _block_files(run):
        cut_blocks_after(path, step)
        if not path.stat().st_size:
            path.unlink()


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Rollouts that cannot be read: where and why, and how many they are, 0 where that is not known."""

    what: str
    num_rollouts: int = 1


@dataclass
class Rollouts:
    """The rollouts in some files as they were when they were first looked at, numbered from 0 on.

    What cannot be read is left out, and kept in ``faults`` by whatever was read last.
    """

    files: tuple[Path, ...]
    faults: list[Unreadable] = field(default_factory=list)
    _last_read: tuple[Block | PlainBlock, Unpacker | PlainRecords] | None = None

    @classmethod
    def of(cls, run: Path) -> Rollouts:
        """Those of a run folder."""
        return cls(rollout_files(run))

    def __iter__(self) -> Iterator[Record]:
        """All records, in order."""
        return (record for _, record in self.records())

    def records(self, step: int | None = None) -> Iterator[tuple[int, Record]]:
        """Whole records of a step, or of all, each with its number."""
        for number, block, place, _ in self._sound(step):
            yield number, self._read(block).record(place)

    def heads(self, step: int | None = None) -> Iterator[tuple[int, Record]]:
        """The same without their tokens, which is faster: a segment may have ``num_tokens`` in place of text and ids."""
        return ((number, head) for number, _, _, head in self._sound(step))

    def of_problem(self, problem: str) -> Iterator[tuple[int, Record]]:
        """Whole records of a problem, each with its number."""
        for block, first in zip(self.blocks, self._firsts, strict=False):
            place = 0
            for name, count in block.problems:
                numbers = range(first + place, first + place + count) if name == problem else ()
                yield from ((number, self.record(number)) for number in numbers)
                place += count

    def record(self, number: int) -> Record:
        """The record of a number; raises ``IndexError`` where there is none, ``ValueError`` where it cannot be read."""
        if not 0 <= number < len(self):
            raise IndexError(f"there is no rollout {number}: there are {len(self)}")
        at = bisect_right(self._firsts, number) - 1
        return self._read(self.blocks[at]).record(number - self._firsts[at])

    def __len__(self) -> int:
        return self._firsts[-1]

    @cached_property
    def steps(self) -> list[int]:
        """The steps that have rollouts, ascending."""
        return sorted({block.step for block in self.blocks})

    @cached_property
    def blocks(self) -> list[Block | PlainBlock]:
        """Where the rollouts are, block by block."""
        return [item for item in self._items if not isinstance(item, Gap)]

    @cached_property
    def torn(self) -> list[Path]:
        """The files whose end was not written to its end."""
        torn = [item.file for item in self._items if isinstance(item, Gap) and item.is_at_end]
        return torn + [file for file in self.files if file.suffix != SUFFIX and has_torn_end(file)]

    def notes(self) -> list[str]:
        """What was left out when they were last read."""
        notes = [
            f"The last rollouts of {file.name} were not written to their end; they are left out." for file in self.torn
        ]
        gaps = (item for item in self._items if isinstance(item, Gap) and not item.is_at_end)
        faults = [*(Unreadable(str(gap), 0) for gap in gaps), *self.faults]
        if not faults:
            return notes
        shown = "; ".join(fault.what for fault in faults[:_MAX_SHOWN])
        more = f"; and {len(faults) - _MAX_SHOWN} more places" if len(faults) > _MAX_SHOWN else ""
        count = sum(fault.num_rollouts for fault in faults)
        return [*notes, f"{count} rollouts cannot be read and are left out: {shown}{more}."]

    @cached_property
    def _items(self) -> list[Block | PlainBlock | Gap]:
        return [item for file in self.files for item in (read_blocks if file.suffix == SUFFIX else plain_blocks)(file)]

    @cached_property
    def _firsts(self) -> list[int]:
        """The number of the first rollout of each block, and at the end how many there are."""
        return list(accumulate((block.num_rollouts for block in self.blocks), initial=0))

    def _sound(self, step: int | None) -> Iterator[tuple[int, Block | PlainBlock, int, Record]]:
        """Number, block, place in the block and head of each record that can be read."""
        self.faults = []
        for block, first in zip(self.blocks, self._firsts, strict=False):
            if step is not None and block.step != step:
                continue
            try:
                heads = self._read(block).heads
            except DamagedBlock as error:
                what = f"the block of step {block.step} at byte {block.offset} of {block.file.name}: {error}"
                self.faults.append(Unreadable(what, block.num_rollouts))
                continue
            for place, head in enumerate(heads):
                fault = head if isinstance(head, str) else record_fault(head)
                if not isinstance(head, str) and not fault:
                    yield first + place, block, place, head
                else:
                    self.faults.append(Unreadable(f"{block.place_of(place)}: {fault}"))

    def _read(self, block: Block | PlainBlock) -> Unpacker | PlainRecords:
        """The records of a block; those of the last one that was read are at hand."""
        if self._last_read is None or self._last_read[0] is not block:
            self._last_read = block, block.read()
        return self._last_read[1]
