"""The methods, one file each, all on the same trainer."""

from typing import Annotated, get_args

from pydantic import Discriminator

from scope_rlvr.methods.correction.scope import Scope
from scope_rlvr.methods.exploration.cure import Cure
from scope_rlvr.methods.guided.ampo import Ampo
from scope_rlvr.methods.guided.bread import Bread
from scope_rlvr.methods.guided.critique_grpo import CritiqueGrpo
from scope_rlvr.methods.guided.ghpo import Ghpo
from scope_rlvr.methods.guided.guide import Guide
from scope_rlvr.methods.guided.luffy import Luffy
from scope_rlvr.methods.guided.prefix_rft import PrefixRft
from scope_rlvr.methods.guided.rl_plus import RlPlus
from scope_rlvr.methods.imitation.relift import ReLift
from scope_rlvr.methods.imitation.sft import Sft
from scope_rlvr.methods.imitation.sft_then_grpo import SftThenGrpo
from scope_rlvr.methods.method import GuidedMethod, Method, ScoredMethod
from scope_rlvr.methods.outcome.dapo import Dapo
from scope_rlvr.methods.outcome.dr_grpo import DrGrpo
from scope_rlvr.methods.outcome.grpo import Grpo
from scope_rlvr.methods.outcome.gspo import Gspo
from scope_rlvr.methods.outcome.rft import Rft
from scope_rlvr.methods.process.prime import Prime
from scope_rlvr.methods.process.process_reward import ProcessReward
from scope_rlvr.methods.process.prof import Prof
from scope_rlvr.methods.process.pure import Pure
from scope_rlvr.methods.process.vppo import Vppo

_Union = (
    Ampo
    | Bread
    | CritiqueGrpo
    | Cure
    | Dapo
    | DrGrpo
    | Ghpo
    | Grpo
    | Gspo
    | Guide
    | Luffy
    | PrefixRft
    | Prime
    | ProcessReward
    | Prof
    | Pure
    | ReLift
    | Rft
    | RlPlus
    | Scope
    | Sft
    | SftThenGrpo
    | Vppo
)

AnyMethod = Annotated[_Union, Discriminator("name")]
"""A method as it stands in a run's configuration, told apart by ``name``."""

METHODS: dict[str, type[Method]] = {method.model_fields["name"].default: method for method in get_args(_Union)}
"""Every method by its name."""

__all__ = ["METHODS", "AnyMethod", "GuidedMethod", "Method", "ScoredMethod"]
__all__ += [method.__name__ for method in METHODS.values()]
