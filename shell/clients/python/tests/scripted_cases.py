"""The daemon of the conformance cases: it does what the script says and nothing else, and keeps what it
hears."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

SUBPROTOCOL = Subprotocol("runcast.v1")
LIMITS = {
    "window": 256, "message_bytes": 65_536, "event_bytes": 1_052_672, "runs_active": 3, "runs_queued": 20,
}  # fmt: skip


def make_event(fields: Any) -> Any:
    """An event, with the fields that matter."""
    made = {
        "type": "event",
        "seq": 1,
        "ts": 1_789_000_000_000,
        "event": "agent_output",
        "data": {"delta": "x"},
    }
    of_run = {} if "topic" in fields else {"thread": "t", "run": "run_t_00000001", "attempt": 1}
    return made | of_run | fields


def welcome_to(hello: Any, fields: Any) -> Any:
    """The answer to a `hello`, with the fields that matter."""
    start = hello.get("from")
    resumed = isinstance(start, dict) and "seq" in start
    resume = {"status": "resumed", "from": start["seq"]} if resumed else {"status": "fresh", "from": 0}
    return {
        "type": "welcome", "connection": "c-1", "user": "alice", "device": hello.get("device", "made"),
        "epoch": "e-1", "floor": 1, "head": 0, "resume": resume, "heartbeat_ms": 10_000, "topics": [],
        "runs": [], "limits": LIMITS,
    } | fields  # fmt: skip


class Connection:
    """One WebSocket that the script has opened."""

    def __init__(self, socket: ServerConnection, on_ack: Callable[[str, int], None]) -> None:
        self._socket = socket
        self._on_ack = on_ack
        self.heard: list[Any] = []
        """Messages that no step has taken."""
        self.acked: dict[str, int] = {}
        """By topic; "" is the user's own stream."""
        self.sent: dict[str, int] = {}
        """By topic, up to where events were sent."""
        self.over = False

    async def listen(self) -> None:
        """Keeps what comes, to the end."""
        with contextlib.suppress(ConnectionClosed):
            async for text in self._socket:
                message = json.loads(text)
                if message["type"] == "ack":
                    self.acked[message.get("topic", "")] = message["seq"]
                    self._on_ack(message.get("topic", ""), message["seq"])
                elif message["type"] != "ping":
                    self.heard.append(message)
        self.over = True

    async def send(self, message: Any) -> None:
        await self.text(json.dumps(message))

    async def text(self, text: str) -> None:
        # Who has gone will be noticed by what is waited for.
        with contextlib.suppress(ConnectionClosed):
            await self._socket.send(text)

    async def close(self, code: int) -> None:
        await self._socket.close(code)

    def cut(self) -> None:
        self._socket.transport.abort()

    async def settled(self) -> None:
        """Whatever the client has said before is here."""
        with contextlib.suppress(ConnectionClosed):
            await (await self._socket.ping())
        await asyncio.sleep(0)


class Arrival:
    """A client that wants in."""

    def __init__(self, request: Request) -> None:
        self.path = request.path
        self.token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """What it is answered: 101 lets it in."""
        self.connection: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()


class ScriptedServer:
    """Arrivals as they come, and the connections that were let in."""

    def __init__(self, on_ack: Callable[[str, int], None]) -> None:
        self.url = ""
        self.on_ack = on_ack
        self.arrivals: list[Arrival] = []
        self.connections: list[Connection] = []
        self._let_in: dict[ServerConnection, Arrival] = {}

    @property
    def current(self) -> Connection:
        return self.connections[-1]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """On a free port."""
        async with serve(
            self._serve, "127.0.0.1", 0, process_request=self._arrive, subprotocols=[SUBPROTOCOL],
            compression=None, open_timeout=None, close_timeout=1, ping_interval=None,
        ) as server:  # fmt: skip
            port = next(iter(server.sockets)).getsockname()[1]
            self.url = f"ws://127.0.0.1:{port}"
            try:
                yield
            finally:
                for arrival in self.arrivals:
                    arrival.status.cancel()

    async def _arrive(self, socket: ServerConnection, request: Request) -> Response | None:
        arrival = Arrival(request)
        self.arrivals.append(arrival)
        status = await arrival.status
        if status != 101:
            return socket.respond(status, "")
        self._let_in[socket] = arrival
        return None

    async def _serve(self, socket: ServerConnection) -> None:
        connection = Connection(socket, self.on_ack)
        self._let_in.pop(socket).connection.set_result(connection)
        await connection.listen()
