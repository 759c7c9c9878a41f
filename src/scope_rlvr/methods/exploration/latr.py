"""LATR: rollouts branch where a second token is nearly as likely, and branches that run alike are cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Origin, Rollout, Segment
from scope_rlvr.formulas.readings import TopK
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Status
from scope_rlvr.methods.tree import Node, grow, has_room, leaves_to_members


@dataclass(eq=False)
class _Tree:
    """The rollouts of one problem as they grow, and how far each was searched for branches."""

    group: Group
    nodes: list[Node]


class Latr(Method):
    """Look-ahead trees.

    Part of a group grows from one rollout, ``lookahead`` tokens at a time. Where the token that was not written is the
    likeliest one or the second, has a probability above ``least``, and is less than ``gap`` below the likeliest, it
    opens a branch, as long as the tree has room. Once both have written ``lookahead`` tokens from there, the branch is
    cut if the edit distance between them is less than ``least_distance`` of their length; pairs in which one has ended
    are spared. A tree that is full, or ``searched_tokens`` long, is finished as ever. The rest of the group is sampled
    from the prompt. The tree's share of a group falls from 1 to 0 over ``tree_steps``, by quarters. Source: LATR
    (2510.24302), and its released code, github.com/starreeze/latr at 2adb0ed: ``model/generation.py``,
    ``model/sample_filter.py``; settings for Countdown.

    >>> [Latr(tree_steps=400).tree_size(8, step) for step in (1, 101, 201, 301, 401)]
    [8, 6, 4, 2, 0]
    >>> Latr().opens(0.4, highest=0.5), Latr().opens(0.3, highest=0.6), Latr().opens(0.2, highest=0.3)
    (True, False, False)
    """

    title: ClassVar[str] = "LATR"
    source: ClassVar[str] = "arXiv 2510.24302"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "rollouts branch where a second token is nearly as likely"
    formula: ClassVar[str] = (
        "branch if `p > ¼` and `p_top − p < 0.15`, cut if alike after 30 tokens; `Â = r − mean(r)`; `S(Â)`"
    )
    departures: ClassVar[str] = (
        "rollouts are sampled, branches replace a written token; edit distance alone tells branches apart"
    )

    name: Literal["latr"] = "latr"
    least: float = Field(0.25, ge=0, lt=1, description="probability above which a second token opens a branch")
    gap: float = Field(0.15, gt=0, le=1, description="distance to the likeliest token below which it does")
    lookahead: int = Field(30, ge=1, description="tokens after which a branch is compared with its origin")
    least_distance: float = Field(
        0.4, ge=0, le=1, description="edit distance, as a share of these tokens, that a branch needs"
    )
    searched_tokens: int = Field(512, ge=1, description="tokens of a response that are searched for branches")
    tree_steps: int = Field(200, ge=0, description="steps over which the tree's share of a group falls to nothing")

    def tree_size(self, num_rollouts: int, step: int) -> int:
        """How many rollouts of a group grow as a tree at a step, from 1."""
        quarter = (step - 1) * 4 // self.tree_steps if self.tree_steps else 4
        return max(0, round(num_rollouts * (1 - quarter / 4)))

    def opens(self, probability: float, highest: float) -> bool:
        """Whether a token of this probability opens a branch beside the likeliest one."""
        return probability > self.least and highest - probability < self.gap

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        size = self.tree_size(num_rollouts, tools.step)
        trees = [_Tree(g, [Node(g.problem, Rollout(g.prompt_ids, ()))] if size else []) for g in groups]
        for number in range(-(-self.searched_tokens // self.lookahead)):
            growing = [node for tree in trees for node in tree.nodes if has_room(node, tools)]
            if not growing or all(len(tree.nodes) >= size and not self._undecided(tree) for tree in trees):
                break
            before = {node: len(node.rollout) for node in growing}
            grow(growing, tools, "tree", number, max_tokens=self.lookahead)
            for tree in trees:
                tree.nodes = [node for node in tree.nodes if not self._runs_alike(node)]
            self._branch(trees, before, size, tools)
        for tree in trees:
            missing = num_rollouts - len(tree.nodes)
            tree.nodes += [Node(tree.group.problem, Rollout(tree.group.prompt_ids, ())) for _ in range(missing)]
        return self._finished(trees, tools)

    def _branch(self, trees: Sequence[_Tree], before: dict[Node, int], size: int, tools: Toolbox) -> None:
        """Open the branches in what was written last."""
        searched = [(tree, node) for tree in trees for node in tree.nodes if node in before and len(tree.nodes) < size]
        reducer = TopK(k=2)
        texts = [(node.rollout.prompt_ids, node.rollout.token_ids) for _, node in searched]
        for (tree, node), kept in zip(searched, tools.read("policy", texts, [reducer]), strict=True):
            for t in range(before[node], len(node.rollout)):
                if len(tree.nodes) >= size:
                    break
                (logp_first, logp_second), (first, second) = kept[reducer.name][t].tolist()
                written = node.rollout.token_ids[t]
                other, logp = (second, logp_second) if written == first else (first, logp_first)
                if self.opens(math.exp(logp), math.exp(logp_first)):
                    start = node.rollout.cut(t).then(Segment((int(other),), Origin.POLICY, (logp,)), is_truncated=True)
                    tree.nodes.append(Node(tree.group.problem, start, node, num_shared=t))

    def _undecided(self, tree: _Tree) -> bool:
        return any(node.parent is not None and "kept" not in node.notes and node.is_open for node in tree.nodes)

    def _runs_alike(self, node: Node) -> bool:
        """Whether a branch is to be cut; it is decided once, as soon as both are long enough."""
        if node.parent is None or "kept" in node.notes:
            return False
        end = node.num_shared + self.lookahead
        own, origin = node.rollout, node.parent.rollout
        if min(len(own), len(origin)) < end:
            return False
        node.notes["kept"] = 1.0
        if not (own.is_truncated or len(own) > end) or not (origin.is_truncated or len(origin) > end):
            return False
        distance = edit_distance(own.token_ids[node.num_shared : end], origin.token_ids[node.num_shared : end])
        return distance < self.least_distance * self.lookahead

    @staticmethod
    def _finished(trees: Sequence[_Tree], tools: Toolbox) -> list[Group]:
        open_nodes = [node for tree in trees for node in tree.nodes if has_room(node, tools)]
        written = tools.extend([node.rollout for node in open_nodes], "sampling", "rest")
        for node, rollout in zip(open_nodes, written, strict=True):
            node.rollout = rollout
        members = iter(leaves_to_members([node for tree in trees for node in tree.nodes], tools))
        return [replace(tree.group, members=tuple(next(members) for _ in tree.nodes)) for tree in trees]


def edit_distance(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens must be written, struck out or exchanged to make one of the other.

    >>> edit_distance([1, 2, 3, 4], [2, 3, 5]), edit_distance([], [1, 2]), edit_distance([1], [1])
    (2, 2, 0)
    """
    distances = list(range(len(other) + 1))
    for i, token in enumerate(one, 1):
        diagonal, distances[0] = distances[0], i
        for j, another in enumerate(other, 1):
            best = min(distances[j] + 1, distances[j - 1] + 1, diagonal + (token != another))
            diagonal, distances[j] = distances[j], best
    return distances[-1]
