"""The runs that a worker has, and what of them is not acknowledged yet: no sockets, no tasks, no clock.

Agents put messages here and wait while too many are kept; the connection takes them from here to send, and
lets go of them when they are acknowledged. All of it is bounded: messages by the daemon's window (and what
closes something that was opened, which never waits), runs by the agents' slots.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ._wire import Message, encode
from .errors import TooLargeError

INPUTS_MAX = 256
"""Steering that an agent has not read yet; what comes beyond is dropped, and said in the log."""


@dataclass(eq=False)
class Taken:
    """One run that `started` was sent for."""

    offer: Message
    is_started: bool = False
    """The start is acknowledged: it may be executed."""
    is_complete: bool = False
    is_gone: bool = False
    """It is no longer this worker's: nothing more can be said."""
    n: int = 0
    """The number of the last message."""
    kept: deque[tuple[int, bytes]] = field(default_factory=deque)
    sent: int = 0
    """How many of `kept` were sent on this connection."""
    command: int = 0
    """The last command that was had."""
    cancel: str | None = None
    """Why it is to end, when it is."""
    answers: dict[str, asyncio.Future[Any]] = field(default_factory=dict)
    steering: asyncio.Queue[Any] = field(default_factory=lambda: asyncio.Queue(INPUTS_MAX))
    task: asyncio.Task[None] | None = None

    @property
    def run(self) -> str:
        return str(self.offer["run"])

    @property
    def attempt(self) -> int:
        return int(self.offer["attempt"])

    @property
    def agent(self) -> str:
        return str(self.offer["agent"])

    def about(self, kind: str, **fields: Any) -> Message:
        """A message about this attempt."""
        return {"type": kind, "run": self.run, "attempt": self.attempt, **fields}


