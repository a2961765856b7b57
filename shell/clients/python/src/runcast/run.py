"""One run, as an agent sees it: what is asked, and a voice."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from . import say
from ._desk import Desk, Taken
from ._wire import Json, as_id
from .errors import InputExpired, TooLargeError
from .say import Said

log = logging.getLogger("runcast.worker")

DELTA_MAX = 8_192
"""The longest delta in one event, in characters; longer ones are cut into several."""
SAID_MAX = 256 << 10
"""How much of the answer is remembered, in characters."""


class Run:
    """One execution of an agent. Everything said through it becomes an event of the run, in order.

    While the daemon is slower than the agent, its methods wait. A cancelled run is a cancelled task: what
    is awaited raises `asyncio.CancelledError`, and after its clean-up the run ends with what it has said.
    """

    def __init__(self, desk: Desk, taken: Taken) -> None:
        offer = taken.offer
        self.id: str = taken.run
        self.attempt: int = taken.attempt
        """The fencing number of this execution."""
        self.agent: str = taken.agent
        self.thread: str = offer.get("thread", "")
        """The conversation that it belongs to, in its user's own namespace."""
        self.user: str = offer.get("user", "")
        self.input: Json = offer.get("input")
        self.meta: Json = offer.get("meta")
        """What it was asked for with, beside the input; `None` without."""
        self.timeout_ms: int | None = offer.get("timeout_ms")
        self.usage: dict[str, Any] | None = None
        """What it cost, in the agent's own terms; told when the run ends."""
        self._desk = desk
        self._taken = taken
        self._said = ""
        self._calls: dict[str, tuple[str, float]] = {}
        self._used: set[str] = set()
        self._steps = 0
        self._requests = 0

    @property
    def text(self) -> str:
        """The input in words: itself, its `text`, or its JSON."""
        if isinstance(self.input, str):
            return self.input
        text = self.input.get("text") if isinstance(self.input, dict) else None
        return text if isinstance(text, str) else json.dumps(self.input, ensure_ascii=False)

    @property
    def said(self) -> str:
        """All pieces of the answer until now (the first 256 Ki characters)."""
        return self._said

    @property
    def cancelled(self) -> str | None:
        """Why the run is to end (`user`, `timeout`, `interrupt`, `operator`), or None."""
        return self._taken.cancel

    async def emit(self, said: Said | str) -> None:
        """Says anything. Raises TooLargeError for an event that is longer than the daemon takes."""
        said = say.output(said) if isinstance(said, str) else said
        if said.event == "tool_executing":
            await self._open(said.data)
        elif said.event == "tool_completed":
            self._close(said.data)
        elif said.event == "tool_progress":
            if opened := self._calls.get(said.data["call"]):
                await self._post(said.event, {**said.data, "call": opened[0]})
        elif said.event in ("agent_output", "agent_thinking") and "delta" in said.data:
            delta: str = said.data["delta"]
            for at in range(0, len(delta), DELTA_MAX):
                await self._speak(said.event, {**said.data, "delta": delta[at : at + DELTA_MAX]})
        else:
            await self._speak(said.event, said.data)

    async def thinking(self, delta: str) -> None:
        """A piece of what the agent thinks."""
        await self.emit(say.thinking(delta))

    async def output(self, delta: str) -> None:
        """A piece of the answer."""
        await self.emit(say.output(delta))

    async def progress(self, percent: float) -> None:
        """How much of the whole run is done, 0 to 100."""
        await self.emit(say.progress(percent))

    async def notice(self, text: str) -> None:
        """A line for the user that is not part of the answer."""
        await self.emit(say.notice(text))

    async def custom(self, name: str, value: Json = None) -> None:
        """Anything else."""
        await self.emit(say.custom(name, value))

    @asynccontextmanager
    async def tool(self, name: str, args: Json = None, *, call: str | None = None) -> AsyncIterator[ToolUse]:
        """Uses a tool: `tool_executing` on entry; on exit `tool_completed` with `use.result` and the time
        it took, whatever happened: an exception makes it `error`, a cancel `interrupted`."""
        use = ToolUse(self, call or f"call_{len(self._used) + 1}")
        await self.emit(say.tool_executing(use.call, name, args))
        try:
            yield use
        except asyncio.CancelledError:
            self._close(say.tool_completed(use.call, "interrupted").data)
            raise
        except Exception as error:
            self._close(say.tool_completed(use.call, "error", error=f"{type(error).__name__}: {error}").data)
            raise
        status: say.ToolStatus = "ok" if use.error is None else "error"
        self._close(say.tool_completed(use.call, status, result=use.result, error=use.error).data)

    @asynccontextmanager
    async def step(
        self, name: str, *, index: int | None = None, of: int | None = None
    ) -> AsyncIterator[None]:
        """Work between `step_started` and `step_completed`; of a step that fails, the second says so."""
        self._steps += 1
        step = f"step_{self._steps}"
        await self.emit(say.step_started(step, name=name, index=index, of=of))
        try:
            yield
        except BaseException as error:
            status = "error" if isinstance(error, Exception) else "interrupted"
            self._post_at_once("step_completed", say.step_completed(step, status).data)
            raise
        await self.emit(say.step_completed(step))

    async def ask(self, prompt: str, *, schema: Json = None, expires: float | None = None) -> Json:
        """Asks the user and waits for the answer. `expires` in seconds (24 h when None).

        Raises InputExpired when nobody answered in time.
        """
        self._requests += 1
        request = f"request_{self._requests}"
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._taken.answers[request] = answer
        try:
            expires_ms = None if expires is None else int(expires * 1000)
            await self.emit(say.input_required(request, prompt, schema=schema, expires_ms=expires_ms))
            given = await answer
        finally:
            del self._taken.answers[request]
        if given.get("expired"):
            raise InputExpired(request)
        return given.get("data")

    async def steering(self) -> AsyncIterator[Json]:
        """What the user says unasked while the run goes on, as it comes; it has no end of its own."""
        while True:
            yield await self._taken.steering.get()

    def steered(self) -> Json | None:
        """The next thing that the user said unasked, or None when there is nothing new."""
        return None if self._taken.steering.empty() else self._taken.steering.get_nowait()

    def close_tools(self) -> None:
        """Closes what is still open as `interrupted`; the library does so at the end of each run."""
        for call in list(self._calls):
            self._close(say.tool_completed(call, "interrupted").data)

    async def _open(self, data: dict[str, Any]) -> None:
        call = data["call"]
        wire = as_id(call)
        if wire in self._used:
            # Some frameworks number their calls anew in each turn; here they are unique in the attempt.
            wire = f"{wire[:100]}-{len(self._used) + 1}"
        self._used.add(wire)
        try:
            await self._post("tool_executing", {**data, "call": wire})
        except TooLargeError as error:
            await self._post("tool_executing", {**data, "call": wire, "args": {"left_out_bytes": error.size}})
        self._calls[call] = (wire, time.monotonic())

    def _close(self, data: dict[str, Any]) -> None:
        opened = self._calls.pop(data["call"], None)
        if opened is None:
            log.warning("%s: tool_completed of %s, which is not open, is left out", self.id, data["call"])
            return
        wire, since = opened
        took = {"duration_ms": int((time.monotonic() - since) * 1000)}
        data = {**took, **data, "call": wire}
        try:
            self._post_at_once("tool_completed", data)
        except TooLargeError as error:
            short = {name: value for name, value in data.items() if name not in ("result", "error")}
            if "error" in data:
                said = f"{error.size} bytes, which are left out"
                short["error"] = {"code": "tool_failed", "message": said}
            else:
                short["result"] = {"left_out_bytes": error.size}
            self._post_at_once("tool_completed", short)

    async def _speak(self, event: str, data: dict[str, Any]) -> None:
        await self._post(event, data)
        if event == "agent_output":
            self._said = data["text"] if "text" in data else self._said + data["delta"]
            self._said = self._said[:SAID_MAX]

    async def _post(self, event: str, data: dict[str, Any]) -> None:
        await self._desk.post(self._taken, event, data)

    def _post_at_once(self, event: str, data: dict[str, Any]) -> None:
        if not self._taken.is_gone:
            self._desk.post_at_once(self._taken, event, data)


class ToolUse:
    """One use of a tool, while it goes on."""

    def __init__(self, run: Run, call: str) -> None:
        self._run = run
        self.call = call
        """Names this use."""
        self.result: Json = None
        """What came of it: set it before the block ends."""
        self.error: str | None = None
        """Set it instead when the tool failed and the agent goes on."""

    async def progress(self, percent: float | None = None, text: str | None = None) -> None:
        """The tool goes on."""
        await self._run.emit(say.tool_progress(self.call, percent, text))
