"""One resolver for everything that names problems: a run's training problems, its evaluation sets, ``scope eval``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from pydantic import Field

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.settings import Settings
from scope_rlvr.core.types import Problem
from scope_rlvr.problems import families
from scope_rlvr.problems.benchmarks import BENCHMARKS
from scope_rlvr.problems.family import Split
from scope_rlvr.problems.files import SUFFIXES, read_file
from scope_rlvr.problems.gym import gym_problems
from scope_rlvr.problems.hub import DataSetError, read_hub
from scope_rlvr.problems.rows import AnswerForm, BadRows, Columns, ProblemTable, Row, normalised, read_table
from scope_rlvr.problems.solutions import SolutionForm

DATA_FOLDER = "SCOPE_DATA"
"""The environment variable that names a folder with local copies of benchmarks."""

MOST_MADE = 1_000_000
"""Problems that a source makes at a time."""

GYM = "gym:"
_TRAIN = "train"
_MOST_DIGITS = 9


class SourceSettings(Settings):
    """Where problems come from, and how they are read."""

    source: str | None = Field(
        None,
        description="a file (`.jsonl`, `.parquet`, `.csv`), a benchmark (`gsm8k`), a Hub data set (`owner/name`) or the "
        "folder of one, `gym:<task>`, `<family>:<level>` or `<family>:<lowest>-<highest>`; see `docs/problems.md`",
    )
    subset: str | None = Field(None, description="subset (configuration) of a Hub data set")
    split: str | None = Field(
        None,
        description="split of a Hub data set; where rows have a column `split`, the rows that are read. By default "
        "`train` for training and `test` for evaluation, or what the benchmark says",
    )
    revision: str | None = Field(
        None, description="commit, tag or branch of a Hub data set; pin a commit to repeat a run"
    )
    columns: Columns = Field(Columns(), description="which columns are read")
    answer_form: AnswerForm = Field(
        AnswerForm.WHOLE,
        description="where the answer is in its column: it is the whole text, what follows `####`, or the last box",
    )
    solutions: SolutionForm = Field(SolutionForm(), description="what is changed in worked solutions")
    bad_rows: BadRows = Field(
        BadRows.REFUSE, description="what becomes of rows that are no problems: refuse the source, or leave them out"
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants of a source. ``split`` is the role of the problems; ``count`` and ``start`` say which ones.

    Sources that generate problems give ``count`` of them, drawn by ``seed``; of any other, ``count`` problems from
    ``start`` on, all of them for ``count`` 0.
    """

    split: Split
    count: int = 0
    start: int = 0
    seed: int = 0


def load_problems(settings: SourceSettings, wanted: Wanted, folder: Path | None = None) -> ProblemTable:
    """The problems that ``settings.source`` names; ``folder`` holds local copies of benchmarks.

    Raises :class:`UserError` with the remedy for a source that is not there or holds rows that are no problems.
    """
    source = settings.source
    assert source is not None, "a source is named"
    generated = _generated(source, wanted)
    if generated is not None:
        return ProblemTable(tuple(generated))
    path = _file_of(settings, wanted, folder)
    if path is not None:
        table = _table_of_file(settings, path, _fingerprint(path), is_training=wanted.split == _TRAIN)
    else:
        try:
            table = _table_of_hub(settings, _hub_split(settings, wanted))
        except DataSetError as error:
            raise UserError(f"{error}{_local_copy(source, wanted, folder)}") from error
    chosen = table.problems[wanted.start : wanted.start + wanted.count] if wanted.count else table.problems
    if not chosen:
        raise UserError(
            f"{source} holds {len(table.problems)} problems, none from number {wanted.start + 1} on; ask for earlier ones"
        )
    return replace(table, problems=chosen, num_available=len(table.problems))


def name_of(source: str) -> str:
    """What a source is called in figures: its last part without suffix and level.

    >>> [name_of(s) for s in ("data/my.train.jsonl", "gsm8k", "openai/gsm8k", "gym:chain_sum", "reduction:6")]
    ['my.train', 'gsm8k', 'gsm8k', 'chain_sum', 'reduction-6']
    """
    if is_family(source):
        return source.replace(":", "-")
    last = source.removeprefix(GYM).rstrip("/").rsplit("/", 1)[-1]
    return Path(last).stem if Path(last).suffix in SUFFIXES else last


def family_name(source: str) -> str:
    """The part of ``<family>:<level>`` before the colon."""
    return source.partition(":")[0]


def is_family(source: str) -> bool:
    """Whether a source is a level, or a range of levels, of an embedded family."""
    return family_name(source) in families.names()


