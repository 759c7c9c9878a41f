"""Scorers made of others: log-ratios of two models, the policy's own continuations, ensembles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import Sampling
from scope_rlvr.core.types import Problem
from scope_rlvr.salvage.rules import Calibrated, CalibrationMap, Threshold
from scope_rlvr.scorers.ensemble import EnsembleScorer
from scope_rlvr.scorers.families import Combine, Ensemble, Implicit, MonteCarlo
from scope_rlvr.scorers.loading import load_scorer
from scope_rlvr.scorers.monte_carlo import ContinuationSetup, MonteCarloScorer
from scope_rlvr.scorers.settings import ScorerSection
from tests.doubles import PROBLEM as SEVEN
from tests.doubles import CharCodec, Continuation, ExactVerifier, sampled
from tests.unit.scorers import tiny
from tests.unit.scorers.tiny import PROBLEM, STEPS

# --- log-ratio of two models -----------------------------------------------------------------------------------------


def published_reading(
    folder: Path, reference: Path, problem: Problem, steps: list[str], beta: float, is_numbered: bool
) -> list[float]:
    """The cumulative rewards by the published recipe: places are lengths of tokenised prefixes less 2, in shifted labels."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    said = [f"Step {i}: {step}" if is_numbered else step for i, step in enumerate(steps, start=1)]

    def conversation(num_steps: int) -> str:
        answer = "\n\n".join(said[:num_steps])
        messages = [{"role": "user", "content": problem.prompt}, {"role": "assistant", "content": answer}]
        return tokenizer.apply_chat_template(messages, tokenize=False)

    ids = torch.tensor([tokenizer.encode(conversation(len(said)), add_special_tokens=False)])
    lasts = []
    for num_steps in range(len(said) + 1):
        text = conversation(num_steps).strip() + "\n\n" * (0 < num_steps < len(said))
        lasts.append(len(tokenizer.encode(text, add_special_tokens=False)) - 2)
    logps = []
    for path in (folder, reference):
        with torch.no_grad():
            logits = AutoModelForCausalLM.from_pretrained(path)(ids).logits[:, :-1]
        logps.append(logits.log_softmax(-1).gather(2, ids[:, 1:, None])[0, :, 0])
    counted = torch.arange(ids.shape[1]) >= lasts[0]
    rewards = beta * (logps[0] - logps[1]) * counted[1:]
    return rewards.cumsum(0)[torch.tensor(lasts[1:])].tolist()


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tuple(tiny.chat_causal(tmp_path_factory.mktemp("pair") / str(seed), seed=seed) for seed in (1, 2))  # type: ignore[return-value]


@pytest.mark.parametrize("is_numbered", [True, False])
@pytest.mark.parametrize("steps", [STEPS, STEPS[:1], ["Ein Schritt", "und\nnoch einer", "x", "第二步"]])
def test_the_log_ratio_is_the_published_one(is_numbered, steps, two_models):
    folder, reference = two_models
    family = {"kind": "implicit", "reference": str(reference), "is_numbered": is_numbered, "beta": 0.05}
    expected = published_reading(folder, reference, PROBLEM, steps, 0.05, is_numbered)
    up_to = load_scorer(ScorerSection(model=str(folder), family=family | {"is_cumulative": True}))
    (found,) = up_to.score([(PROBLEM, steps)])
    assert found == pytest.approx(expected, abs=1e-5)
    own = load_scorer(ScorerSection(model=str(folder), family=family))
    (shares,) = own.score([(PROBLEM, steps)])
    assert shares == pytest.approx([b - a for a, b in zip([0.0, *expected], expected, strict=False)], abs=1e-5)
    together = own.score([(PROBLEM, steps), (PROBLEM, ["longer " * 20]), (PROBLEM, [])])
    assert together[0] == pytest.approx(shares, abs=1e-6)
    assert together[2] is None


def test_awkward_steps_of_a_log_ratio(two_models):
    folder, reference = two_models
    family = Implicit(reference=str(reference), is_numbered=False)
    scorer = load_scorer(ScorerSection(model=str(folder), family=family))
    steps = ["", "\n\n", "<|im_end|>", "a", "\x00", "😀"]
    for some in (steps, [""], ["", ""], steps[::-1]):
        (scores,) = scorer.score([(PROBLEM, some)])
        assert scores is not None
        assert len(scores) == len(some)


