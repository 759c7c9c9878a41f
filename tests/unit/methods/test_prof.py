"""PROF: which rollouts of a group are left to train."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.groups import Group
from scope_rlvr.core.types import Outcome
from scope_rlvr.formulas.advantages import Baseline, Normalisation
from scope_rlvr.methods import Grpo, Prof
from scope_rlvr.methods.metrics import group_tally
from scope_rlvr.methods.parts.edits import ConsistencyFilter
from scope_rlvr.methods.step import edit_groups
from tests.doubles import TableScorer, group, plain, toolbox
from tests.unit.methods.crediting import credited, pays, runs

TOOLS = {"step_scorer": TableScorer({"a": 0.2, "b": 0.4, "c": 0.6, "d": 0.8, "answer 7": 0.9, "answer 3": 0.1})}


def right(*steps: str) -> str:
    return "".join(f"{step}\n\n" for step in steps) + "answer 7|"


def wrong(*steps: str) -> str:
    return "".join(f"{step}\n\n" for step in steps) + "answer 3|"


def kept(texts: Sequence[str], **settings: float) -> tuple[list[str], list[str]]:
    """What trains and what does not."""
    edited, _ = credited(Prof(**settings), *texts, tools=toolbox(**TOOLS))
    return [plain(m.rollout) for m in edited.members], [plain(m.rollout) for m in edited.replaced]


def test_right_rollouts_with_low_and_wrong_ones_with_high_scores_do_not_train():
    texts = [right("a"), right("d"), right("b"), wrong("c"), wrong("a"), wrong("d")]
    assert kept(texts) == ([right("d"), right("b"), wrong("a")], [right("a"), wrong("c"), wrong("d")])


def test_it_is_the_mean_over_the_steps_that_counts():
    # 0.9 alone is more than the mean of 0.8, 0.8 and 0.9; 0.1 less than that of 0.2 and 0.1.
    assert kept([right("d", "d"), right(), wrong(), wrong("a")], kept_share=0.5) == (
        [right(), wrong()],
        [right("d", "d"), wrong("a")],
    )


@pytest.mark.parametrize(
    ("num_right", "num_wrong", "num_kept", "expected"),
    [(4, 4, 4, 2), (1, 7, 4, 1), (7, 1, 4, 3), (0, 8, 4, 0), (8, 0, 4, 4), (4, 4, 5, 3), (4, 4, 8, 4), (1, 0, 1, 1)],
)
def test_the_classes_are_balanced_as_far_as_they_reach(num_right, num_wrong, num_kept, expected):
    assert ConsistencyFilter.num_right_kept(num_right, num_wrong, num_kept) == expected
    products = {k: k * (num_kept - k) for k in range(num_right + 1) if 0 <= num_kept - k <= num_wrong}
    assert products[expected] == max(products.values())


def test_the_baseline_is_the_mean_of_what_is_left():
    _, streams = credited(Prof(), right("a"), right("d"), right("b"), wrong("a"), tools=toolbox(**TOOLS))
    assert [runs(s.advantage_T) for s in streams] == [[(0.5, 12)], [(-0.5, 12)]]


def test_or_of_all_that_was_sampled():
    method = Prof(baseline=Baseline.SAMPLED_ONLY)
    _, streams = credited(method, right("a"), right("d"), right("b"), wrong("a"), tools=toolbox(**TOOLS))
    assert [runs(s.advantage_T) for s in streams] == [[(0.25, 12)], [(-0.75, 12)]]


def test_accuracy_is_still_that_of_all_rollouts():
    method = Prof()
    edited, streams = credited(method, right("a"), right("d"), right("b"), wrong("a"), tools=toolbox(**TOOLS))
    figures = group_tally([edited], [streams]).flush()
    assert figures["accuracy"] == 0.75
    assert edited.num_sampled == 4


@pytest.mark.parametrize("text", [right("a"), wrong("a")])
def test_a_flat_group_stays_flat(text):
    edited, streams = credited(Prof(), *[text] * 4, tools=toolbox(**TOOLS))
    assert (len(edited.members), len(edited.replaced)) == (2, 2)
    assert all(set(s.advantage_T) == {0.0} for s in streams)


def test_unknown_verdicts_and_rollouts_without_scores_are_not_filtered():
    scorer = TableScorer(distort=lambda scores: scores if len(scores) == 2 else None)
    texts = [right("a"), "answer ?|", right("d"), wrong("a", "a"), wrong("a"), wrong("d")]
    edited, streams = credited(Prof(), *texts, tools=toolbox(step_scorer=scorer))
    assert [plain(m.rollout) for m in edited.members] == [texts[i] for i in (0, 1, 3, 4)]
    assert [set(s.weight_T) for s in streams] == [{1.0}, {0.0}, {1.0}, {1.0}]


def test_without_any_scores_it_is_grpo():
    texts = [right("a"), wrong("a"), "answer ?|"]
    edited, streams = credited(Prof(), *texts, tools=toolbox(step_scorer=TableScorer(distort=lambda _: None)))
    plain_group, plain_streams = credited(Grpo(), *texts)
    assert (edited, streams) == (plain_group, plain_streams)


def test_everything_kept_is_grpo():
    texts = [right("a"), wrong("a"), right("b")]
    _, streams = credited(Prof(kept_share=1), *texts, tools=toolbox(**TOOLS))
    assert streams == credited(Grpo(), *texts)[1]


texts = st.lists(
    st.sampled_from([right("a"), right("d"), wrong("a"), wrong("d"), "answer ?|", "a\n\nb"]), min_size=1, max_size=9
)


@given(texts, st.floats(0.05, 1))
def test_no_rollout_is_lost_and_no_class_that_was_there_dies_out(texts, share):
    method = Prof(kept_share=share)
    before = group(*texts)
    (edited,) = edit_groups(method, [before], toolbox(**TOOLS))
    both = (*edited.members, *edited.replaced)
    assert sorted(m.rollout.token_ids for m in both) == sorted(m.rollout.token_ids for m in before.members)
    count = {o: (number(before, o), number(edited, o)) for o in (Outcome.RIGHT, Outcome.WRONG)}
    if all(was for was, _ in count.values()) and sum(now for _, now in count.values()) > 1:
        assert all(now for _, now in count.values())
    (streams_G,) = method.credit([edited], pays([edited]), Normalisation.NONE)
    assert len(streams_G) == len(edited.members)


def number(group: Group, outcome: Outcome) -> int:
    return sum(member.verdict.outcome is outcome for member in group.members)
