"""The methods, one file each, all on the same trainer."""

from typing import Annotated, get_args

from pydantic import Discriminator

from scope_rlvr.methods.ampo import Ampo
from scope_rlvr.methods.base import GuidedMethod, Method, ScoredMethod
from scope_rlvr.methods.bread import Bread
from scope_rlvr.methods.critique_grpo import CritiqueGrpo
from scope_rlvr.methods.cure import Cure
from scope_rlvr.methods.dapo import Dapo
from scope_rlvr.methods.dr_grpo import DrGrpo
from scope_rlvr.methods.ghpo import Ghpo
from scope_rlvr.methods.grpo import Grpo
from scope_rlvr.methods.gspo import Gspo
from scope_rlvr.methods.guide import Guide
from scope_rlvr.methods.luffy import Luffy
from scope_rlvr.methods.prefix_rft import PrefixRft
from scope_rlvr.methods.prime import Prime
from scope_rlvr.methods.process_reward import ProcessReward
from scope_rlvr.methods.prof import Prof
from scope_rlvr.methods.pure import Pure
from scope_rlvr.methods.relift import ReLift
from scope_rlvr.methods.rft import Rft
from scope_rlvr.methods.rl_plus import RlPlus
from scope_rlvr.methods.scope import Scope
from scope_rlvr.methods.sft import Sft
from scope_rlvr.methods.sft_then_grpo import SftThenGrpo
from scope_rlvr.methods.vppo import Vppo

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