def test_a_model_against_itself_and_against_a_stranger(two_models, tmp_path):
    folder, _ = two_models
    stranger = tiny.causal(tmp_path / "stranger", "math_shepherd")
    for reference, part in ((folder, "score alike"), (stranger, "another vocabulary")):
        with pytest.raises(UserError, match=part):
            load_scorer(ScorerSection(model=str(folder), family=Implicit(reference=str(reference))))
    with pytest.raises(ValueError, match="highest score"):
        Implicit(too_long="first_steps")


# --- the policy's own continuations ----------------------------------------------------------------------------------


class Walker:
    """Succeeds, in one continuation of four, from every prefix with at most ``reach`` steps."""

    def __init__(self, reach: int) -> None:
        self.reach = reach
        self.tried: list[int] = []

    def extend(self, prefixes: Any, sampling: Sampling, *, max_tokens: Any, seed: int) -> list[Continuation]:
        written = []
        for number, prefix in enumerate(prefixes):
            num_steps = "".join(map(chr, prefix)).count("\n\n")
            self.tried.append(num_steps)
            answer = "7" if num_steps <= self.reach and number % 4 == 3 else "1"
            ids = sampled(f"answer {answer}|")
            written.append(Continuation(ids, (0.0,) * len(ids), finished=True))
        return written


class Codec(CharCodec):
    def encode_prompt(self, text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))


def monte_carlo(policy: Any, num_continuations: int = 4, max_response_tokens: int = 500) -> MonteCarloScorer:
    made_by = ContinuationSetup(policy, Codec(), ExactVerifier(), Sampling(), max_response_tokens)
    return MonteCarloScorer(made_by, num_continuations, Threshold(threshold=0.5), seed=0)


def steps_of(num_steps: int) -> list[str]:
    return [f"step {i}\n\n" for i in range(num_steps - 1)] + ["answer 1"]


@given(num_steps=st.integers(1, 40), data=st.data())
def test_the_search_finds_the_first_step_without_a_way_out(num_steps, data):
    reach = data.draw(st.integers(0, num_steps - 1))
    policy = Walker(reach)
    scorer = monte_carlo(policy)
    (scores,) = scorer.score([(SEVEN, steps_of(num_steps))])
    assert scores == (1.0,) * reach + (0.0,) * (num_steps - reach)
    assert scorer.rule.first_wrong(scores) == reach
    assert len(policy.tried) <= 4 * (1 + num_steps.bit_length())


def test_solutions_are_searched_side_by_side_and_change_nothing_for_one_another():
    solutions = [(SEVEN, steps_of(n)) for n in (9, 1, 4)]
    together = monte_carlo(Walker(2)).score(solutions)
    assert together == [monte_carlo(Walker(2)).score([solution])[0] for solution in solutions]


def test_what_the_policy_cannot_tell_gets_no_scores():
    right = ["step\n\n", "answer 7"]
    unknown = ["step\n\n", "answer ?"]
    assert monte_carlo(Walker(5)).score([(SEVEN, right), (SEVEN, unknown), (SEVEN, [])]) == [(1.0, 1.0), None, None]
    # No continuation of the bare prompt succeeds: nothing can be told.
    assert monte_carlo(Walker(-1)).score([(SEVEN, steps_of(5))]) == [None]


def test_what_states_no_answer_yet_may_be_right_in_every_step():
    unfinished = steps_of(5)[:4]
    assert monte_carlo(Walker(9)).score([(SEVEN, unfinished)]) == [(1.0,) * 4]
    assert monte_carlo(Walker(4)).score([(SEVEN, unfinished)]) == [(1.0,) * 4]
    assert monte_carlo(Walker(3)).score([(SEVEN, unfinished)]) == [(1.0, 1.0, 1.0, 0.0)]


def test_a_prefix_without_room_for_an_answer_is_a_dead_end():
    policy = Walker(99)
    (scores,) = monte_carlo(policy, max_response_tokens=20).score([(SEVEN, steps_of(9))])
    assert scores == (1.0, 1.0) + (0.0,) * 7  # two steps are 16 characters, three are 24


