"""What a failing teacher server costs: every fault, at every rate, through the whole salvage.

    python -m benchmarks.teacher_faults [--questions 200] [--rates 0.01,0.1,0.5,1] [--json FILE] [--markdown FILE]

Each cell asks a server that fails as often as the rate says (``tests/faulty_server.py``) for corrections of failed rollouts
of the embedded family, step by step, and counts what came of it. Everything but the server is exact: the scorer finds the
first wrong step, the policy goes on rightly after a right prefix, so that only the server can be the reason of a failure. A
*false reward* is a rollout that is paid although its answer is wrong, or that joined its group with a wrong step in it.

Token ids are exchanged; what somebody else's reply does by text, where nothing tells it from the right one, stands beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from random import Random

from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.ports import Continuation, Sampling
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Origin, Problem, Rollout, Segment
from scope_rlvr.embedded import model_path
from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.models.local import TokenizerCodec
from scope_rlvr.problems.reduction import Reduction, add
from scope_rlvr.salvage.salvage import salvage
from scope_rlvr.salvage.settings import SalvageSettings
from scope_rlvr.scorers.exact import ExactScorer
from scope_rlvr.servers.client import Client
from scope_rlvr.servers.settings import NO_CACHE, ServerSettings
from scope_rlvr.teachers.server import ServerTeacher
from scope_rlvr.teachers.settings import AnyInterface, Completions
from tests.faulty_server import FAULTS, MODEL, FaultyServer, solve

RATES = (0.01, 0.1, 0.5, 1.0)
STEP = 50
"""Questions of one training step."""

LEVEL = 6
PATIENCE = ServerSettings(
    cache=NO_CACHE, request_seconds=1.0, batch_seconds=20.0, retries=2, backoff_seconds=0.02, pause_seconds=1.0
)


@dataclass(frozen=True)
class Cell:
    """What became of the questions at one fault and one rate."""

    fault: str
    rate: float
    interface: str
    num_questions: int
    num_requests: int
    num_failed_requests: int
    num_answered: int
    num_admitted: int
    errors: dict[str, int]
    num_false_rewards: int
    longest_step_seconds: float


class ExactPolicy:
    """Continues a right prefix rightly, and gives up on a wrong one."""

    def __init__(self, codec: TokenizerCodec) -> None:
        self.codec = codec

    def extend(
        self, prefixes: Sequence[Sequence[int]], sampling: Sampling, *, max_tokens: Sequence[int], seed: int
    ) -> list[Continuation]:
        texts = [solve("".join(self.codec.pieces(prefix))) for prefix in prefixes]
        ids = [(*self.codec.encode(text), self.codec.end_id) for text in texts]
        return [Continuation(i, (-1.0,) * len(i), finished=True) for i in ids]

    def entropies(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], temperature: float
    ) -> list[tuple[float, ...]]:
        return [(0.0,) * len(response) for response in responses]


@cache
def policy_codec() -> TokenizerCodec:
    return TokenizerCodec(AutoTokenizer.from_pretrained(model_path("policy"), trust_remote_code=False))


def failed_groups(count: int, seed: int, codec: TokenizerCodec, verifier: FinalAnswerVerifier) -> list[Group]:
    """Groups of one rollout each that goes wrong at a step drawn at random, not the first."""
    family, rng = Reduction(), Random(seed)
    groups: list[Group] = []
    for problem in family.sample(LEVEL, count, seed):
        text = _failure(family, problem, rng)
        ids = (*codec.encode(text), codec.end_id)
        segment = Segment(ids, Origin.POLICY, (-1.0,) * len(ids))
        rollout = Rollout(codec.encode_prompt(problem.prompt), (segment,))
        (verdict,) = verifier.verify([(problem, text)])
        groups.append(Group(problem, (Member(rollout, verdict),), prompt_ids=rollout.prompt_ids))
    return groups


def _failure(family: Reduction, problem: Problem, rng: Random) -> str:
    wrong_at, num_sums = rng.randrange(1, LEVEL - 1), 0

    def write_sum(a: int, b: int) -> int:
        nonlocal num_sums
        num_sums += 1
        return add(add(a, b), int(num_sums == wrong_at + 1))

    return family.random_solution(problem, rng, write_sum=write_sum)


def measure(
    fault: str | None,
    rate: float,
    num_questions: int,
    interface: AnyInterface,
    patience: ServerSettings = PATIENCE,
    seed: int = 0,
    server_kind: type[FaultyServer] = FaultyServer,
) -> Cell:
    """One cell of the table; ``server_kind`` is a server that knows the fault."""
    codec, verifier, family = policy_codec(), FinalAnswerVerifier(), Reduction()
    groups = failed_groups(num_questions, seed, codec, verifier)
    ids: tuple[Callable[[Sequence[int]], str], Callable[[str], Sequence[int]]]
    ids = (lambda token_ids: "".join(codec.pieces(token_ids)), codec.encode)
    errors: Counter[str] = Counter()
    asked = answered = admitted = false_rewards = 0
    longest = 0.0
    with server_kind(fault, rate, seed, codec=ids) as server:
        teacher = ServerTeacher(Client(server.url, patience), MODEL, codec, len(codec.tokenizer), interface)
        for start in range(0, num_questions, STEP):
            tools = Toolbox(
                policy=ExactPolicy(codec),
                verifier=verifier,
                codec=codec,
                sampling=Sampling(),
                max_response_tokens=300,
                seed=seed,
                step_scorer=ExactScorer(family),
                teacher=teacher,
            )
            began = time.monotonic()
            after = salvage(groups[start : start + STEP], SalvageSettings(min_prefix_ratio=0), tools)
            longest = max(longest, time.monotonic() - began)
            counts = tools.teacher_log.counts
            asked += int(counts["teacher/asked"])
            answered += int(counts["teacher/asked"] - counts["teacher/errors"])
            errors.update({k.rpartition("/")[2]: int(n) for k, n in counts.items() if k.startswith("teacher/errors/")})
            members = [
                (group.problem, member, tools.text(member.rollout)) for group in after for member in group.members
            ]
            admitted += sum(member.verdict.is_right for _, member, _ in members)
            false_rewards += sum(is_falsely_paid(family, *member) for member in members)
    assert asked == num_questions, f"{asked} questions were asked, and {num_questions} were to be"
    return Cell(
        fault=fault or "none",
        rate=rate,
        interface=interface_name(interface),
        num_questions=num_questions,
        num_requests=server.num_requests,
        num_failed_requests=server.num_faults,
        num_answered=answered,
        num_admitted=admitted,
        errors=dict(sorted(errors.items())),
        num_false_rewards=false_rewards,
        longest_step_seconds=round(longest, 2),
    )


def interface_name(interface: AnyInterface) -> str:
    if isinstance(interface, Completions):
        return "token ids" if interface.token_ids else "text"
    return interface.kind


def is_falsely_paid(family: Reduction, problem: Problem, member: Member, text: str) -> bool:
    """Whether a rollout is paid that does not deserve it, by the family's own checker."""
    if not member.verdict.is_right:
        return False
    answer = text.strip().rpartition("\n\n")[2]
    steps = [step for step in text.split(family.separator) if step.strip()]
    return answer != f"answer {problem.reference}" or family.first_wrong_step(problem, steps) is not None


