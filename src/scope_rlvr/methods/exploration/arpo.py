"""ARPO for text: rollouts branch where a step leaves the policy less certain than it began."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Rollout
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Need, Status
from scope_rlvr.methods.tree import Node, grow, has_room, leaves_to_members


class Arpo(Method):
    """Entropy-based branching at step ends.

    Of G rollouts ``⌈first_share · G⌉`` begin at the prompt and grow step by step. After each step, ``ΔH`` is the mean entropy of
    its tokens less that of the rollout's first step, over ``log V``; where ``u − slope·ΔH ≤ threshold``, ``u`` uniform in [0, 1), a
    second continuation branches off, as long as there are fewer than G. What is left is sampled from the prompt. After
    ``steps.max_steps`` steps a rollout goes on to its end without branches. All tokens of every rollout have its advantage, so
    that shared tokens have the mean of theirs. Source: ARPO (2507.19849), read in its code, where branching follows tool calls;
    here it follows steps.

    >>> Arpo().num_first(16), Arpo().branches(0.6, entropy_rise=0.5), Arpo().branches(0.6, entropy_rise=0.0)
    (8, True, False)
    """

    title: ClassVar[str] = "ARPO"
    source: ClassVar[str] = "arXiv 2507.19849"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "rollouts branch at step ends where entropy rose"
    formula: ClassVar[str] = "`Â = r − mean(r)`; `S(Â)`; branch if `u − 0.2·ΔH ≤ 0.5`"
    departures: ClassVar[str] = "steps in the place of tool calls; entropy of the step written, not of the next tokens"

    name: Literal["arpo"] = "arpo"
    first_share: float = Field(0.5, gt=0, le=1, description="share of a group that begins at the prompt")
    slope: float = Field(0.2, ge=0, description="what a rise of entropy counts against chance")
    threshold: float = Field(0.5, ge=0, le=1, description="how likely a branch is where entropy did not change")

    @property
    def own_needs(self) -> frozenset[Need]:
        return frozenset({Need.DECODING})

    def num_first(self, num_rollouts: int) -> int:
        """How many rollouts of a group begin at the prompt."""
        return math.ceil(self.first_share * num_rollouts)

    def branches(self, chance: float, entropy_rise: float) -> bool:
        """Whether a second continuation branches off."""
        return chance - self.slope * entropy_rise <= self.threshold

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        rng = random.Random(derive_seed(tools.seed, "branches"))
        trees = [
            [Node(g.problem, Rollout(g.prompt_ids, ())) for _ in range(self.num_first(num_rollouts))] for g in groups
        ]
        for number in range(tools.steps.max_steps):
            growing = [node for tree in trees for node in tree if has_room(node, tools)]
            if not growing:
                break
            grow(growing, tools, "tree", number)
            self._note_entropies(growing, tools)
            for tree in trees:
                self._branch(tree, num_rollouts, rng, tools)
        for tree, group in zip(trees, groups, strict=True):
            tree += [Node(group.problem, Rollout(group.prompt_ids, ())) for _ in range(num_rollouts - len(tree))]
        unfinished = [node for tree in trees for node in tree if has_room(node, tools)]
        written = tools.extend([node.rollout for node in unfinished], "sampling", "rest")
        for node, rollout in zip(unfinished, written, strict=True):
            node.rollout = rollout
        members = iter(leaves_to_members([node for tree in trees for node in tree], tools))
        return [replace(g, members=tuple(next(members) for _ in tree)) for g, tree in zip(groups, trees, strict=True)]

    def _note_entropies(self, nodes: Sequence[Node], tools: Toolbox) -> None:
        """The mean entropy of each node's last step, over ``log V``."""
        scale = math.log(max(2, tools.vocabulary_size))
        for node, entropy_T in zip(nodes, tools.entropies([node.rollout for node in nodes]), strict=True):
            last = len(node.rollout.segments[-1]) if node.rollout.segments else 0
            node.notes["last"] = fmean(entropy_T[-last:]) / scale if last else 0.0
            node.notes.setdefault("first", node.notes["last"])

    def _branch(self, tree: list[Node], num_rollouts: int, rng: random.Random, tools: Toolbox) -> None:
        for node in [n for n in tree if has_room(n, tools)]:
            if len(tree) < num_rollouts and self.branches(rng.random(), node.notes["last"] - node.notes["first"]):
                tree.append(node.branch())
