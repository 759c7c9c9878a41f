"""The public surface, frozen: whoever changes it does so on purpose, by changing a list here, and says so in the docs."""

from __future__ import annotations

from typing import Any

import typer.main

from scope_rlvr.cli.check import CHECK_SCHEMA
from scope_rlvr.cli.doctor import DOCTOR_SCHEMA
from scope_rlvr.cli.main import app
from scope_rlvr.core.errors import ExitCode
from scope_rlvr.core.groups import GroupClass, Role, SalvageOutcome
from scope_rlvr.core.types import Outcome
from scope_rlvr.engines.samplers import LocalSampler, VllmSampler, VllmServer
from scope_rlvr.measure.policy import EVALUATION_SCHEMA
from scope_rlvr.measure.responses import GRADES_SCHEMA
from scope_rlvr.methods import METHODS, PARTS
from scope_rlvr.models.lora import LoraSection
from scope_rlvr.run.config import RunConfig
from scope_rlvr.run.outcome import SUMMARY_SCHEMA
from scope_rlvr.scorer_lab.bench_command import BENCH_SCHEMA
from scope_rlvr.scorer_lab.calibrate import CALIBRATION_SCHEMA
from scope_rlvr.store.records import SCHEMA_VERSION

COMMANDS = {
    "train": ["config", "--set", "--method", "--steps", "--eval-every", "--out", "--resume", "--wait-minutes"],
    "eval": [
        "model",
        "--problems",
        "--config",
        "--data",
        "--num-problems",
        "--split",
        "--problems-block",
        "--samples",
        "--temperature",
        "--max-tokens",
        "--seed",
        "--metrics",
        "--embedding-model",
        "--verifier",
        "--answer-pattern",
        "--batch-rows",
        "--threads",
        "--dtype",
        "--against",
        "--show",
        "--out",
    ],
    "grade": ["file", "--verifier", "--set", "--show", "--out"],
    "warmup": ["config", "--set", "--steps", "--out", "--resume"],
    "check": ["config", "--set", "--method", "--out", "--processes", "--zero-stage", "--quick", "--json"],
    "doctor": ["configs", "--json"],
    "methods": ["name", "--family", "--need", "--status", "--parts"],
    "report": ["run", "--out"],
    "salvage": [
        "rollouts",
        "--out",
        "--scorer",
        "--teacher",
        "--policy",
        "--problems",
        "--config",
        "--set",
        "--parquet",
        "--sft",
        "--dpo",
        "--resume",
        "--skip-bad-rows",
        "--batch-rows",
    ],
    "show": ["run", "--step", "--limit", "--jsonl"],
    "study": ["file", "--out", "--results", "--at-once", "--dry-run", "--report-only"],
    "version": [],
    "scorer train": [
        "data",
        "--base",
        "--out",
        "--resume",
        "--skip-bad-rows",
        "--separator",
        "--bos",
        "--after-prompt",
        "--epochs",
        "--steps",
        "--batch-rows",
        "--micro-batch-rows",
        "--learning-rate",
        "--warmup-share",
        "--weight-decay",
        "--max-tokens",
        "--held-out",
        "--checkpoint-every",
        "--train-layers",
        "--dtype",
        "--gradient-checkpointing",
        "--threads",
        "--seed",
    ],
    "scorer label": [
        "rollouts",
        "--policy",
        "--samples",
        "--out",
        "--resume",
        "--first-error-only",
        "--right-above",
        "--set",
        "--rows-at-once",
        "--limit",
        "--skip-bad-rows",
    ],
    "scorer bench": ["--scorer", "--data", "--tune-on", "--set", "--skip-bad-rows", "--out"],
    "scorer calibrate": [
        "--scorer",
        "--data",
        "--late-cost",
        "--out",
        "--missed-cost",
        "--false-alarm-cost",
        "--rows",
        "--seed",
        "--set",
        "--skip-bad-rows",
    ],
    "embedded build": ["--out"],
}
EXIT_CODES = {"OK": 0, "INTERNAL_ERROR": 1, "BAD_INPUT": 2, "TRAINING_STOPPED": 5, "RUNS_FAILED": 6, "INTERRUPTED": 130}
SHARED = ["aggregation", "baseline", "clip", "drop_flat_groups", "entropy", "kl", "name", "normalisation", "parts"]
GUIDED = ["teacher_term", "teacher_weight"]
METHOD_OPTIONS = {
    "ace": ["alpha"],
    "adora": ["damping"],
    "amft": [*GUIDED, "mu", "mu_high", "mu_low", "num_traces", "rate", "target"],
    "ampo": [*GUIDED, "num_traces"],
    "arena": ["share"],
    "arg": [*GUIDED, "levels", "max_insertions", "selector_rate"],
    "arpo": ["first_share", "slope", "threshold"],
    "arrol": ["detection_tokens", "kept_share", "learning_rate", "updates", "warmup"],
    "bread": [*GUIDED, "max_anchors", "num_continuations"],
    "calibrl": ["guidance", "slope"],
    "canon": ["by", "mix"],
    "chord": [*GUIDED, "mu_decay", "mu_peak", "mu_valley", "mu_warmup", "num_traces"],
    "clip_cov": ["share"],
    "cog_drift": ["separator", "threshold"],
    "critique_grpo": [*GUIDED, "max_refinements", "template"],
    "cure": [
        "branching_steps",
        "min_key_chars",
        "num_branches",
        "num_key_tokens",
        "overlong_penalty",
        "overlong_share",
    ],
    "dapo": ["max_rounds", "overlong_penalty", "overlong_share"],
    "dars": ["extra_rows", "most"],
    "dcpo": ["target"],
    "deep_search": ["capacity", "chunk_tokens", "depth_weight", "hard_share", "quality_weight", "width"],
    "dph_rl": ["coefficient", "divergence", "mastered_share", "num_presampled"],
    "dr_grpo": [],
    "drive": ["kept_share", "num_phases", "uniform_share"],
    "dsdr": ["cap", "temperature"],
    "dump": ["temperature", "window"],
    "ead": ["flat", "highest", "lowest"],
    "eighty_twenty": ["max_rounds", "overlong_penalty", "overlong_share", "share"],
    "epo": ["bonus", "high", "low", "penalty"],
    "etr": ["by_advantage", "by_variance"],
    "exgrpo": [*GUIDED, "capacity", "replay_share", "start_accuracy"],
    "f_dpg": ["beta", "divergence", "window"],
    "failure_prefix": ["capacity", "first_share", "saturated", "target"],
    "g2rl": ["rule", "strength"],
    "ghpo": ["hint_shares", "template"],
    "grpo": [],
    "hidden_rank": ["gain", "kappa", "momentum", "stride"],
    "igpo": [*GUIDED, "high", "low", "max_injections", "top_entropy"],
    "int": [*GUIDED, "intervention_rate", "intervention_share", "num_tries", "template"],
    "iw_opd": ["coefficient", "distilled", "gamma"],
    "kdrl": ["only", "teacher_weight"],
    "kl_cov": ["penalty", "share"],
    "knapsack_rl": ["fewest", "min_seen", "most", "window"],
    "latr": ["gap", "least", "least_distance", "lookahead", "searched_tokens", "tree_steps"],
    "lite_ppo": [],
    "lp_reg": ["min_p", "penalty", "share"],
    "mentor": [*GUIDED, "least_entropy", "mixed_share", "num_guided_steps", "num_points", "quantile"],
    "nsr": [],
    "nthr": ["beta", "top_k"],
    "olr": ["patience", "slope"],
    "one_shot": ["count", "warmup"],
    "opd": ["coefficient", "distilled"],
    "gspo": [],
    "guide": [*GUIDED, "hint_share", "mixin", "template"],
    "luffy": [*GUIDED, "num_traces"],
    "opd_on_failures": ["coefficient", "distilled"],
    "opd_then_grpo": ["opd_rate", "opd_share"],
    "pacs": ["beta"],
    "perplexity_shaping": ["strength"],
    "pgbc": ["false_negatives", "false_positives"],
    "pgfc": ["false_negatives"],
    "pope": ["prefix_shares", "template"],
    "position_shaping": ["gain", "steepness"],
    "prefix_rft": [*GUIDED, "high", "low_end", "low_start", "top_entropy"],
    "prime": ["paid_steps", "process_weight"],
    "prl": ["block", "eta"],
    "process_reward": ["paid_steps", "process_weight"],
    "prof": ["kept_share"],
    "progrpo": ["weight"],
    "psr": [],
    "pure": ["outcome_weight", "paid_steps", "temperature", "train_step_ends", "whiten"],
    "puzzlecraft": ["floor"],
    "r3l": ["gain", "reflection", "retry", "tau"],
    "recap": ["temperature", "window"],
    "relift": ["sft_rate"],
    "rep_exp": ["dimensions", "ridge", "weight"],
    "repo": ["capacity", "max_age"],
    "reward_unlikely": ["weight"],
    "rft": [],
    "rgr_grpo": [*GUIDED, "criteria", "met", "share", "template"],
    "rl_plus": [*GUIDED, "num_traces"],
    "rlfr": ["learning_rate", "warmup", "weight"],
    "rlp": ["decay"],
    "rlpr": ["average_from", "filter_from", "filter_share"],
    "rlsp": ["cost"],
    "rm_r1": ["choices", "tag", "window"],
    "rorecomp": ["share"],
    "rose": ["root_share", "top_k"],
    "rover": ["rho"],
    "rubric_anchors": ["criteria", "saturation", "share"],
    "scope": [
        *GUIDED,
        "admission",
        "cut",
        "cut_back_steps",
        "cut_back_tokens",
        "failure_credit",
        "fallback",
        "group_rule",
        "guards",
        "include_truncated",
        "insertion",
        "max_rounds",
        "max_salvages",
        "min_prefix_ratio",
        "min_prefix_steps",
        "mode",
        "no_error_rule",
        "num_continuations",
        "prefix_credit",
        "ranking",
        "show_reference",
        "show_rejected_step",
    ],
    "scope_ttrl": ["balance", "k"],
    "sdpo": ["decay", "template"],
    "search_r2": ["max_revisions"],
    "self_filter": ["max_rounds"],
    "sft": [*GUIDED],
    "sft_then_grpo": [*GUIDED, "sft_rate", "sft_share"],
    "shaped_ntp": [*GUIDED, "exponent", "tail"],
    "sibling_grpo": ["weight"],
    "siren": ["weight"],
    "spae": ["alpha", "max_tokens", "num_probes", "trigger", "xi"],
    "spear": ["capacity", "max_age", "num_baselines", "threshold", "warmup"],
    "srpo": ["beta", "decay", "template"],
    "ssb": [*GUIDED, "template"],
    "steer": ["least"],
    "svs": [
        "extra_rows",
        "highest",
        "lowest",
        "num_solutions",
        "num_variants",
        "template",
        "variant_highest",
        "variant_lowest",
    ],
    "tapo": [*GUIDED, "cut", "high", "low", "max_corrections", "template"],
    "thr": ["beta", "tilt", "top_k"],
    "trapo": [*GUIDED],
    "trd": [*GUIDED, "rewritten", "template"],
    "ttrl": [],
    "ucas": [],
    "vppo": ["cut_back_tokens", "positive_prefix", "prefix_credit"],
    "w_reinforce": ["positive"],
    "wgrpo": ["highest_hard", "lowest_easy"],
}
"""What each method has beyond the shared options."""
PART_OPTIONS = {
    "anchor": ["decay", "to", "weight"],
    "anchored_entropy": ["share", "top_p", "weight"],
    "annealed_decoding": ["flat", "highest", "lowest"],
    "answer_confidence": ["share", "weight"],
    "answer_probability": [],
    "backward_correction": ["false_negatives", "false_positives"],
    "balanced_groups": ["least_spread"],
    "bandit": ["temperature", "window"],
    "branch_values": [],
    "brevity_priority": ["share"],
    "confidence_penalty": ["alpha"],
    "correction_buffer": ["capacity", "draw", "learned_at", "max_drift", "per_group", "weight"],
    "coupled_entropy": ["temperature", "weight"],
    "covariance_mask": ["high", "low", "share"],
    "covariance_penalty": ["penalty", "share"],
    "early_tokens": ["gamma"],
    "elastic_clip": ["by_advantage", "by_variance"],
    "entropy_change": ["floor", "least"],
    "entropy_scale": ["strength"],
    "entropy_smoothing": ["bonus", "high", "low", "penalty", "warmup", "weight"],
    "expert_calibration": ["slope", "weight"],
    "exploration_curriculum": ["floor"],
    "f_divergence": ["beta", "divergence", "window"],
    "flipped_verdicts": ["rate"],
    "flow_reward": ["inner_width", "learning_rate", "least", "num_tokens", "time", "warmup", "weight"],
    "forking_tokens": ["share"],
    "format_reward": [],
    "forward_correction": ["false_negatives"],
    "gradient_novelty": ["rule", "strength"],
    "greedy_failures": ["max_rounds"],
    "hard_easy_pairs": ["highest_hard", "lowest_easy"],
    "hard_focus": ["kept_share", "num_phases", "uniform_share"],
    "hidden_rank_bonus": ["gain", "kappa", "momentum", "stride"],
    "information_gain": ["decay"],
    "label_likelihood": ["beta"],
    "ladder": ["separator", "threshold"],
    "length_gate": ["damping"],
    "length_rank": ["spread"],
    "log_ratio_steps": ["block", "eta"],
    "majority_vote": [],
    "most_varied": ["count", "warmup"],
    "negative_influence": ["beta", "top_k"],
    "novelty_bonus": ["dimensions", "ridge", "weight"],
    "objective_balance": ["temperature", "window"],
    "path_diversity": ["cap", "weight"],
    "perplexity": ["strength"],
    "position_bonus": ["gain", "steepness"],
    "prompt_sensitivity": ["dropped", "largest", "weight"],
    "pushed_tokens": [],
    "random_reward": ["rate"],
    "ranked_negatives": ["head", "k", "tail", "weight"],
    "rare_outcomes": [],
    "rare_tokens": ["min_p", "penalty", "share"],
    "reasoning_phrases": ["enough", "phrases", "run", "share"],
    "refined_labels": ["patience", "slope"],
    "replay": ["capacity", "max_age"],
    "rescaled_clip": [],
    "reverse_kl": ["coefficient", "distilled"],
    "rubric": ["criteria", "met", "saturation", "share"],
    "sample_routing": ["baseline", "beta", "decay", "template"],
    "self_teacher": ["decay", "template"],
    "sibling_advantage": ["weight"],
    "signed_reward": ["negative", "positive"],
    "split_group": ["by", "mix"],
    "step_potential": ["alpha", "max_tokens", "num_probes", "saturation", "temperature", "trigger", "xi"],
    "subgroup_vote": ["balance", "k"],
    "teacher_kl": ["decay", "last_weight", "only", "weight"],
    "tempered_mix": ["cold", "hot", "target"],
    "thought_length": ["cost", "silent"],
    "token_hidden_reward": ["beta", "tilt", "top_k"],
    "tournament": ["instruction", "share"],
    "uncertainty": ["logit_weight", "negative", "positive"],
    "uniform_value": ["rho"],
    "unlikeliness": ["weight"],
    "value_baseline": ["inner_width", "learning_rate", "updates"],
    "consistency_filter": ["kept_share"],
    "good_prefix": ["baseline", "cut_back_tokens", "positive_prefix", "prefix_credit"],
    "min_form": ["baseline", "outcome_weight", "paid_steps", "temperature", "train_step_ends", "whiten"],
    "overlong_penalty": ["overlong_penalty", "overlong_share"],
    "prime_credit": ["baseline", "paid_steps", "process_weight"],
    "redraw_flat_groups": ["max_rounds", "train_flat_groups"],
    "sequence_ratio": [],
    "step_rewards": ["baseline", "paid_steps", "process_weight"],
    "verdict_tag": ["choices", "tag", "window"],
    "void_responses": [],
}
"""What each part has beside its kind."""
SOURCE = ["source", "subset", "split", "revision", "columns", "answer_form", "solutions", "bad_rows"]
CONFIGURATION = {
    "run": [
        "seed",
        "steps",
        "problems_per_step",
        "rollouts_per_problem",
        "micro_batch_rows",
        "num_threads",
        "gradient_checkpointing",
        "checkpoint_every",
        "checkpoint_optimizer",
        "flat_steps_limit",
    ],
    "model": ["policy", "dtype", "train_layers", "lora", "reference"],
    "problems": [*SOURCE, "family", "level", "folder", "max_prompt_tokens", "allow_overlap"],
    "prompt": ["template", "system", "format"],
    "sampling": ["sampler", "temperature", "top_p", "top_k", "min_p", "max_response_tokens", "batch_rows"],
    "steps": ["separator", "min_chars", "max_steps", "keep_blocks_whole"],
    "method": [],
    "objective": ["normalisation", "aggregation", "clip", "kl", "entropy", "updates_per_batch", "mini_batches"],
    "optimizer": ["learning_rate", "schedule", "warmup_steps", "weight_decay", "max_grad_norm"],
    "scorer": ["model", "family", "rule", "calibration", "noise"],
    "teacher": [
        "model",
        "name",
        "temperature",
        "server",
        "interface",
        "prompt",
        "function",
        "noise",
        "max_failure_share",
        "failure_window",
    ],
    "judge": ["model", "name", "temperature", "server", "interface", "max_tokens", "both_orders"],
    "verifier": ["kind", "answer_pattern"],
    "evaluation": [
        "sets",
        "num_problems",
        "problems_block",
        "samples_per_problem",
        "max_response_tokens",
        "temperature",
        "batch_rows",
        "before",
        "every",
        "num_problems_during",
        "stop_at",
    ],
    "logging": ["report_to"],
    "engine": ["kind"],
    "warmup": ["solutions_from", "steps", "solutions_per_step", "learning_rate", "measure_every", "stop_at"],
}


