"""A run that this client asked for or watches: its events, and its end."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from ._feed import Feed, Queue
from ._wire import Json, Message, without_none
from .errors import ResetError
from .events import Accepted, End, Event, read_end

Ask = Callable[[Message], Awaitable[Message]]


class Watched:
    """What the client keeps of a run until its end."""

    def __init__(self, run: str | None, key: str | None) -> None:
        loop = asyncio.get_running_loop()
        self.run = run
        self.key = key
        self.accepted: asyncio.Future[Accepted] = loop.create_future()
        self.end: asyncio.Future[End] = loop.create_future()
        self.queue: Queue | None = None
        """Who looks at its events."""
        self.notice: Message | None = None
        self.lost_at: int | None = None
        """Where the stream is past the run without having told its end."""
        self.waits_for_heartbeat = False
        """Whether the next heartbeat's head is such a place."""

    def concerns(self, event: Event) -> bool:
        """Whether an event is of this run; it may come before the answer that names the run."""
        if event.topic is not None:
            return False
        if self.run is None and event.event == "run_queued" and event.data.get("key") == self.key:
            self.run = event.run
        return event.run == self.run

    def wait_for_heartbeat(self) -> None:
        """The daemon has answered: the heartbeats after this know of every run that began before."""
        self.waits_for_heartbeat = True

    def see(self, event: Event) -> None:
        """Takes note of the end."""
        if event.event == "agent_completed" and not self.end.done():
            self.end.set_result(read_end(event))

    def answer(self, accepted: Accepted) -> None:
        """It is durable."""
        self.run = accepted.run
        if not self.accepted.done():
            self.accepted.set_result(accepted)

    def fail(self, error: Exception) -> None:
        """There will be no end to tell."""
        for future in (self.accepted, self.end):
            if not future.done():
                future.set_exception(error)
                # Not everybody waits for both.
                future.exception()
        if self.queue is not None:
            self.queue.end(error)


class RunHandle:
    """A run on its way: `async for event in run` for all of its events, `await run` for its end.

    Events count as processed, and are acknowledged, when the loop's body is over. So look at the events or
    await the end; to do neither, ask with `Client.submit`.
    """

    def __init__(self, watched: Watched, queue: Queue, ask: Ask) -> None:
        self._watched = watched
        watched.queue = queue
        self._feed: Feed | None = Feed(queue)
        self._ask = ask

    @property
    def id(self) -> str | None:
        """The run's id, once it is accepted."""
        return self._watched.run

    @property
    def notice(self) -> Message | None:
        """What the daemon last said of it: its place in the queue, that it works, that its time ends soon."""
        return self._watched.notice

    async def accepted(self) -> Accepted:
        """Waits until the daemon has made it durable. Raises RefusedError."""
        return await asyncio.shield(self._watched.accepted)

    def __aiter__(self) -> Feed:
        if self._feed is None:
            raise RuntimeError("a run's events can be looked at once, and not after its end was awaited")
        feed, self._feed = self._feed, None
        return feed

    def __await__(self) -> Generator[Any, None, End]:
        # Nobody looks at the events: they must not hold up their acknowledgement.
        self._feed = None
        return asyncio.shield(self._watched.end).__await__()

    async def cancel(self) -> str:
        """Asks for its end. `cancelling`, or `ended` when it is over."""
        answer = await self._ask({"type": "cancel", "run": await self._id()})
        return str(answer["state"])

    async def input(self, data: Json, *, request: str | None = None) -> None:
        """Answers a question of the agent (`request` of `input_required`), or steers it.

        Raises RefusedError `input_not_awaited` or `input_already_given`.
        """
        await self._ask(input_message(await self._id(), data, request))

    async def _id(self) -> str:
        if self._watched.run is None:
            await self.accepted()
        return str(self._watched.run)


def input_message(run: str, data: Json, request: str | None) -> Message:
    """`input`, with a key, so that it counts once however often it is said."""
    fields = without_none(request=request, key=uuid.uuid4().hex)
    return {"type": "input", "run": run, "data": data, **fields}


def lost(watched: Watched) -> None:
    """The stream has gone past the run, and did not tell its end."""
    watched.fail(ResetError(watched.run or "a run that was not accepted"))
