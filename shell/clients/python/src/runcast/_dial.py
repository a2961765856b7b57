"""Connection after connection: what the end of one means for the next (PROTOCOL §3, close codes)."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from ._line import Lost
from ._wire import Token, ask_token
from .errors import ClosedError, RefusedError

BACKOFF_MIN = 0.5
BACKOFF_MAX = 10.0
FAULTS = (1002, 1003, 1007, 1008, 1009, 4403)
"""One of the two sides is at fault, and will be again: no hurry."""
FAULT_SECONDS = 60.0
HELD_SECONDS = 10.0
"""A connection that held for this long was a good one: the waits begin anew."""

_TOKEN = re.compile(r"[A-Za-z0-9_.-]*")
_TOKEN_CLOSES = (4501, 4506)
_TRANSIENT_STATUS = (408, 429)


def is_token_fault(lost: Lost) -> bool:
    """Whether another token may help."""
    return lost.status == 401 or lost.code in _TOKEN_CLOSES


def is_final(lost: Lost, *, may_renew: bool) -> bool:
    """Whether to stay away. `may_renew`: another token can be had where this one is at fault."""
    if may_renew and is_token_fault(lost):
        return False
    if lost.status is not None:
        return 400 <= lost.status < 500 and lost.status not in _TRANSIENT_STATUS
    return lost.code is not None and 4500 <= lost.code < 4600


class Dial:
    """Connects again and again, with a token that is asked for anew each time."""

    def __init__(self, token: Token, log: logging.Logger) -> None:
        self.reconnect_ms: int | None = None
        """What the daemon said on this connection about when to come back."""
        self.pause: Callable[[float], Awaitable[None]] = asyncio.sleep
        """How it waits for so many seconds."""
        self._token = token
        self._log = log
        self._tries = 0
        self._by, self._calls = uuid.uuid4().hex, 0
        self._opened: float | None = None
        self._refused: tuple[str, Lost] | None = None

    def call(self) -> dict[str, Any]:
        """The `call` of the next `hello`: one that was given up must not replace a later one."""
        self._calls += 1
        return {"by": self._by, "n": self._calls}

    @property
    def may_renew(self) -> bool:
        """Whether there is more than one token."""
        return not isinstance(self._token, str)

    async def again_and_again(self, connection: Callable[[str], Awaitable[None]]) -> NoReturn:
        """Each `connection` takes a token and raises `Lost` at its end. Raises ClosedError at the last."""
        while True:
            self.reconnect_ms, token = None, ""
            try:
                token = await self._next_token()
                await connection(token)
            except Lost as lost:
                self._refused = (token, lost) if is_token_fault(lost) else None
                if is_final(lost, may_renew=self.may_renew):
                    self._give_up(lost)
                wait = self.wait_after(lost)
                self._log.warning("%s; connecting again in %.1f s", lost, wait)
                await self.pause(wait)

    def opened(self) -> None:
        """A `welcome` came."""
        self._opened = time.monotonic()

    def wait_after(self, lost: Lost) -> float:
        """Seconds to wait before the next connection: full jitter, growing with each failure."""
        held = self._opened is not None and time.monotonic() - self._opened >= HELD_SECONDS
        self._opened = None
        # While it drains a connection may as well break: the time that it gave counts.
        if self.reconnect_ms is not None:
            return self.reconnect_ms / 1000
        if lost.code == 4400:
            return random.uniform(1.0, 5.0)
        self._tries = 1 if held else self._tries + 1
        bound = min(BACKOFF_MAX, BACKOFF_MIN * 2 ** min(self._tries - 1, 16))
        bound = FAULT_SECONDS if lost.code in FAULTS else bound
        return lost.retry_ms / 1000 + random.uniform(0.0, bound)

    async def _next_token(self) -> str:
        try:
            token = await ask_token(self._token)
        except Exception as error:  # noqa: BLE001 - the application's own: its source may be back later
            raise Lost(f"no token: {type(error).__name__}: {error}") from None
        if not _TOKEN.fullmatch(token):
            malformed = Lost("the token cannot be sent", status=401)
            hint = "is there a space or a line end in it?"
            malformed.told(RefusedError("token_malformed", "that is not a token", hint=hint))
            self._give_up(malformed)
        if self._refused is not None and self._refused[0] == token:
            self._give_up(self._refused[1])
        return token

    def _give_up(self, lost: Lost) -> NoReturn:
        self._log.error("%s; not connecting again", lost)
        raise ClosedError(lost.number, lost.reason, lost.error) from None
