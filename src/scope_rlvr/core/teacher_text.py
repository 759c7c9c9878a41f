"""A teacher's reply as tokens of the policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scope_rlvr.core.ports import TeacherReply, TeacherRequest, TextCodec
from scope_rlvr.core.steps import split_steps
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Origin, Problem, Rollout, Segment


@dataclass(frozen=True, slots=True)
class Writing:
    """What a teacher wrote: its tokens, whether they end where they were to end, and whether they end the response."""

    segment: Segment
    ended: bool
    finished: bool


def request_after(
    start: Rollout,
    problem: Problem,
    tools: Toolbox,
    *,
    step_tokens: int | None = None,
    rejected_step: str | None = None,
    reference: str | None = None,
) -> TeacherRequest:
    """Ask for what comes after ``start``: one step of at most ``step_tokens``, or the rest of the solution."""
    room = tools.max_response_tokens - len(start)
    return TeacherRequest(
        problem=problem,
        prompt_ids=start.prompt_ids,
        prefix_ids=start.token_ids,
        prefix_text=tools.text(start),
        max_tokens=room if step_tokens is None else min(step_tokens, room),
        stop_text=None if step_tokens is None else tools.steps.separator,
        rejected_step=rejected_step,
        reference=reference,
    )


def encode_in_place(codec: TextCodec, text: str, *, before: str = "", goes_on: bool = False) -> tuple[int, ...]:
    """The tokens that a text has where it stands: behind ``before``, and before more text if it ``goes_on``.

    Tokenizers look around. GPT-2's writes a blank line as two tokens before a word, and as one at the end of a text: a step
    encoded by itself would end as the policy never ends one, and the policy would go on from there as it never does. Where
    the neighbours share a token with the text, it is encoded without them.
    """
    left, right = before[-_NEIGHBOURS:], "A" if goes_on else ""
    for context in ((left, right), ("", right), (left, "")):
        token_ids = codec.encode(context[0] + text + context[1])
        first, end = (_boundary(codec.pieces(token_ids), upto) for upto in (context[0], context[0] + text))
        if first is not None and end is not None:
            return token_ids[first:end]
    return codec.encode(text)


_NEIGHBOURS = 16
"""Characters before a text that a tokenizer is shown."""


def _boundary(pieces: Sequence[str], text: str) -> int | None:
    """How many pieces make up the text, the fewest; ``None`` where it ends inside of one."""
    length = 0
    for count, piece in enumerate(("", *pieces)):
        length += len(piece)
        if length >= len(text):
            return count if length == len(text) and "".join(pieces[:count]) == text else None
    return None


def read_reply(reply: TeacherReply, tools: Toolbox, *, step_tokens: int | None = None, before: str = "") -> Writing:
    """The teacher's tokens.

    Ids are taken as they are, up to the first end-of-sequence token; text is encoded here, once, as it stands behind
    ``before``, and gets the separator or end-of-sequence token that it stopped at. Of several steps only the first is taken where one was asked for; all that
    was written is counted.
    """
    codec, separator, one_step = tools.codec, tools.steps.separator, step_tokens is not None
    if reply.token_ids is None:
        text = reply.text or ""
        if one_step and text.strip() and not (reply.finished or reply.is_cut_off or separator in text):
            text = text.rstrip() + separator
        token_ids = encode_in_place(codec, text, before=before, goes_on=one_step and not reply.finished)
    else:
        token_ids = reply.token_ids
    if reply.finished and token_ids and token_ids[-1] not in codec.end_ids:
        token_ids = (*token_ids, codec.end_id)
    # Log-probabilities that do not fit the tokens, one each, belong to something else.
    logprobs = reply.logprobs if reply.logprobs is not None and len(reply.logprobs) == len(token_ids) else None
    tools.tokens["teacher"] += len(token_ids)
    end = next((i + 1 for i, token in enumerate(token_ids) if token in codec.end_ids), len(token_ids))
    if one_step and end:
        end = split_steps(codec.pieces(token_ids[:end]), tools.steps)[0].end
    segment = Segment(token_ids, Origin.TEACHER, logprobs).head(end)
    finished = any(token in codec.end_ids for token in segment.token_ids[-1:])
    if step_tokens is None:
        return Writing(segment, finished, finished)
    ended = finished or ends_a_step("".join(codec.pieces(segment.token_ids)), separator)
    return Writing(segment, ended and end <= step_tokens, finished)


def ends_a_step(text: str, separator: str) -> bool:
    """Whether a text ends with the separator, white space after a separator of white space aside."""
    return separator in text[len(text.rstrip()) :] if separator.isspace() else text.endswith(separator)