def makes_problems(source: str | None) -> bool:
    """Whether a source gives as many problems as are wanted, and not those that it has."""
    return source is not None and (is_family(source) or source.startswith(GYM))


def levels_of(source: str) -> range:
    """The levels of ``<family>:<level>`` or ``<family>:<lowest>-<highest>``; :class:`UserError` for anything else.

    >>> levels_of("stories:4"), levels_of("stories:2-4")
    (range(4, 5), range(2, 5))
    """
    name, _, levels = source.partition(":")
    lowest, dash, highest = levels.partition("-")
    numbers = [lowest, highest] if dash else [lowest]
    if not all(number.isdecimal() and len(number) <= _MOST_DIGITS for number in numbers):
        raise UserError(
            f"{source}: {name} needs a level, a whole number, such as {name}:6, or a range, such as {name}:4-6"
        )
    found = range(int(lowest), int(highest or lowest) + 1)
    if not found:
        raise UserError(f"{source}: a range of levels begins with the lowest, such as {name}:{highest}-{lowest}")
    return found


def level_of(source: str) -> int | None:
    """The level of a family's source; ``None`` where it has several."""
    levels = levels_of(source)
    return levels[0] if len(levels) == 1 else None


def _generated(source: str, wanted: Wanted) -> list[Problem] | None:
    """Problems of a source that makes as many as are wanted, ``None`` for any other source."""
    num_problems = wanted.start + wanted.count
    if makes_problems(source) and num_problems > MOST_MADE:
        raise UserError(
            f"{source} makes at most {MOST_MADE:,} problems at a time, and problem {num_problems:,} is asked for; lower "
            "evaluation.problems_block or the number of problems"
        )
    if is_family(source):
        problems = _of_family(source, num_problems, wanted)
        if wanted.start and len({problem.id for problem in problems}) < num_problems:
            raise UserError(
                f"{source} has fewer than {num_problems} problems in its {wanted.split} split, so that blocks would share "
                "some; lower evaluation.problems_block or evaluation.num_problems"
            )
        return problems[wanted.start :]
    if source.startswith(GYM):
        return gym_problems(source.removeprefix(GYM), num_problems, wanted.seed, wanted.split)[wanted.start :]
    return None


def _of_family(source: str, num_problems: int, wanted: Wanted) -> list[Problem]:
    """Problems of a family; several levels take turns, so that any number of the first problems has all of them."""
    family, levels = families.get(family_name(source)), levels_of(source)
    num_turns = -(-num_problems // len(levels))
    try:
        by_level = [family.sample(level, num_turns, wanted.seed, split=wanted.split) for level in levels]
    except ValueError as error:
        raise UserError(f"{source}: {error}") from error
    return [problem for turn in zip(*by_level, strict=True) for problem in turn][:num_problems]


def _file_of(settings: SourceSettings, wanted: Wanted, folder: Path | None) -> Path | None:
    """The local file of a source, ``None`` where it is to be found on the Hub (or is the folder of a data set)."""
    source = str(settings.source)
    path = Path(source).expanduser()
    if path.suffix in SUFFIXES:
        return path
    if source in BENCHMARKS:
        given = _data_folder(folder)
        # Who names a split or a revision means the Hub's.
        if given is None or settings.split is not None or settings.revision is not None:
            return None
        local = given / _copy_of(source, wanted)
        return local if local.is_file() else None
    if path.is_dir() or (source.count("/") == 1 and not path.exists() and not source.startswith((".", "/", "~"))):
        return None
    raise UserError(
        f"{source!r} names no problems: it is neither a file ({', '.join(SUFFIXES)}), nor the folder of a data set, nor a "
        f"Hub data set (owner/name), nor {GYM}<task>, nor a level of a family ({', '.join(families.names())}), such as "
        f"{families.names()[0]}:6, nor one of the benchmarks {', '.join(BENCHMARKS)}"
    )


def _data_folder(folder: Path | None) -> Path | None:
    """The folder with local copies of benchmarks; :class:`UserError` where the one that is named is not there."""
    given = folder or (Path(os.environ[DATA_FOLDER]) if os.environ.get(DATA_FOLDER) else None)
    if given is not None and not given.is_dir():
        raise UserError(
            f"the folder {given}, where local copies of benchmarks are to be, is not there; mend problems.folder, --data or "
            f"{DATA_FOLDER}, whichever names it"
        )
    return given


def _copy_of(benchmark: str, wanted: Wanted) -> str:
    """The file name of a benchmark's local copy."""
    return f"{benchmark}{'-train' if wanted.split == _TRAIN else ''}.jsonl"


def _local_copy(source: str, wanted: Wanted, folder: Path | None) -> str:
    """Where a local copy of a benchmark would have been read, for whoever cannot load it from the Hub."""
    if source not in BENCHMARKS:
        return ""
    given = _data_folder(folder)
    where = f"none lies in {given}" if given else f"name its folder with problems.folder, --data or {DATA_FOLDER}"
    return f". A local copy, {_copy_of(source, wanted)}, would be read first: {where}"


def _hub_split(settings: SourceSettings, wanted: Wanted) -> str:
    """The split of a data set on the Hub; refuses to train on what a benchmark measures."""
    if settings.split is not None:
        return settings.split
    benchmark = BENCHMARKS.get(str(settings.source))
    if benchmark is None:
        return _TRAIN if wanted.split == _TRAIN else "test"
    if wanted.split != _TRAIN:
        return benchmark.split
    if benchmark.train_split is None:
        raise UserError(
            f"{settings.source} is a benchmark without training problems: training on it makes its figures worthless. Name "
            "another source of training problems"
        )
    return benchmark.train_split


def _fingerprint(path: Path) -> tuple[int, int]:
    """Changes when the file does."""
    try:
        found = path.stat()
    except OSError as error:
        raise UserError(
            f"the problem file {path} cannot be read: {error.strerror or error}; look at its name"
        ) from error
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=16)
def _table_of_file(
    settings: SourceSettings, path: Path, fingerprint: tuple[int, int], *, is_training: bool
) -> ProblemTable:
    rows = _of_split(list(read_file(path)), settings.split, path, is_training=is_training)
    return _table(rows, settings, path.stem, str(path))


