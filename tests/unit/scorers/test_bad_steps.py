"""Steps that nobody would wish for: empty, with markers in them, ten thousand, of any script, or cut inside a character."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from scope_rlvr.core.types import Problem
from scope_rlvr.salvage.rules import Threshold
from scope_rlvr.scorers.candidate_tokens import MathShepherdWriter, RlhFlowWriter
from scope_rlvr.scorers.critic import CriticScorer
from scope_rlvr.scorers.families import (
    Critic,
    Implicit,
    MathShepherd,
    PurePrm,
    Qwen,
    RlhFlow,
    Skywork,
    TokenClassifier,
    Trl,
    Universal,
    VllmPooling,
)
from scope_rlvr.scorers.implicit import ImplicitWriter
from scope_rlvr.scorers.loading import load_scorer
from scope_rlvr.scorers.pooling import PoolingScorer
from scope_rlvr.scorers.qwen import QwenWriter
from scope_rlvr.scorers.settings import ScorerSection
from scope_rlvr.scorers.token_classifier import TokenClassifierWriter
from scope_rlvr.scorers.value_head import SkyworkWriter, UniversalWriter
from scope_rlvr.scorers.writing import InputWriter
from scope_rlvr.servers.client import Client
from tests.tokenizers_zoo import KINDS, LOSSLESS, tokenizer_of
from tests.unit.scorers import tiny
from tests.unit.scorers.served import PATIENCE, served
from tests.unit.scorers.test_other_families import SEVEN, Walker, monte_carlo, steps_of
from tests.unit.scorers.test_server_families import NAME, careful, entries
from tests.unit.scorers.tiny import PROBLEM, STEPS

WRITERS: dict[str, Callable[[PreTrainedTokenizerFast], InputWriter]] = {
    "token_classifier": lambda tokenizer: TokenClassifierWriter(tokenizer, TokenClassifier()),
    "trl": lambda tokenizer: TokenClassifierWriter(tokenizer, Trl()),
    "pure": lambda tokenizer: TokenClassifierWriter(tokenizer, PurePrm()),
    "qwen": lambda tokenizer: QwenWriter(tokenizer, Qwen()),
    "math_shepherd": lambda tokenizer: MathShepherdWriter(tokenizer, MathShepherd()),
    "rlhflow": lambda tokenizer: RlhFlowWriter(tokenizer, RlhFlow()),
    "skywork": lambda tokenizer: SkyworkWriter(tokenizer, Skywork()),
    "universal": lambda tokenizer: UniversalWriter(tokenizer, Universal(), limit=1 << 20),
    "implicit": lambda tokenizer: ImplicitWriter(tokenizer, Implicit()),
    "implicit, without numbers": lambda tokenizer: ImplicitWriter(tokenizer, Implicit(is_numbered=False)),
}
EVERY_WRITER = pytest.mark.parametrize("family", WRITERS)

HALF = "\ud83d"
BAD = {
    "empty": ["", "", ""],
    "blank": [" ", "\n\n", "\t\r\n", "\u2028"],
    "empty ones between others": ["", "a", "", "b", ""],
    "markers": ["<extra_0>", "a<extra_0>b <extra_0>", "ки", "ки ки\nки", "a ки", "+", "-", "a\n\nb", "a\nb\n"],
    "special tokens": ["<|im_end|>\n<|im_start|>assistant", "<|eot|>", "<end>", "<unk>"],
    "labels": ["Step 7: a", "Step  3 : ", "Step 1:"],
    "templates": ["{{ 1 }}", "{% for m in x %}", "§here§"],
    "scripts": ["第一步：二", "Шаг ки", "الخطوة ٢", "चरण", "👩‍🔬", "e\u0301", "か\u3099"],
    "control characters": ["\x00", "\x01\x7f\x1b[31m", "\ufeff", "\u202e", "\x85", "\ufffd", "\U0010ffff"],
}


@cache
def tokenizer_with(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer of a kind with the special tokens and a chat template that writers ask for."""
    special = ["<extra_0>", "<|im_start|>", "<|im_end|>"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer_of(kind).backend_tokenizer,
        eos_token=AddedToken("<end>"),
        unk_token="<unk>",
        additional_special_tokens=special,
    )
    tokenizer.chat_template = tiny.CHATML
    return tokenizer


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "WordPiece"])
@EVERY_WRITER
def test_every_step_has_its_place_in_what_any_tokenizer_writes(family, kind):
    writer = WRITERS[family](tokenizer_with(kind))
    for case, steps in BAD.items():
        written = writer.write(PROBLEM, steps)
        places = [(number, position) for number, part in enumerate(written) for position in part.positions]
        assert len(places) == len(steps), case
        assert places == sorted(places), case
        assert all(part.positions[-1] < len(part.token_ids) for part in written), case
        # The implicit reward is read two tokens late, where an empty step behind it, or a short one, may end as well.
        assert len(set(places)) == len(places) or family.startswith("implicit"), case


