"""Methods and parts by name: the built-in ones, those of installed packages, and a user's own.

A name is one of :data:`METHODS` (:data:`PARTS`), the name of an entry point in the group ``scope_rlvr.methods``
(``scope_rlvr.parts``), or the place of a class, ``package.module:Class``, which is looked for where Python finds modules and
in the current folder. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from scope_rlvr.core.errors import first_line

if TYPE_CHECKING:
    from scope_rlvr.methods.method import Method
    from scope_rlvr.methods.parts.base import Part

_Kind = TypeVar("_Kind")

_METHODS = {
    "ace": "exploration.confidence:Ace",
    "adora": "outcome.baselines:Adora",
    "amft": "guided.amft:Amft",
    "ampo": "guided.ampo:Ampo",
    "arena": "judged.arena:Arena",
    "arg": "guided.arg:Arg",
    "arpo": "exploration.arpo:Arpo",
    "arrol": "exploration.arrol:Arrol",
    "bread": "guided.bread:Bread",
    "calibrl": "guided.calibrl:CalibRl",
    "canon": "outcome.baselines:Canon",
    "chord": "guided.chord:Chord",
    "clip_cov": "exploration.entropy:ClipCov",
    "cog_drift": "curriculum.cog_drift:CogDrift",
    "critique_grpo": "guided.critique_grpo:CritiqueGrpo",
    "cure": "exploration.cure:Cure",
    "dapo": "outcome.dapo:Dapo",
    "dars": "exploration.dars:Dars",
    "dcpo": "exploration.confidence:Dcpo",
    "deep_search": "exploration.deep_search:DeepSearch",
    "dph_rl": "replay.dph_rl:DphRl",
    "dr_grpo": "outcome.dr_grpo:DrGrpo",
    "drive": "curriculum.drive:Drive",
    "dsdr": "exploration.dsdr:Dsdr",
    "dump": "curriculum.dump:Dump",
    "ead": "exploration.ead:Ead",
    "eighty_twenty": "exploration.entropy_terms:EightyTwenty",
    "epo": "exploration.entropy_terms:Epo",
    "etr": "exploration.elastic:Etr",
    "exgrpo": "replay.exgrpo:Exgrpo",
    "f_dpg": "outcome.f_dpg:FDpg",
    "failure_prefix": "correction.failure_prefix:FailurePrefix",
    "g2rl": "exploration.g2rl:G2rl",
    "ghpo": "guided.ghpo:Ghpo",
    "grpo": "outcome.grpo:Grpo",
    "gspo": "outcome.gspo:Gspo",
    "guide": "guided.guide:Guide",
    "hidden_rank": "exploration.hidden_rank:HiddenRank",
    "igpo": "guided.igpo:Igpo",
    "int": "imitation.intervention:Int",
    "iw_opd": "distillation.opd:IwOpd",
    "kdrl": "distillation.kdrl:Kdrl",
    "kl_cov": "exploration.entropy:KlCov",
    "knapsack_rl": "exploration.knapsack_rl:KnapsackRl",
    "latr": "exploration.latr:Latr",
    "lite_ppo": "outcome.baselines:LitePpo",
    "lp_reg": "exploration.elastic:LpReg",
    "luffy": "guided.luffy:Luffy",
    "mentor": "guided.mentor:Mentor",
    "nsr": "outcome.signs:Nsr",
    "nthr": "exploration.nthr:Nthr",
    "olr": "outcome.noisy_verifiers:Olr",
    "one_shot": "curriculum.one_shot:OneShot",
    "opd": "distillation.opd:Opd",
    "opd_on_failures": "distillation.opd:OpdOnFailures",
    "opd_then_grpo": "distillation.opd_then_grpo:OpdThenGrpo",
    "pacs": "outcome.implicit_values:Pacs",
    "perplexity_shaping": "outcome.shaping:PerplexityShaping",
    "pgbc": "outcome.noisy_verifiers:Pgbc",
    "pgfc": "outcome.noisy_verifiers:Pgfc",
    "pope": "guided.pope:Pope",
    "position_shaping": "outcome.shaping:PositionShaping",
    "prefix_rft": "guided.prefix_rft:PrefixRft",
    "prime": "process.prime:Prime",
    "prl": "outcome.shaping:Prl",
    "process_reward": "process.process_reward:ProcessReward",
    "prof": "process.prof:Prof",
    "progrpo": "exploration.confidence:ProGrpo",
    "psr": "outcome.signs:Psr",
    "pure": "process.pure:Pure",
    "puzzlecraft": "curriculum.puzzlecraft:PuzzleCraft",
    "r3l": "correction.r3l:R3l",
    "recap": "replay.recap:Recap",
    "relift": "imitation.relift:ReLift",
    "rep_exp": "exploration.rep_exp:RepExp",
    "repo": "replay.repo:Repo",
    "reward_unlikely": "outcome.rewards:RewardUnlikely",
    "rft": "outcome.rft:Rft",
    "rgr_grpo": "judged.rgr_grpo:RgrGrpo",
    "rl_plus": "guided.rl_plus:RlPlus",
    "rlfr": "exploration.rlfr:Rlfr",
    "rlp": "labelfree.answer_likelihood:Rlp",
    "rlpr": "labelfree.answer_likelihood:Rlpr",
    "rlsp": "outcome.rewards:Rlsp",
    "rm_r1": "judged.rm_r1:RmR1",
    "rorecomp": "replay.rorecomp:RoRecomp",
    "rose": "exploration.rose:Rose",
    "rover": "outcome.implicit_values:Rover",
    "rubric_anchors": "judged.arena:RubricAnchors",
    "scope": "correction.scope:Scope",
    "scope_ttrl": "labelfree.ttrl:ScopeTtrl",
    "sdpo": "distillation.sdpo:Sdpo",
    "search_r2": "correction.search_r2:SearchR2",
    "self_filter": "curriculum.self_filter:SelfFilter",
    "sft": "imitation.sft:Sft",
    "sft_then_grpo": "imitation.sft_then_grpo:SftThenGrpo",
    "shaped_ntp": "imitation.shaped_ntp:ShapedNtp",
    "sibling_grpo": "exploration.sibling_grpo:SiblingGrpo",
    "siren": "exploration.entropy_terms:Siren",
    "spae": "exploration.spae:Spae",
    "spear": "replay.spear:Spear",
    "srpo": "distillation.sdpo:Srpo",
    "ssb": "distillation.ssb:Ssb",
    "steer": "exploration.entropy:Steer",
    "svs": "curriculum.svs:Svs",
    "tapo": "correction.tapo:Tapo",
    "thr": "exploration.thr:Thr",
    "trapo": "guided.trapo:Trapo",
    "trd": "distillation.trd:Trd",
    "ttrl": "labelfree.ttrl:Ttrl",
    "ucas": "exploration.confidence:Ucas",
    "vppo": "process.vppo:Vppo",
    "w_reinforce": "outcome.signs:WReinforce",
    "wgrpo": "curriculum.wgrpo:WeightedGrpo",
}

METHOD_FAMILIES = {
    "outcome": "The verifier judges whole responses: GRPO, and other baselines, clips, normalisers and filters.",
    "process": "A step scorer says what single steps are worth; credit or the choice of rollouts follows it.",
    "guided": "A teacher's words, or a hint, enter the groups of rollouts.",
    "imitation": "A teacher's whole traces are imitated, before reinforcement learning, beside it or alone.",
    "distillation": "A teacher says how likely the policy's own tokens are.",
    "curriculum": "Which problems train, and how much each of them counts, follows what the policy can do.",
    "labelfree": "Rewards that use no verdict: what rollouts agree on, or how likely they make the reference.",
    "judged": "A judge compares or marks responses, beside the verifier or in its place.",
    "exploration": "Rollouts, credit or losses keep the policy from narrowing too early.",
    "replay": "Rollouts of earlier steps, or problems that must not be forgotten, train again.",
    "correction": "Failures are corrected at the step where they go wrong, and their right start is kept.",
}
"""The families of methods, each a folder of this package, and what the methods of each have in common."""

_PARTS = {
    "overlong_penalty": "rewards:OverlongPenalty",
    "redraw_flat_groups": "edits:RedrawFlatGroups",
    "sequence_ratio": "losses:SequenceRatio",
    "prime_credit": "estimators:PrimeCredit",
    "step_rewards": "estimators:StepRewards",
    "min_form": "estimators:MinForm",
    "good_prefix": "estimators:GoodPrefix",
    "consistency_filter": "edits:ConsistencyFilter",
    "forking_tokens": "weights:ForkingTokens",
    "confidence_penalty": "advantages:ConfidencePenalty",
    "entropy_smoothing": "terms:EntropySmoothing",
    "anchor": "terms:Anchor",
    "correction_buffer": "corrections:CorrectionBuffer",
    "bandit": "sources:Bandit",
    "annealed_decoding": "decoding:AnnealedDecoding",
    "novelty_bonus": "rewards:NoveltyBonus",
    "tournament": "tournament:Tournament",
    "reverse_kl": "distillation:ReverseKl",
    "verdict_tag": "verdict_tag:VerdictTag",
    "prompt_sensitivity": "prompt_sensitivity:PromptSensitivity",
    "f_divergence": "f_divergence:FDivergence",
    "rubric": "rubric:Rubric",
    "expert_calibration": "calibration:ExpertCalibration",
    "information_gain": "answer_likelihood:InformationGain",
    "answer_probability": "answer_likelihood:AnswerProbability",
    "subgroup_vote": "labels:SubgroupVote",
    "majority_vote": "labels:MajorityVote",
    "value_baseline": "value_baseline:ValueBaseline",
    "replay": "edits:Replay",
    "early_tokens": "distillation:EarlyTokens",
    "teacher_kl": "distillation:TeacherKl",
    "self_teacher": "self_teacher:SelfTeacher",
    "sample_routing": "self_teacher:SampleRouting",
    "greedy_failures": "curricula:GreedyFailures",
    "hard_focus": "curricula:HardFocus",
    "hard_easy_pairs": "curricula:HardEasyPairs",
    "ladder": "curricula:Ladder",
    "rare_outcomes": "pairing:RareOutcomes",
    "exploration_curriculum": "group_weights:ExplorationCurriculum",
    "sibling_advantage": "siblings:SiblingAdvantage",
    "signed_reward": "outcome_estimators:SignedReward",
    "backward_correction": "outcome_estimators:BackwardCorrection",
    "forward_correction": "outcome_estimators:ForwardCorrection",
    "split_group": "outcome_estimators:SplitGroup",
    "void_responses": "filters:VoidResponses",
    "pushed_tokens": "filters:PushedTokens",
    "balanced_groups": "filters:BalancedGroups",
    "random_reward": "control_rewards:RandomReward",
    "format_reward": "control_rewards:FormatReward",
    "flipped_verdicts": "control_rewards:FlippedVerdicts",
    "reasoning_phrases": "control_rewards:ReasoningPhrases",
    "unlikeliness": "group_rewards:Unlikeliness",
    "length_rank": "group_rewards:LengthRank",
    "thought_length": "group_rewards:ThoughtLength",
    "refined_labels": "group_rewards:RefinedLabels",
    "length_gate": "outcome_advantages:LengthGate",
    "position_bonus": "outcome_advantages:PositionBonus",
    "log_ratio_steps": "outcome_advantages:LogRatioSteps",
    "entropy_change": "entropy_advantages:EntropyChange",
    "entropy_scale": "entropy_advantages:EntropyScale",
    "covariance_mask": "covariance:CovarianceMask",
    "covariance_penalty": "covariance:CovariancePenalty",
    "uncertainty": "confidence_advantages:Uncertainty",
    "answer_confidence": "confidence_advantages:AnswerConfidence",
    "perplexity": "confidence_advantages:Perplexity",
    "tempered_mix": "tempered:TemperedMix",
    "anchored_entropy": "anchored_entropy:AnchoredEntropy",
    "hidden_rank_bonus": "hidden:HiddenRankBonus",
    "gradient_novelty": "gradient_novelty:GradientNovelty",
    "token_hidden_reward": "hidden:TokenHiddenReward",
    "negative_influence": "hidden:NegativeInfluence",
    "objective_balance": "objectives:ObjectiveBalance",
    "brevity_priority": "brevity:BrevityPriority",
    "rare_tokens": "token_losses:RareTokens",
    "elastic_clip": "token_losses:ElasticClip",
    "rescaled_clip": "token_losses:RescaledClip",
    "label_likelihood": "value_losses:LabelLikelihood",
    "uniform_value": "value_losses:UniformValue",
    "branch_values": "branch_values:BranchValues",
    "step_potential": "potentials:StepPotential",
    "ranked_negatives": "ranked_negatives:RankedNegatives",
    "most_varied": "selection:MostVaried",
    "path_diversity": "path_diversity:PathDiversity",
    "coupled_entropy": "path_diversity:CoupledEntropy",
    "flow_reward": "flow_reward:FlowReward",
}


class Registry(Mapping[str, type[_Kind]], Generic[_Kind]):
    """Classes by name, each imported when it is asked for."""

    def __init__(self, what: str, key: str, group: str, package: str, base: str, built_in: Mapping[str, str]) -> None:
        self.what = what
        self.key = key
        self.group = group
        self._base = base
        self._built_in = {name: f"{package}.{place}" for name, place in built_in.items()}

    def __getitem__(self, name: str) -> type[_Kind]:
        return imported(self._built_in[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._built_in)

    def __len__(self) -> int:
        return len(self._built_in)

    def place_of(self, name: str) -> str:
        """Where a built-in class is: ``package.module:Class``."""
        return self._built_in[name]

    def base(self) -> type[_Kind]:
        """The class that all of them are subclasses of."""
        found: type[_Kind] = imported(self._base)
        return found

    def find(self, name: str) -> type[_Kind]:
        """The class of this name, built in or not; raises ``ValueError`` with the remedy for anything else."""
        if name in self:
            return self[name]
        installed = {entry.name: entry for entry in entry_points(group=self.group)}
        if name in installed:
            return self._checked(name, lambda: installed[name].load())
        if ":" in name:
            return self._checked(name, lambda: imported(name, here=True))
        known = sorted([*self, *installed])
        close = difflib.get_close_matches(name, known, n=1)
        guess = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)};"
        raise ValueError(
            f"there is no {self.what} {name!r}; {guess} scope methods lists them all; a class of your own is named by its "
            f"place, package.module:Class, or by an entry point in {self.group}"
        )

    def _checked(self, name: str, load: Callable[[], Any]) -> type[_Kind]:
        """A class of a user's own, found to be one that a configuration can name."""
        try:
            found = load()
        except Exception as error:  # whatever a user's module may raise while it is imported
            raise ValueError(
                f"the {self.what} {name!r} cannot be imported: {_told(error)}; the module is looked for where Python finds "
                f"modules and in {os.getcwd()}"
            ) from error
        base = self.base()
        if not (inspect.isclass(found) and issubclass(found, base)):
            raise ValueError(
                f"{name!r} is not a {self.what}: {found!r} is not a subclass of {base.__module__}.{base.__name__}"
            )
        fixed = found.model_fields[self.key].default  # type: ignore[attr-defined]
        if isinstance(fixed, str) and fixed not in ("", name):
            raise ValueError(
                f"{name!r} has {self.key} = {fixed!r}, under which a run could not find it again; in the class, write "
                f'{self.key}: str = ""'
            )
        return found


