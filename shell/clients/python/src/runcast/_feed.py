"""Events on their way to one `async for`: an event is processed when its loop body is over."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable

from ._stream import Ticket
from .events import Event


class Queue:
    """What one consumer still has to process. The client holds it; the consumer holds its `Feed`."""

    def __init__(self, wants: Callable[[Event], bool], is_last: Callable[[Event], bool]) -> None:
        self.wants = wants
        self.is_last = is_last
        """Whether nothing follows an event."""
        self.is_closed = False
        self._error: Exception | None = None
        self._waiting: deque[Ticket] = deque()
        self._current: Ticket | None = None
        self._bell = asyncio.Event()

    def put(self, ticket: Ticket) -> None:
        """One more event."""
        ticket.hold()
        self._waiting.append(ticket)
        self._bell.set()

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
            self._waiting.popleft().release()

    def done(self) -> None:
        """The consumer is done with what it got last."""
        if self._current is not None:
            current, self._current = self._current, None
            current.release()

    async def next(self) -> Event | None:
        """The next event; None at the end."""
        self.done()
        while not self._waiting:
            if self._error is not None:
                raise self._error
            if self.is_closed:
                return None
            self._bell.clear()
            await self._bell.wait()
        self._current = self._waiting.popleft()
        return self._current.event


class Feed:
    """Iterate it with `async for`. Each event is acknowledged after the loop's body, never before.

    Left with `break` or by an exception, it lets go of what was not looked at.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._finalizer = weakref.finalize(self, queue.close)
        self._finalizer.atexit = False

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> Event:
        event = await self._queue.next()
        if event is None:
            raise StopAsyncIteration
        return event

    def close(self) -> None:
        """Stops listening."""
        self._finalizer()
