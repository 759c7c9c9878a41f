"""Compressed rollout records in a file that grows block by block.

A block is a small header and three compressed parts (:mod:`scope_rlvr.store.packing`). The header is a *skippable frame*
of the Zstandard format and the parts are ordinary frames, so the tools of that format read the file. Headers say how
long their blocks are. Whoever looks for a block goes from header to header and reads nothing else: no index is kept.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, BinaryIO

from scope_rlvr.store.journal import encoded
from scope_rlvr.store.packing import PackedRecords, Unpacker, pack

BLOCK_SCHEMA = 1
_MAGIC = (0x184D2A5C).to_bytes(4, "little")
_START = struct.Struct("<4sI")
_MAX_HEADER = 1 << 26
_LEVEL = 9


@dataclass(frozen=True, slots=True)
class Frame:
    """A compressed part of a block: its bytes in the file, its bytes once it is read, and the CRC-32 of the former."""

    num_bytes: int
    num_bytes_read: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Block:
    """Where rollouts of a step are in a file. ``problems`` names each problem with the number of its rollouts, in order."""

    file: Path
    offset: int
    step: int
    num_rollouts: int
    problems: tuple[tuple[str, int], ...]
    parts_offset: int
    parts: tuple[Frame, ...]

    @property
    def end(self) -> int:
        return self.parts_offset + sum(part.num_bytes for part in self.parts)

    def place_of(self, number: int) -> str:
        """Where a rollout of the block is, for a message."""
        return f"rollout {number + 1} of the block of step {self.step} at byte {self.offset} of {self.file.name}"

    def read(self) -> Unpacker:
        """The records; raises :class:`DamagedBlock` where they are not what was written."""
        with self.file.open("rb") as file:
            file.seek(self.parts_offset)
            return Unpacker(PackedRecords(*(_expanded(file.read(part.num_bytes), part) for part in self.parts)))


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes between two blocks that are no block."""

    file: Path
    offset: int
    end: int
    is_at_end: bool
    """Whether no block follows: then it is a block that was not written to its end."""

    def __str__(self) -> str:
        return f"bytes {self.offset} to {self.end} of {self.file.name} are no rollouts"


class DamagedBlock(ValueError):
    """A block that has changed since it was written."""


def append_block(file: BinaryIO, step: int, records: Sequence[Mapping[str, Any]]) -> None:
    """Write the records of a step, or some of them, as one block at the end of an open file."""
    from pyarrow import Codec

    packed = pack(records)
    codec = Codec("zstd", compression_level=_LEVEL)
    frames = [codec.compress(part, asbytes=True) for part in packed]
    parts = [[len(frame), len(part), zlib.crc32(frame)] for frame, part in zip(frames, packed, strict=True)]
    problems = [[name, len(list(rows))] for name, rows in groupby(record["problem"] for record in records)]
    header = encoded(
        {"schema": BLOCK_SCHEMA, "step": step, "rollouts": len(records), "problems": problems, "parts": parts}
    )
    file.write(b"".join([_START.pack(_MAGIC, len(header)), header, *frames]))


def read_blocks(path: Path) -> Iterator[Block | Gap]:
    """The blocks of a file, from their headers alone. What is no block, such as one that is torn at the end, is a gap."""
    size = path.stat().st_size
    with path.open("rb") as file:
        offset = 0
        while offset < size:
            block = _block_at(file, path, offset)
            if block is None or block.end > size:
                following = _next_block(file, path, offset + 1, size)
                yield Gap(path, offset, following, following == size)
                offset = following
            else:
                yield block
                offset = block.end


def cut_blocks_after(path: Path, step: int) -> None:
    """Cut a file behind its last block of ``step`` or an earlier one."""
    kept = (item.end for item in read_blocks(path) if isinstance(item, Block) and item.step <= step)
    with path.open("rb+") as file:
        file.truncate(max(kept, default=0))
        os.fsync(file.fileno())


def _block_at(file: BinaryIO, path: Path, offset: int) -> Block | None:
    file.seek(offset)
    start = file.read(_START.size)
    if len(start) < _START.size:
        return None
    magic, length = _START.unpack(start)
    if magic != _MAGIC or length > _MAX_HEADER:
        return None
    try:
        header = json.loads(file.read(length))
        if header["schema"] != BLOCK_SCHEMA:
            return None
        return Block(
            file=path,
            offset=offset,
            step=int(header["step"]),
            num_rollouts=int(header["rollouts"]),
            problems=tuple((str(name), int(count)) for name, count in header["problems"]),
            parts_offset=offset + _START.size + length,
            parts=tuple(Frame(*map(int, part)) for part in header["parts"]),
        )
    except (ValueError, LookupError, TypeError):
        return None


def _next_block(file: BinaryIO, path: Path, start: int, size: int) -> int:
    """Where the next block begins after a gap; the end of the file where none follows."""
    with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        while (start := content.find(_MAGIC, start)) >= 0:
            block = _block_at(file, path, start)
            if block is not None and block.end <= size:
                return start
            start += 1
    return size


def _expanded(frame: bytes, part: Frame) -> bytes:
    from pyarrow import ArrowException, Codec

    if zlib.crc32(frame) != part.crc32:
        raise DamagedBlock("its checksum differs from its content")
    try:
        return Codec("zstd").decompress(frame, decompressed_size=part.num_bytes_read, asbytes=True)
    except (ArrowException, OSError) as error:
        raise DamagedBlock(f"it cannot be decompressed: {error}") from error
