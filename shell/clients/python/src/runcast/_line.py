"""One connection over a WebSocket."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import cast
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException
from websockets.typing import Subprotocol

from ._wire import Message
from .errors import RefusedError

SUBPROTOCOL = Subprotocol("runcast.v1")
OPEN_SECONDS = 10.0
"""How long connecting may take."""
WELCOME_SECONDS = 25.0
"""How long the daemon may keep silent before its `welcome`."""
MESSAGE_MAX = 32 << 20
"""The longest message that is taken, in bytes: no daemon can be configured to send as much."""

RETRY_MS_MAX = 60_000
"""The longest that the daemon may ask a client to stay away, but for a drain."""

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


@dataclass
class Lost(Exception):
    """A connection ended, or came not about."""

    reason: str
    code: int | None = None
    """The close code, when the daemon gave one."""
    status: int | None = None
    """The HTTP status, when the upgrade was refused."""
    error: RefusedError | None = None
    """What the daemon said before, or with the refusal."""
    retry_ms: int = 0
    """How long to stay away at least."""

    def __str__(self) -> str:
        return self.reason if self.error is None else f"{self.reason}: {self.error}"

    def told(self, error: RefusedError) -> None:
        """The daemon had said this before it closed: it says why, and when to come back."""
        self.error = error
        self.retry_ms = max(self.retry_ms, min(error.retry_ms or 0, RETRY_MS_MAX))

    @property
    def number(self) -> int:
        """The close code or HTTP status; 1006 when there was neither."""
        return self.code or self.status or 1006


class Line:
    """An open WebSocket that speaks the protocol's JSON."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._is_silent = False
        self.sent_at = time.monotonic()
        """When something was last sent."""

    @classmethod
    async def open(cls, url: str, path: str, token: str) -> Line:
        """Connects. Raises `Lost`."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            socket = await connect(
                _address(url, path),
                subprotocols=[SUBPROTOCOL],
                additional_headers=headers,
                compression=None,
                open_timeout=OPEN_SECONDS,
                close_timeout=2,
                # The protocol has heartbeats of its own, both ways.
                ping_interval=None,
                max_size=MESSAGE_MAX,
            )
        except InvalidStatus as refused:
            raise _refusal(refused) from None
        except InvalidURI as wrong:
            raise Lost(str(wrong), status=400) from None
        except (OSError, WebSocketException, TimeoutError, asyncio.TimeoutError) as error:
            raise Lost(f"not reachable: {error or type(error).__name__}") from None
        return cls(socket)

    async def send(self, text: bytes) -> None:
        """Sends one message, when the socket takes it. Raises `Lost`."""
        self.sent_at = time.monotonic()
        try:
            await self._socket.send(text, text=True)
        except ConnectionClosed as closed:
            raise _closed(closed) from None

    async def hear(self, seconds: float) -> Message:
        """The next message. Raises `Lost`, also when nothing comes for so many seconds."""
        # Not `asyncio.wait_for`: before Python 3.12 it may swallow a cancel.
        silent = asyncio.get_running_loop().call_later(seconds, self._give_up)
        try:
            message = _read(await self._socket.recv())
        except ConnectionClosed as closed:
            if self._is_silent:
                raise Lost(f"nothing heard for {seconds:g} s") from None
            raise _closed(closed) from None
        except ValueError as wrong:
            raise Lost(f"not JSON: {wrong}") from None
        finally:
            silent.cancel()
        return cast(Message, message) if isinstance(message, dict) else {"type": ""}

    def _give_up(self) -> None:
        self._is_silent = True
        self._socket.transport.abort()

    async def ping(self) -> None:
        """A sign of life. Raises `Lost`."""
        self.sent_at = time.monotonic()
        try:
            await self._socket.ping()
        except ConnectionClosed as closed:
            raise _closed(closed) from None

    def quiet_for(self, seconds: float) -> float:
        """How long until nothing was sent for so many seconds; not above zero when that is so."""
        return self.sent_at + seconds - time.monotonic()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Closes it, waiting a little for the other side."""
        await self._socket.close(code, reason)


async def greeting(line: Line, *needs: str) -> Message:
    """The daemon's `welcome`, with the fields that it must have.

    Raises `Lost`; an `error` that comes before the close tells why.
    """
    error: RefusedError | None = None
    while True:
        try:
            message = await line.hear(WELCOME_SECONDS)
        except Lost as lost:
            if error is not None:
                lost.told(error)
            raise
        if message.get("type") == "welcome":
            if missing := [field for field in needs if field not in message]:
                raise Lost(f"a welcome without {', '.join(missing)}: is this a daemon of Runcast?")
            return message
        if message.get("type") == "error":
            error = RefusedError.of(message)


def heartbeat_of(welcome: Message) -> float:
    """The seconds after which each side says something; a peer silent for 2.5 times that is given up."""
    return max(0.001, int(welcome.get("heartbeat_ms", 10_000)) / 1000)


async def ring_within(bell: asyncio.Event, seconds: float) -> None:
    """Returns when the bell rings, at the latest after so many seconds."""
    late = asyncio.get_running_loop().call_later(seconds, bell.set)
    try:
        await bell.wait()
    finally:
        late.cancel()


def _address(url: str, path: str) -> str:
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.netloc:
        raise Lost(f"url: expected ws://host:port or wss://host, found {url!r}", status=400)
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + path, "", ""))


def _read(text: str | bytes) -> object:
    """A message. Python reads no integers of more than 4,300 digits by itself, and JSON may have them."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return json.loads(text, parse_int=_integer)


def _integer(digits: str) -> int | Decimal:
    try:
        return int(digits)
    except ValueError:
        return Decimal(digits)


def _closed(closed: ConnectionClosed) -> Lost:
    frame = closed.rcvd
    if frame is None:
        return Lost("the connection broke")
    return Lost(f"closed with {frame.code} {frame.reason}".rstrip(), code=frame.code)


def _refusal(refused: InvalidStatus) -> Lost:
    response = refused.response
    try:
        problem = json.loads(response.body or b"")
    except ValueError:
        problem = {}
    problem = problem if isinstance(problem, dict) else {}
    after = response.headers.get("Retry-After", "")
    lost = Lost(
        f"refused with HTTP {response.status_code} {response.reason_phrase}".rstrip(),
        status=response.status_code,
        retry_ms=min(int(after) * 1000, RETRY_MS_MAX) if after.isdigit() else 0,
    )
    if "code" in problem:
        lost.told(RefusedError.of(problem))
    return lost
