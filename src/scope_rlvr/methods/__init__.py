"""The methods, one folder a family, and the parts that they are made of. Names are imported when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scope_rlvr.methods.registry import CLASS_PLACES, imported
from scope_rlvr.methods.registry import METHODS as METHODS
from scope_rlvr.methods.registry import PARTS as PARTS

if TYPE_CHECKING:
    from scope_rlvr.methods.correction.failure_prefix import FailurePrefix as FailurePrefix
    from scope_rlvr.methods.correction.r3l import R3l as R3l
    from scope_rlvr.methods.correction.scope import Scope as Scope
    from scope_rlvr.methods.correction.search_r2 import SearchR2 as SearchR2
    from scope_rlvr.methods.correction.tapo import Tapo as Tapo
    from scope_rlvr.methods.curriculum.cog_drift import CogDrift as CogDrift
    from scope_rlvr.methods.curriculum.drive import Drive as Drive
    from scope_rlvr.methods.curriculum.dump import Dump as Dump
    from scope_rlvr.methods.curriculum.one_shot import OneShot as OneShot
    from scope_rlvr.methods.curriculum.puzzlecraft import PuzzleCraft as PuzzleCraft
    from scope_rlvr.methods.curriculum.self_filter import SelfFilter as SelfFilter
    from scope_rlvr.methods.curriculum.svs import Svs as Svs
    from scope_rlvr.methods.curriculum.wgrpo import WeightedGrpo as WeightedGrpo
    from scope_rlvr.methods.distillation.kdrl import Kdrl as Kdrl
    from scope_rlvr.methods.distillation.opd import IwOpd as IwOpd
    from scope_rlvr.methods.distillation.opd import Opd as Opd
    from scope_rlvr.methods.distillation.opd import OpdOnFailures as OpdOnFailures
    from scope_rlvr.methods.distillation.opd_then_grpo import OpdThenGrpo as OpdThenGrpo
    from scope_rlvr.methods.distillation.sdpo import Sdpo as Sdpo
    from scope_rlvr.methods.distillation.sdpo import Srpo as Srpo
    from scope_rlvr.methods.distillation.ssb import Ssb as Ssb
    from scope_rlvr.methods.distillation.trd import Trd as Trd
    from scope_rlvr.methods.exploration.arpo import Arpo as Arpo
    from scope_rlvr.methods.exploration.arrol import Arrol as Arrol
    from scope_rlvr.methods.exploration.confidence import Ace as Ace
    from scope_rlvr.methods.exploration.confidence import Dcpo as Dcpo
    from scope_rlvr.methods.exploration.confidence import ProGrpo as ProGrpo
    from scope_rlvr.methods.exploration.confidence import Ucas as Ucas
    from scope_rlvr.methods.exploration.cure import Cure as Cure
    from scope_rlvr.methods.exploration.dars import Dars as Dars
    from scope_rlvr.methods.exploration.deep_search import DeepSearch as DeepSearch
    from scope_rlvr.methods.exploration.dsdr import Dsdr as Dsdr
    from scope_rlvr.methods.exploration.ead import Ead as Ead
    from scope_rlvr.methods.exploration.elastic import Etr as Etr
    from scope_rlvr.methods.exploration.elastic import LpReg as LpReg
    from scope_rlvr.methods.exploration.entropy import ClipCov as ClipCov
    from scope_rlvr.methods.exploration.entropy import KlCov as KlCov
    from scope_rlvr.methods.exploration.entropy import Steer as Steer
    from scope_rlvr.methods.exploration.entropy_terms import EightyTwenty as EightyTwenty
    from scope_rlvr.methods.exploration.entropy_terms import Epo as Epo
    from scope_rlvr.methods.exploration.entropy_terms import Siren as Siren
    from scope_rlvr.methods.exploration.g2rl import G2rl as G2rl
    from scope_rlvr.methods.exploration.hidden_rank import HiddenRank as HiddenRank
    from scope_rlvr.methods.exploration.knapsack_rl import KnapsackRl as KnapsackRl
    from scope_rlvr.methods.exploration.latr import Latr as Latr
    from scope_rlvr.methods.exploration.nthr import Nthr as Nthr
    from scope_rlvr.methods.exploration.rep_exp import RepExp as RepExp
    from scope_rlvr.methods.exploration.rlfr import Rlfr as Rlfr
    from scope_rlvr.methods.exploration.rose import Rose as Rose
    from scope_rlvr.methods.exploration.sibling_grpo import SiblingGrpo as SiblingGrpo
    from scope_rlvr.methods.exploration.spae import Spae as Spae
    from scope_rlvr.methods.exploration.thr import Thr as Thr
    from scope_rlvr.methods.guided.amft import Amft as Amft
    from scope_rlvr.methods.guided.ampo import Ampo as Ampo
    from scope_rlvr.methods.guided.arg import Arg as Arg
    from scope_rlvr.methods.guided.bread import Bread as Bread
    from scope_rlvr.methods.guided.calibrl import CalibRl as CalibRl
    from scope_rlvr.methods.guided.chord import Chord as Chord
    from scope_rlvr.methods.guided.critique_grpo import CritiqueGrpo as CritiqueGrpo
    from scope_rlvr.methods.guided.ghpo import Ghpo as Ghpo
    from scope_rlvr.methods.guided.guide import Guide as Guide
    from scope_rlvr.methods.guided.guided import GuidedMethod as GuidedMethod
    from scope_rlvr.methods.guided.igpo import Igpo as Igpo
    from scope_rlvr.methods.guided.luffy import Luffy as Luffy
    from scope_rlvr.methods.guided.mentor import Mentor as Mentor
    from scope_rlvr.methods.guided.pope import Pope as Pope
    from scope_rlvr.methods.guided.prefix_rft import PrefixRft as PrefixRft
    from scope_rlvr.methods.guided.rl_plus import RlPlus as RlPlus
    from scope_rlvr.methods.guided.trapo import Trapo as Trapo
    from scope_rlvr.methods.imitation.intervention import Int as Int
    from scope_rlvr.methods.imitation.relift import ReLift as ReLift
    from scope_rlvr.methods.imitation.sft import Sft as Sft
    from scope_rlvr.methods.imitation.sft_then_grpo import SftThenGrpo as SftThenGrpo
    from scope_rlvr.methods.imitation.shaped_ntp import ShapedNtp as ShapedNtp
    from scope_rlvr.methods.judged.arena import Arena as Arena
    from scope_rlvr.methods.judged.arena import RubricAnchors as RubricAnchors
    from scope_rlvr.methods.judged.rgr_grpo import RgrGrpo as RgrGrpo
    from scope_rlvr.methods.judged.rm_r1 import RmR1 as RmR1
    from scope_rlvr.methods.labelfree.answer_likelihood import Rlp as Rlp
    from scope_rlvr.methods.labelfree.answer_likelihood import Rlpr as Rlpr
    from scope_rlvr.methods.labelfree.ttrl import ScopeTtrl as ScopeTtrl
    from scope_rlvr.methods.labelfree.ttrl import Ttrl as Ttrl
    from scope_rlvr.methods.method import AnyMethod as AnyMethod
    from scope_rlvr.methods.method import Method as Method
    from scope_rlvr.methods.outcome.baselines import Adora as Adora
    from scope_rlvr.methods.outcome.baselines import Canon as Canon
    from scope_rlvr.methods.outcome.baselines import LitePpo as LitePpo
    from scope_rlvr.methods.outcome.dapo import Dapo as Dapo
    from scope_rlvr.methods.outcome.dr_grpo import DrGrpo as DrGrpo
    from scope_rlvr.methods.outcome.f_dpg import FDpg as FDpg
    from scope_rlvr.methods.outcome.grpo import Grpo as Grpo
    from scope_rlvr.methods.outcome.gspo import Gspo as Gspo
    from scope_rlvr.methods.outcome.implicit_values import Pacs as Pacs
    from scope_rlvr.methods.outcome.implicit_values import Rover as Rover
    from scope_rlvr.methods.outcome.noisy_verifiers import Olr as Olr
    from scope_rlvr.methods.outcome.noisy_verifiers import Pgbc as Pgbc
    from scope_rlvr.methods.outcome.noisy_verifiers import Pgfc as Pgfc
    from scope_rlvr.methods.outcome.rewards import RewardUnlikely as RewardUnlikely
    from scope_rlvr.methods.outcome.rewards import Rlsp as Rlsp
    from scope_rlvr.methods.outcome.rft import Rft as Rft
    from scope_rlvr.methods.outcome.shaping import PerplexityShaping as PerplexityShaping
    from scope_rlvr.methods.outcome.shaping import PositionShaping as PositionShaping
    from scope_rlvr.methods.outcome.shaping import Prl as Prl
    from scope_rlvr.methods.outcome.signs import Nsr as Nsr
    from scope_rlvr.methods.outcome.signs import Psr as Psr
    from scope_rlvr.methods.outcome.signs import WReinforce as WReinforce
    from scope_rlvr.methods.process.prime import Prime as Prime
    from scope_rlvr.methods.process.process_reward import ProcessReward as ProcessReward
    from scope_rlvr.methods.process.prof import Prof as Prof
    from scope_rlvr.methods.process.pure import Pure as Pure
    from scope_rlvr.methods.process.vppo import Vppo as Vppo
    from scope_rlvr.methods.replay.dph_rl import DphRl as DphRl
    from scope_rlvr.methods.replay.exgrpo import Exgrpo as Exgrpo
    from scope_rlvr.methods.replay.recap import Recap as Recap
    from scope_rlvr.methods.replay.repo import Repo as Repo
    from scope_rlvr.methods.replay.rorecomp import RoRecomp as RoRecomp
    from scope_rlvr.methods.replay.spear import Spear as Spear


if not TYPE_CHECKING:  # so that a type checker refuses a name that is not above

    def __getattr__(name: str) -> Any:
        if name not in CLASS_PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return imported(CLASS_PLACES[name])


def __dir__() -> list[str]:
    return sorted({*globals(), *CLASS_PLACES})
