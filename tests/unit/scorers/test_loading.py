"""From a configuration to a scorer: family, rule, self-test, and everything that may be wrong with a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.types import Problem
from scope_rlvr.problems.reduction import Reduction
from scope_rlvr.salvage.rules import ArgMin, Calibrated, CalibrationMap, Drop, Threshold, TwoInARow
from scope_rlvr.scorers import origin
from scope_rlvr.scorers.description import ChosenRule, ScorerDescription
from scope_rlvr.scorers.exact import ExactScorer
from scope_rlvr.scorers.families import PurePrm, Qwen, Skywork, TokenClassifier
from scope_rlvr.scorers.loading import load_scorer
from scope_rlvr.scorers.noisy import NoisyScorer
from scope_rlvr.scorers.origin import require_made_for, revisions_of, weights_of
from scope_rlvr.scorers.selftest import KnownAnswer, self_test
from scope_rlvr.scorers.settings import ScorerSection
from tests.unit.scorers import tiny
from tests.unit.scorers.tiny import PROBLEM, STEPS


def load(folder: Path, **section):
    return load_scorer(ScorerSection(model=str(folder), **section))


def refused(folder: Path, *parts: str, **section) -> None:
    with pytest.raises(UserError) as caught:
        load(folder, **section)
    for part in parts:
        assert part in str(caught.value)


# --- which family ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "make", "kind"),
    [
        ("model", tiny.qwen_prm, "qwen"),
        ("model", tiny.skywork_prm, "skywork"),
        ("model", tiny.token_classifier, "token_classifier"),
        ("PURE-PRM-mine", tiny.token_classifier, "pure"),
        ("math-shepherd-mistral-tiny", lambda folder: tiny.causal(folder, "math_shepherd"), "math_shepherd"),
        ("Llama3.1-8B-PRM-Mine", lambda folder: tiny.causal(folder, "rlhflow"), "rlhflow"),
    ],
)
def test_a_family_is_known_by_the_model_s_name_or_class(name, make, kind, tmp_path):
    assert load(make(tmp_path / name)).family.kind == kind


def test_what_is_known_by_neither_must_be_named(tmp_path):
    folder = tiny.causal(tmp_path / "model", "math_shepherd")
    refused(folder, "LlamaForCausalLM", "scorer.family")
    assert load(folder, family="math_shepherd").family.kind == "math_shepherd"


def test_the_description_in_the_folder_names_family_rule_and_calibration(tmp_path):
    folder = tiny.token_classifier(tmp_path / "PURE-PRM-mine")
    map_ = CalibrationMap(scores=(0.2, 0.8), probabilities=(0.1, 0.9))
    rule = Calibrated(threshold=0.4)
    ScorerDescription(family=TokenClassifier(separator="\n"), rule=rule, calibration=map_).write(folder)
    scorer = load(folder)
    assert scorer.family == TokenClassifier(separator="\n")
    assert scorer.rule == Calibrated(threshold=0.4, map=map_)
    assert load(folder, rule="two_in_a_row").rule == TwoInARow()
    assert load(folder, family="pure").family == PurePrm()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "cannot be read as JSON"),
        ('{"family": "qwn"}', "family"),
        ('{"rule": "threshold"}', "family: Field required"),
        ('{"family": "qwen", "threshold": 0.3}', "threshold"),
        ("[]", "describes no step scorer"),
    ],
)
def test_a_wrong_description_is_refused(text, part, tmp_path):
    folder = tiny.token_classifier(tmp_path / "model")
    (folder / "scorer.json").write_text(text)
    refused(folder, "scorer.json", part)


# --- which rule ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "rule"),
    [
        ("token_classifier", Threshold(threshold=0.5)),
        ("pure", Threshold(threshold=0.0)),
        ("trl", Threshold(threshold=0.5)),
    ],
)
def test_each_family_has_a_rule_of_its_own(family, rule, tmp_path):
    assert load(tiny.token_classifier(tmp_path / "model"), family=family).rule == rule


def test_skywork_is_read_by_its_drops(tmp_path):
    assert load(tiny.skywork_prm(tmp_path / "model")).rule == Drop(drop=0.05)


def test_rules_are_named_like_other_choices():
    assert ScorerSection.model_validate({"rule": "argmin"}).rule == ArgMin()
    assert ScorerSection.model_validate({"rule": {"kind": "drop", "drop": 0.2}}).rule == Drop(drop=0.2)


def test_a_threshold_outside_a_family_s_scores_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"between 0\.0 and 1\.0"):
        ScorerSection(family=Qwen(), rule=Threshold(threshold=50))
    refused(tiny.token_classifier(tmp_path / "model"), "threshold = -0.2", rule=Threshold(threshold=-0.2))
    assert ScorerSection(family=PurePrm(), rule=Threshold(threshold=-0.2)).rule == Threshold(threshold=-0.2)


def calibration(file: Path, name: str, weights: dict[str, str] | None = None) -> Path:
    """A file as ``scope scorer calibrate`` writes it."""
    chosen = {
        "rule": {"kind": "threshold", "threshold": 0.3},
        "calibration": {"scores": [0, 1], "probabilities": [0, 1]},
    }
    file.write_text(json.dumps({**chosen, "scorer": {"name": name, "seed": 0, "weights": weights or {}}}))
    return file


def test_a_calibration_goes_with_the_weights_whatever_they_are_called(tmp_path):
    folder = tiny.token_classifier(tmp_path / "model")
    own = weights_of(ScorerSection(model=str(folder)))
    assert own == {"model.safetensors": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()}
    file = calibration(tmp_path / "rule.json", str(folder), own)
    moved = folder.rename(tmp_path / "moved")
    assert load(moved, calibration=file).rule == Threshold(threshold=0.3)
    tensors = load_file(moved / "model.safetensors")
    tensors["score.bias"] += 0.5
    save_file(tensors, moved / "model.safetensors", metadata={"format": "pt"})
    refused(moved, f"was made for the step scorer {str(folder)!r}", "has other weights", calibration=file)
    with pytest.raises(UserError, match=r"was made for the step scorer 'exact'.* is another one"):
        load(moved, calibration=calibration(tmp_path / "other.json", "exact"))


def test_a_server_s_calibration_goes_with_its_name(tmp_path):
    file = calibration(tmp_path / "rule.json", "http://localhost:1/v1")
    section = {"family": "critic", "calibration": file}
    require_made_for(ScorerSection(model="http://localhost:1/v1", **section), ChosenRule.read(file))
    with pytest.raises(UserError, match="is another one"):
        require_made_for(ScorerSection(model="http://localhost:2/v1", **section), ChosenRule.read(file))


def test_weights_from_the_hub_are_known_by_digest_and_commit(tmp_path, monkeypatch):
    made = tiny.token_classifier(tmp_path / "made")
    # As the Hub's cache lays files out: links into a folder of blobs, the large ones under their digest.
    blobs, snapshot, commit = tmp_path / "blobs", tmp_path / "snapshots" / ("c" * 40), "c" * 40
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    digest = hashlib.sha256((made / "model.safetensors").read_bytes()).hexdigest()
    for file in made.iterdir():
        blob = blobs / (digest if file.suffix == ".safetensors" else "0" * 40 + file.name)
        file.rename(blob)
        (snapshot / file.name).symlink_to(blob)
    monkeypatch.setattr(origin, "snapshot_download", lambda name, allow_patterns: str(snapshot))
    section = ScorerSection(model="owner/prm", family="token_classifier")
    assert weights_of(section) == {"model.safetensors": digest}
    assert revisions_of(section) == {"scorer.model": commit}
    assert revisions_of(ScorerSection(model=str(snapshot))) == {}
    assert load_scorer(section).family.kind == "token_classifier"


@pytest.mark.parametrize("given", [{"rule": "argmin"}, {"calibration": "rule.json"}])
def test_the_exact_checker_takes_no_rule(given):
    with pytest.raises(ValidationError, match=f"needs no rule; leave scorer.{next(iter(given))} out"):
        ScorerSection(model="exact", **given)


def test_a_calibrated_rule_needs_a_calibration(tmp_path):
    refused(tiny.token_classifier(tmp_path / "model"), "there is no calibration", rule="calibrated")


# --- what is not a model ---------------------------------------------------------------------------------------------


def test_exact_none_and_noise():
    family = Reduction()
    assert isinstance(load_scorer(ScorerSection(model="exact"), problem_family=family), ExactScorer)
    assert isinstance(load_scorer(ScorerSection(model="exact", noise=0.2), problem_family=family), NoisyScorer)
    with pytest.raises(UserError, match="knows the problems of a family"):
        load_scorer(ScorerSection(model="exact"))
    with pytest.raises(UserError, match="a step scorer is needed"):
        load_scorer(ScorerSection(model="none"))


def test_the_embedded_scorer_passes_its_self_test():
    scorer = load_scorer(ScorerSection())
    problem = Problem("p", "reduce 0 3 5 7\n\n", "2")
    steps = ["3 + 7 = 10 : 0 5 10", "0 + 10 = 10 : 5 10", "5 + 10 = 3 : 3", "answer 3"]
    (scores,) = scorer.score([(problem, steps)])
    assert scorer.rule.first_wrong(scores) == 2


# --- folders that cannot be used -------------------------------------------------------------------------------------


def tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], None], part: int = 2) -> Path:
    """The folder with some tensors of one of its files changed."""
    file = folder / f"model-0000{part}-of-00002.safetensors"
    found = load_file(file)
    change(found)
    save_file(found, file, metadata={"format": "pt"})
    index = folder / "model.safetensors.index.json"
    known = json.loads(index.read_text())
    kept = {name: where for name, where in known["weight_map"].items() if where != file.name}
    index.write_text(json.dumps(known | {"weight_map": kept | dict.fromkeys(found, file.name)}))
    return folder


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda head: [head.pop(name) for name in list(head)], "no head 'score.'"),
        (lambda head: head.pop("score.0.weight"), "score"),
        (lambda head: head.update({"score.0.scale": torch.ones(1)}), "score.0.scale"),
        (lambda head: head.update({"score.2.weight": torch.ones(3, 32), "score.2.bias": torch.ones(3)}), "3 outputs"),
        (
            lambda head: head.update({"score.0.weight": torch.ones(30, 32), "score.0.bias": torch.ones(30)}),
            "fit together",
        ),
    ],
)
def test_a_head_of_another_layout_is_refused(change, part, tmp_path):
    refused(tensors(tiny.qwen_prm(tmp_path / "model"), change), "cannot be loaded", "'qwen'", part)


def test_a_backbone_with_missing_weights_is_refused(tmp_path):
    folder = tiny.qwen_prm(tmp_path / "model")
    tensors(folder, lambda backbone: backbone.pop("model.layers.1.mlp.up_proj.weight"), part=1)
    refused(folder, "lack", "layers.1.mlp.up_proj.weight")


def test_a_tokenizer_without_the_marker_is_refused(tmp_path):
    folder = tiny.qwen_prm(tmp_path / "model")
    refused(folder, "no token '<extra_1>'", family={"kind": "qwen", "marker": "<extra_1>"})


def test_a_tokenizer_without_a_chat_template_is_refused(tmp_path):
    folder = tiny.qwen_prm(tmp_path / "model")
    (folder / "chat_template.jinja").unlink()
    refused(folder, "no chat template")


# --- self-test -------------------------------------------------------------------------------------------------------


def zero_last_layer(head: dict[str, torch.Tensor]) -> None:
    head["score.2.weight"] = torch.zeros(2, 32)


def not_a_number(head: dict[str, torch.Tensor]) -> None:
    head["score.2.bias"] = torch.full((2,), float("nan"))


@pytest.mark.parametrize(("change", "part"), [(zero_last_layer, "score alike"), (not_a_number, "not numbers")])
def test_flat_scores_and_scores_that_are_none_stop_before_any_work(change, part, tmp_path):
    refused(tensors(tiny.qwen_prm(tmp_path / "model"), change), "self-test", part, "transformers (")


def test_another_model_under_a_known_name_is_noticed(tmp_path):
    folder = tiny.qwen_prm(tmp_path / "Qwen2.5-Math-PRM-7B", context=4096)
    refused(folder, "self-test", "authors published [1, 0.1904, 0.9766, 1]", "gsm8k-0")


class Said:
    """Gives the same answers again and again."""

    rule = Threshold()

    def __init__(self, *scores):
        self.scores = scores

    def score(self, solutions):
        return [self.scores[i % len(self.scores)] for i in range(len(solutions))]


RIGHT, WRONG = (0.9, 0.8, 0.9), (0.9, 0.1, 0.2)


@pytest.mark.parametrize(
    ("scores", "part"),
    [
        ([RIGHT, RIGHT[:2]], "2 scores to 3 steps"),
        ([RIGHT, None], "cannot score"),
        ([RIGHT, (0.9, 1.2, 0.1)], "between 0.0 and 1.0"),
        ([RIGHT, (0.9, -0.1, 0.1)], "between 0.0 and 1.0"),
        ([(0.25, 0.22, 0.27), (0.25, 0.23, 0.24)], "score alike"),
    ],
)
def test_what_the_self_test_refuses(scores, part):
    with pytest.raises(UserError, match=part):
        self_test(Said(*scores), Qwen(), "theirs")


def test_what_the_self_test_accepts():
    self_test(Said(RIGHT, WRONG), Qwen(), "theirs")
    self_test(Said((0.5, -0.9, 0.9), WRONG), PurePrm(), "theirs")


def test_published_answers_are_asked_for_by_name():
    (known,) = KnownAnswer.of("hub/Qwen2.5-Math-PRM-7B")
    near = tuple(min(1.0, score + 0.03) for score in known.scores)

    class Theirs(Said):
        def score(self, solutions):
            is_known = solutions[0][0] == known.problem
            return [self.scores[0]] if is_known else [RIGHT, WRONG][: len(solutions)]

    self_test(Theirs(near), Qwen(), "hub/Qwen2.5-Math-PRM-7B")
    with pytest.raises(UserError, match="authors published"):
        self_test(Theirs((0.22, 0.27, 0.25, 0.24)), Qwen(), "hub/Qwen2.5-Math-PRM-7B")
    assert KnownAnswer.of("hub/Qwen2.5-Math-PRM-72B") == []
    assert len(KnownAnswer.of("infly/Universal-PRM-7B")[0].steps) == 5


def test_a_vocabulary_of_other_words_is_not_judged_on_words_it_lacks():
    self_test(Said((0.5,), (0.5,)), TokenClassifier(), "theirs", _NoWords())


class _NoWords:
    unk_token_id = 0

    def encode(self, text, add_special_tokens):
        return [0]


def test_scores_of_a_loaded_scorer_are_tuples_of_floats(tmp_path):
    (scores,) = load(tiny.qwen_prm(tmp_path / "model")).score([(PROBLEM, STEPS)])
    assert isinstance(scores, tuple)
    assert all(type(score) is float for score in scores)
    assert load(tiny.qwen_prm(tmp_path / "again")).family == Qwen()
    assert Skywork().default_rule == Drop(drop=0.05)