def commands() -> dict[str, Any]:
    """Every command by its full name."""
    found: dict[str, Any] = {}
    waiting = [("", typer.main.get_command(app))]
    while waiting:
        name, command = waiting.pop()
        inner = getattr(command, "commands", None)
        if inner is None:
            found[name] = command
        else:
            waiting += [(f"{name} {key}".strip(), below) for key, below in inner.items()]
    return found


def arguments_of(command: Any) -> list[str]:
    """Arguments by name, options by their long flag."""
    named = [p.opts[0] if p.param_type_name == "option" else p.name for p in command.params]
    return [name for name in named if name != "--help"]


def test_commands_and_their_options() -> None:
    assert {name: arguments_of(command) for name, command in commands().items()} == COMMANDS


def test_exit_codes() -> None:
    assert {code.name: code.value for code in ExitCode} == EXIT_CODES


def test_methods_and_their_options() -> None:
    frozen = {name: sorted([*SHARED, *options]) for name, options in METHOD_OPTIONS.items()}
    assert {name: sorted(method.model_fields) for name, method in METHODS.items()} == frozen


def test_parts_and_their_options() -> None:
    frozen = {kind: sorted(["kind", *options]) for kind, options in PART_OPTIONS.items()}
    assert {kind: sorted(part.model_fields) for kind, part in PARTS.items()} == frozen


