"""Dr. GRPO: what the method fixes, and that it is GRPO otherwise."""

from __future__ import annotations

import pytest

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation
from scope_rlvr.methods import DrGrpo, Grpo
from scope_rlvr.run.config import RunConfig
from scope_rlvr.run.sections import ObjectiveSection
from tests.unit.methods.crediting import credited


def test_it_fixes_normalisation_and_aggregation_whatever_the_run_says():
    run = ObjectiveSection(normalisation=Normalisation.GROUP_STD, aggregation=Aggregation.TOKEN_MEAN)
    resolved = RunConfig(method=DrGrpo(), objective=run).resolved_objective
    assert (resolved.normalisation, resolved.aggregation) == (Normalisation.NONE, Aggregation.MAX_LENGTH)
    assert resolved.clip == run.clip


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["answer 7|", "bad|", "bad|", "bad|"], [0.75, -0.25, -0.25, -0.25]),
        (["answer 7|", "answer 7|"], [0, 0]),
        (["bad|", "bad|"], [0, 0]),
        (["answer 7|", "answer ?|", "cut off"], [0.5, 0, -0.5]),
    ],
)
def test_advantages(texts, expected):
    edited, streams = credited(DrGrpo(), *texts)
    assert [s.advantage_T[0] for s in streams] == expected
    assert [s.weight_T[0] for s in streams] == [float(m.verdict.is_known) for m in edited.members]
    assert (edited, streams) == credited(Grpo(), *texts)
