"""What helps where a server does not answer as it should, by the names of the settings."""

from __future__ import annotations

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import Fault
from scope_rlvr.servers.client import Client
from scope_rlvr.servers.replies import served_models

_MORE_TOKENS = {"teacher": "teacher.interface.thinking_tokens", "judge": "judge.max_tokens"}


def require_answer(fault: Fault | None, told: str | None, client: Client, section: str, name: str, what: str) -> None:
    """Raise :class:`UserError` with the remedy where a first question to a server failed.

    ``section`` is the section of the configuration that the server belongs to, ``what`` says what it does not do.
    """
    if fault is not None:
        raise UserError(
            f"the {section} {name!r} at {client.url} does not {what} as it should ({fault.value}): {told}. "
            f"{_remedy(fault, client, section)}"
        )


def _remedy(fault: Fault, client: Client, section: str) -> str:
    if fault is Fault.REFUSED:
        served = served_models(client.get("/models"))
        names = f" (served there: {', '.join(served)})" if served else ""
        return (
            f"Look at {section}.model (the address mostly ends with /v1), {section}.name{names}, and "
            f"{section}.server.api_key_env; fields that the server does not take go into {section}.interface.leave_out"
        )
    return {
        Fault.CONNECTION: f"Start the server, or mend the address in {section}.model",
        Fault.TIMEOUT: f"Wait until the server has loaded its model, or raise {section}.server.request_seconds",
        Fault.RATE_LIMIT: f"Wait, or raise {section}.server.retries",
        Fault.BUDGET: f"Raise {section}.server.max_tokens or max_money",
        Fault.EMPTY: f"A model that thinks before it answers needs more tokens: raise {_MORE_TOKENS[section]}",
        Fault.MALFORMED: f"Look at what listens there, and at {section}.interface",
    }.get(fault, "Look at the server's own log")
