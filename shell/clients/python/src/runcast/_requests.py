"""Requests that wait for their answers: kept while there is no connection, said again after a reconnect."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from ._wire import Message, encode
from .errors import OfflineError, RefusedError, TooLargeError

log = logging.getLogger("runcast.client")

WAITING_MAX = 1_000
"""Requests that are kept for a connection."""
ASKED_MAX = 32
"""Requests whose answers are awaited at a time, so that a long queue does not run into a rate limit."""
RETRIED = ("rate_limited", "draining", "overloaded", "storage_unavailable")
"""Refusals that the library waits out by itself: they are about the daemon, not about the request."""


@dataclass(eq=False)
class Request:
    """One of them."""

    id: str
    kind: str
    text: bytes
    """As it was when it was asked: what is said again must be the same."""
    answer: asyncio.Future[Message]
    on_answer: Callable[[Message], None] | None = None
    """Called at once, before anything that the daemon says after it is heard."""
    is_of_connection: bool = False
    """Not said again on another connection."""
    is_sent: bool = False
    """On this connection."""


class Requests:
    """All of a client, in the order in which they were made."""

    def __init__(self, on_work: Callable[[], None]) -> None:
        self._on_work = on_work
        self._waiting: dict[str, Request] = {}
        self._count = 0
        self._hold_until = 0.0
        self.message_bytes = 64 << 10

    async def ask(
        self, message: Message, on_answer: Callable[[Message], None] | None = None, *, once: bool = False
    ) -> Message:
        """The answer, however many connections it takes; `once`: on this connection or never.

        Raises what `put` and the daemon refuse with.
        """
        request = self.put(message, on_answer)
        request.is_of_connection = once
        try:
            return await request.answer
        finally:
            self._waiting.pop(request.id, None)

    def put(self, message: Message, on_answer: Callable[[Message], None] | None = None) -> Request:
        """Queues a request. Raises OfflineError, TooLargeError, and ValueError for what JSON cannot say."""
        if len(self._waiting) >= WAITING_MAX:
            raise OfflineError(WAITING_MAX)
        self._count += 1
        request_id = f"r{self._count}"
        message = {"type": message["type"], "id": request_id, **message}
        text = encode(message)
        if len(text) > self.message_bytes:
            raise TooLargeError(len(text), self.message_bytes)
        answer = asyncio.get_running_loop().create_future()
        request = self._waiting[request_id] = Request(request_id, message["type"], text, answer, on_answer)
        self._on_work()
        return request

    def connected(self, message_bytes: int) -> None:
        """A connection begins: what was not answered is said again on it."""
        self.message_bytes = message_bytes
        self._hold_until = 0.0
        for request in list(self._waiting.values()):
            request.is_sent = False
            size = len(request.text)
            if request.is_of_connection:
                del self._waiting[request.id]
                request.answer.cancel()
            elif size > message_bytes:
                del self._waiting[request.id]
                request.answer.set_exception(TooLargeError(size, message_bytes))

    def next(self) -> bytes | None:
        """The next request to send."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._hold_until:
            return None
        if sum(request.is_sent for request in self._waiting.values()) >= ASKED_MAX:
            return None
        for request in self._waiting.values():
            if not request.is_sent:
                request.is_sent = True
                return request.text
        return None

    def answered(self, message: Message) -> bool:
        """An answer came; false when it answers nothing that was asked."""
        request = self._waiting.get(str(message.get("id"))) or self._unnamed(message)
        if request is None:
            return False
        if message["type"] == "error" and message.get("code") in RETRIED:
            self._retry(request, message)
            return True
        del self._waiting[request.id]
        self._on_work()
        if request.answer.done():
            return True
        if message["type"] == "error":
            request.answer.set_exception(RefusedError.of(message))
        else:
            if request.on_answer is not None:
                request.on_answer(message)
            request.answer.set_result(message)
        return True

    def _unnamed(self, message: Message) -> Request | None:
        """An error about a message that could not be read may come without its id."""
        kind = message.get("of")
        sent = (r for r in self._waiting.values() if r.is_sent and r.kind == kind)
        return next(sent, None) if message.get("id") is None else None

    def _retry(self, request: Request, message: Message) -> None:
        wait = max(50, int(message.get("retry_ms") or 1_000)) / 1000
        log.warning("%s waits %.1f s: %s", request.kind, wait, message.get("code"))
        request.is_sent = False
        loop = asyncio.get_running_loop()
        self._hold_until = max(self._hold_until, loop.time() + wait)
        loop.call_later(wait + 0.001, self._on_work)

    def end(self, error: Exception) -> None:
        """There will be no answers."""
        for request in self._waiting.values():
            if not request.answer.done():
                request.answer.set_exception(error)
                # Whoever has stopped waiting for it need not be told.
                request.answer.exception()
        self._waiting.clear()
