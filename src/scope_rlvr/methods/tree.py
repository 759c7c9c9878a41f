"""Trees of continuations: rollouts that grow step by step and share beginnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from scope_rlvr.core.groups import Member, Role
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Problem, Rollout


@dataclass(eq=False)
class Node:
    """A response as far as it has grown, and the node that it branched off from, after ``num_shared`` tokens."""

    problem: Problem
    rollout: Rollout
    parent: Node | None = None
    num_shared: int = 0
    depth: int = 0
    notes: dict[str, float] = field(default_factory=dict)
    """What a method writes down about the node, such as entropies."""

    @property
    def is_open(self) -> bool:
        """Whether the policy may go on from here."""
        return self.rollout.is_truncated or not self.rollout.segments

    def branch(self) -> Node:
        """A second continuation of what stands here."""
        return Node(self.problem, self.rollout, self, len(self.rollout), self.depth, dict(self.notes))


def grow(nodes: Sequence[Node], tools: Toolbox, *names: int | str, max_tokens: int | None = None) -> None:
    """Let the policy write one step (or ``max_tokens``) more on every open node that has room."""
    growing = [node for node in nodes if node.is_open and len(node.rollout) < tools.max_response_tokens]
    stop_texts = (tools.steps.separator,) if max_tokens is None else ()
    grown = tools.extend(
        [node.rollout for node in growing], "sampling", *names, stop_texts=stop_texts, max_tokens=max_tokens
    )
    for node, rollout in zip(growing, grown, strict=True):
        node.rollout, node.depth = rollout, node.depth + 1


def has_room(node: Node, tools: Toolbox) -> bool:
    """Whether the node is open and may still grow."""
    return node.is_open and len(node.rollout) < tools.max_response_tokens


def leaves_to_members(leaves: Sequence[Node], tools: Toolbox) -> list[Member]:
    """Verified members of the finished nodes; those that branched off say how many tokens they share with their parent."""
    judged = tools.verified([(leaf.problem, leaf.rollout) for leaf in leaves])
    return [
        member.having(branched_at=float(leaf.num_shared))
        if leaf.parent is None
        else Member(member.rollout, member.verdict, Role.BRANCHED, extras={"branched_at": float(leaf.num_shared)})
        for leaf, member in zip(leaves, judged, strict=True)
    ]


def values(leaves: Sequence[Node], rewards: Sequence[float | None]) -> dict[Node, float]:
    """The mean known reward of the leaves that grew out of each node, itself included.

    >>> root = Node(Problem("p", "?", "1"), Rollout((1,), ()))
    >>> left, right = root.branch(), root.branch()
    >>> found = values([root, left, right], [1.0, 0.0, None])
    >>> found[root], found[left]
    (0.5, 0.0)
    """
    found: dict[Node, list[float]] = {}
    for leaf, reward in zip(leaves, rewards, strict=True):
        node: Node | None = leaf
        while node is not None and reward is not None:
            found.setdefault(node, []).append(reward)
            node = node.parent
    return {node: sum(of_leaves) / len(of_leaves) for node, of_leaves in found.items()}
