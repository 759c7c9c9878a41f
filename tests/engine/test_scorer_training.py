"""A step scorer is really trained: it learns, it goes on after an interruption bit for bit, and it stops where it must."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.types import Problem
from scope_rlvr.embedded import labelled, model_path
from scope_rlvr.problems.labelled import LabelledSolution
from scope_rlvr.scorer_lab.training import trainer as trainer_module
from scope_rlvr.scorer_lab.training.base import load_base
from scope_rlvr.scorer_lab.training.corpus import split_corpus
from scope_rlvr.scorer_lab.training.examples import make_example
from scope_rlvr.scorer_lab.training.run import (
    ScorerTrainingRequest,
    check_folder,
    plan_training,
    run,
    train_step_scorer,
)
from scope_rlvr.scorer_lab.training.settings import ScorerTraining
from scope_rlvr.scorer_lab.training.trainer import ScorerTrainingMonitor, TrainingDiverged, fit
from scope_rlvr.scorers.loading import load_scorer
from scope_rlvr.scorers.settings import ScorerSection
from scope_rlvr.store.folder import RunFolder

TEACHER = str(model_path("teacher"))


def solutions(num=40):
    """Short solutions, every other one with a wrong step; those that go wrong at once have one label, the others two."""
    return [
        LabelledSolution(
            Problem(f"p{k}", f"reduce {k % 13} {k % 7}\n\n", "1"),
            ("1 + 2 = 3 : 3", f"answer {k % 13}"),
            {1: 0, 3: 1}.get(k % 4),
        )
        for k in range(num)
    ]


def fitted(folder, *, resume_from=None, model=None, **settings):
    """A training on short solutions; returns the weights, the signal and the losses."""
    settings = ScorerTraining(**{"steps": 6, "batch_rows": 8, "learning_rate": 1e-3, "checkpoint_every": 2} | settings)
    base, tokenizer = load_base(TEACHER, "embedded:teacher", solutions(), 0)
    model = model or base
    examples = [make_example(tokenizer, s, settings.family) for s in solutions()]
    losses = []
    signal = fit(
        model,
        tokenizer,
        examples,
        settings,
        folder,
        ScorerTrainingMonitor(step=lambda *heard: losses.append(heard)),
        resume_from,
    )
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}, signal, losses


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_a_training_goes_on_from_its_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    whole, signal, losses = fitted(RunFolder(tmp_path / "whole"))
    assert signal == ""
    assert [step for step, _, _ in losses] == [1, 2, 3, 4, 5, 6]
    torn = RunFolder(tmp_path / "torn")
    fitted(torn)
    # As a kill after step 5 leaves it: the newest checkpoint was not written to its end.
    (torn.checkpoints / "checkpoint-6" / "COMPLETE").unlink()
    assert torn.last_checkpoint() == torn.checkpoints / "checkpoint-4"
    resumed, _, again = fitted(torn, resume_from=torn.last_checkpoint())
    assert_same(resumed, whole)
    assert again == losses[4:]
    assert torn.metrics.read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()


def test_a_training_that_is_done_is_not_trained_further(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    whole, _, _ = fitted(folder)
    again, _, losses = fitted(folder, resume_from=folder.last_checkpoint())
    assert_same(again, whole)
    assert losses == []


def test_micro_batches_change_nothing_but_rounding(tmp_path: Path) -> None:
    """Rows of one and of two labels share a batch: a mean over micro-batches would weigh them differently."""
    _, _, losses = fitted(RunFolder(tmp_path / "whole"))
    _, _, losses_split = fitted(RunFolder(tmp_path / "split"), micro_batch_rows=2)
    for (_, _, one), (_, _, other) in zip(losses, losses_split, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_gradients_that_are_not_numbers_stop_before_the_weights_change(tmp_path: Path) -> None:
    model, _ = load_base(TEACHER, "embedded:teacher", solutions(), 0)
    with torch.no_grad():
        model.score.weight[0, 0] = torch.nan
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if name != "score.weight"}
    with pytest.raises(TrainingDiverged, match="step 1 is not a number"):
        fitted(RunFolder(tmp_path), model=model)
    assert_same(before, {name: model.state_dict()[name] for name in before})
    assert RunFolder(tmp_path).last_checkpoint() is None


def test_an_interruption_saves_and_the_rest_is_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _, _ = fitted(RunFolder(tmp_path / "whole"))
    on_step_end = trainer_module._TrainingRecorder.on_step_end

    def interrupted(self, args, state, control, **kw) -> TrainerCallback:
        if state.global_step == 3:
            self.interruption.by = "SIGTERM"
        return on_step_end(self, args, state, control, **kw)

    folder = RunFolder(tmp_path / "stopped")
    with monkeypatch.context() as patched:
        patched.setattr(trainer_module._TrainingRecorder, "on_step_end", interrupted)
        _, signal, _ = fitted(folder)
    assert signal == "SIGTERM"
    assert folder.last_checkpoint() == folder.checkpoints / "checkpoint-3"
    resumed, signal, _ = fitted(folder, resume_from=folder.last_checkpoint())
    assert signal == ""
    assert_same(resumed, whole)


def test_a_base_learns_where_its_own_rollouts_go_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On problems that it has not seen. Whoever calls every step right has an F1 of 0, here and in ProcessBench."""
    monkeypatch.setattr(labelled, "ROLLOUT_LEVELS", range(4, 5))
    corpus = split_corpus(labelled.policy_solutions(900), held_out=0.25, seed=0)
    model, tokenizer = load_base(str(model_path("policy")), "embedded:policy", corpus.train, 0)
    settings = ScorerTraining(steps=140, batch_rows=32, learning_rate=1e-3, checkpoint_every=1000)
    trained = train_step_scorer(model, tokenizer, corpus, settings, RunFolder(tmp_path), ScorerTrainingMonitor())
    figures = trained.figures
    assert figures is not None
    assert figures["num_wrong"] > 30
    assert figures["num_right"] > 15
    assert figures["step_accuracy_constant"] < 0.9
    assert figures["step_accuracy"] > 0.97
    assert figures["f1"]["value"] > 0.9


