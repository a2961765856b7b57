"""Events on their way to one `async for`: an event is processed when its loop body is over."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable

from ._stream import Stream, Ticket
from .events import Event, Reset


class Queue:
    """What one consumer still has to process. The client holds it; the consumer holds its `Feed`."""

    def __init__(self, wants: Callable[[Event], bool], is_last: Callable[[Event], bool]) -> None:
        self.wants = wants
        self.is_last = is_last
        """Whether nothing follows an event."""
        self.is_closed = False
        self._error: Exception | None = None
        self._waiting: deque[Ticket | Reset] = deque()
        self._current: Ticket | None = None
        self._bell = asyncio.Event()

    def takes(self, event: Event) -> bool:
        """Whether the consumer wants it. When its choice fails, that is the end of this consumer alone."""
        try:
            return not self.is_closed and self.wants(event)
        except Exception as error:  # noqa: BLE001 - it is raised in the loop, where it can be mended
            self.end(error)
            return False

    def put(self, ticket: Ticket) -> None:
        """One more event."""
        ticket.hold()
        self._waiting.append(ticket)
        self._bell.set()

    def put_reset(self, reset: Reset) -> None:
        """What follows is of another history."""
        self._waiting.append(reset)
        self._bell.set()

    def forget(self, stream: Stream) -> None:
        """What is left of this history is void; what is being processed goes on."""
        self._waiting = deque(
            item for item in self._waiting if isinstance(item, Reset) or not item.is_of(stream)
        )

    def end(self, error: Exception | None = None) -> None:
        """Nothing follows; with an error, that is raised after what is here."""
        self.is_closed = True
        self._error = self._error or error
        self._bell.set()

    def close(self) -> None:
        """Nobody listens any more: what is here holds nothing up."""
        self.end()
        self.done()
        while self._waiting:
            item = self._waiting.popleft()
            if isinstance(item, Ticket):
                item.release()

    def done(self) -> None:
        """The consumer is done with what it got last."""
        if self._current is not None:
            current, self._current = self._current, None
            current.release()

    async def next(self) -> Event | Reset | None:
        """The next event, or that the history is another; None at the end."""
        self.done()
        while not self._waiting:
            if self._error is not None:
                raise self._error
            if self.is_closed:
                return None
            self._bell.clear()
            await self._bell.wait()
        item = self._waiting.popleft()
        if isinstance(item, Reset):
            return item
        self._current = item
        return item.event


class Feed:
    """Iterate it with `async for`. Each event is acknowledged after the loop's body, never before.

    A loop over `client.events()` or a run that is left with `break` or by an exception lets go of what was
    not looked at. A feed that is kept in a variable goes on where the loop was left: what comes waits for it,
    and is not acknowledged, until `close()`.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._finalizer = weakref.finalize(self, queue.close)
        self._finalizer.atexit = False

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> Event:
        event = await self._queue.next()
        # A reset is put only where it is looked for.
        if not isinstance(event, Event):
            raise StopAsyncIteration
        return event

    def close(self) -> None:
        """Stops listening."""
        self._finalizer()