@pytest.mark.parametrize("family", [family for family in WRITERS if family.startswith("implicit")])
def test_ten_thousand_steps_of_a_log_ratio_have_their_places(family):
    """As those of the other families, in ``test_local_families``."""
    steps = [f"{number} + 1 = {number + 1}." for number in range(10_000)]
    (written,) = WRITERS[family](tokenizer_with(LOSSLESS[0])).write(PROBLEM, steps)
    assert len(set(written.positions)) == 10_000


@EVERY_WRITER
def test_half_of_a_character_is_refused_in_words(family):
    writer = WRITERS[family](tokenizer_with(LOSSLESS[0]))
    for problem, steps in [(PROBLEM, ["a", f"b {HALF}"]), (Problem("p", f"{HALF}?", ""), ["a"])]:
        with pytest.raises(ValueError, match="half of a character"):
            writer.write(problem, steps)


def test_an_accent_that_the_tokenizer_composes_is_part_of_its_letter():
    """Qwen's tokenizer writes a letter and its accent as one character; a step may end with them."""
    apart, composed = ["cafe\u0301", "か\u3099", "\u1112\u1161\u11ab"], ["café", "が", "한"]
    writer = WRITERS["implicit"](tokenizer_with("byte-level BPE, as Qwen"))
    assert writer.write(PROBLEM, apart) == writer.write(PROBLEM, composed)


# --- scorers ---------------------------------------------------------------------------------------------------------

BROKEN = [(PROBLEM, ["a", HALF]), (PROBLEM, STEPS), (Problem("p", HALF, ""), STEPS), (PROBLEM, [])]


def test_a_scorer_that_runs_here_leaves_out_what_is_broken_and_says_so(tmp_path: Path, caplog: Any) -> None:
    scorer = load_scorer(ScorerSection(model=str(tiny.qwen_prm(tmp_path / "model"))))
    with caplog.at_level(logging.WARNING, "scope_rlvr"):
        found = scorer.score(BROKEN)
    assert [scores is None for scores in found] == [True, False, True, True]
    assert caplog.text.count("half of a character") == 1


def test_a_served_scorer_is_not_asked_what_cannot_be_written(caplog):
    writer = WRITERS["qwen"](tokenizer_with(LOSSLESS[0]))
    with served(lambda body: entries(*[[0.25, 0.75]] * 3)) as server:
        client = Client(server.url.removesuffix("/v1"), PATIENCE)
        family = VllmPooling(tokenizer="theirs", server=PATIENCE)
        scorer = PoolingScorer(client, NAME, writer, family, Threshold(), limit=None)
        assert scorer.score(BROKEN) == [None, (0.75,) * 3, None, None]
        assert len(server.asked) == 1
    assert caplog.text.count("half of a character") == 1


def test_a_critic_reads_any_steps_but_broken_ones():
    with served(careful) as server:
        scorer = CriticScorer(Client(server.url, PATIENCE), NAME, Critic(server=PATIENCE), Threshold(), seed=0)
        assert scorer.score(BROKEN) == [None, (1.0, 0.0, 0.0), None, None]
        for steps in BAD.values():
            assert scorer.score([(PROBLEM, steps)]) == [(1.0,) * len(steps)]
        assert scorer.score([(PROBLEM, ["line"] * 9999 + ["fish"])]) == [(1.0,) * 9999 + (0.0,)]


def test_the_policy_continues_any_steps_but_broken_ones():
    scorer = monte_carlo(Walker(10_000), max_response_tokens=1 << 20)
    broken = [(SEVEN, ["a\n\n", HALF]), (Problem("p", HALF, "7"), steps_of(3))]
    assert scorer.score(broken) == [None, None]
    for steps in BAD.values():
        assert scorer.score([(SEVEN, steps)]) == [(1.0,) * len(steps)]
    assert monte_carlo(Walker(4321), max_response_tokens=1 << 20).score([(SEVEN, steps_of(10_000))]) == [
        (1.0,) * 4321 + (0.0,) * 5679
    ]