def markdown(cells: Sequence[Cell]) -> str:
    """The table of docs/teachers.md: a row a fault and interface, a column a rate."""
    rates = sorted({cell.rate for cell in cells})
    lines = ["| fault | asked by | " + " | ".join(f"{rate:.0%} of requests" for rate in rates) + " |"]
    lines.append("|---" * (len(rates) + 2) + "|")
    rows = dict.fromkeys((cell.fault, cell.interface) for cell in cells)
    for fault, interface in rows:
        found = {cell.rate: cell for cell in cells if (cell.fault, cell.interface) == (fault, interface)}
        lines.append(f"| {fault} | {interface} | " + " | ".join(_cell_text(found[rate]) for rate in rates) + " |")
    return "\n".join(lines) + "\n"


def _cell_text(cell: Cell) -> str:
    errors = ", ".join(f"{name} {count}" for name, count in cell.errors.items())
    return f"{cell.num_admitted}/{cell.num_questions} salvaged" + (f"; {errors}" if errors else "")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=200, help="least questions in a cell; about five are to fail")
    parser.add_argument("--rates", default=",".join(map(str, RATES)), help="shares of requests that fail")
    parser.add_argument("--json", type=Path, help="write every cell there")
    parser.add_argument("--markdown", type=Path, help="write the table there")
    arguments = parser.parse_args()
    cells = []
    table = Table("fault", "rate", "asked by", "requests", "failed", "answered", "salvaged", "false", "longest step")
    rows = [(fault, Completions(token_ids=True)) for fault in FAULTS] + [("somebody else's reply", Completions())]
    for fault, interface in rows:
        for rate in map(float, arguments.rates.split(",")):
            cell = measure(fault, rate, max(arguments.questions, math.ceil(5 / rate)), interface)
            cells.append(cell)
            print(cell, flush=True)
            counts = (cell.num_requests, cell.num_failed_requests, cell.num_answered, cell.num_admitted)
            shown = (*map(str, counts), str(cell.num_false_rewards), f"{cell.longest_step_seconds} s")
            table.add_row(fault, f"{rate:g}", cell.interface, *shown)
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(cell) for cell in cells], indent=1) + "\n", encoding="utf-8")
    if arguments.markdown:
        arguments.markdown.write_text(markdown(cells), encoding="utf-8")


if __name__ == "__main__":
    main()
