"""Power cuts: what was not synced may be on the disk, in part, or not at all.

    python -m tests.torture.power_loss [--seconds 600] [--trials 60]

The command runs in a fork in which every ``fsync`` is noted: of a file its content, of a folder the names in it. After a kill at a
random moment, the disk is made up anew: each file has the content that was last synced, or what the system had in memory, or the
beginning of it; each folder has the names that were last synced, or the later ones, name by name. Then the command is taken up again.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from tests.torture.bad_input import import_everything
from tests.torture.fault_points import kill_at_file_event
from tests.torture.isolated import run_scope
from tests.torture.kills import (
    DEADLINE_SECONDS,
    Scenario,
    Whole,
    at_the_end,
    parser_of,
    resumable,
    try_in_turn,
    without_charts,
)

_MOST_FILE_EVENTS = 80


def note_syncs(shadow: Path) -> None:
    """From now on, keep in ``shadow`` what this process has synced. Synced files stay open, so that no other file becomes their inode."""
    sync, held = os.fsync, list[int]()

    def noted(descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        sync(number)
        found = os.fstat(number)
        kept = shadow / f"{found.st_ino}.part"
        if stat.S_ISDIR(found.st_mode):
            names = {entry.name: entry.inode() for entry in os.scandir(number)}
            kept.write_text(json.dumps(names))
            kept.rename(shadow / f"{found.st_ino}.names")
        else:
            shutil.copyfile(f"/proc/self/fd/{number}", kept)
            kept.rename(shadow / f"{found.st_ino}.content")
            held.append(os.dup(number))

    os.fsync = noted


def cut_power(folder: Path, shadow: Path, disk: Path, rng: Random) -> None:
    """Make in ``disk`` what of ``folder`` may be there after a power cut."""
    _rebuild(os.stat(folder).st_ino, folder, shadow, disk, rng)


def _rebuild(inode: int, now: Path | None, shadow: Path, place: Path, rng: Random) -> None:
    """One folder or file; ``now`` is where it is to the system, ``None`` where that has removed it."""
    content, names = shadow / f"{inode}.content", shadow / f"{inode}.names"
    if (now is not None and now.is_dir()) or names.is_file():
        place.mkdir()
        before = json.loads(names.read_text()) if names.is_file() else {}
        after = {entry.name: entry.inode() for entry in os.scandir(now)} if now is not None and now.is_dir() else {}
        for name in sorted(before.keys() | after.keys()):
            chosen = rng.choice([entries.get(name) for entries in (before, after)])
            if chosen is not None:
                is_now = now is not None and after.get(name) == chosen
                _rebuild(chosen, now / name if is_now and now is not None else None, shadow, place / name, rng)
        return
    choices = [content.read_bytes()] if content.is_file() else [b""]
    if now is not None and now.is_file():
        whole_now = now.read_bytes()
        choices += [whole_now, whole_now[: rng.randrange(len(whole_now) + 1)]] if whole_now != choices[0] else []
        # What was synced is on the disk, whatever was appended to it since.
        if content.is_file() and whole_now.startswith(choices[0]):
            choices = [choice for choice in choices if choice.startswith(choices[0])]
    place.write_bytes(rng.choice(choices))


def trial(scenario: Scenario, undisturbed: Whole, seed: int) -> tuple[str, str]:
    """How a power cut ended, and when it was."""
    rng = Random(f"power/{scenario.name}/{seed}")
    with tempfile.TemporaryDirectory() as scratch:
        folder, shadow, disk = (Path(scratch) / name for name in ("here", "shadow", "disk"))
        folder.mkdir()
        shadow.mkdir()
        scenario.prepare(folder)
        _settle(folder, shadow)
        at_event = rng.randint(1, _MOST_FILE_EVENTS) if rng.random() < 0.6 else 0
        after = float("inf") if at_event else rng.uniform(0.0, undisturbed.seconds)

        def prepare() -> None:
            without_charts()
            note_syncs(shadow)
            if at_event:
                kill_at_file_event(at_event, folder)

        ended = run_scope(scenario.arguments, folder, DEADLINE_SECONDS, prepare, kill_after=after)
        moment = f"file event {at_event}" if at_event else f"{after:.2f} s"
        if ended.code not in (-9, 0):
            return f"exit code {ended.code} before the cut: {ended.err[-200:]}", moment
        cut_power(folder, shadow, disk, rng)
        shutil.rmtree(folder)
        disk.rename(folder)
        return at_the_end(scenario, undisturbed, scenario.resume(folder), folder), moment


def _settle(folder: Path, shadow: Path) -> None:
    """What was there before the command is on the disk."""
    for path in (folder, *folder.rglob("*")):
        found = path.stat()
        if path.is_dir():
            names = {entry.name: entry.inode() for entry in os.scandir(path)}
            (shadow / f"{found.st_ino}.names").write_text(json.dumps(names))
        else:
            shutil.copyfile(path, shadow / f"{found.st_ino}.content")


def _attempt(scenario: Scenario, undisturbed: Whole, seed: int) -> tuple[str, str, dict[str, Any]]:
    outcome, moment = trial(scenario, undisturbed, seed)
    return outcome, f"a cut at {moment}", {"moment": moment}


def main() -> None:
    """The command line."""
    arguments = parser_of(__doc__).parse_args()
    import_everything()
    try_in_turn("power_loss", arguments, resumable(), _attempt)


if __name__ == "__main__":
    main()
