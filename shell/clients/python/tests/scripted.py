"""A daemon that says what the test wrote, over a real WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

PATIENCE = 30.0


class Peer:
    """One connection of the library under test."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        request = socket.request
        assert request is not None
        self.path = request.path
        self.authorization = request.headers.get("Authorization")

    async def hear(self) -> Any:
        """The next message."""
        return json.loads(await asyncio.wait_for(self.socket.recv(), PATIENCE))

    async def hear_many(self, count: int) -> list[Any]:
        """The next messages."""
        return [await self.hear() for _ in range(count)]

    async def say(self, message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def close(self, code: int, reason: str = "") -> None:
        await self.socket.close(code, reason)

    async def drop(self) -> None:
        """The connection breaks."""
        self.socket.transport.abort()
        await self.socket.wait_closed()

    async def closed(self) -> int | None:
        """Waits for the other side's close; what it still says is passed over."""
        try:
            while True:
                await asyncio.wait_for(self.socket.recv(), PATIENCE)
        except ConnectionClosed as closed:
            return None if closed.rcvd is None else closed.rcvd.code


class Server:
    """Connections as they come."""

    def __init__(self, url: str, peers: asyncio.Queue[Peer]) -> None:
        self.url = url
        self._peers = peers

    async def accept(self) -> Peer:
        """The next connection."""
        return await asyncio.wait_for(self._peers.get(), PATIENCE)


@asynccontextmanager
async def scripted() -> AsyncIterator[Server]:
    """A scripted daemon on a free port."""
    peers: asyncio.Queue[Peer] = asyncio.Queue()

    async def opened(socket: ServerConnection) -> None:
        peers.put_nowait(Peer(socket))
        await socket.wait_closed()

    protocol = [Subprotocol("runcast.v1")]
    async with serve(opened, "127.0.0.1", 0, subprotocols=protocol, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield Server(f"ws://127.0.0.1:{port}", peers)