def _told(error: Exception) -> str:
    """An error in one line, with the line of code that raised it where that is not in an import system's own files."""
    said = f"{type(error).__name__}: {first_line(error)}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    last = frames[-1]
    return said if last.filename in (__file__, importlib.__file__) else f"{said} ({last.filename}, line {last.lineno})"


def imported(place: str, *, here: bool = False) -> Any:
    """The object at ``package.module:name``; with ``here`` the current folder is searched, too."""
    module, _, name = place.partition(":")
    if here and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return getattr(importlib.import_module(module), name)


METHODS: Registry[Method] = Registry(
    "method", "name", "scope_rlvr.methods", "scope_rlvr.methods", "scope_rlvr.methods.method:Method", _METHODS
)
"""Every built-in method by its name."""

PARTS: Registry[Part] = Registry(
    "part", "kind", "scope_rlvr.parts", "scope_rlvr.methods.parts", "scope_rlvr.methods.parts.base:Part", _PARTS
)
"""Every built-in part by its kind."""


def method_of(value: Any) -> Any:
    """A method from what a configuration says: a name, or a table with ``name`` and options."""
    return _made(value, METHODS)


def part_of(value: Any) -> Any:
    """A part from what a configuration says: a kind, or a table with ``kind`` and options."""
    return _made(value, PARTS)


def _made(value: Any, registry: Registry[Any]) -> Any:
    key = registry.key
    if isinstance(value, str):
        value = {key: value}
    if not isinstance(value, Mapping):
        if isinstance(value, registry.base()):
            return value
        raise ValueError(f"a {registry.what} is a name or a table with {key} = ..., got {value!r}")
    name = value.get(key)
    if not isinstance(name, str):
        raise ValueError(f"no {registry.what} is named in {dict(value)!r}; name it by {key} = ...")
    return registry.find(name).model_validate(dict(value))


_BASES = {"Method": "method:Method", "AnyMethod": "method:AnyMethod", "GuidedMethod": "guided.guided:GuidedMethod"}

CLASS_PLACES = {
    place.partition(":")[2]: f"scope_rlvr.methods.{place}" for place in (*_BASES.values(), *_METHODS.values())
}
"""Where each public class of the methods is, by its name: ``package.module:Class``."""
