"""A worker: takes runs from a daemon and has agents execute them (PROTOCOL §6).

What the protocol asks of a worker is kept here, so that an agent need not know it: nothing is executed before
the daemon has acknowledged the start; what is not acknowledged is kept and sent again after a reconnect; an
agent that is faster than the daemon waits; a run that is no longer this worker's stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from ._agent import Agent, AgentFunction
from ._desk import Desk, Taken
from ._dial import Dial
from ._line import Line, greeting, heartbeat_of, ring_within
from ._wire import Message, Token, as_id, checked_id, encode
from .errors import AgentError
from .run import Run

log = logging.getLogger("runcast.worker")

DECLINE_MS = 1_000
"""How long a run that finds no free slot is not to be offered here again."""
GRACE_SECONDS = 5.0
"""How long agents that are stopped at the end of a drain have to say so."""
ANSWERS_MAX = 1_024
"""Answers that wait for the socket; while there are more, the daemon is not read."""

_F = TypeVar("_F", bound=Callable[..., Any])


class Worker:
    """Serves agents for the daemon at `url` until it is drained.

    `name` must be unique among the processes of the token's `sub`; without one it is made of the host's name
    and something random. `drain_seconds` is how long running agents have to end after SIGTERM.
    """

    def __init__(
        self, url: str, token: Token = "", *, name: str | None = None, drain_seconds: float = 30.0
    ) -> None:
        made = f"{as_id(socket.gethostname())[:80]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.name = checked_id("worker", made if name is None else name)
        self._url = url
        self._dial = Dial(token, log)
        self._drain_seconds = drain_seconds
        self._agents: dict[str, Agent] = {}
        self._desk = Desk()
        self._desk.on_work = self._work
        self._desk.on_change = self._changed
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._answers: deque[Message] = deque()
        self._bell = asyncio.Event()
        self._answered = asyncio.Event()
        self._drained = asyncio.Event()
        self._is_draining = False
        self._is_stopping = False
        self._is_welcome = False
        self._beat_seconds = 5.0

    def agent(
        self, name: str, *, slots: int = 1, retryable: bool = False, timeout: float | None = None
    ) -> Callable[[_F], _F]:
        """Makes the decorated function the agent `name` (see `add`)."""

        def decorate(function: _F) -> _F:
            self.add(name, function, slots=slots, retryable=retryable, timeout=timeout)
            return function

        return decorate

    def add(
        self,
        name: str,
        function: AgentFunction,
        *,
        slots: int = 1,
        retryable: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Serves `function` as the agent `name`: at most `slots` runs at a time.

        `retryable`: a run that lost its worker may be executed again; true only for what changes nothing.
        `timeout`: seconds for one attempt; the daemon's default (30 s) when None.
        """
        if name in self._agents:
            raise ValueError(f"agent: {name!r} is there already")
        if len(self._agents) == 64:
            raise ValueError("agent: a worker serves at most 64")
        self._agents[name] = Agent(name, function, slots, retryable, timeout)

    def run(self) -> None:
        """Serves until drained, as the program's only work, with its progress on the log."""
        if not logging.getLogger().handlers:
            logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
        asyncio.run(self.serve())

    async def serve(self, *, signals: bool = True) -> None:
        """Connects, serves, and connects again, until drained.

        With `signals`, SIGTERM and SIGINT drain it. Raises ClosedError when the daemon refuses it for good.
        """
        if not self._agents:
            raise ValueError("a worker without agents: add one first")
        handled = self._handle_signals() if signals else []
        drained = asyncio.create_task(self._drained.wait())
        serving = asyncio.create_task(self._dial.again_and_again(self._connection))
        try:
            await asyncio.wait([drained, serving], return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
        finally:
            await _ended([drained, serving])
            await self._stop_runs()
            for number in handled:
                asyncio.get_running_loop().remove_signal_handler(number)

    def drain(self) -> None:
        """Takes no more runs; `serve` returns when those that are here have ended, or their time is over."""
        if self._is_draining:
            self._drained.set()
            return
        log.info("%s: draining, %d runs to end", self.name, len(self._desk.runs))
        self._is_draining = True
        if self._is_welcome:
            self._answer({"type": "drain"})
        asyncio.get_running_loop().call_later(self._drain_seconds, self._drain_is_over)
        self._changed()

    def _handle_signals(self) -> list[signal.Signals]:
        handled = []
        for number in (signal.SIGTERM, signal.SIGINT):
            # Not on the main thread, or on a system without them: then drain() is there.
            with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                asyncio.get_running_loop().add_signal_handler(number, self.drain)
                handled.append(number)
        return handled

    def _drain_is_over(self) -> None:
        """Ends what will not end: a run that may be executed again is left to another worker."""
        if self._drained.is_set():
            return
        self._is_stopping = True
        for taken in list(self._desk.runs.values()):
            if taken.task is None or self._agents[taken.agent].retryable:
                self._lose(taken)
            else:
                self._interrupt(taken)
        asyncio.get_running_loop().call_later(GRACE_SECONDS, self._drained.set)

    async def _stop_runs(self) -> None:
        for taken in list(self._desk.runs.values()):
            self._lose(taken)
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=1.0)

    def _changed(self) -> None:
        if self._is_draining and not self._desk.runs:
            self._drained.set()

    # Connections, one after the other.

    async def _connection(self, token: str) -> None:
        line = await Line.open(self._url, "/worker", token)
        tasks: list[asyncio.Task[None]] = []
        try:
            silence = await self._greet(line)
            self._dial.opened()
            tasks = [asyncio.create_task(self._listen(line, silence)), asyncio.create_task(self._speak(line))]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._is_welcome = False
            await _ended(tasks)
            await asyncio.shield(line.close())

    async def _greet(self, line: Line) -> float:
        agents = [agent.serves() for agent in self._agents.values()]
        named = self._desk.positions()
        call = self._dial.call()
        hello = {"type": "hello", "worker": self.name, "call": call, "agents": agents, "runs": named}
        await line.send(encode(hello))
        welcome = await greeting(line, "lease_ms", "publish_window", "message_bytes")
        self._beat_seconds = max(0.001, welcome["lease_ms"] / 3000)
        self._answers.clear()
        self._is_welcome = True
        log.info("%s: connected, serving %s", self.name, ", ".join(self._agents))
        if self._is_draining:
            self._answer({"type": "drain"})
        known = welcome.get("runs", [])
        for over in (last for last in known if last.get("state") != "continue"):
            log.info("%s: over while away: %s", over.get("run"), over.get("state"))
        before = list(self._desk.runs.values())
        window, size = welcome["publish_window"], welcome["message_bytes"]
        for taken in self._desk.welcome(window, size, known):
            self._execute(taken)
        for taken in before:
            if taken.is_gone:
                self._lose(taken)
        return 2.5 * heartbeat_of(welcome)

    async def _speak(self, line: Line) -> None:
        """Sends answers first, then what the agents say, and a beat when there was nothing else."""
        while True:
            self._bell.clear()
            while text := self._next():
                await line.send(text)
            quiet = line.quiet_for(self._beat_seconds)
            if quiet <= 0:
                await line.send(encode({"type": "beat"}))
                continue
            await ring_within(self._bell, quiet)
            held = -line.quiet_for(self._beat_seconds)
            if held > max(1.0, self._beat_seconds):
                log.warning(
                    "%s: the event loop was held for %.1f s, and leases may run out: an agent that blocks "
                    "must not be async",
                    self.name,
                    held,
                )

    def _next(self) -> bytes | None:
        if self._answers:
            return encode(self._answers.popleft())
        self._answered.set()
        return self._desk.next_message()

    def _work(self) -> None:
        self._bell.set()

    def _answer(self, message: Message) -> None:
        self._answers.append(message)
        self._bell.set()

    # What the daemon says.

    async def _listen(self, line: Line, silence: float) -> None:
        while True:
            message = await line.hear(silence)
            try:
                self._hear(message)
            except (KeyError, TypeError, ValueError) as error:
                log.warning("%s: a message that cannot be read: %r in %s", self.name, error, message)
            if len(self._answers) > ANSWERS_MAX:
                self._answered.clear()
                await self._answered.wait()

    def _hear(self, message: Message) -> None:
        kind, taken = message.get("type"), self._desk.live(message)
        if kind == "run":
            self._offered(message, taken)
        elif kind == "ack" and taken is not None:
            if self._desk.acknowledge(taken, message["n"]):
                self._execute(taken)
        elif kind == "withdraw" and taken is not None:
            self._lose(taken)
        elif kind in ("cancel", "input") and taken is not None:
            self._command(message, taken)
        elif kind == "error":
            self._refused(message, taken)
        elif kind == "drain":
            log.info("%s: the daemon is going down", self.name)
        elif kind == "notice" and message.get("notice") == "drain":
            self._dial.reconnect_ms = message.get("reconnect_ms")

    def _offered(self, offer: Message, taken: Taken | None) -> None:
        about = {"run": offer["run"], "attempt": offer["attempt"]}
        if taken is not None:
            self._answer({"type": "started", **about})
            return
        if earlier := self._desk.runs.get(offer["run"]):
            self._lose(earlier)
        reason = self._why_not(offer["agent"])
        if reason is not None:
            self._answer({"type": "decline", **about, "reason": reason, "retry_ms": DECLINE_MS})
            return
        self._desk.take(offer)
        self._answer({"type": "started", **about})

    def _why_not(self, name: str) -> str | None:
        agent = self._agents.get(name)
        if agent is None:
            return "this worker has no such agent"
        if self._is_draining:
            return "this worker is draining"
        waiting = sum(t.agent == name and not t.is_started for t in self._desk.runs.values())
        # Runs that were lost and have not noticed yet still hold their slots.
        busy = sum(other == name for other in self._tasks.values()) + agent.stuck
        return "all slots are in use" if waiting + busy >= agent.slots else None

    def _command(self, message: Message, taken: Taken) -> None:
        i: int = message["i"]
        is_new, taken.command = i > taken.command, max(i, taken.command)
        self._answer(taken.about("got", i=taken.command))
        if not is_new or taken.is_complete:
            return
        if message["type"] == "cancel":
            if taken.cancel is None:
                taken.cancel = message.get("reason", "user")
                log.info("%s: to be cancelled: %s", taken.run, taken.cancel)
                self._interrupt(taken)
            return
        request = message.get("request")
        answer = None if request is None else taken.answers.get(request)
        if answer is not None and not answer.done():
            answer.set_result(message)
        elif request is None and not taken.steering.full():
            taken.steering.put_nowait(message.get("data"))
        else:
            log.warning("%s: input that the agent does not wait for is dropped", taken.run)

    def _refused(self, message: Message, taken: Taken | None) -> None:
        code, said = message.get("code"), message.get("message")
        log.warning("%s: the daemon refuses: %s: %s", message.get("run", self.name), code, said)
        if taken is None:
            return
        expected = message.get("expected")
        if code == "fenced":
            self._lose(taken)
        elif expected is not None and code == "gap":
            self._desk.send_again(taken, expected)
        elif expected is not None and code == "storage_unavailable":
            self._desk.hold(taken)
            self._desk.send_again(taken, expected)
            wait = message.get("retry_ms", 1_000) / 1000
            asyncio.get_running_loop().call_later(wait, self._desk.release, taken)
        # Of `bad_event` the number is used up: its `ack` follows and the run goes on.

    # Runs.

    def _lose(self, taken: Taken) -> None:
        """The run is another's, or nobody's: it stops, and nothing more is said of it."""
        self._desk.forget(taken)
        if taken.task is not None and not taken.task.done():
            log.warning("%s: no longer this worker's; stopping it", taken.run)
            taken.task.cancel("the run is no longer this worker's")

    def _execute(self, taken: Taken) -> None:
        taken.task = asyncio.create_task(self._perform(taken), name=taken.run)
        self._tasks[taken.task] = taken.agent
        taken.task.add_done_callback(lambda task: self._tasks.pop(task, None))
        if taken.cancel is not None:
            self._interrupt(taken)

    def _interrupt(self, taken: Taken) -> None:
        """Tells an agent to end."""
        if taken.task is not None:
            # A task that is cancelled before its first step would not get as far as saying how it ended.
            asyncio.get_running_loop().call_soon(taken.task.cancel, f"cancelled: {taken.cancel}")

    async def _perform(self, taken: Taken) -> None:
        run, began = Run(self._desk, taken), time.monotonic()
        log.info("%s: %s begins (attempt %d)", run.id, run.agent, run.attempt)
        ending = await self._ending(run)
        if taken.is_gone:
            return
        run.close_tools()
        self._desk.complete(taken, **ending)
        log.info("%s: %s after %.2f s", run.id, ending["status"], time.monotonic() - began)

    async def _ending(self, run: Run) -> dict[str, Any]:
        """Executes the agent; whatever it does, its run ends."""
        try:
            done = await self._agents[run.agent].execute(run)
        except (asyncio.CancelledError, Exception) as error:
            if run.cancelled is not None:
                # Some frameworks wrap the cancel in an error of their own.
                return _said(run, "cancelled", {"text": run.said})
            if isinstance(error, AgentError):
                return _failed(run, error.code, error.message)
            if self._is_stopping:
                return _failed(run, "worker_stopped", "the worker was stopped before the run had ended")
            log.error("%s: the agent failed", run.id, exc_info=error)
            kind = type(error).__name__
            return _failed(run, "agent_failed", f"the agent raised {kind}; the worker's log has the rest")
        run.usage = done.usage
        return _said(run, "ok" if run.cancelled is None else "cancelled", done.output)


def _said(run: Run, status: str, output: Any) -> dict[str, Any]:
    ending = {"status": status, "output": output}
    return ending if run.usage is None else {**ending, "usage": run.usage}


def _failed(run: Run, code: str, message: str) -> dict[str, Any]:
    ending = _said(run, "error", {"text": run.said}) if run.said else {"status": "error"}
    return {**ending, "error": {"code": code, "message": message}}


async def _ended(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancels tasks and waits for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
