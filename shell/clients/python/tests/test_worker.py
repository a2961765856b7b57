"""The worker against a scripted daemon: what a real one cannot be made to say at will."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from runcast import AgentFunction, ClosedError, InputExpired, Run, TooLargeError, Worker
from scripted import Peer, Server, scripted
from test_end_to_end import serving

RUN = "run_t_00000001"


def welcome(window: int = 8, runs: list[Any] | None = None, **terms: Any) -> Any:
    return {
        "type": "welcome", "worker": "w-1", "lease_ms": 60_000, "publish_window": window,
        "message_bytes": 1_048_576, "runs": runs or [], **terms,
    }  # fmt: skip


def offer(attempt: int = 1, run: str = RUN, agent: str = "a") -> Any:
    return {
        "type": "run", "run": run, "attempt": attempt, "thread": "t", "user": "alice", "agent": agent,
        "input": "hi", "meta": {"of": "x"}, "timeout_ms": 30_000,
    }  # fmt: skip


def about(kind: str, **fields: Any) -> Any:
    return {"type": kind, "run": RUN, "attempt": 1, **fields}


@asynccontextmanager
async def worker_of(function: AgentFunction, **options: Any) -> AsyncIterator[tuple[Server, Worker]]:
    async with scripted() as server:
        worker = Worker(server.url, "secret", name="w-1")
        worker.add("a", function, **{"slots": 2, **options})
        async with serving(worker):
            yield server, worker


async def started(server: Server, window: int = 8, **terms: Any) -> Peer:
    """A worker whose run waits for the acknowledgement of its start."""
    peer = await server.accept()
    assert (await peer.hear())["runs"] == []
    await peer.say(welcome(window, **terms))
    await peer.say(offer())
    assert await peer.hear() == about("started")
    return peer


async def settled(peer: Peer) -> None:
    """The worker has handled all that was said to it, and has not said anything since."""
    await peer.say(offer(run="run_x_00000000", agent="unknown"))
    answer = await peer.hear()
    assert (answer["type"], answer["run"]) == ("decline", "run_x_00000000"), answer


async def say_three(run: Run) -> None:
    for i in (1, 2, 3):
        await run.output(str(i))


async def test_a_worker_says_who_it_is_and_whom_it_serves() -> None:
    async with worker_of(say_three, retryable=True, timeout=2.5) as (server, worker):
        peer = await server.accept()
        assert (peer.path, peer.authorization) == ("/worker", "Bearer secret")
        agents = [{"agent": "a", "slots": 2, "retryable": True, "timeout_ms": 2500}]
        hello = await peer.hear()
        assert hello.pop("call")["n"] == 1
        assert hello == {"type": "hello", "worker": "w-1", "agents": agents, "runs": []}
        await peer.say(welcome())
        worker.drain()
        assert await peer.closed() == 1000


async def test_nothing_is_executed_before_the_start_is_acknowledged() -> None:
    begun: list[Run] = []

    async def note(run: Run) -> str:
        begun.append(run)
        return "done"

    async with worker_of(note) as (server, _):
        peer = await started(server)
        await settled(peer)
        assert begun == []
        await peer.say(about("ack", n=0))
        await peer.say(about("ack", n=0))
        assert (await peer.hear())["event"] == "agent_output"
        assert await peer.hear() == about("complete", n=2, status="ok", output={"text": "done"})
        await settled(peer)
        assert [(run.user, run.thread, run.timeout_ms, run.meta) for run in begun] == [
            ("alice", "t", 30_000, {"of": "x"})
        ]


async def test_after_a_reconnect_it_sends_what_is_not_durable() -> None:
    go_on = asyncio.Event()

    async def count(run: Run) -> None:
        await run.output("1")
        await run.output("2")
        await go_on.wait()
        await run.output("3")

    async with worker_of(count) as (server, _):
        peer = await started(server)
        await peer.say(about("ack", n=0))
        assert [m["n"] for m in await peer.hear_many(2)] == [1, 2]
        await peer.drop()
        go_on.set()
        peer = await server.accept()
        named = (await peer.hear())["runs"]
        assert [(run["run"], run["attempt"]) for run in named] == [(RUN, 1)]
        await peer.say(welcome(runs=[{"run": RUN, "attempt": 1, "n": 1, "state": "continue"}]))
        heard = await peer.hear_many(3)
        assert [m["n"] for m in heard] == [2, 3, 4]
        assert (heard[0]["data"], heard[2]["type"]) == ({"delta": "2"}, "complete")
        await peer.say(about("ack", n=4))
        await settled(peer)
        await peer.drop()
        assert (await (await server.accept()).hear())["runs"] == []


async def test_a_start_that_turns_out_durable_is_executed_after_the_reconnect() -> None:
    async with worker_of(say_three) as (server, _):
        await (await started(server)).drop()
        peer = await server.accept()
        assert (await peer.hear())["runs"] == [{"run": RUN, "attempt": 1, "n": 0}]
        await peer.say(welcome(runs=[{"run": RUN, "attempt": 1, "n": 0, "state": "continue"}]))
        assert [m["n"] for m in await peer.hear_many(4)] == [1, 2, 3, 4]


@pytest.mark.parametrize("state", ["gone", "unmentioned", "fenced", "withdraw", "next attempt"])
async def test_a_run_that_is_no_longer_here_stops_and_says_nothing_more(state: str) -> None:
    ended = asyncio.Event()

    async def endless(run: Run) -> None:
        try:
            while run.attempt == 1:
                await run.output("more")
        finally:
            ended.set()

    async with worker_of(endless) as (server, _):
        peer = await started(server, window=2)
        await peer.say(about("ack", n=0))
        await peer.hear_many(2)
        if state in ("gone", "unmentioned"):
            await peer.drop()
            peer = await server.accept()
            assert len((await peer.hear())["runs"]) == 1
            known = [{"run": RUN, "attempt": 1, "state": "gone"}] if state == "gone" else []
            await peer.say(welcome(2, known))
        elif state == "fenced":
            await peer.say(about("error", of="event", code="fenced", message="over"))
        elif state == "withdraw":
            await peer.say(about("withdraw"))
        else:
            await peer.say(offer(attempt=3))
            assert (await peer.hear())["attempt"] == 3
        await ended.wait()
        await settled(peer)
        await peer.say(offer(run="run_t_00000002"))
        assert (await peer.hear())["run"] == "run_t_00000002"


async def test_the_window_holds_the_agent_back() -> None:
    said: list[int] = []

    async def six(run: Run) -> None:
        for i in range(1, 7):
            await run.output(str(i))
            said.append(i)

    async with worker_of(six) as (server, _):
        peer = await started(server, window=2)
        await peer.say(about("ack", n=0))
        assert [m["n"] for m in await peer.hear_many(2)] == [1, 2]
        await settled(peer)
        assert said == [1, 2]
        for n in range(1, 6):
            await peer.say(about("ack", n=n))
            assert (await peer.hear())["n"] == n + 2


async def test_two_runs_share_the_window_in_turns() -> None:
    async def ten(run: Run) -> None:
        for i in range(10):
            await run.output(str(i))

    async with worker_of(ten) as (server, _):
        peer = await started(server, window=2)
        second = "run_t_00000002"
        await peer.say(offer(run=second))
        await peer.hear()
        for run in (RUN, second):
            await peer.say({"type": "ack", "run": run, "attempt": 1, "n": 0})
        heard: list[str] = []
        for _ in range(20):
            message = await peer.hear()
            heard.append(message["run"])
            await peer.say({"type": "ack", "run": message["run"], "attempt": 1, "n": message["n"]})
        assert abs(heard[:10].count(RUN) - 5) <= 2


@pytest.mark.parametrize("code", ["gap", "storage_unavailable"])
async def test_a_gap_is_filled_and_a_full_store_waited_for(code: str) -> None:
    async with worker_of(say_three) as (server, _):
        peer = await started(server)
        await peer.say(about("ack", n=0))
        assert [m["n"] for m in await peer.hear_many(4)] == [1, 2, 3, 4]
        await peer.say(about("error", of="event", code=code, message="", expected=2, retry_ms=1))
        assert [m["n"] for m in await peer.hear_many(3)] == [2, 3, 4]


async def test_a_cancel_is_confirmed_and_counted_once() -> None:
    async def slow(run: Run) -> None:
        await run.output("half")
        async with run.tool("wait"):
            await asyncio.Event().wait()

    async with worker_of(slow) as (server, _):
        peer = await started(server)
        await peer.say(about("ack", n=0))
        await peer.hear_many(2)
        await peer.say(about("cancel", i=1, reason="timeout"))
        assert await peer.hear() == about("got", i=1)
        assert (await peer.hear())["data"]["status"] == "interrupted"
        assert await peer.hear() == about("complete", n=4, status="cancelled", output={"text": "half"})
        await peer.say(about("cancel", i=1, reason="timeout"))
        assert await peer.hear() == about("got", i=1)


async def test_a_cancel_that_comes_with_the_start_still_ends_the_run() -> None:
    async with worker_of(say_three) as (server, _):
        peer = await started(server)
        await peer.say(about("ack", n=0))
        await peer.say(about("cancel", i=1, reason="user"))
        heard = await peer.hear_many(2)
        while heard[-1]["type"] != "complete":
            heard.append(await peer.hear())
        assert heard[-1]["status"] in ("ok", "cancelled")


async def test_a_question_is_answered() -> None:
    async def ask(run: Run) -> Any:
        return {"chosen": await run.ask("Which?", schema={"enum": [1, 2]}, expires=60)}

    async with worker_of(ask) as (server, _):
        peer = await started(server)
        await peer.say(about("ack", n=0))
        question = (await peer.hear())["data"]
        expected = {
            "request": "request_1",
            "prompt": "Which?",
            "schema": {"enum": [1, 2]},
            "expires_ms": 60_000,
        }
        assert question == expected
        answer = about("input", i=1, request="request_1", data=2)
        await peer.say(answer)
        assert await peer.hear() == about("got", i=1)
        assert (await peer.hear())["output"] == {"chosen": 2}
        await peer.say(answer)
        assert await peer.hear() == about("got", i=1), "a repeated one is confirmed and dropped"


async def test_a_question_that_expires_is_an_exception() -> None:
    async def ask(run: Run) -> str:
        try:
            await run.ask("Which?")
        except InputExpired:
            return "nobody"
        return "somebody"

    async with worker_of(ask) as (server, _):
        peer = await started(server)
        await peer.say(about("ack", n=0))
        request = (await peer.hear())["data"]["request"]
        await peer.say(about("input", i=1, request=request, data=None, expired=True))
        await peer.hear()
        assert (await peer.hear())["data"]["delta"] == "nobody"


async def test_steering_reaches_the_agent_in_order() -> None:
    async def obey(run: Run) -> None:
        assert run.steered() is None
        await run.thinking("ready")
        async for said in run.steering():
            await run.output(said)
            if said == "stop":
                return

    async with worker_of(obey) as (server, _):
        peer = await started(server)
        await peer.say(about("ack", n=0))
        await peer.hear()
        for i, word in enumerate(("left", "stop"), 1):
            await peer.say(about("input", i=i, data=word))
        heard = await peer.hear_many(5)
        assert [m["data"]["delta"] for m in heard if m["type"] == "event"] == ["left", "stop"]
        assert [m["i"] for m in heard if m["type"] == "got"] == [1, 2]


async def test_what_it_cannot_execute_it_declines() -> None:
    async def wait(run: Run) -> None:
        await asyncio.Event().wait()

    async with worker_of(wait, slots=1) as (server, worker):
        peer = await server.accept()
        await peer.hear()
        await peer.say(welcome())
        await peer.say(offer(agent="unknown"))
        assert (await peer.hear())["type"] == "decline"
        await peer.say(offer())
        assert (await peer.hear())["type"] == "started"
        await peer.say(offer(run="run_t_00000002"))
        assert (await peer.hear())["reason"] == "all slots are in use"
        worker.drain()
        assert await peer.hear() == {"type": "drain"}
        await peer.say(offer(run="run_t_00000003"))
        assert (await peer.hear())["reason"] == "this worker is draining"


async def test_a_quiet_worker_beats_three_times_a_lease() -> None:
    async with worker_of(say_three) as (server, _):
        peer = await server.accept()
        await peer.hear()
        await peer.say(welcome(lease_ms=3))
        assert await peer.hear_many(2) == [{"type": "beat"}, {"type": "beat"}]


async def test_an_agent_that_blocks_the_event_loop_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def block(run: Run) -> None:
        time.sleep(1.2)  # noqa: ASYNC251 - this is the fault

    async with worker_of(block) as (server, _):
        peer = await started(server, lease_ms=300)
        await peer.say(about("ack", n=0))
        while (await peer.hear())["type"] != "complete":
            pass
        await settled_but_for_beats(peer)
    assert any("the event loop was held" in record.getMessage() for record in caplog.records)


async def settled_but_for_beats(peer: Peer) -> None:
    """The worker has gone on to beat again."""
    while (await peer.hear())["type"] != "beat":
        pass


async def test_a_daemon_that_says_nothing_is_left() -> None:
    async with worker_of(say_three) as (server, _):
        peer = await server.accept()
        await peer.hear()
        await peer.say(welcome(heartbeat_ms=10))
        assert (await (await server.accept()).hear())["type"] == "hello"


async def test_output_that_is_too_long_is_said_to_be() -> None:
    async def long(run: Run) -> str:
        async with run.tool("read") as use:
            use.result = "x" * 2_000
        await run.thinking("y")
        return "x" * 2_000

    async with worker_of(long) as (server, _):
        peer = await started(server, message_bytes=1_000)
        await peer.say(about("ack", n=0))
        heard = await peer.hear_many(4)
        assert heard[1]["data"]["result"]["left_out_bytes"] > 2_000
        assert heard[3]["error"]["code"] == "agent_failed", "the piece of output did not fit an event"


async def test_calls_that_a_framework_numbers_anew_stay_unique() -> None:
    async def twice(run: Run) -> None:
        for _ in range(2):
            async with run.tool("t", call="call 1"):
                pass

    async with worker_of(twice) as (server, _):
        peer = await started(server)
        await peer.say(about("ack", n=0))
        opened = [(await peer.hear())["data"]["call"] for _ in range(4)]
        assert opened[0] == opened[1] == "call-1"
        assert opened[2] == opened[3] != opened[0]


@pytest.mark.parametrize("code", [4510, 4501, 4504, 4507])
async def test_what_is_refused_for_good_ends_the_worker(code: int) -> None:
    async with scripted() as server:
        worker = Worker(server.url, "secret")
        worker.add("a", say_three)
        task = asyncio.create_task(worker.serve(signals=False))
        peer = await server.accept()
        await peer.hear()
        await peer.close(code, "no")
        with pytest.raises(ClosedError) as closed:
            await task
        assert closed.value.code == code


async def test_a_refused_token_is_replaced_by_a_new_one() -> None:
    tokens = iter(["old", "new", "new"])

    async def token() -> str:
        return next(tokens)

    async with scripted() as server:
        worker = Worker(server.url, token)
        worker.add("a", say_three)
        task = asyncio.create_task(worker.serve(signals=False))
        for expected in ("old", "new"):
            peer = await server.accept()
            assert peer.authorization == f"Bearer {expected}"
            await peer.hear()
            await peer.close(4506)
        with pytest.raises(ClosedError):
            await task


async def test_sigterm_drains() -> None:
    go_on = asyncio.Event()

    async def wait(run: Run) -> str:
        await run.thinking("begun")
        await go_on.wait()
        return "done"

    async with scripted() as server:
        worker = Worker(server.url, "secret")
        worker.add("a", wait)
        task = asyncio.create_task(worker.serve())
        peer = await started(server)
        await peer.say(about("ack", n=0))
        await peer.hear()
        os.kill(os.getpid(), signal.SIGTERM)
        assert await peer.hear() == {"type": "drain"}
        go_on.set()
        heard = await peer.hear_many(2)
        assert heard[1]["status"] == "ok"
        assert not task.done(), "the end is not acknowledged yet"
        await peer.say(about("ack", n=3))
        assert await peer.closed() == 1000
        await task


@pytest.mark.parametrize("retryable", [False, True])
async def test_what_does_not_end_in_time_is_stopped_or_left_to_another(retryable: bool) -> None:
    async def wait(run: Run) -> None:
        await run.output("half")
        await asyncio.Event().wait()

    async with scripted() as server:
        worker = Worker(server.url, "secret", drain_seconds=0.01)
        worker.add("a", wait, retryable=retryable)
        task = asyncio.create_task(worker.serve(signals=False))
        peer = await started(server)
        await peer.say(about("ack", n=0))
        await peer.hear()
        worker.drain()
        assert await peer.hear() == {"type": "drain"}
        if not retryable:
            complete = await peer.hear()
            assert (complete["status"], complete["error"]["code"]) == ("error", "worker_stopped")
            await peer.say(about("ack", n=2))
        assert await peer.closed() == 1000
        await task


async def test_progress_is_visible_on_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "runcast.worker")
    async with worker_of(say_three) as (server, _):
        peer = await started(server)
        await peer.say(about("ack", n=0))
        await peer.hear_many(4)
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "w-1: connected, serving a"
    assert said[1] == f"{RUN}: a begins (attempt 1)"
    assert said[2].startswith(f"{RUN}: ok after")


async def test_a_thread_that_cannot_be_stopped_keeps_its_slot() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def block(_: Run) -> None:
        begun.set()
        go_on.wait()

    async with worker_of(block, slots=1) as (server, _):
        peer = await started(server)
        await peer.say(about("ack", n=0))
        await asyncio.to_thread(begun.wait)
        try:
            await peer.say(about("cancel", i=1, reason="user"))
            assert [m["type"] for m in await peer.hear_many(2)] == ["got", "complete"]
            await peer.say(about("ack", n=1))
            await peer.say(offer(run="run_t_00000002"))
            assert (await peer.hear())["type"] == "decline"
        finally:
            go_on.set()
        answer = "decline"
        while answer == "decline":
            await peer.say(offer(run="run_t_00000002"))
            answer = (await peer.hear())["type"]
        assert answer == "started"


async def test_a_place_in_the_window_that_was_not_taken_is_the_next_ones() -> None:
    async def too_much(run: Run) -> None:
        with pytest.raises(TooLargeError):
            await run.custom("x", "y" * 2_000_000)

    async def speak(run: Run) -> None:
        await run.output("1")
        await asyncio.gather(too_much(run), run.output("2"))

    async with worker_of(speak) as (server, _):
        peer = await started(server, window=1)
        await peer.say(about("ack", n=0))
        assert (await peer.hear())["n"] == 1
        await peer.say(about("ack", n=1))
        assert (await peer.hear())["data"] == {"delta": "2"}


async def test_a_tool_that_fails_with_too_many_words_has_failed() -> None:
    async def search(run: Run) -> str:
        try:
            async with run.tool("search"):
                raise LookupError("x" * 2_000_000)
        except LookupError:
            return "nothing"

    async with worker_of(search) as (server, _):
        peer = await started(server)
        await peer.say(about("ack", n=0))
        used = await peer.hear_many(3)
        assert [m["event"] for m in used] == ["tool_executing", "tool_completed", "agent_output"]
        assert used[1]["data"]["status"] == "error"
