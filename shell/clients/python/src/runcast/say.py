"""What an agent can say: one function for each event that a worker may write (PROTOCOL §4).

An agent that is a generator yields these (or plain strings, which are pieces of its answer).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ._wire import Json, without_none

ToolStatus = Literal["ok", "error", "interrupted"]


@dataclass(frozen=True)
class Said:
    """One event."""

    event: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Done:
    """What a run ends with when it went well; an agent yields it last, or returns it."""

    output: Json = None
    """The answer as it stands in `agent_completed`; `None`: `{"text": all pieces of the answer}`."""
    usage: dict[str, Any] | None = None
    """What it cost, in the agent's own terms."""


def thinking(delta: str) -> Said:
    """A piece of what the agent thinks."""
    return Said("agent_thinking", {"delta": delta})


def output(delta: str | None = None, *, text: str | None = None, message: str | None = None) -> Said:
    """A piece of the answer, or with `text` one that replaces what was said before."""
    if (delta is None) == (text is None):
        raise ValueError("output: expected either a delta or a text")
    return Said("agent_output", without_none(delta=delta, text=text, message=message))


def tool_executing(call: str, tool: str, args: Json = None) -> Said:
    """A tool begins; `call` names this use of it."""
    return Said("tool_executing", {"call": call, "tool": tool, "args": {} if args is None else args})


def tool_progress(call: str, percent: float | None = None, text: str | None = None) -> Said:
    """A tool goes on."""
    return Said("tool_progress", without_none(call=call, percent=percent, text=text))


def tool_completed(
    call: str,
    status: ToolStatus = "ok",
    *,
    result: Json = None,
    error: str | None = None,
    duration_ms: int | None = None,
) -> Said:
    """A tool has ended. The library fills in the time it took when you do not."""
    data = without_none(call=call, status=status, duration_ms=duration_ms)
    if status == "ok":
        data["result"] = result
    elif error is not None:
        data["error"] = {"code": "tool_failed", "message": error}
    return Said("tool_completed", data)


def step_started(
    step: str, *, name: str | None = None, index: int | None = None, of: int | None = None
) -> Said:
    """A step begins; `index` (from 1) `of` so many."""
    return Said("step_started", without_none(step=step, name=name, index=index, of=of))


def step_completed(step: str, status: str = "ok") -> Said:
    """A step has ended."""
    return Said("step_completed", {"step": step, "status": status})


def progress(percent: float) -> Said:
    """How much of the whole run is done, 0 to 100."""
    return Said("run_progress", {"percent": max(0, min(100, percent))})


def custom(name: str, value: Json = None) -> Said:
    """Anything else."""
    return Said("custom", {"name": name, "value": value})


def notice(text: str) -> Said:
    """A line for the user that is not part of the answer: a `custom` event of that name."""
    return custom("notice", {"text": text})


def input_required(request: str, prompt: str, *, schema: Json = None, expires_ms: int | None = None) -> Said:
    """A question to the user; `Run.ask` also waits for the answer."""
    return Said(
        "input_required", without_none(request=request, prompt=prompt, schema=schema, expires_ms=expires_ms)
    )
