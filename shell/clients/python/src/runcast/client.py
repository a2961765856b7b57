"""A user's client: asks for runs and sees their events, over as many connections as it takes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import uuid
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any

from ._dial import Dial
from ._feed import Feed, Queue
from ._line import Line, Lost, greeting, heartbeat_of, ring_within
from ._requests import Requests
from ._stream import GapError, Stream, Ticket
from ._wire import Json, Message, Token, ask_token, checked_id, encode, without_none
from .errors import ClosedError, RefusedError, UserChangedError
from .events import Accepted, Event, From, Position, Reset, Topic, read_event
from .watch import RunHandle, Watched, input_message, lost

log = logging.getLogger("runcast.client")

VIEWED_MAX = 1_024
"""Without acknowledgements there is no window: with so many unprocessed, the daemon is not read."""
ANSWERS = ("accepted", "ok", "error", "subscribed", "pong")

AGAIN_MIN = 0.25
AGAIN_MAX = 60.0
"""How long an event whose handler failed waits for its next turn: twice as long each time."""

OnEvent = Callable[[Event], Awaitable[None]]
OnNotice = Callable[[Message], None]
OnReset = Callable[[Reset], None]
OnError = Callable[[RefusedError], None]
OnTopicEnded = Callable[[str, RefusedError], None]


class Client:
    """Use it with `async with`; it connects in the background, and again whenever the connection ends.

    `device` names this installation: the daemon keeps its position, so that it goes on where it was. `start`
    says where else to begin (a `Position` that you kept, `oldest`, `head`, `live`). Every event that nobody
    looks at counts as processed; `on_event`, or a loop over `events()` that is made before the first `await`
    in the `async with`, gets all. An event is acknowledged when `on_event` has returned or the loop's body is
    over. When `on_event` raises, it is given the event again, later, and those after it wait.

    `on_reset` is told that a stream began anew, in order with the calls of `on_event`; `on_notice` of each
    notice; `on_error` of each error that answers no request; `on_topic_ended` of each topic that may not be
    read.
    """

    def __init__(
        self,
        url: str,
        token: Token = "",
        *,
        device: str | None = None,
        start: From | None = None,
        topics: Sequence[str | Topic] = (),
        window: int | None = None,
        ack: bool = True,
        on_event: OnEvent | None = None,
        on_notice: OnNotice | None = None,
        on_reset: OnReset | None = None,
        on_error: OnError | None = None,
        on_topic_ended: OnTopicEnded | None = None,
    ) -> None:
        self.device = device if device is None else checked_id("device", device)
        """This installation's name; made by the daemon when there was none."""
        self.user: str | None = None
        """Whose connection it is, once connected."""
        self.runs: list[Message] = []
        """The user's runs that had not ended at the last connect, as `welcome` lists them."""
        self._url, self._start, self._window, self._ack = url, start, window, ack
        self._token, self._dial = token, Dial(token, log)
        self._topics = _checked_topics(topics)
        self._on_event, self._on_notice, self._on_reset = on_event, on_notice, on_reset
        self._on_error, self._on_topic_ended = on_error, on_topic_ended
        self._requests = Requests(self._work)
        self._streams: dict[str | None, Stream] = {}
        self._queues: list[Queue] = []
        self._handled: Queue | None = None
        """What waits for `on_event`."""
        self._problem: RefusedError | None = None
        """What the daemon last said on this connection that answers nothing."""
        self._watched: list[Watched] = []
        self._alive: set[str] = set()
        """Runs that have not ended, as `welcome` and the events since say."""
        self._bell = asyncio.Event()
        self._read_on = asyncio.Event()
        self._connected = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._ended: Exception | None = None
        self._end = asyncio.Event()
        self._is_late = False

    async def __aenter__(self) -> Client:
        if self._tasks or self._ended is not None:
            raise RuntimeError("a client can be entered once: make another")
        self._tasks.append(asyncio.create_task(self._serve()))
        if self._on_event is not None:
            self._handled = self._listen(lambda _: True, lambda _: False)
            self._tasks.append(asyncio.create_task(self._process(self._on_event, self._handled)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failed = self._ended
        await self.close()
        if kind is None and failed is not None and not isinstance(failed, ClosedError):
            raise failed

    async def close(self) -> None:
        """Ends the connection; whoever waits for anything gets ClosedError."""
        self._fail(ClosedError(1000, "the client was closed"))
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # What can be asked.

    def run(self, agent: str, input: Json, **options: Any) -> RunHandle:
        """Asks for a run; look at its events with `async for`, or `await` its end.

        Options as of `submit`. It is sent when there is a connection, and once, however often it is repeated.
        """
        watched, message = self._new_run(agent, input, options)
        request = self._requests.put(message, lambda answer: self._accepted(watched, answer))
        request.answer.add_done_callback(lambda answer: self._refused(watched, answer))
        return self._handle(watched)

    async def submit(self, agent: str, input: Json, **options: Any) -> Accepted:
        """Asks for a run without looking at it; returns when the daemon has made it durable.

        Options: `thread` (a new one when absent), `key` (made when absent), `priority` (`low`, `normal`,
        `high`), `timeout` (seconds), `on_busy` (`enqueue`, `reject`, `interrupt`), `parent`, `meta`.
        Raises RefusedError, OfflineError, TooLargeError, ClosedError.
        """
        _, message = self._new_run(agent, input, options)
        return _accepted(await self._requests.ask(message))

    def watch(self, run: str) -> RunHandle:
        """A run that was asked for elsewhere or earlier; what came of it before now is not repeated.

        When its end has come already, or there is no such run, its events end with ResetError, and so does
        `await`: after the connection's `welcome`, or when an open connection has been quiet for a heartbeat.
        """
        self._check()
        watched = Watched(run, None)
        if None in self._streams and run not in self._alive:
            self._ask_about(watched)
        return self._handle(watched)

    async def cancel(self, run: str) -> str:
        """Asks for a run's end: `cancelling`, or `ended` when it is over."""
        return str((await self._requests.ask({"type": "cancel", "run": run}))["state"])

    async def input(self, run: str, data: Json, *, request: str | None = None) -> None:
        """Answers a question of a run's agent, or without `request` steers it."""
        await self._requests.ask(input_message(run, data, request))

    async def subscribe(self, topics: Sequence[str | Topic]) -> list[str]:
        """Listens to these topics, instead of those until now; one that is kept goes on where it is.

        Returns those that are listened to. Raises RefusedError; then nothing has changed.
        """
        asked = _checked_topics(topics)
        message = {"type": "subscribe", "topics": [_as_said(topic) for topic in asked]}
        answer = await self._requests.ask(message, lambda answer: self._subscribed(asked, answer))
        return [topic["topic"] for topic in answer["topics"] if "error" not in topic]

    def events(self, wants: Callable[[Event], bool] = lambda _: True) -> Feed:
        """All events from now on, of the user's own stream and of topics."""
        return Feed(self._listen(wants, lambda _: False))

    async def connected(self) -> None:
        """Waits for a connection. Raises ClosedError when there will be none."""
        await self._connected.wait()
        if self._ended is not None:
            raise self._ended

    async def closed(self) -> None:
        """Waits for the client's end: returns when `close` was called, else raises what ended it."""
        await self._end.wait()
        if self._ended is not None and not _is_own(self._ended):
            raise self._ended

    def position(self, topic: str | None = None) -> Position | None:
        """Up to where everything is processed; None before the first connection."""
        stream = self._streams.get(topic)
        return None if stream is None else Position(stream.epoch, stream.processed)

    def _new_run(self, agent: str, input: Json, options: dict[str, Any]) -> tuple[Watched, Message]:
        known = {"thread", "key", "priority", "timeout", "on_busy", "parent", "meta"}
        if unknown := options.keys() - known:
            raise TypeError(f"run: expected {', '.join(sorted(known))}; found {', '.join(sorted(unknown))}")
        self._check()
        options = {"key": uuid.uuid4().hex, **options}
        if (timeout := options.pop("timeout", None)) is not None:
            options["timeout_ms"] = int(timeout * 1000)
        message = {
            "type": "run",
            "agent": checked_id("agent", agent),
            "input": input,
            **without_none(**options),
        }
        return Watched(None, message["key"]), message

    def _handle(self, watched: Watched) -> RunHandle:
        self._watched.append(watched)
        queue = self._listen(watched.concerns, lambda event: event.event == "agent_completed")
        return RunHandle(watched, queue, self._requests.ask)

    def _accepted(self, watched: Watched, answer: Message) -> None:
        watched.answer(_accepted(answer))
        if answer.get("duplicate") and "state" not in answer and not watched.end.done():
            # It has ended: its end is in what follows up to the head of now, or lost.
            watched.lost_at = answer.get("head", 0)
            self._look_for_lost(self._streams[None].at)

    def _ask_about(self, watched: Watched) -> None:
        """A run that nothing was heard of is over, or so new that its first event is on its way: a heartbeat
        that is sent after this question says up to where that would be."""
        ping = self._requests.put({"type": "ping"}, lambda _: watched.wait_for_heartbeat())
        # The next connection's `welcome` says it anyway.
        ping.is_of_connection = True

    def _refused(self, watched: Watched, answer: asyncio.Future[Message]) -> None:
        error = None if answer.cancelled() else answer.exception()
        if isinstance(error, Exception):
            watched.fail(error)
            self._forget(watched)

    def _listen(self, wants: Callable[[Event], bool], is_last: Callable[[Event], bool]) -> Queue:
        self._check()
        self._queues = [queue for queue in self._queues if not queue.is_closed]
        queue = Queue(wants, is_last)
        self._queues.append(queue)
        return queue

    def _check(self) -> None:
        if self._ended is not None:
            raise self._ended

    def _fail(self, error: Exception) -> None:
        """The client ends: everybody who waits is told."""
        if self._ended is not None:
            return
        self._ended = error
        self._give_up(error)
        for queue in self._queues:
            # Whoever closes a client himself need not hear of it as an error.
            queue.end(None if _is_own(error) else error)
        self._connected.set()
        self._end.set()

    def _give_up(self, error: Exception) -> None:
        """What was asked for until now will not be answered, and has no end."""
        self._requests.end(error)
        for watched in self._watched:
            watched.fail(error)
        self._watched.clear()

    # Connections, one after the other.

    async def _serve(self) -> None:
        try:
            await self._dial.again_and_again(self._connection)
        except Exception as error:  # noqa: BLE001 - whoever waits on this client must hear of it
            self._fail(error)

    async def _connection(self, token: str) -> None:
        self._is_late, self._problem = False, None
        line = await Line.open(self._url, "/ws", token)
        tasks: list[asyncio.Task[None]] = []
        try:
            await line.send(encode(self._hello()))
            welcome = await greeting(line, "epoch", "head", "resume")
            self._dial.opened()
            self._welcome(welcome)
            heartbeat = heartbeat_of(welcome)
            tasks = [
                asyncio.create_task(self._hear_all(line, 2.5 * heartbeat)),
                asyncio.create_task(self._speak(line, heartbeat)),
            ]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except GapError as gap:
            raise Lost(f"an event is missing: {gap}") from None
        except Lost as lost:
            if self._problem is not None:
                lost.told(self._problem)
            raise
        finally:
            if self._ended is None:
                self._connected.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.shield(self._part(line))

    async def _part(self, line: Line) -> None:
        """What is processed is acknowledged before the connection is given up, if that still goes."""
        with contextlib.suppress(Lost):
            for ack in self._acks():
                await line.send(ack)
        await line.close()

    def _hello(self) -> Message:
        hello: Message = {"type": "hello", "call": self._dial.call()}
        stream = self._streams.get(None)
        start = self._start if stream is None else Position(stream.epoch, stream.leave_off())
        if start is not None:
            hello["from"] = _from(start)
        if self._topics:
            hello["topics"] = [self._topic(topic) for topic in self._topics]
        if not self._ack:
            hello["ack"] = False
        elif self.device is not None:
            hello["device"] = self.device
        return {**hello, **without_none(window=self._window)}

    def _topic(self, topic: str | Topic) -> Json:
        stream = self._streams.get(_name(topic))
        if stream is None:
            return _as_said(topic)
        return _as_said(Topic(_name(topic), Position(stream.epoch, stream.leave_off())))

    def _welcome(self, welcome: Message) -> None:
        user = welcome.get("user")
        if self.user is not None and user != self.user:
            self._give_up(UserChangedError(self.user, str(user)))
        self.user = user
        self.runs = welcome.get("runs", [])
        if self._ack:
            self.device = welcome.get("device", self.device)
        self._resume(None, welcome, self.runs)
        self._alive = {str(run.get("run")) for run in self.runs}
        for watched in self._watched:
            # Of what has ended the end is in what follows up to the head of now, or lost.
            is_over = watched.run is not None and watched.run not in self._alive
            watched.lost_at, watched.waits_for_heartbeat = welcome["head"] if is_over else None, False
        self._look_for_lost(self._streams[None].at)
        self._welcome_topics(welcome.get("topics", []))
        self._requests.connected(welcome.get("limits", {}).get("message_bytes", 64 << 10))
        log.info("connected as %s, device %s, at %d", self.user, self.device, self._streams[None].at)
        self._connected.set()
        self._bell.set()

    def _welcome_topics(self, topics: list[Message]) -> None:
        for topic in topics:
            if error := topic.get("error"):
                self._end_topic(topic["topic"], RefusedError.of(error))
            else:
                self._resume(topic["topic"], topic, [])

    def _subscribed(self, asked: list[str | Topic], answer: Message) -> None:
        self._topics = asked
        kept = {None, *map(_name, asked)}
        self._streams = {name: stream for name, stream in self._streams.items() if name in kept}
        self._welcome_topics([topic for topic in answer["topics"] if topic["topic"] not in self._streams])

    def _end_topic(self, name: str, error: RefusedError) -> None:
        log.warning("topic %s: %s", name, error)
        self._streams.pop(name, None)
        _tell(self._on_topic_ended, name, error)

    def _resume(self, name: str | None, at: Message, runs: list[Message]) -> None:
        """Goes on where the daemon says: as before, or with a stream that begins anew."""
        resume, stream = at["resume"], self._streams.get(name)
        seq: int = resume["from"]
        if stream is not None and stream.epoch == at["epoch"] and resume["status"] == "resumed":
            stream.resume(seq)
            return
        self._streams[name] = Stream(at["epoch"], seq, self._work)
        if stream is None and resume["status"] != "reset":
            return
        for queue in self._queues:
            if stream is not None:
                queue.forget(stream)
        reset = Reset(name, resume.get("reason", "epoch"), at["epoch"], seq, runs)
        log.warning("stream %s begins anew at %d: %s", name or "of the user", seq, reset.reason)
        if self._handled is not None:
            self._handled.put_reset(reset)
        else:
            _tell(self._on_reset, reset)

    def _look_for_lost(self, at: int) -> None:
        for watched in list(self._watched):
            if watched.lost_at is None or at < watched.lost_at:
                continue
            watched.lost_at = None
            if watched.run not in self._alive:
                lost(watched)
                self._forget(watched)

    # One connection.

    async def _speak(self, line: Line, heartbeat: float) -> None:
        while True:
            self._bell.clear()
            while text := self._requests.next():
                await line.send(text)
            for ack in self._acks():
                await line.send(ack)
            if line.quiet_for(heartbeat) <= 0:
                await line.ping()
            await ring_within(self._bell, line.quiet_for(heartbeat))

    def _acks(self) -> list[bytes]:
        if not self._ack:
            return []
        acks = ((name, stream.ack()) for name, stream in self._streams.items())
        return [
            encode({"type": "ack", "seq": seq, **without_none(topic=name)})
            for name, seq in acks
            if seq is not None
        ]

    def _work(self) -> None:
        self._bell.set()
        self._read_on.set()

    async def _hear_all(self, line: Line, silence: float) -> None:
        while True:
            message = await line.hear(silence)
            try:
                self._hear(message)
            except (KeyError, TypeError, ValueError) as error:
                log.warning("a message that cannot be read: %r in %s", error, message)
            while not self._ack and any(s.waiting >= VIEWED_MAX for s in self._streams.values()):
                self._read_on.clear()
                await self._read_on.wait()

    def _hear(self, message: Message) -> None:
        kind = message.get("type")
        if kind == "event":
            self._happened(message)
        elif kind in ANSWERS:
            if not self._requests.answered(message) and kind == "error":
                self._problem = RefusedError.of(message)
                self._erred(self._problem)
        elif kind == "heartbeat":
            self._beaten(message)
        elif kind == "notice":
            self._noticed(message)

    def _beaten(self, heartbeat: Message) -> None:
        stream = self._streams[None]
        stream.heard_of(heartbeat.get("at", 0))
        for watched in self._watched:
            if watched.waits_for_heartbeat:
                watched.lost_at, watched.waits_for_heartbeat = heartbeat["head"], False
        self._look_for_lost(stream.at)

    def _happened(self, message: Message) -> None:
        event = read_event(message)
        stream = self._streams.get(event.topic)
        if stream is None:
            return
        if "redelivery" in message and not self._is_late:
            self._is_late = True
            log.warning("event %d comes again: the application has not processed it yet", event.seq)
        ticket = stream.take(event, is_redelivery="redelivery" in message)
        # What is repeated after a reconnect may be processed already.
        self._bell.set()
        if ticket is not None:
            self._hand_out(ticket)
        if event.topic is None:
            self._count_alive(event)
            self._look_for_lost(stream.at)

    def _count_alive(self, event: Event) -> None:
        if event.event == "agent_completed":
            self._alive.discard(str(event.run))
        else:
            self._alive.add(str(event.run))

    def _hand_out(self, ticket: Ticket) -> None:
        event = ticket.event
        for watched in [w for w in self._watched if w.concerns(event)]:
            watched.see(event)
            if event.event == "agent_completed":
                self._forget(watched)
        for queue in self._queues:
            if queue.takes(event):
                queue.put(ticket)
                if queue.is_last(event):
                    queue.end()
        ticket.release()

    def _forget(self, watched: Watched) -> None:
        self._watched = [other for other in self._watched if other is not watched]

    def _noticed(self, notice: Message) -> None:
        for watched in self._watched:
            if watched.run is not None and watched.run == notice.get("run"):
                watched.notice = notice
        if notice.get("notice") == "drain":
            self._dial.reconnect_ms = notice.get("reconnect_ms")
        elif notice.get("notice") == "expiring" and self._dial.may_renew:
            self._tasks = [task for task in self._tasks if not task.done()]
            self._tasks.append(asyncio.create_task(self._refresh()))
        _tell(self._on_notice, notice)

    def _erred(self, error: RefusedError) -> None:
        log.warning("the daemon says: %s", error)
        _tell(self._on_error, error)

    async def _refresh(self) -> None:
        """A new token in place of one that is about to expire."""
        try:
            token = await ask_token(self._token)
            answer = await self._requests.ask({"type": "refresh", "token": token}, once=True)
        except RefusedError as refused:
            self._erred(refused)
        except Exception as error:  # noqa: BLE001 - the daemon will close with 4506, and then it is tried again
            log.warning("no new token: %s", error)
        else:
            for topic in answer.get("ended", []):
                self._end_topic(topic, RefusedError("topic_forbidden", "the new token may not read it"))

    async def _process(self, on_event: OnEvent, handled: Queue) -> None:
        with contextlib.suppress(ClosedError):
            while (what := await handled.next()) is not None:
                await self._hand_over(on_event, what)

    def _is_cancelled(self) -> bool:
        """Whether what goes on now is to end."""
        task = asyncio.current_task()
        is_asked = sys.version_info >= (3, 11) and task is not None and task.cancelling() > 0
        return is_asked or self._ended is not None

    async def _hand_over(self, on_event: OnEvent, what: Event | Reset) -> None:
        """Gives an event or a reset to the application until it is processed."""
        name = f"event {what.seq}" if isinstance(what, Event) else "the reset"
        wait = AGAIN_MIN
        while True:
            try:
                if isinstance(what, Event):
                    return await on_event(what)
                return None if self._on_reset is None else self._on_reset(what)
            except (Exception, asyncio.CancelledError):
                # What it waited for may have been cancelled, and not it.
                if self._is_cancelled():
                    raise
                log.exception("the application has failed; %s comes again in %.2f s", name, wait)
            await asyncio.sleep(wait)
            wait = min(AGAIN_MAX, 2 * wait)


def _tell(tell: Callable[..., None] | None, *what: object) -> None:
    """Tells the application. What fails in it is none of the connection's business."""
    try:
        if tell is not None:
            tell(*what)
    except Exception:
        log.exception("the application has failed at %r", what)


def _checked_topics(topics: Sequence[str | Topic]) -> list[str | Topic]:
    for topic in topics:
        checked_id("topic", _name(topic))
    return list(topics)


def _name(topic: str | Topic) -> str:
    return topic.name if isinstance(topic, Topic) else topic


def _as_said(topic: str | Topic) -> Json:
    return {"topic": topic.name, "from": _from(topic.start)} if isinstance(topic, Topic) else topic


def _from(start: From) -> Json:
    return {"epoch": start.epoch, "seq": start.seq} if isinstance(start, Position) else start


def _is_own(error: Exception) -> bool:
    """Whether `close` was called."""
    return isinstance(error, ClosedError) and error.code == 1000


def _accepted(answer: Message) -> Accepted:
    return Accepted(
        answer["run"],
        answer["thread"],
        answer.get("key", ""),
        answer.get("position", 0),
        answer.get("ahead", 0),
        answer.get("eta_ms"),
        bool(answer.get("duplicate")),
    )
