"""The client against a scripted daemon: what a real one cannot be made to say at will."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from runcast import (
    Client,
    ClosedError,
    Event,
    OfflineError,
    Position,
    RefusedError,
    Reset,
    ResetError,
    TooLargeError,
)
from scripted import Peer, Server, scripted

RUN = "run_t_00000001"


def welcome(seq: int = 0, *, status: str = "resumed", epoch: str = "e-1", **more: Any) -> Any:
    return {
        "type": "welcome", "connection": "c-1", "user": "alice", "device": "laptop", "epoch": epoch,
        "floor": 1, "head": 100, "resume": {"status": status, "from": seq}, "heartbeat_ms": 60_000,
        "topics": [], "runs": [], "limits": {"message_bytes": 65_536}, **more,
    }  # fmt: skip


def event(seq: int, name: str = "agent_output", run: str = RUN, **more: Any) -> Any:
    data = more.pop("data", {"delta": f"{seq} "})
    return {
        "type": "event", "seq": seq, "ts": 1, "thread": "t", "run": run, "attempt": 1, "event": name,
        "data": data, **more,
    }  # fmt: skip


def end(seq: int, run: str = RUN) -> Any:
    return event(seq, "agent_completed", run, data={"status": "ok", "output": seq})


def accepted(request: Any, run: str = RUN) -> Any:
    return {
        "type": "accepted", "id": request["id"], "key": request["key"], "run": run, "thread": "t",
        "position": 1, "ahead": 0, "duplicate": False,
    }  # fmt: skip


@asynccontextmanager
async def client_of(**options: Any) -> AsyncIterator[tuple[Server, Client]]:
    async with scripted() as server, Client(server.url, "secret", **options) as client:
        yield server, client


async def greeted(server: Server, seq: int = 0, **more: Any) -> tuple[Peer, Any]:
    """A connection after its welcome, and the hello."""
    peer = await server.accept()
    hello = await peer.hear()
    assert hello["type"] == "hello"
    assert hello.pop("call")["n"] > 0
    await peer.say(welcome(seq, **more))
    return peer, hello


async def ran(server: Server, peer: Peer) -> Any:
    """Accepts the run that is asked for next."""
    request = await peer.hear()
    assert request["type"] == "run"
    await peer.say(accepted(request))
    return request


async def test_a_run_is_asked_for_and_its_events_come_until_its_end() -> None:
    async with client_of() as (server, client):
        run = client.run("echo", {"x": 1}, thread="t", timeout=2, priority="high")
        peer, hello = await greeted(server)
        assert hello == {"type": "hello"}
        assert (peer.path, peer.authorization) == ("/ws", "Bearer secret")
        request = await ran(server, peer)
        assert (request["agent"], request["input"], request["thread"]) == ("echo", {"x": 1}, "t")
        assert (request["timeout_ms"], request["priority"]) == (2000, "high")
        for message in (event(1, "run_queued", data={}), event(2, run="run_u_00000002"), event(3), end(4)):
            await peer.say(message)
        assert [e.seq async for e in run] == [1, 3, 4]
        assert (await run).output == 4
        assert (await run.accepted()).position == 1


async def test_an_event_is_acknowledged_after_the_loops_body() -> None:
    async with client_of() as (server, client):
        events = client.events()
        peer, _ = await greeted(server)
        for seq in (1, 2, 3):
            await peer.say(event(seq))
        assert (await anext(events)).seq == 1
        assert (await anext(events)).seq == 2
        assert await peer.hear() == {"type": "ack", "seq": 1}
        events.close()
        assert await peer.hear() == {"type": "ack", "seq": 3}, "what nobody looks at holds nothing up"


async def test_an_event_is_acknowledged_after_the_handler_has_returned() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    seen: list[int] = []

    async def handle(event: Event) -> None:
        seen.append(event.seq)
        begun.set()
        await go_on.wait()

    async with client_of(on_event=handle) as (server, _):
        peer, _ = await greeted(server)
        await peer.say(event(1))
        await peer.say(event(2))
        await begun.wait()
        assert seen == [1]
        go_on.set()
        ack = await peer.hear()
        while ack["seq"] < 2:
            ack = await peer.hear()
        assert seen == [1, 2]


async def test_a_handler_that_fails_is_given_the_event_again_and_nothing_is_acknowledged_before() -> None:
    tries: list[int] = []

    async def handle(event: Event) -> None:
        tries.append(event.seq)
        if tries == [1, 2]:
            raise ValueError("no")

    async with client_of(on_event=handle) as (server, client):
        peer, _ = await greeted(server)
        await peer.say(event(1))
        assert await peer.hear() == {"type": "ack", "seq": 1}
        await peer.say(event(2))
        assert await peer.hear() == {"type": "ack", "seq": 2}
        assert tries == [1, 2, 2]
        assert client.position() == Position("e-1", 2)


async def test_a_request_that_waited_and_is_longer_than_this_daemon_takes_is_not_sent() -> None:
    async with client_of() as (server, client):
        run, next_one = client.run("echo", "x" * 1_000), client.run("echo", "x")
        peer, _ = await greeted(server, limits={"message_bytes": 500})
        assert (await peer.hear())["input"] == "x"
        with pytest.raises(TooLargeError):
            await run
        assert next_one.id is None


async def test_a_redelivery_is_dropped() -> None:
    async with client_of() as (server, client):
        events = client.events()
        peer, _ = await greeted(server)
        await peer.say(event(1))
        await peer.say(event(1, redelivery=1))
        await peer.say(event(2))
        assert [(await anext(events)).seq, (await anext(events)).seq] == [1, 2]


@pytest.mark.parametrize(
    "loss",
    [event(3), event(3, prev=2, joined=2), {"type": "heartbeat", "ts": 1, "head": 5, "at": 2}],
    ids=["event", "joined", "heartbeat"],
)
async def test_a_gap_is_noticed_and_what_is_missing_fetched(loss: Any) -> None:
    async with client_of() as (server, client):
        events = client.events()
        peer, _ = await greeted(server)
        await peer.say(event(1))
        assert (await anext(events)).seq == 1
        await peer.say(loss)
        peer, hello = await greeted(server)
        assert hello["from"] == {"epoch": "e-1", "seq": 0}, "the first is not processed yet"
        assert hello["device"] == "laptop"
        for seq in (1, 2, 3):
            await peer.say(event(seq))
        assert [(await anext(events)).seq, (await anext(events)).seq] == [2, 3]


async def test_deltas_that_are_joined_anew_after_a_reconnect_are_not_doubled() -> None:
    async with client_of() as (server, client):
        events = client.events()
        peer, _ = await greeted(server)
        for seq in (1, 2, 3):
            await peer.say(event(seq))
        deltas = [(await anext(events)).delta]
        await peer.drop()
        peer, _ = await greeted(server)
        await peer.say(event(5, data={"delta": "1 2 3 4 5 "}, prev=0, joined=5))
        deltas += [(await anext(events)).delta for _ in range(3)]
        assert deltas == ["1 ", "2 ", "3 ", "4 5 "]
        await peer.say(event(6))
        await anext(events)
        ack = await peer.hear()
        while ack["seq"] < 5:
            ack = await peer.hear()
        assert ack == {"type": "ack", "seq": 5}


async def test_deltas_that_are_joined_otherwise_after_a_reconnect_are_not_doubled() -> None:
    async with client_of() as (server, client):
        events = client.events()
        peer, _ = await greeted(server)
        for seq in (1, 2):
            await peer.say(event(seq))
        await peer.say(event(6, data={"delta": "3 4 5 6 "}, prev=2, joined=4))
        deltas = [(await anext(events)).delta]
        await peer.drop()
        peer, _ = await greeted(server)
        await peer.say(event(4, data={"delta": "1 2 3 4 "}, prev=0, joined=4))
        await peer.say(event(8, data={"delta": "5 6 7 8 "}, prev=4, joined=4))
        deltas += [(await anext(events)).delta for _ in range(3)]
        assert "".join(deltas) == "1 2 3 4 5 6 7 8 "


async def test_nothing_is_acknowledged_that_was_not_sent_on_this_connection() -> None:
    async with client_of() as (server, client):
        events = client.events()
        peer, _ = await greeted(server)
        for seq in (1, 2):
            await peer.say(event(seq))
        await anext(events)
        await peer.drop()
        peer, _ = await greeted(server)
        await anext(events)
        events.close()
        await peer.say(event(1))
        assert await peer.hear() == {"type": "ack", "seq": 1}
        await peer.say(event(2))
        assert await peer.hear() == {"type": "ack", "seq": 2}


async def test_a_request_that_was_not_answered_is_said_again_with_its_key() -> None:
    async with client_of() as (server, client):
        run = client.run("echo", 1)
        peer, _ = await greeted(server)
        first = await peer.hear()
        await peer.drop()
        peer, _ = await greeted(server)
        again = await peer.hear()
        assert first == again
        # The run's events may come before the answer that names it.
        await peer.say(event(1, "run_queued", data={"key": first["key"]}))
        await peer.say(end(2))
        await peer.say({**accepted(again), "duplicate": True})
        assert (await run).output == 2
        assert (await run.accepted()).duplicate


async def test_a_run_in_flight_goes_on_after_a_reconnect() -> None:
    async with client_of() as (server, client):
        run = client.run("echo", 1)
        peer, _ = await greeted(server)
        await ran(server, peer)
        await peer.say(event(1, "run_queued", data={}))
        task = asyncio.ensure_future(_collected(run))
        assert await peer.hear() == {"type": "ack", "seq": 1}
        await peer.close(4401, "oops")
        peer, hello = await greeted(server, 1)
        assert hello["from"] == {"epoch": "e-1", "seq": 1}
        await peer.say(end(2))
        assert await task == [1, 2]


async def _collected(run: Any) -> list[int]:
    return [event.seq async for event in run]


async def test_a_refusal_reaches_whoever_asked() -> None:
    refusal = {"type": "error", "of": "run", "code": "queue_full", "message": "m", "hint": "h",
               "retry_ms": 5, "temporary": True}  # fmt: skip
    async with client_of() as (server, client):
        run = client.run("echo", 1)
        peer, _ = await greeted(server)
        request = await peer.hear()
        await peer.say({**refusal, "id": request["id"]})
        with pytest.raises(RefusedError) as refused:
            await run
        assert (refused.value.code, refused.value.retry_ms, refused.value.temporary) == (
            "queue_full",
            5,
            True,
        )
        run = client.run("echo", 2)
        await peer.hear()
        await peer.say(refusal)
        with pytest.raises(RefusedError, match="queue_full"):
            await _collected(run)


async def test_a_rate_limit_is_waited_out() -> None:
    async with client_of() as (server, client):
        asked = asyncio.ensure_future(client.cancel(RUN))
        peer, _ = await greeted(server)
        request = await peer.hear()
        limited = {"type": "error", "id": request["id"], "code": "rate_limited", "message": "", "retry_ms": 1}
        await peer.say(limited)
        assert await peer.hear() == request
        await peer.say({"type": "ok", "of": "cancel", "id": request["id"], "run": RUN, "state": "ended"})
        assert await asked == "ended"


async def test_input_is_said_once_however_often_it_is_repeated() -> None:
    async with client_of() as (server, client):
        asked = asyncio.ensure_future(client.input(RUN, {"yes": True}, request="request_1"))
        peer, _ = await greeted(server)
        first = await peer.hear()
        await peer.drop()
        peer, _ = await greeted(server)
        again = await peer.hear()
        assert first == again
        assert (first["request"], first["data"]) == ("request_1", {"yes": True})
        assert first["key"]
        await peer.say({"type": "ok", "of": "input", "id": again["id"]})
        await asked


async def test_the_queue_of_requests_has_a_limit_and_measures() -> None:
    async with client_of() as (_, client):
        with pytest.raises(TooLargeError):
            client.run("echo", "x" * 70_000)
        for _ in range(1_000):
            client.run("echo", None)
        with pytest.raises(OfflineError):
            client.run("echo", None)


async def test_few_requests_are_awaited_at_a_time() -> None:
    async with client_of() as (server, client):
        for _ in range(40):
            client.run("echo", None)
        peer, _ = await greeted(server)
        asked = await peer.hear_many(32)
        await peer.say(event(1))
        assert await peer.hear() == {"type": "ack", "seq": 1}, "and no request more"
        await peer.say(accepted(asked[0], "run_t_00000100"))
        assert (await peer.hear())["type"] == "run"


@pytest.mark.parametrize("code", [4501, 4502, 4503, 4504, 4505, 4506, 4507, 4509, 4510])
async def test_what_is_refused_for_good_is_told_to_everybody(code: int) -> None:
    async with client_of() as (server, client):
        run, events = client.run("echo", 1), client.events()
        peer, _ = await greeted(server)
        await ran(server, peer)
        await peer.close(code, "no")
        waits: list[Callable[[], Any]] = [
            lambda: _await(run), lambda: anext(events), client.connected, client.closed,
        ]  # fmt: skip
        for wait in waits:
            with pytest.raises(ClosedError) as closed:
                await wait()
            assert closed.value.code == code
        with pytest.raises(ClosedError):
            client.run("echo", 2)


async def _await(run: Any) -> Any:
    return await run


@pytest.mark.parametrize("code", [1000, 1001, 1011, 4401, 4402, 4404, 4405, 4407, 4408, 4411])
async def test_after_other_closes_it_connects_again(code: int) -> None:
    async with client_of() as (server, _):
        peer, _ = await greeted(server)
        await peer.close(code)
        await greeted(server)


async def test_after_a_drain_it_comes_back_when_it_was_told_to() -> None:
    async with client_of() as (server, _):
        peer, _ = await greeted(server)
        await peer.say({"type": "notice", "notice": "drain", "reconnect_ms": 1})
        await peer.close(4400)
        await greeted(server)


async def test_silence_is_noticed() -> None:
    async with client_of() as (server, _):
        await greeted(server, heartbeat_ms=10)
        await greeted(server)


async def test_a_token_is_refreshed_before_it_expires_and_replaced_after() -> None:
    tokens = iter(["one", "two", "three"])
    async with scripted() as server, Client(server.url, lambda: next(tokens)) as _:
        peer, _ = await greeted(server)
        assert peer.authorization == "Bearer one"
        await peer.say({"type": "notice", "notice": "expiring", "expires_ms": 60_000})
        refresh = await peer.hear()
        assert (refresh["type"], refresh["token"]) == ("refresh", "two")
        await peer.say({"type": "ok", "of": "refresh", "id": refresh["id"], "expires_ms": 1, "ended": []})
        await peer.close(4506)
        peer, _ = await greeted(server)
        assert peer.authorization == "Bearer three"


async def test_a_reset_is_told_and_a_run_that_is_no_longer_kept_does_not_hang() -> None:
    resets: list[Reset] = []
    async with client_of(on_reset=resets.append) as (server, client):
        run, alive = client.watch(RUN), client.watch("run_t_00000002")
        peer, _ = await greeted(server, 5)
        await peer.drop()
        runs = [{"run": "run_t_00000002", "state": "running"}]
        peer, _ = await greeted(server, status="reset", epoch="e-2", head=2, runs=runs,
                                resume={"status": "reset", "reason": "epoch", "from": 0})  # fmt: skip
        await peer.say(event(1, run="run_t_00000003"))
        await peer.say(event(2, run="run_t_00000002"))
        with pytest.raises(ResetError):
            await run
        await peer.say(end(3, "run_t_00000002"))
        assert (await alive).output == 3
        assert [(r.reason, r.epoch, r.from_seq) for r in resets] == [("epoch", "e-2", 0)]
        assert client.position() == Position("e-2", 3)


async def test_topics_have_positions_of_their_own() -> None:
    topic = {"topic": "news", "epoch": "e-9", "floor": 1, "head": 3, "resume": {"status": "fresh", "from": 3}}
    denied = {"topic": "alerts", "error": {"code": "topic_forbidden", "message": "no"}}
    async with client_of(topics=["news", "alerts"]) as (server, client):
        events = client.events()
        peer, hello = await greeted(server, topics=[topic, denied])
        assert hello["topics"] == ["news", "alerts"]
        await peer.say({"type": "event", "topic": "news", "seq": 4, "ts": 1, "event": "hi", "data": {}})
        await peer.say(event(1))
        assert [(e.topic, e.seq) for e in (await anext(events), await anext(events))] == [
            ("news", 4), (None, 1),
        ]  # fmt: skip
        assert await peer.hear() == {"type": "ack", "seq": 4, "topic": "news"}
        await peer.drop()
        peer, hello = await greeted(server, topics=[topic | {"resume": {"status": "resumed", "from": 4}}])
        assert hello["topics"][0] == {"topic": "news", "from": {"epoch": "e-9", "seq": 4}}
        asked = asyncio.ensure_future(client.subscribe(["system"]))
        request = await peer.hear()
        assert (request["type"], request["topics"]) == ("subscribe", ["system"])
        await peer.say({"type": "subscribed", "id": request["id"], "topics": [topic | {"topic": "system"}]})
        await asked
        assert client.position("news") is None
        assert client.position("system") == Position("e-9", 3)


async def test_a_viewer_neither_names_a_device_nor_acknowledges() -> None:
    async with client_of(device="laptop", ack=False, start="oldest", window=8) as (server, client):
        events = client.events()
        peer, hello = await greeted(server)
        assert hello == {"type": "hello", "from": "oldest", "ack": False, "window": 8}
        await peer.say(event(1))
        await peer.say(event(2))
        await anext(events)
        await anext(events)
        asked = asyncio.ensure_future(client.cancel(RUN))
        assert (await peer.hear())["type"] == "cancel", "and no acknowledgement"
        asked.cancel()


async def test_notices_reach_the_application_and_their_run() -> None:
    notices: list[Any] = []
    async with client_of(on_notice=notices.append) as (server, client):
        run = client.run("echo", 1)
        peer, _ = await greeted(server)
        await ran(server, peer)
        notice = {"type": "notice", "notice": "queue", "run": RUN, "position": 2, "reason": "concurrency"}
        await peer.say(notice)
        await peer.say(event(1, run="run_u_00000002"))
        assert (await peer.hear())["type"] == "ack"
        assert notices == [notice]
        assert run.notice == notice


async def test_what_cannot_be_read_is_passed_over() -> None:
    async with client_of() as (server, client):
        events = client.events()
        peer, _ = await greeted(server)
        strange: list[Any] = [[], 1, {}, {"type": "event"}, {"type": "notice"}, {"type": "new_in_version_2"}]
        for nonsense in strange:
            await peer.say(nonsense)
        await peer.say(event(1))
        assert (await anext(events)).seq == 1


async def test_asking_after_the_fact_is_refused() -> None:
    async with client_of() as (server, client):
        run = client.watch(RUN)
        peer, _ = await greeted(server)
        task = asyncio.ensure_future(_await(run))
        await peer.say(end(1))
        await task
        with pytest.raises(RuntimeError):
            aiter(run)
        with pytest.raises(TypeError, match="colour"):
            client.run("echo", 1, colour="red")


@pytest.mark.parametrize("data", ["words", [1], 7, None])
async def test_what_a_topic_brings_may_be_any_json(data: Any) -> None:
    topic = {"topic": "news", "epoch": "e-9", "floor": 1, "head": 0, "resume": {"status": "fresh", "from": 0}}
    said = {"type": "event", "topic": "news", "seq": 1, "ts": 1, "event": "flash", "data": data}
    async with client_of(topics=["news"]) as (server, client):
        events = client.events()
        peer, _ = await greeted(server, topics=[topic])
        await peer.say(said)
        assert (await anext(events)).data == data
        await peer.drop()
        peer, _ = await greeted(server, topics=[topic | {"resume": {"status": "resumed", "from": 0}}])
        await peer.say(said)
        await peer.say(said | {"seq": 2})
        assert (await anext(events)).seq == 2


async def test_a_number_of_any_length_is_read() -> None:
    digits = "9" * 5_000
    async with client_of() as (server, client):
        events = client.events()
        peer, _ = await greeted(server)
        await peer.socket.send(json.dumps(event(1, data={"n": 12_345})).replace("12345", digits))
        await peer.say(event(2))
        assert str((await anext(events)).data["n"]) == digits
        assert (await anext(events)).seq == 2


async def test_a_choice_that_fails_is_its_own_loops_fault() -> None:
    async with client_of() as (server, client):
        chosen, events = client.events(lambda event: event.data["choice"] == 1), client.events()
        peer, _ = await greeted(server)
        await peer.say(event(1))
        assert (await anext(events)).seq == 1
        events.close()
        with pytest.raises(KeyError):
            await anext(chosen)
        assert await peer.hear() == {"type": "ack", "seq": 1}


@pytest.mark.parametrize("fault", [AttributeError, KeyError])
async def test_what_fails_in_the_application_does_not_end_the_connection(fault: type[Exception]) -> None:
    def fail(*_: Any) -> None:
        raise fault("the application's")

    denied = {"topic": "news", "error": {"code": "topic_forbidden", "message": "no"}}
    told = {"on_notice": fail, "on_error": fail, "on_reset": fail, "on_topic_ended": fail}
    async with client_of(topics=["news"], **told) as (server, client):
        run = client.watch(RUN)
        peer, _ = await greeted(server, status="reset", topics=[denied], runs=[{"run": RUN}])
        await peer.say({"type": "notice", "notice": "working", "run": RUN})
        await peer.say({"type": "error", "code": "overloaded", "message": ""})
        await peer.say(end(1))
        assert (await run).output == 1


async def test_a_reset_whose_handler_fails_is_told_again() -> None:
    told: list[Any] = []

    async def handle(event: Event) -> None:
        told.append(event.seq)

    def begin(reset: Reset) -> None:
        told.append(reset.reason)
        if len(told) == 1:
            raise ValueError("no")

    async with client_of(on_event=handle, on_reset=begin) as (server, _):
        peer, _ = await greeted(server, resume={"status": "reset", "reason": "epoch", "from": 0})
        await peer.say(event(1))
        assert await peer.hear() == {"type": "ack", "seq": 1}
        assert told == ["epoch", "epoch", 1]


async def test_an_event_comes_again_when_what_its_handler_waited_for_was_cancelled() -> None:
    tries: list[int] = []

    async def handle(event: Event) -> None:
        tries.append(event.seq)
        if len(tries) == 1:
            other = asyncio.ensure_future(asyncio.Event().wait())
            other.cancel()
            await other

    async with client_of(on_event=handle) as (server, _):
        peer, _ = await greeted(server)
        await peer.say(event(1))
        assert await peer.hear() == {"type": "ack", "seq": 1}
        assert tries == [1, 1]


async def test_what_is_changed_after_it_was_asked_for_is_asked_again_as_it_was() -> None:
    async with client_of() as (server, client):
        asked = {"text": "as it was"}
        client.run("echo", asked)
        peer, _ = await greeted(server)
        first = await peer.hear()
        asked["text"] = "changed"
        await peer.drop()
        peer, _ = await greeted(server)
        assert await peer.hear() == first


@pytest.mark.parametrize("token", ["secret\n", "two words", "t\u00e9l\u00e9"])
async def test_what_is_no_token_is_not_sent_anywhere(token: str) -> None:
    async with scripted() as server, Client(server.url, token) as client:
        with pytest.raises(ClosedError) as closed:
            await client.connected()
        assert closed.value.error is not None
        assert closed.value.error.code == "token_malformed"


async def test_why_it_was_closed_stands_in_the_error() -> None:
    async with client_of() as (server, client):
        peer = await server.accept()
        await peer.hear()
        refusal = {"code": "token_expired", "message": "expired 5 s ago", "hint": "get another"}
        await peer.say({"type": "error", **refusal})
        await peer.close(4501, "token_expired")
        with pytest.raises(ClosedError) as closed:
            await client.connected()
        said = "closed with 4501 token_expired: token_expired: expired 5 s ago (get another)"
        assert str(closed.value) == said


async def test_the_longest_event_that_a_daemon_may_send_is_taken() -> None:
    text = "x" * (16 << 20)
    async with client_of() as (server, client):
        events = client.events()
        peer, _ = await greeted(server)
        await peer.say(event(1, data={"delta": text}))
        assert (await anext(events)).delta == text


async def test_a_run_that_had_ended_before_the_connection_began_does_not_hang() -> None:
    async with client_of() as (server, client):
        before, later = client.watch(RUN), client.watch("run_t_00000002")
        alive = client.watch("run_t_00000003")
        peer, _ = await greeted(server, 5, head=7, runs=[{"run": "run_t_00000003", "state": "running"}])
        await peer.say(end(6, "run_t_00000002"))
        assert (await later).output == 6
        await peer.say(event(7, run="run_t_00000003"))
        with pytest.raises(ResetError):
            await before
        await peer.say(end(8, "run_t_00000003"))
        assert (await alive).output == 8


async def test_a_run_that_ended_while_there_was_no_connection_does_not_hang() -> None:
    async with client_of() as (server, client):
        events = client.events()
        peer, _ = await greeted(server, 0, head=0)
        await peer.say(event(1))
        await peer.say(end(2))
        assert [(await anext(events)).seq, (await anext(events)).seq] == [1, 2]
        # Both are heard, and the second is not processed yet: it comes again, and tells no end anew.
        run = client.watch(RUN)
        await peer.drop()
        peer, _ = await greeted(server, 1, head=2)
        await peer.say(end(2))
        with pytest.raises(ResetError):
            await run


async def test_a_run_that_is_nowhere_is_waited_for_until_it_is_certain_that_it_is_over() -> None:
    def beat(head: int, at: int) -> Any:
        return {"type": "heartbeat", "ts": 1, "head": head, "at": at}

    async with client_of() as (server, client):
        events = client.events()
        peer, _ = await greeted(server, 3, head=3)
        await client.connected()
        over, new = client.watch(RUN), client.watch("run_t_00000002")
        pings = await peer.hear_many(2)
        assert [ping["type"] for ping in pings] == ["ping", "ping"]
        # This was on its way before the daemon had heard that somebody asks.
        await peer.say(beat(3, 3))
        for ping in pings:
            await peer.say({"type": "pong", "id": ping["id"], "ts": 1})
        await peer.say(event(4, "run_queued", "run_t_00000002", data={}))
        assert (await anext(events)).seq == 4
        await peer.say(beat(5, 4))
        await peer.say(event(5, run="run_t_00000003"))
        with pytest.raises(ResetError):
            await over
        await peer.say(end(6, "run_t_00000002"))
        assert (await new).output == 6
