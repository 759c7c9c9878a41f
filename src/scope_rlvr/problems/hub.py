"""The rows of a data set on the Hugging Face Hub, or of a local folder that holds one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scope_rlvr.core.errors import UserError, first_line
from scope_rlvr.problems.rows import Row


class DataSetError(UserError):
    """A data set, its subset or its split cannot be loaded."""


def read_hub(name: str, *, split: str, subset: str | None = None, revision: str | None = None) -> Iterator[Row]:
    """Every row of one split, with its row number from 1. Only data files are read: no code of a data set is run.

    Raises :class:`DataSetError` with the library's reason where the data set, the subset or the split is not there.
    """
    import datasets

    try:
        data: Any = datasets.load_dataset(name, subset, split=split, revision=revision)
    except Exception as error:  # the library and the client below it raise errors of many kinds
        reason = first_line(error)
        raise DataSetError(
            f"the data set {name} (subset {subset or 'default'}, split {split}) cannot be loaded: {reason}. Look at its "
            "name, subset and split; without a network, download it elsewhere and name its file or folder"
        ) from error
    return (Row(f"row {number}", row) for number, row in enumerate(data, start=1))