def test_steps_without_separators_get_them():
    policy = Walker(2)
    bare = [step.strip() for step in steps_of(6)]
    assert monte_carlo(policy).score([(SEVEN, bare)]) == monte_carlo(Walker(2)).score([(SEVEN, steps_of(6))])


def test_the_policy_is_named_as_a_scorer():
    made_by = ContinuationSetup(Walker(1), Codec(), ExactVerifier(), Sampling(), 500)
    section = ScorerSection(model="policy", family=MonteCarlo(num_continuations=4))
    scorer = load_scorer(section, continuations=made_by)
    assert scorer.score([(SEVEN, steps_of(4))]) == [(1.0, 0.0, 0.0, 0.0)]
    with pytest.raises(UserError, match="there is no policy here"):
        load_scorer(section)
    with pytest.raises(ValueError, match="name the family, monte_carlo"):
        ScorerSection(model="policy")
    with pytest.raises(ValueError, match="wants 'policy' as its model"):
        ScorerSection(model="embedded:step_scorer", family="monte_carlo")


# --- ensembles -------------------------------------------------------------------------------------------------------


class Says:
    def __init__(self, scores: Any, rule: Any = None) -> None:
        self.scores = scores
        self.rule = rule or Threshold(threshold=0.5)

    def score(self, solutions: Any) -> list[Any]:
        return [self.scores for _ in solutions]


def combined(combine: Combine, *members: Says, num_steps: int = 3) -> Any:
    scorer = EnsembleScorer(members, combine, Threshold(threshold=0.5))
    return scorer.score([(PROBLEM, ["s"] * num_steps)])[0]


def test_mean_and_minimum():
    members = (Says((0.9, 0.2, 0.8)), Says((0.7, 0.6, 1.0)))
    assert combined(Combine.MEAN, *members) == pytest.approx((0.8, 0.4, 0.9))
    assert combined(Combine.MIN, *members) == (0.7, 0.2, 0.8)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=9))
def test_a_vote_finds_the_median_step(first_wrong):
    members = [Says((1.0,) * k + (0.0,) * (4 - k)) for k in first_wrong]
    found = Threshold(threshold=0.5).first_wrong(combined(Combine.VOTE, *members, num_steps=4))
    more_than_half = [k for k in range(4) if sum(w <= k for w in first_wrong) * 2 > len(first_wrong)]
    assert found == (more_than_half[0] if more_than_half else None)


def test_a_calibrated_member_speaks_in_probabilities():
    map_ = CalibrationMap(scores=(0.70, 0.74), probabilities=(0.0, 1.0))
    members = (Says((0.74, 0.70, 0.72), Calibrated(map=map_)), Says((1.0, 1.0, 0.5)))
    assert combined(Combine.MEAN, *members) == pytest.approx((1.0, 0.5, 0.5))


def test_without_one_member_there_are_no_scores():
    for missing in (None, (0.5, 0.5)):
        assert combined(Combine.MEAN, Says((0.9, 0.2, 0.8)), Says(missing)) is None


def test_an_ensemble_is_loaded_from_its_members(tmp_path):
    pure = {"model": str(tiny.token_classifier(tmp_path / "pure")), "family": "pure"}
    qwen = {"model": str(tiny.qwen_prm(tmp_path / "qwen"))}
    family = Ensemble.model_validate({"members": [pure, qwen], "combine": "vote"})
    section = ScorerSection(model="ensemble", family=family)
    assert section.folders == [
        ("scorer.family.members.0.model", pure["model"]),
        ("scorer.family.members.1.model", qwen["model"]),
    ]
    (scores,) = load_scorer(section).score([(PROBLEM, STEPS)])
    assert set(scores) <= {0.0, 0.5, 1.0}
    with pytest.raises(UserError, match="between -1"):
        load_scorer(ScorerSection(model="ensemble", family=family.model_copy(update={"combine": Combine.MEAN})))
    with pytest.raises(ValueError, match="wants 'ensemble' as its model"):
        ScorerSection(family=family)
