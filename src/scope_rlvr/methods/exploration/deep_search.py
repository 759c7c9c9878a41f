"""DeepSearch: rollouts are found by tree search, and each stretch of them is worth what the search found behind it."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Rollout
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.parts.base import Need, Status, TokenAdvantages
from scope_rlvr.methods.replay.replayed import ReplayingMethod, member_to_json, replayed, right_and_sampled
from scope_rlvr.methods.solve_rates import solve_rate

_LEAST_SHARE = 0.1
"""What a result counts at least for a place far before it."""


@dataclass(eq=False)
class SearchNode:
    """A response as far as it has grown, with what the search has found behind it.

    >>> root = SearchNode(Rollout((1,), ()))
    >>> leaf = SearchNode(Rollout((1,), ()), root)
    >>> leaf.back_up(-1.0), leaf.back_up(1.0), leaf.back_up(-1.0)
    (None, None, None)
    >>> round(leaf.q, 3), round(root.q, 3)  # a success erases failures, and a later failure only counts as a visit
    (0.333, 0.167)
    """

    rollout: Rollout
    parent: SearchNode | None = None
    children: list[SearchNode] = field(default_factory=list)
    member: Member | None = None
    visits: int = 0
    value: float = 0.0

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else self.parent.depth + 1

    @property
    def q(self) -> float:
        """The mean value of what was found from here."""
        return self.value / self.visits if self.visits else 0.0

    @property
    def path(self) -> list[SearchNode]:
        """From here up to the root."""
        return [self] if self.parent is None else [self, *self.parent.path]

    def back_up(self, outcome: float) -> None:
        """Tell all nodes on the way to this leaf how it ended, those far before it less; failures never outweigh a
        success."""
        length = self.depth + 1
        for node in self.path:
            share = max((node.depth + 1) / length, _LEAST_SHARE)
            node.visits += 1
            if node.value * outcome >= 0:
                node.value += share * outcome
            elif outcome > 0:
                node.value = share * outcome


@dataclass(eq=False)
class Search:
    """The search for solutions of one problem."""

    group: Group
    root: SearchNode
    current: SearchNode | None
    leaves: list[SearchNode] = field(default_factory=list)
    """Finished responses whose results are backed up, in this order; they train."""
    spare: list[SearchNode] = field(default_factory=list)
    """Other finished responses."""

    @classmethod
    def of(cls, group: Group) -> Search:
        root = SearchNode(Rollout(group.prompt_ids, ()))
        return cls(group, root, root)

    def nodes(self) -> Iterator[SearchNode]:
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += node.children

    def take(self, finished: Sequence[SearchNode]) -> None:
        """Of several responses that end together one counts: a right one if there is any, the surest of these."""
        best = min(finished, key=lambda node: (not _outcome(node) > 0, _surprise(node)))
        self.spare += [node for node in finished if node is not best]
        self.keep(best)

    def keep(self, leaf: SearchNode) -> None:
        """Let a finished response train, and tell the nodes before it how it ended, where anybody knows."""
        if outcome := _outcome(leaf):
            leaf.back_up(outcome)
        self.leaves.append(leaf)


class DeepSearch(ReplayingMethod):
    """Monte Carlo tree search in the place of independent rollouts.

    A node grows ``width`` children of ``chunk_tokens`` more tokens. Without a finished one among them, one goes on,
    drawn with weights ``exp(Q + 2√(ln N_parent / N))``. Where one has finished, its outcome, 1 or −1, is backed up with
    the share ``max((depth + 1)/length, 0.1)``, and the search goes on at the node with the largest ``0.4·tanh(Q_parent)
    + 0.01·√(depth/deepest)`` of those without children. It ends with as many finished responses as a group has
    rollouts; where nothing is left to grow, responses that ended together with another one fill the group. ``Â_t =
    Q(node of t) − mean`` of the outcomes. Problems with a few right responses, a share of at most ``hard_share``, are
    not searched again: a right response joins ordinary rollouts. Source: DeepSearch (2509.25454), and its released
    code, github.com/smiles724/DeepSearch at daf9067: ``deepsearch/utils/mcts.py`` 42-63 and 189-400,
    ``deepsearch/reward_manager/advantage_fn.py``, ``round0.sh``: width 8, 256 tokens, 8 responses.

    >>> round(DeepSearch().frontier_score(parent_q=1.0, depth=1, deepest=4), 4)  # 0.4 · 0.7616 + 0.01 · ½
    0.3096
    """

    title: ClassVar[str] = "DeepSearch"
    source: ClassVar[str] = "arXiv 2509.25454"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "rollouts come from tree search, credit from its values"
    formula: ClassVar[str] = (
        "`Â_t = Q(node of t) − mean(±1)`; `S(Â_t)`; next node by `0.4·tanh(Q_parent) + 0.01·√(depth/deepest)`"
    )
    departures: ClassVar[str] = (
        "no rounds of training with a filter between them; surest by the tokens' log-probabilities"
    )

    name: Literal["deep_search"] = "deep_search"
    normalisation: Normalisation | None = Normalisation.NONE
    width: int = Field(8, ge=2, description="children of a node")
    chunk_tokens: int = Field(256, ge=1, description="tokens from a node to its children")
    quality_weight: float = Field(
        0.4, ge=0, description="weight of what was found beside a node, in the choice of the next one"
    )
    depth_weight: float = Field(0.01, ge=0, description="weight of depth in this choice")
    hard_share: float = Field(0.25, ge=0, le=1, description="share of right responses up to which they are kept")
    capacity: int = Field(512, ge=1, description="problems whose right responses are kept, the newest ones")

    @property
    def own_needs(self) -> frozenset[Need]:
        return frozenset({Need.DECODING})

    def frontier_score(self, parent_q: float, depth: int, deepest: int) -> float:
        """How promising a node without children is."""
        return self.quality_weight * math.tanh(parent_q) + self.depth_weight * math.sqrt(depth / max(1, deepest))

    # --- sampling -----------------------------------------------------------------------------------------------

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        kept = tools.memory.get(self.name, {})
        searched = iter(self._searched([g for g in groups if g.problem.id not in kept], num_rollouts, tools))
        sampled = iter(tools.sample([g for g in groups if g.problem.id in kept], num_rollouts - 1, "hard"))
        found = []
        for group in groups:
            if group.problem.id not in kept:
                found.append(next(searched))
                continue
            plain = next(sampled)
            found.append(replace(plain, members=(*plain.members, replayed(kept[group.problem.id], plain))))
        return found

    def _searched(self, groups: Sequence[Group], num_leaves: int, tools: Toolbox) -> list[Group]:
        rng = random.Random(derive_seed(tools.seed, self.name))
        searches, number = [Search.of(group) for group in groups], 0
        while going := [s for s in searches if s.current is not None and len(s.leaves) < num_leaves]:
            self._expand(going, number, tools)
            for search in going:
                search.current = self._next(search, rng, tools)
            number += 1
        return [self._group(search, num_leaves) for search in searches]

    def _expand(self, searches: Sequence[Search], number: int, tools: Toolbox) -> None:
        """Grow the children of each search's current node, and judge those that have ended."""
        parents = [(s, s.current) for s in searches if s.current is not None for _ in range(self.width)]
        written = tools.extend(
            [node.rollout for _, node in parents], "sampling", "search", number, max_tokens=self.chunk_tokens
        )
        grown = [(s, SearchNode(rollout, node)) for (s, node), rollout in zip(parents, written, strict=True)]
        for _, node in grown:
            assert node.parent is not None
            node.parent.children.append(node)
        ended = [(s, n) for s, n in grown if not _can_grow(n, tools)]
        judged = tools.verified([(s.group.problem, n.rollout) for s, n in ended])
        for (_, node), member in zip(ended, judged, strict=True):
            node.member = member
        for search in searches:
            finished = [n for s, n in ended if s is search]
            for owner, node in grown:
                node.visits += owner is search and node.member is None
            if finished:
                search.take(finished)

    def _next(self, search: Search, rng: random.Random, tools: Toolbox) -> SearchNode | None:
        """Where the search goes on; ``None`` where nothing can grow."""
        assert search.current is not None
        siblings = search.current.children
        if all(node.member is None for node in siblings):
            above = max(1, search.current.visits)
            pulls = [math.exp(n.q + 2 * math.sqrt(math.log(above) / max(1, n.visits))) for n in siblings]
            return rng.choices(siblings, pulls)[0]
        open_nodes = [n for n in search.nodes() if n.member is None and not n.children and n.parent is not None]
        deepest = -(-tools.max_response_tokens // self.chunk_tokens)
        return max(
            open_nodes,
            key=lambda n: self.frontier_score(n.parent.q if n.parent else 0.0, n.depth, deepest),
            default=None,
        )

    @staticmethod
    def _group(search: Search, num_leaves: int) -> Group:
        """The finished responses, each token with the value of its node."""
        while len(search.leaves) < num_leaves and search.spare:
            search.keep(search.spare.pop(0))
        members = []
        for leaf in search.leaves:
            assert leaf.member is not None, "only judged responses are leaves"
            q_T: list[float] = []
            for node in reversed(leaf.path):
                q_T += [node.q] * (len(node.rollout) - len(q_T))
            members.append(leaf.member.having(node_values=tuple(q_T)))
        return replace(search.group, members=tuple(members))

    # --- credit and memory --------------------------------------------------------------------------------------

    def advantages(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> TokenAdvantages:
        advantage_PGT = super().advantages(groups, rewards_PG, normalisation)
        found = []
        for group, rewards_G, a_GT in zip(groups, rewards_PG, advantage_PGT, strict=True):
            known = [2 * reward - 1 for reward in rewards_G if reward is not None]
            mean = fmean(known) if len(set(known)) > 1 else None
            found.append([self._own(m, a_T, mean) for m, a_T in zip(group.members, a_GT, strict=True)])
        return found

    @staticmethod
    def _own(member: Member, advantage_T: list[float], mean: float | None) -> list[float]:
        """The values of the nodes less the mean outcome; nothing in a flat group, whose search tells nothing apart."""
        if "node_values" not in member.extras or mean is None:
            return advantage_T
        return [q - mean for q in member.extras["node_values"]]

    def learn(self, groups: Sequence[Group], tools: Toolbox) -> None:
        super().learn(groups, tools)
        kept: dict[str, Any] = tools.memory.setdefault(self.name, {})
        for group in groups:
            rate = solve_rate(group)
            if rate and rate <= self.hard_share and group.problem.id not in kept:
                kept[group.problem.id] = member_to_json(right_and_sampled(group)[0])
        while len(kept) > self.capacity:
            del kept[next(iter(kept))]


def _can_grow(node: SearchNode, tools: Toolbox) -> bool:
    return node.rollout.is_truncated and len(node.rollout) < tools.max_response_tokens


def _outcome(node: SearchNode) -> float:
    """1 for right, −1 for wrong, 0 for what nobody can judge."""
    assert node.member is not None
    return (1.0 if node.member.verdict.is_right else -1.0) if node.member.verdict.is_known else 0.0


def _surprise(node: SearchNode) -> float:
    """The mean surprise of a response's tokens, as it was sampled."""
    known = [-logprob for logprob in node.rollout.logprob_T if logprob is not None]
    return fmean(known) if known else 0.0
