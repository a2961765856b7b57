"""What a client gets: events, the ends of runs, notices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ._wire import Json, Message

EventName = Literal[
    "run_queued", "agent_started", "agent_thinking", "agent_output", "tool_executing", "tool_progress",
    "tool_completed", "step_started", "step_completed", "run_progress", "input_required", "input_received",
    "custom", "run_retrying", "agent_completed",
]  # fmt: skip
"""The events of runs (PROTOCOL §4). Newer daemons may have more, and topics have names of their own."""

Status = Literal["ok", "error", "cancelled", "timed_out", "worker_lost"]


@dataclass(frozen=True)
class Position:
    """A place in a stream: everything up to `seq` of this incarnation."""

    epoch: str
    seq: int


From = Position | Literal["device", "oldest", "head", "live"]
"""Where to begin in a stream (PROTOCOL §3)."""


@dataclass(frozen=True)
class Topic:
    """A topic, and where to begin in it; the name alone begins at what is published from now on."""

    name: str
    start: From


@dataclass(frozen=True)
class Event:
    """One event of a stream. `thread` and `run` are empty for what was published to a topic."""

    seq: int
    ts: int
    """When it was made durable: Unix time in milliseconds."""
    event: EventName | str
    data: Json
    """An object; of a topic whatever was published."""
    thread: str = ""
    run: str = ""
    attempt: int = 0
    topic: str | None = None
    """None: the user's own stream."""
    prev: int | None = None
    """Of an event that several deltas were joined into: the position before the first of them."""
    raw: Message = field(default_factory=dict, compare=False, repr=False)
    """The message as it came, with fields that this library does not know."""

    @property
    def delta(self) -> str:
        """The piece of text that it adds, if it does."""
        delta = self.data.get("delta") if isinstance(self.data, dict) else None
        return delta if isinstance(delta, str) else ""


@dataclass(frozen=True)
class End:
    """How a run ended."""

    run: str
    thread: str
    status: Status | str
    output: Json
    error: dict[str, Any] | None
    """`code` and `message`."""
    reason: str | None
    """Why it was cancelled, when it was."""
    usage: dict[str, Any] | None
    data: dict[str, Any]
    """All of `agent_completed`."""

    @property
    def ok(self) -> bool:
        """Whether it went well."""
        return self.status == "ok"


@dataclass(frozen=True)
class Accepted:
    """A run that the daemon has made durable."""

    run: str
    thread: str
    key: str
    position: int
    """Its place in the queue; 0: dispatched at once."""
    ahead: int
    """How many runs start before it."""
    eta_ms: int | None
    duplicate: bool


@dataclass(frozen=True)
class Reset:
    """A stream began anew: what was known of it must be rebuilt from `runs` and what follows."""

    topic: str | None
    reason: str
    """`epoch` (another incarnation), `trimmed` (too far behind) or `ahead` (past the head)."""
    epoch: str
    from_seq: int
    runs: list[dict[str, Any]]
    """The user's runs that have not ended."""


def read_event(message: Message) -> Event:
    """An event as it came. Raises KeyError or TypeError when it is none."""
    return Event(
        seq=int(message["seq"]), ts=int(message.get("ts", 0)), event=message["event"], data=message["data"],
        thread=message.get("thread", ""), run=message.get("run", ""), attempt=message.get("attempt", 0),
        topic=message.get("topic"), prev=message.get("prev"), raw=message,
    )  # fmt: skip


def read_end(event: Event) -> End:
    """The end of a run, from its `agent_completed`."""
    data = event.data
    return End(
        event.run,
        event.thread,
        data["status"],
        data.get("output"),
        data.get("error"),
        data.get("reason"),
        data.get("usage"),
        data,
    )
