"""One stream on the way to the application: order, no gaps, nothing twice, and what may be acknowledged.

Three positions, each at most the next: `processed` (the application is done with everything up to here),
`received` (handed to it), and on each connection `at` (heard on this one, which after a reconnect begins at
`processed` again and repeats what lies between).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from .events import Event


class GapError(Exception):
    """The stream does not go on where it was: something was lost, so connect again."""


class Ticket:
    """One event that the application is not done with."""

    def __init__(self, stream: Stream, event: Event) -> None:
        self._stream = stream
        self.event = event
        self.holders = 1

    def is_of(self, stream: Stream) -> bool:
        """Whether the event is of this history."""
        return self._stream is stream

    def hold(self) -> None:
        """One more consumer must be done with it."""
        self.holders += 1

    def release(self) -> None:
        """One of them is."""
        self.holders -= 1
        if self.holders == 0:
            self._stream.advance()


class Stream:
    """A position, and the events after it."""

    def __init__(self, epoch: str, seq: int, on_progress: Callable[[], None]) -> None:
        self.epoch = epoch
        self._on_progress = on_progress
        self.at = self.received = self.processed = self.acked = seq
        self._open: deque[Ticket] = deque()
        self._again = 0
        """How many characters of deltas this connection still repeats."""

    def leave_off(self) -> int:
        """Where the next connection is to go on: it repeats what was received and not processed."""
        self._again = sum(len(ticket.event.delta) for ticket in self._open)
        return self.processed

    def resume(self, seq: int) -> None:
        """A new connection starts at `seq`, where this one was left off. Raises GapError if it does not."""
        if seq > self.processed:
            raise GapError(f"asked for what follows {self.processed}, and it goes on after {seq}")
        self.at = self.acked = seq

    @property
    def waiting(self) -> int:
        """How many events the application has not processed."""
        return len(self._open)

    def take(self, event: Event, *, is_redelivery: bool) -> Ticket | None:
        """What is new of an event that came; hold a ticket to it while it is processed. Raises GapError."""
        if event.seq <= self.at and is_redelivery:
            return None
        if self.at not in (event.seq - 1, event.prev):
            raise GapError(f"expected {self.at + 1}, found {event.seq}")
        self.at = event.seq
        if event.seq <= self.received:
            self._again -= len(event.delta)
            return None
        ticket = Ticket(self, self._without_known(event))
        self.received = event.seq
        self._open.append(ticket)
        return ticket

    def heard_of(self, seq: int) -> None:
        """The daemon says that it has sent up to `seq` on this connection. Raises GapError."""
        if seq > self.at:
            raise GapError(f"{seq} was sent, and {self.at} is the last that came")

    def advance(self) -> None:
        """Moves on past what is done."""
        while self._open and self._open[0].holders == 0:
            self.processed = self._open.popleft().event.seq
        self._on_progress()

    def ack(self) -> int | None:
        """What to acknowledge now: never past what was heard on this connection."""
        upto = min(self.processed, self.at)
        if upto <= self.acked:
            return None
        self.acked = upto
        return upto

    def _without_known(self, event: Event) -> Event:
        """Deltas may be joined otherwise than on the last connection, and so begin with what is known."""
        if event.prev is None or event.prev >= self.received:
            return event
        return replace(event, prev=self.received, data={**event.data, "delta": event.delta[self._again :]})
