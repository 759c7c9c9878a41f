"""CHAMP's marked solutions, read from an installed package whose code is not run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scope_rlvr.core.errors import UserError
from scope_rlvr.scorer_lab.champ import CHAMP
from scope_rlvr.scorer_lab.sources import read_source

TEXT = "We add.\n\n2 + 2 = 4.\n\n\n\nSo 4 + 2 = 7."
"""A blank line too many makes no step."""


def annotation(start: int | None) -> dict[str, object]:
    return {"text": TEXT, "start_idx": start, "end_idx": None if start is None else start + 2, "author": "a model"}


def test_the_first_wrong_step_is_where_the_marked_span_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = {
        "identifier": "P_1",
        "_text": "2 + 2 + 2?",
        "_answer": "6",
        "fws_annotations": {
            "none": annotation(None),
            "first": annotation(0),
            "second": annotation(TEXT.index("= 4")),
            "last": annotation(TEXT.index("7")),
        },
    }
    information = tmp_path / "champ_dataset-1.0.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: champ-dataset\nVersion: 1.0.0\n")
    (information / "RECORD").write_text("champ_dataset/__init__.py,,\nchamp_dataset/v0.json,,\n")
    package = tmp_path / "champ_dataset"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('the code of the package was run')\n")
    (package / "v0.json").write_text(json.dumps({"problems": {"P_1": problem}}))
    monkeypatch.syspath_prepend(tmp_path)
    found = read_source(CHAMP)
    assert [solution.first_wrong for solution in found.solutions] == [None, 0, 1, 2]
    assert found.solutions[0].steps == ("We add.", "2 + 2 = 4.", "So 4 + 2 = 7.")
    assert found.name == "champ"


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scope_rlvr.scorer_lab.champ._PACKAGE", "no-such-champ")
    with pytest.raises(UserError, match="pip install --no-deps no-such-champ"):
        read_source(CHAMP)
