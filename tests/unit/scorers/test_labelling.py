"""Monte-Carlo labels with a policy that reads from a script: every number by hand."""

from __future__ import annotations

import pytest

from scope_rlvr.core.ports import Continuation, Sampling
from scope_rlvr.core.steps import StepRule, split_steps
from scope_rlvr.scorer_lab.labelling import Attempt, Labeller, MonteCarloEstimate
from tests.doubles import PROBLEM, PROMPT_IDS, CharCodec, ExactVerifier, ScriptedPolicy, sampled

RIGHT, WRONG, UNKNOWN = "answer 7|", "answer 8|", "answer ?|"


def attempt(text, *, is_whole=True):
    ids = sampled(text)
    return Attempt(PROBLEM, PROMPT_IDS, ids, split_steps(CharCodec().pieces(ids), StepRule()), is_whole)


def labeller(policy, **changes):
    given = {"num_samples": 2, "max_tokens": 20} | changes
    return Labeller(policy, CharCodec(), ExactVerifier(), Sampling(), **given)


def counts(estimates):
    return [(estimate.num_right, estimate.num_known) for estimate in estimates]


def test_each_step_is_continued_so_many_times_and_the_answer_labels_the_last():
    policy = ScriptedPolicy([RIGHT, RIGHT, RIGHT, WRONG, WRONG, UNKNOWN, ""])
    [estimates] = labeller(policy).label_steps([attempt("a\n\nb\n\nc\n\nanswer 8|")], seed=0)
    assert counts(estimates) == [(2, 2), (1, 2), (0, 1), (0, 1)]
    texts = ["".join(CharCodec().pieces(prefix[len(PROMPT_IDS) :])) for prefix in policy.prefixes]
    assert texts == ["a\n\n"] * 2 + ["a\n\nb\n\n"] * 2 + ["a\n\nb\n\nc\n\n"] * 2 + ["a\n\nb\n\nc\n\nanswer 8"]
    assert policy.budgets == [20] * 6 + [0]
    assert [prefix[: len(PROMPT_IDS)] for prefix in policy.prefixes] == [PROMPT_IDS] * 7


def test_the_sampled_ids_are_continued():
    policy = ScriptedPolicy([RIGHT])
    whole = attempt("a\n\nanswer 7|")
    labeller(policy).label_steps([whole], seed=0)
    assert policy.prefixes[0] == PROMPT_IDS + whole.token_ids[:3]


def test_a_response_that_was_cut_off_is_continued_at_its_end_too():
    policy = ScriptedPolicy([WRONG, WRONG, "\n" + RIGHT, WRONG])
    [estimates] = labeller(policy).label_steps([attempt("a\n\nb", is_whole=False)], seed=0)
    assert counts(estimates) == [(0, 2), (1, 2)]


@pytest.mark.parametrize(("right_above", "labels"), [(0.0, [True, True, False]), (0.5, [True, False, False])])
def test_hard_labels(right_above, labels):
    estimates = [MonteCarloEstimate(2, 2), MonteCarloEstimate(1, 2), MonteCarloEstimate(0, 2)]
    found = labeller(ScriptedPolicy(), right_above=right_above)
    assert [found.is_right(estimate) for estimate in estimates] == labels
    assert found.is_right(MonteCarloEstimate(0, 0)) is None


def test_a_continuation_has_no_more_room_than_the_context_leaves():
    policy = ScriptedPolicy([RIGHT])
    labeller(policy, context=9, num_samples=1).label_steps([attempt("a\n\nbb\n\nc\n\nanswer 7|")], seed=0)
    assert policy.budgets == [9 - 2 - 3, 9 - 2 - 7, 0, 0]


class Reaching:
    """Reaches the answer from a prefix of any attempt as long as its first wrong step is not in it."""

    def __init__(self, first_wrong):
        self.first_wrong = first_wrong
        self.probed = []

    def extend(self, prefixes, sampling, *, max_tokens, seed):
        found = []
        for prefix, budget in zip(prefixes, max_tokens, strict=True):
            num_steps = "".join(CharCodec().pieces(prefix[len(PROMPT_IDS) :])).count("\n\n")
            if budget:
                self.probed.append(num_steps - 1)
            ids = sampled(RIGHT if num_steps <= self.first_wrong else WRONG)[:budget]
            found.append(Continuation(ids, (0.0,) * len(ids)))
        return found


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 16])
def test_binary_search_finds_every_first_wrong_step_with_few_probes(num_steps):
    for first_wrong in range(num_steps):
        policy = Reaching(first_wrong)
        found = labeller(policy, num_samples=1)
        steps = "\n\n".join("s" * (num_steps - 1))
        text = f"{steps}\n\nanswer 8|" if steps else "answer 8|"
        [probed] = found.first_wrong_steps([attempt(text)], seed=0)
        assert found.first_wrong(probed) == first_wrong
        assert len(set(policy.probed)) == len(policy.probed) <= max(1, num_steps).bit_length()


def test_a_right_response_is_not_probed():
    policy = ScriptedPolicy([""])
    found = labeller(policy)
    [probed] = found.first_wrong_steps([attempt("a\n\nb\n\nanswer 7|")], seed=0)
    assert found.first_wrong(probed) is None
    assert policy.budgets == [0]


def test_a_search_ends_where_a_verdict_is_unknown():
    policy = ScriptedPolicy(["", UNKNOWN])
    [probed] = labeller(policy).first_wrong_steps([attempt("a\n\nb\n\nc\n\nanswer 8|")], seed=0)
    assert sorted(probed) == [1, 3]
    assert probed[1].share is None


def test_searches_of_several_attempts_go_on_side_by_side():
    policy = Reaching(1)
    found = labeller(policy, num_samples=1)
    probed = found.first_wrong_steps(
        [attempt("a\n\nb\n\nanswer 8|"), attempt("answer 8|"), attempt("a\n\nanswer 7|")], seed=0
    )
    assert [found.first_wrong(p) for p in probed] == [1, 0, None]