def test_sections_and_keys_of_the_configuration() -> None:
    sections = {name: list(type(field.default).model_fields) for name, field in RunConfig.model_fields.items()}
    sections["method"] = []
    assert sections == CONFIGURATION


def test_keys_of_adapters_and_samplers() -> None:
    assert list(LoraSection.model_fields) == ["rank", "alpha", "dropout", "target_modules"]
    corrected = ["correction", "least_ratio", "most_ratio", "kind"]
    assert {
        kind.model_fields["kind"].default: list(kind.model_fields) for kind in (LocalSampler, VllmSampler, VllmServer)
    } == {
        "local": ["kind"],
        "vllm": [*corrected, "memory_share", "tensor_parallel", "max_tokens", "sleep"],
        "vllm_server": [*corrected, "url", "start_seconds", "weights_port"],
    }


def test_schema_versions() -> None:
    assert SCHEMA_VERSION == 1
    assert SUMMARY_SCHEMA == 1
    assert EVALUATION_SCHEMA == 1
    assert CHECK_SCHEMA == 1
    assert DOCTOR_SCHEMA == 1
    assert GRADES_SCHEMA == 1
    assert BENCH_SCHEMA == 1
    assert CALIBRATION_SCHEMA == 1


def test_words_in_the_journals() -> None:
    assert [outcome.value for outcome in Outcome] == ["right", "wrong", "unknown"]
    assert [role.value for role in Role] == ["sampled", "salvaged", "guided", "branched", "replayed"]
    assert [c.value for c in GroupClass] == ["all right", "all wrong", "mixed", "salvaged", "unusable"]
    assert [outcome.value for outcome in SalvageOutcome] == [
        "group not marked",
        "truncated",
        "scorer failed",
        "no wrong step found",
        "prefix too short",
        "no room left",
        "others ranked first",
        "teacher failed",
        "teacher wrote nothing",
        "teacher step too long",
        "teacher repeated the step",
        "teacher gave the answer away",
        "teacher step scored low",
        "still wrong",
        "verdict unknown",
        "admitted",
    ]