class Desk:
    """The meeting place of agents and connection."""

    def __init__(self) -> None:
        self.runs: dict[str, Taken] = {}
        self.window = 1
        self.message_bytes = 1 << 20
        self.on_work: Callable[[], None] = lambda: None
        """Called when there may be something to send."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when a run was let go of."""
        self._ready: dict[str, Taken] = {}
        self._held: dict[str, Taken] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._granted = 0
        """Places in the window that were given to waiters who have not put their message yet."""

    # The agents' side.

    async def post(self, taken: Taken, event: str, data: Message) -> None:
        """Puts an event when there is room for it. Raises TooLargeError, and CancelledError once gone."""
        if self._waiters or self.kept + self._granted >= self.window:
            await self._wait_for_room()
        try:
            self.post_at_once(taken, event, data)
        finally:
            # What was refused took no place: it is the next one's.
            self._grant()

    async def _wait_for_room(self) -> None:
        """First come, first served: an agent that is fast does not keep others from speaking."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                self._waiters.remove(place)
            else:
                self._granted -= 1
                self._grant()
            raise
        self._granted -= 1

    def _grant(self) -> None:
        while self._waiters and self.kept + self._granted < self.window:
            self._waiters.popleft().set_result(None)
            self._granted += 1

    def post_at_once(self, taken: Taken, event: str, data: Message) -> None:
        """Puts an event without waiting: only for what closes something that was opened."""
        if taken.is_gone or taken.is_complete:
            raise asyncio.CancelledError("the run is no longer this worker's")
        self._keep(taken, taken.about("event", n=taken.n + 1, event=event, data=data))

    def complete(self, taken: Taken, **ending: Any) -> None:
        """Puts the end of a run. One that is too long becomes an error that says so."""
        if taken.is_gone or taken.is_complete:
            return
        message = taken.about("complete", n=taken.n + 1)
        try:
            self._keep(taken, {**message, **ending})
        except TooLargeError as error:
            said = {"code": "output_too_large", "message": str(error)}
            self._keep(taken, {**message, "status": "error", "error": said})
        except (ValueError, TypeError, RecursionError) as error:
            said = {"code": "bad_output", "message": f"the agent's output is not JSON: {error}"}
            self._keep(taken, {**message, "status": "error", "error": said})
        taken.is_complete = True

    def _keep(self, taken: Taken, message: Message) -> None:
        text = encode(message)
        if len(text) > self.message_bytes:
            raise TooLargeError(len(text), self.message_bytes)
        taken.n += 1
        taken.kept.append((taken.n, text))
        self._offer_for_sending(taken)

    @property
    def kept(self) -> int:
        """Messages that are not acknowledged."""
        return sum(len(taken.kept) for taken in self.runs.values())

    # The connection's side.

    def busy(self, agent: str) -> int:
        """How many runs of an agent wait for their start or have one."""
        return sum(taken.agent == agent and not taken.is_complete for taken in self.runs.values())

    def take(self, offer: Message) -> Taken:
        """Takes a run that was offered."""
        taken = Taken(offer)
        self.runs[taken.run] = taken
        return taken

    def live(self, message: Message) -> Taken | None:
        """The run that a message is about, when that attempt is here."""
        taken = self.runs.get(str(message.get("run")))
        return taken if taken is not None and taken.attempt == message.get("attempt") else None

    def acknowledge(self, taken: Taken, n: int) -> bool:
        """The daemon has everything up to `n`. True when that is the start: execute it now."""
        begins, taken.is_started = not taken.is_started, True
        while taken.kept and taken.kept[0][0] <= n:
            taken.kept.popleft()
            taken.sent = max(0, taken.sent - 1)
        if taken.is_complete and not taken.kept:
            self._remove(taken)
        self._grant()
        # The window may have opened for others.
        self.on_work()
        return begins

    def forget(self, taken: Taken) -> None:
        """The run is not this worker's any more."""
        taken.is_gone = True
        self._remove(taken)
        self._grant()

    def _remove(self, taken: Taken) -> None:
        self.runs.pop(taken.run, None)
        self._ready.pop(taken.run, None)
        self._held.pop(taken.run, None)
        self.on_change()

    def positions(self) -> list[Message]:
        """Everything that `hello` must name."""
        return [{"run": t.run, "attempt": t.attempt, "n": t.n} for t in self.runs.values()]

    def welcome(self, window: int, message_bytes: int, known: Iterable[Message]) -> list[Taken]:
        """A connection begins, with what the daemon says of the named runs. Gives what to execute now."""
        self.window, self.message_bytes = max(1, window), message_bytes
        self._ready.clear()
        self._held.clear()
        lasts = {(k.get("run"), k.get("attempt")): k for k in known if k.get("state") == "continue"}
        begin = []
        for taken in list(self.runs.values()):
            taken.sent = 0
            last = lasts.get((taken.run, taken.attempt))
            # A run that the daemon says nothing of is not ours: else it might be executed twice.
            if last is None:
                self.forget(taken)
                continue
            if self.acknowledge(taken, int(last.get("n", 0))):
                begin.append(taken)
            self._offer_for_sending(taken)
        return begin

    def send_again(self, taken: Taken, expected: int) -> None:
        """The daemon wants `expected` next."""
        taken.sent = sum(1 for n, _ in taken.kept if n < expected)
        self._offer_for_sending(taken)

    def hold(self, taken: Taken) -> None:
        """Nothing of this run is sent before `release`: the daemon's store does not accept."""
        self._ready.pop(taken.run, None)
        self._held[taken.run] = taken

    def release(self, taken: Taken) -> None:
        """What was held may be sent."""
        if self._held.pop(taken.run, None) is not None:
            self._offer_for_sending(taken)

    def next_message(self) -> bytes | None:
        """The next message to send, if there is one that the window allows: each run has its turn."""
        if not self._ready or sum(taken.sent for taken in self.runs.values()) >= self.window:
            return None
        taken = self._ready.pop(next(iter(self._ready)))
        _, text = taken.kept[taken.sent]
        taken.sent += 1
        self._offer_for_sending(taken)
        return text

    def _offer_for_sending(self, taken: Taken) -> None:
        here = self.runs.get(taken.run) is taken
        if here and taken.sent < len(taken.kept) and taken.run not in self._held:
            self._ready.setdefault(taken.run, taken)
            self.on_work()