@lru_cache(maxsize=16)
def _table_of_hub(settings: SourceSettings, split: str) -> ProblemTable:
    source = str(settings.source)
    benchmark = BENCHMARKS.get(source)
    name, subset = (source, settings.subset) if benchmark is None else (benchmark.hub, benchmark.subset)
    rows: Iterable[Row] = read_hub(name, split=split, subset=subset, revision=settings.revision)
    if benchmark is not None:
        rows = (r if isinstance(r.values, str) else Row(r.place, benchmark.read(r.values)) for r in rows)
    return _table(rows, settings, name_of(source), source)


def _table(rows: Iterable[Row], settings: SourceSettings, name: str, where: str) -> ProblemTable:
    return read_table(
        rows,
        name,
        columns=settings.columns,
        answer_form=settings.answer_form,
        solution_form=settings.solutions,
        bad_rows=settings.bad_rows,
        where=where,
    )


def _of_split(rows: Sequence[Row], split: str | None, path: Path, *, is_training: bool) -> Iterator[Row]:
    """The rows of one split, where rows say which they belong to."""
    named = [row.values.get("split") if not isinstance(row.values, str) else None for row in rows]
    known = sorted({name for name in named if isinstance(name, str) and name})
    if split is None and known:
        split = _usual_split(known, path, is_training=is_training)
    if split is not None and split not in known:
        raise UserError(
            f"{path} has no rows of the split {split!r}; its column `split` says {', '.join(known) or 'nothing'}; "
            "name one of these, or leave split out"
        )
    for row, name in zip(rows, named, strict=True):
        if split is None or name == split or isinstance(row.values, str):
            yield row
        elif not name:
            yield Row(row.place, f"its column `split` is empty, and other rows say {', '.join(known)}")


def _usual_split(known: Sequence[str], path: Path, *, is_training: bool) -> str:
    """The split that is read where none is named, as on the Hub: ``train`` to train on, ``test`` to measure on, or the only
    one. Rows that call themselves anything else are never trained on unasked."""
    usual = _TRAIN if is_training else "test"
    if usual in known:
        return usual
    if len(known) == 1 and not is_training:
        return known[0]
    raise UserError(
        f"{path} holds rows of the split(s) {', '.join(known)}, and none of {usual!r}; say which are meant by split = "
        f"'{known[0]}' in the configuration"
    )


def overlap(training: Iterable[Problem], held_out: Iterable[Problem]) -> list[tuple[Problem, Problem]]:
    """Pairs of a training and a held-out problem with equal :func:`~scope_rlvr.problems.rows.normalised` texts.

    >>> one, other = Problem("a", "1 + 1?", "2"), Problem("b", "1+1?", "2")
    >>> [(mine.id, theirs.id) for mine, theirs in overlap([one], [other, Problem("c", "1-1?", "0")])]
    [('a', 'b')]
    """
    known = {normalised(problem.prompt): problem for problem in held_out}
    pairs = ((problem, known.get(normalised(problem.prompt))) for problem in training)
    return [(mine, theirs) for mine, theirs in pairs if theirs is not None]