# --- the whole way ----------------------------------------------------------------------------------------------------


def test_a_base_without_all_its_weights_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = tmp_path / "holed"
    folder.mkdir()
    for file in Path(TEACHER).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if "layers.1" in name)
    save_file({k: v for k, v in weights.items() if k != lost}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"lack '{lost}'"):
        load_base(str(folder), "./holed", solutions(), 0)


def test_a_base_that_cannot_read_the_steps_is_refused() -> None:
    strange = [LabelledSolution(Problem("p7", "reduce 1 2\n\n", "3"), ("one and two", "answer 3"), None)]
    with pytest.raises(UserError, match="cannot read the step 'one and two' of the solution p7"):
        load_base(TEACHER, "embedded:teacher", strange, 0)


def test_equal_seeds_give_equal_heads() -> None:
    heads = [load_base(TEACHER, "x", solutions(), seed)[0].score.weight for seed in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def request(data: Path, **settings) -> ScorerTrainingRequest:
    given = {"held_out": 0.3, "batch_rows": 16, "learning_rate": 1e-3, "steps": 4} | settings
    return ScorerTrainingRequest((str(data),), "embedded:teacher", ScorerTraining(**given))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "short.jsonl"
    rows = [
        {"prompt": s.problem.prompt, "steps": s.steps, "label": -1 if s.first_wrong is None else s.first_wrong}
        for s in solutions(60)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_what_was_trained_is_a_scorer_like_any_other(tmp_path: Path, data: Path) -> None:
    plan, out = plan_training(request(data)), tmp_path / "out"
    trained = run(plan, out, ScorerTrainingMonitor(), resume=False)
    assert trained.figures is not None
    scorer = load_scorer(ScorerSection(model=str(out)), problems=[s.problem for s in plan.corpus.test])
    assert scorer.rule == trained.rule
    scores = scorer.score([(s.problem, s.steps) for s in plan.corpus.test])
    found = [scorer.rule.first_wrong(row) for row in scores]
    exact = [f == s.first_wrong for f, s in zip(found, plan.corpus.test, strict=True) if s.first_wrong is not None]
    assert trained.figures["wrong"]["exact"]["value"] == pytest.approx(sum(exact) / len(exact))
    record = json.loads((out / "training.json").read_text())
    assert record["figures"] == json.loads(json.dumps(trained.figures))
    card = (out / "README.md").read_text()
    assert f"{record['threshold']:.4g}" in card
    assert "embedded:teacher" in card
    assert not (out / "checkpoints").exists()


def test_only_what_was_begun_alike_goes_on(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    plan = plan_training(request(data))
    with pytest.raises(UserError, match="holds no training to go on with"):
        check_folder(out, plan, resume=True)
    out.mkdir()
    (out / "request.json").write_text(json.dumps(plan.record()))
    with pytest.raises(UserError, match="--resume"):
        check_folder(out, plan, resume=False)
    check_folder(out, plan, resume=True)
    with pytest.raises(UserError, match=r"learning_rate was 0.001 and is 0.002"):
        check_folder(out, plan_training(request(data, learning_rate=2e-3)), resume=True)
    data.write_text("\n".join(data.read_text().splitlines()[:-1]))
    with pytest.raises(UserError, match="data_digest was"):
        check_folder(out, plan_training(request(data)), resume=True)
    (out / "training.json").write_text("{}")
    with pytest.raises(UserError, match="nothing left to resume"):
        check_folder(out, plan, resume=True)


def test_solutions_that_do_not_fit_are_counted(tmp_path: Path, data: Path) -> None:
    """The prompt has 4 tokens, the first step 8 with its separator, the second 3."""
    plan = plan_training(request(data, max_tokens=14, steps=1))
    trained = run(plan, tmp_path / "out", ScorerTrainingMonitor(), resume=False)
    assert trained.num_too_long == 0
    assert trained.num_cut == sum(s.first_wrong != 0 for s in plan.corpus.train)
    with pytest.raises(UserError, match=r"none of the .* within 3 tokens"):
        run(
            plan_training(request(data, max_tokens=3, steps=1)),
            tmp_path / "none",
            ScorerTrainingMonitor(),
            resume=False,
        )
    assert not (tmp_path / "none").exists()


def test_a_separator_without_a_token_is_refused(tmp_path: Path, data: Path) -> None:
    with pytest.raises(UserError, match=r"no token for the separator '\\n'; name another by --separator"):
        run(plan_training(request(data, separator="\n")), tmp_path / "out", ScorerTrainingMonitor(), resume=False)
    assert not (tmp_path / "out").exists()
