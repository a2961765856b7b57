"""The peer FastAPI with uvicorn: the connection manager of its documentation, with a set of sockets for each user.

A device connects to /devices/USER and gets that user's events, a text message each. A publisher connects to /publish
and sends {"user", "event"}. The first line of output is the address; the end of standard input ends it.
"""

import json
import os
import socket
import sys
import threading

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect


class ConnectionManager:
    def __init__(self) -> None:
        self.users: dict[str, list[WebSocket]] = {}

    async def connect(self, user: str, websocket: WebSocket) -> None:
        await websocket.accept()
        self.users.setdefault(user, []).append(websocket)

    def disconnect(self, user: str, websocket: WebSocket) -> None:
        self.users[user].remove(websocket)

    async def send(self, user: str, event: object) -> None:
        text = json.dumps(event, separators=(",", ":"))
        for websocket in list(self.users.get(user, ())):
            await websocket.send_text(text)


app = FastAPI()
manager = ConnectionManager()


@app.websocket("/devices/{user}")
async def device(websocket: WebSocket, user: str) -> None:
    await manager.connect(user, websocket)
    try:
        await websocket.send_text('{"type":"ready"}')
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        manager.disconnect(user, websocket)


@app.websocket("/publish")
async def publish(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            message = await websocket.receive_json()
            await manager.send(message["user"], message["event"])
    except WebSocketDisconnect:
        pass


def end_with_standard_input() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(*listener.getsockname(), sep=":", flush=True)
    # Compression off, as the other peers have it.
    config = uvicorn.Config(app, log_level="warning", ws_per_message_deflate=False, backlog=4096)
    uvicorn.Server(config).run(sockets=[listener])
