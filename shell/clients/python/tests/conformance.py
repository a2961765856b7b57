"""Plays a conformance case (tests/conformance/README.md) against the client."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Coroutine
from typing import Any

from runcast import (
    Client,
    ClosedError,
    Event,
    Position,
    RefusedError,
    Reset,
    ResetError,
    RunHandle,
    TooLargeError,
    Topic,
    UserChangedError,
)
from scripted_cases import Arrival, Connection, ScriptedServer, make_event, welcome_to

PATIENCE = 20.0
NOT_HERE = {"sse", "storage", "joined-whole"}
"""What the cases need and this library does not have."""


class Dice:
    """In place of `random` where delays are drawn."""

    def __init__(self, value: float) -> None:
        self._value = value

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self._value


@dataclasses.dataclass
class Asked:
    """What the application asked for."""

    answer: asyncio.Task[Any]
    end: asyncio.Task[Any] | None = None


class Script:
    """One case."""

    def __init__(self, patch: Callable[[str, object], None]) -> None:
        self._patch = patch
        self._server = ScriptedServer(self._acknowledged)
        self._client: Client | None = None
        self._viewer = False
        self._variables: dict[str, Any] = {}
        self._asked: dict[str, Asked] = {}
        self._seen: list[Any] = []
        self._told: list[Any] = []
        self._handling: list[int] = []
        self._processed: dict[str, int] = {}
        self._failures = 0
        self._waiting: float | None = None
        self._go_on = asyncio.Event()
        self._gate = asyncio.Event()
        self._gate.set()
        self._stopped: ClosedError | None = None
        self._watching: asyncio.Task[None] | None = None
        self._faults: list[str] = []

    async def play(self, steps: list[Any]) -> None:
        async with self._server.open():
            try:
                for at, step in enumerate(steps):
                    try:
                        await self._step(step)
                    except Exception as error:
                        raise AssertionError(
                            f"step {at + 1}, {step}: {error}; {self._situation()}"
                        ) from error
                await self._at_the_end()
            finally:
                await self._vanish()

    async def _step(self, step: Any) -> None:
        verb = next(iter(step))
        await getattr(self, f"_do_{verb}")(step[verb], step)

    async def _until(self, what: str, condition: Callable[[], Any]) -> Any:
        until = time.monotonic() + PATIENCE
        while True:
            assert not self._faults, self._faults
            if value := condition():
                return value
            assert time.monotonic() < until, f"it never came to be: {what}"
            await asyncio.sleep(0.002)

    def _situation(self) -> str:
        heard = self._server.current.heard if self._server.connections else None
        return f"heard {heard}, seen {self._seen}, handling {self._handling}, waiting {self._waiting}"

    async def _at_the_end(self) -> None:
        if self._server.connections and not self._server.current.over:
            await self._server.current.settled()
        await asyncio.sleep(0)
        assert not self._faults, self._faults
        assert self._seen == [], "handed over, and not named by any `seen`"
        for connection in self._server.connections:
            assert connection.heard == [], "sent, and not expected"
        assert self._server.arrivals == [], "a connection was opened that no step waited for"

    def _acknowledged(self, topic: str, seq: int) -> None:
        if self._viewer:
            self._faults.append("a viewer acknowledged")
        if seq > self._server.current.sent.get(topic, 0):
            self._faults.append(f"{seq} was not sent")
        if seq > self._processed.get(topic, 0):
            self._faults.append(f"{seq} was acknowledged before it was processed")

    # Matching, as the README says.

    def _matches(self, expected: Any, found: Any) -> bool:
        if isinstance(expected, str) and expected.startswith("$"):
            if expected == "$any":
                return found is not None
            if expected == "$none":
                return found is None
            return found is not None and self._variables.setdefault(expected, found) == found
        if isinstance(expected, dict):
            return isinstance(found, dict) and all(
                self._matches(v, found.get(k)) for k, v in expected.items()
            )
        if isinstance(expected, list):
            same = isinstance(found, list) and len(expected) == len(found)
            return same and all(self._matches(e, f) for e, f in zip(expected, found, strict=True))
        return type(expected) is type(found) and bool(expected == found)

    def _match(self, expected: Any, found: Any) -> None:
        assert self._matches(expected, found), f"expected {expected}, found {found}"

    def _fill(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._variables.get(value, value)
        if isinstance(value, dict):
            return {name: self._fill(item) for name, item in value.items()}
        return [self._fill(item) for item in value] if isinstance(value, list) else value

    # What the server does.

    async def _arrival(self) -> Arrival:
        before = self._server.current if self._server.connections else None

        def arrived() -> Any:
            if self._waiting is not None:
                self._go_on.set()
            return self._server.arrivals and self._server.arrivals.pop(0)

        arrival: Arrival = await self._until("a new connection", arrived)
        if before is not None:
            await self._until("the connection before is over", lambda: before.over)
        self._waiting = None
        assert arrival.path == "/ws", "nothing of the token is in the URL"
        return arrival

    async def _do_connect(self, wanted: Any, _: Any) -> None:
        arrival = await self._arrival()
        arrival.status.set_result(101)
        connection = await arrival.connection
        self._server.connections.append(connection)
        hello = await self._until("a hello", lambda: connection.heard and connection.heard.pop(0))
        self._match({"type": "hello", **wanted.get("hello", {})}, hello)
        if "token" in wanted:
            assert wanted["token"] == arrival.token
        if (fields := wanted.get("welcome", {})) is not None:
            await self._welcome(connection, hello, self._fill(fields))

    async def _welcome(self, connection: Connection, hello: Any, fields: Any) -> None:
        welcome = welcome_to(hello, fields)
        self._variables["$device"] = welcome["device"]
        for stream in (welcome, *welcome["topics"]):
            if "resume" not in stream:
                continue
            topic, resume = stream.get("topic", ""), stream["resume"]
            connection.sent[topic] = resume["from"]
            known = self._processed.get(topic, 0) if resume["status"] == "resumed" else 0
            self._processed[topic] = max(known, resume["from"])
        await connection.send(welcome)

    async def _do_refuse(self, status: int, _: Any) -> None:
        (await self._arrival()).status.set_result(status)

    async def _do_send(self, message: Any, _: Any) -> None:
        await self._server.current.send(self._fill(message))

    async def _do_text(self, text: str, _: Any) -> None:
        await self._server.current.text(text)

    async def _do_event(self, fields: Any, _: Any) -> None:
        self._server.current.sent[fields.get("topic", "")] = fields["seq"]
        await self._server.current.send(self._fill(make_event(fields)))

    async def _do_expect(self, expected: Any, _: Any) -> None:
        heard = self._server.current.heard
        self._match(expected, await self._until("a message", lambda: heard and heard.pop(0)))

    async def _do_acked(self, seq: int, step: Any) -> None:
        acked, topic = self._server.current.acked, step.get("topic", "")
        await self._until(f"{seq} is acknowledged", lambda: acked.get(topic) == seq)

    async def _do_close(self, code: int, _: Any) -> None:
        await self._server.current.close(code)

    async def _do_cut(self, _: Any, __: Any) -> None:
        self._server.current.cut()

    # What the application does.

    async def _do_client(self, options: Any, _: Any) -> None:
        self._viewer = options.get("ack") is False
        given = options.get("token", "t-1")
        tokens = [given] if isinstance(given, str) else list(given)

        def next_token() -> str:
            return str(tokens.pop(0) if len(tokens) > 1 else tokens[0])

        self._client = Client(
            self._server.url,
            given if isinstance(given, str) else next_token,
            device=options.get("device"),
            start=_start(options.get("from")),
            topics=[_topic(topic) for topic in options.get("topics", [])],
            window=options.get("window"),
            ack=options.get("ack", True),
            on_event=self._handle,
            on_reset=lambda reset: self._seen.append(_as_said(reset)),
            on_notice=lambda notice: self._told.append({**notice, "kind": "notice"}),
            on_error=lambda error: self._told.append({**_as_error(error), "kind": "error"}),
            on_topic_ended=lambda topic, error: self._told.append(
                {"kind": "topic", "topic": topic, "error": _as_error(error)}
            ),
        )
        self._client._dial.pause = self._pause
        await self._client.__aenter__()
        self._watching = asyncio.create_task(self._watch(self._client))

    async def _pause(self, seconds: float) -> None:
        """Where the client waits to connect again: until a step waits for its connection."""
        self._waiting = seconds
        self._go_on.clear()
        await self._go_on.wait()

    async def _watch(self, client: Client) -> None:
        try:
            await client.closed()
        except ClosedError as closed:
            self._stopped = closed

    async def _handle(self, event: Event) -> None:
        if self._failures > 0:
            self._failures -= 1
            raise ValueError("the case says that the handler fails")
        self._handling.append(event.seq)
        await self._gate.wait()
        self._seen.append(event.raw)
        self._processed[event.topic or ""] = event.seq

    async def _do_do(self, action: str, step: Any) -> None:
        args, client = self._fill(step.get("args", {})), self._client
        assert client is not None
        if action == "close":
            return await client.close()
        if action == "run":
            timeout = args.pop("timeout_ms", None)
            self._asked[step["as"]] = _ask_for_run(client, args, None if timeout is None else timeout / 1000)
            return None
        self._asked[step["as"]] = Asked(_task(_ask(client, action, args)))
        # It is asked before the next step is done.
        return await asyncio.sleep(0)

    async def _do_hold(self, on: bool, _: Any) -> None:
        self._handling.clear()
        if on:
            self._gate.clear()
        else:
            self._gate.set()

    async def _do_fail(self, times: int, _: Any) -> None:
        self._failures = times

    async def _do_random(self, value: float, _: Any) -> None:
        self._patch("runcast._dial.random", Dice(value))

    # What the application must find.

    async def _do_seen(self, items: Any, _: Any) -> None:
        await self._until(f"{len(items)} are handed over", lambda: len(self._seen) >= len(items))
        found, self._seen[:] = self._seen[:], []
        self._match([{"type": "event", "seq": i} if isinstance(i, int) else i for i in items], found)

    async def _do_handling(self, seq: int, _: Any) -> None:
        await self._until(f"the handler has {seq}", lambda: seq in self._handling)

    async def _do_result(self, name: str, step: Any) -> None:
        await self._settled(self._asked[name].answer, step)

    async def _do_end(self, name: str, step: Any) -> None:
        end = self._asked[name].end
        assert end is not None
        await self._settled(end, step)

    async def _settled(self, task: asyncio.Task[Any], step: Any) -> None:
        await self._until("an answer", task.done)
        error = task.exception()
        if "is" in step:
            assert error is None, error
            self._match(step["is"], task.result())
        else:
            assert error is not None, task.result()
            self._match(step["fails"], _as_error(error))

    async def _do_told(self, expected: Any, _: Any) -> None:
        await self._until(
            f"told {expected}", lambda: any(self._matches(expected, told) for told in self._told)
        )

    async def _do_waiting(self, bounds: Any, _: Any) -> None:
        await self._until("the client waits", lambda: self._waiting is not None)
        assert self._waiting is not None
        assert bounds["min_ms"] <= round(self._waiting * 1000) <= bounds["max_ms"]

    async def _do_stopped(self, expected: Any, _: Any) -> None:
        def has_stopped() -> bool:
            self._go_on.set()
            return self._stopped is not None

        await self._until("the client has stopped", has_stopped)
        assert self._stopped is not None
        self._match(expected, {"code": self._stopped.code, "error": _as_error(self._stopped)})

    async def _vanish(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        if self._client is not None:
            await self._client.close()


def _ask_for_run(client: Client, args: Any, timeout: float | None) -> Asked:
    options = {**args, "timeout": timeout} if timeout is not None else args
    try:
        run = client.run(**options)
    except TooLargeError as error:
        return Asked(_task(_fail(error)))
    return Asked(_task(_accepted(run)), _task(_end(run)))


async def _ask(client: Client, action: str, args: Any) -> Any:
    """The answer, as the protocol says it."""
    run = args.get("run", "")
    if action == "cancel":
        return {"run": run, "state": await client.cancel(run)}
    if action == "subscribe":
        topics = [_topic(topic) for topic in args["topics"]]
        return [{"topic": topic} for topic in await client.subscribe(topics)]
    assert action in ("answer", "steer"), action
    await client.input(run, args["data"], request=args.get("request"))
    return {}


async def _accepted(run: RunHandle) -> Any:
    return dataclasses.asdict(await run.accepted())


async def _end(run: RunHandle) -> Any:
    return (await run).data


async def _fail(error: Exception) -> Any:
    raise error


def _task(answer: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    task = asyncio.create_task(answer)
    # No case need look at every answer.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


def _start(start: Any) -> Any:
    return Position(start["epoch"], start["seq"]) if isinstance(start, dict) else start


def _topic(topic: Any) -> Any:
    return Topic(topic["topic"], _start(topic["from"])) if isinstance(topic, dict) else topic


def _as_said(reset: Reset) -> Any:
    of_topic = {} if reset.topic is None else {"topic": reset.topic}
    return {"type": "reset", "reason": reset.reason, **of_topic}


def _as_error(error: BaseException | None) -> Any:
    """This library's types as the protocol's codes."""
    if isinstance(error, RefusedError):
        return {"code": error.code, "retry_ms": error.retry_ms, "temporary": error.temporary}
    if isinstance(error, ClosedError):
        return {"code": "closed"} if error.error is None else _as_error(error.error)
    codes = {TooLargeError: "too_large", ResetError: "reset", UserChangedError: "user_changed"}
    assert error is None or type(error) in codes, error
    return None if error is None else {"code": codes[type(error)]}
