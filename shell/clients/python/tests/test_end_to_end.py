"""Worker and client against the real daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest

from daemon import Daemon
from runcast import Client, Done, Event, InputExpired, RefusedError, ResetError, Run, Worker, say


@asynccontextmanager
async def serving(worker: Worker) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(worker.serve(signals=False))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def worker_of(daemon: Daemon, name: str = "w-1") -> Worker:
    return Worker(daemon.url, daemon.token("crew", "worker"), name=name)


def client_of(daemon: Daemon, user: str = "alice") -> Client:
    return Client(daemon.url, daemon.token(user, "user"), device="laptop")


def names(events: list[Event]) -> list[str]:
    return [event.event for event in events]


async def test_a_generator_of_strings_is_an_agent(daemon: Daemon) -> None:
    worker = worker_of(daemon)

    @worker.agent("shout")
    async def shout(run: Run) -> AsyncIterator[str]:
        for word in run.text.split():
            yield word.upper() + " "

    async with serving(worker), client_of(daemon) as client:
        run = client.run("shout", "hello you", thread="t1")
        events = [event async for event in run]
        end = await run
    assert names(events) == ["run_queued", "agent_started", "agent_output", "agent_output", "agent_completed"]
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]
    assert (end.status, end.output, end.thread) == ("ok", {"text": "HELLO YOU "}, "t1")


async def test_everything_an_agent_can_say_arrives(daemon: Daemon) -> None:
    worker = worker_of(daemon)

    @worker.agent("busy")
    async def busy(run: Run) -> Done:
        await run.thinking("Hm")
        async with run.step("look", index=1, of=1):
            async with run.tool("add", {"of": [1, 2]}) as use:
                await use.progress(50, "half")
                use.result = 3
            with suppress(ValueError):
                async with run.tool("fail"):
                    raise ValueError("nothing to add")
        await run.progress(100)
        await run.notice("almost")
        await run.output("three")
        return Done({"sum": 3}, usage={"tokens": 7})

    async with serving(worker), client_of(daemon) as client:
        run = client.run("busy", None)
        events = [event async for event in run][2:]
    assert names(events) == [
        "agent_thinking", "step_started", "tool_executing", "tool_progress", "tool_completed",
        "tool_executing", "tool_completed", "step_completed", "run_progress", "custom", "agent_output",
        "agent_completed",
    ]  # fmt: skip
    done, failed = events[4].data, events[6].data
    assert (done["status"], done["result"], failed["status"]) == ("ok", 3, "error")
    assert failed["error"]["message"] == "ValueError: nothing to add"
    assert (events[-1].data["output"], events[-1].data["usage"]) == ({"sum": 3}, {"tokens": 7})


@pytest.mark.parametrize("kind", ["function", "generator", "async function"])
async def test_plain_functions_are_agents_too(daemon: Daemon, kind: str) -> None:
    worker = worker_of(daemon)

    def function(run: Run) -> str:
        return run.text.upper()

    def generator(run: Run) -> Iterator[say.Said | str]:
        yield say.thinking("Hm")
        yield run.text.upper()

    async def coroutine(run: Run) -> str:
        return run.text.upper()

    kinds = {"function": function, "generator": generator, "async function": coroutine}
    worker.add("shout", kinds[kind])
    async with serving(worker), client_of(daemon) as client:
        run = client.run("shout", {"text": "hi"})
        events = [event async for event in run]
        assert (await run).output == {"text": "HI"}
    assert [event.delta for event in events if event.event == "agent_output"] == ["HI"]


async def test_a_failure_ends_the_run_and_tells_only_its_kind(daemon: Daemon) -> None:
    worker = worker_of(daemon)

    @worker.agent("broken")
    async def broken(run: Run) -> None:
        raise ValueError("the password is hunter2")

    async with serving(worker), client_of(daemon) as client:
        end = await client.run("broken", 1)
    assert end.status == "error"
    assert end.error is not None
    assert end.error["code"] == "agent_failed"
    assert "ValueError" in end.error["message"]
    assert "hunter2" not in end.error["message"]


async def test_cancel_is_a_cancelled_task(daemon: Daemon) -> None:
    worker = worker_of(daemon)
    cleaned = asyncio.Event()

    @worker.agent("slow")
    async def slow(run: Run) -> None:
        await run.output("half a sent")
        try:
            async with run.tool("wait"):
                await asyncio.Event().wait()
        finally:
            cleaned.set()

    async with serving(worker), client_of(daemon) as client:
        run = client.run("slow", None)
        events = []
        async for event in run:
            events.append(event)
            if event.event == "tool_executing":
                assert await run.cancel() == "cancelling"
        end = await run
        assert await run.cancel() == "ended"
    assert cleaned.is_set()
    assert (end.status, end.reason, end.output) == ("cancelled", "user", {"text": "half a sent"})
    assert events[-2].data["status"] == "interrupted"


async def test_a_kill_of_the_daemon_loses_and_doubles_nothing(daemon: Daemon) -> None:
    worker = worker_of(daemon)
    go_on = asyncio.Event()

    @worker.agent("count", timeout=60)
    async def count(run: Run) -> None:
        for i in range(200):
            if i == 100:
                await go_on.wait()
            async with run.tool("count", {"i": i}) as use:
                use.result = i

    async with serving(worker), client_of(daemon) as client:
        run = client.run("count", None)
        events = []
        async for event in run:
            events.append(event)
            if event.event == "tool_completed" and event.data["result"] == 50:
                daemon.kill()
                go_on.set()
                await asyncio.sleep(0)
                daemon.start()
        end = await run
    assert end.ok
    assert [event.seq for event in events] == list(range(1, 404))
    assert [e.data["result"] for e in events if e.event == "tool_completed"] == list(range(200))


async def test_a_run_that_is_asked_for_while_the_daemon_is_down_is_executed_once(daemon: Daemon) -> None:
    worker = worker_of(daemon)
    runs = []

    @worker.agent("note")
    async def note(run: Run) -> None:
        runs.append(run.id)

    async with serving(worker), client_of(daemon) as client:
        await client.connected()
        assert (await client.run("note", 0)).ok
        daemon.kill()
        run = client.run("note", 1)
        accepted = asyncio.create_task(run.accepted())
        await asyncio.sleep(0)
        daemon.start()
        assert (await accepted).run == run.id
        assert (await run).ok
    assert runs[1:] == [run.id]


async def test_a_worker_that_dies_ends_its_run(daemon: Daemon) -> None:
    worker = worker_of(daemon)

    @worker.agent("slow")
    async def slow(run: Run) -> None:
        async with run.tool("wait"):
            await asyncio.Event().wait()

    async with client_of(daemon) as client:
        async with serving(worker) as task:
            run = client.run("slow", None)
            events = []
            async for event in run:
                events.append(event)
                if event.event == "tool_executing":
                    task.cancel()
        end = await run
    assert end.status == "worker_lost"
    assert names(events)[-2:] == ["tool_completed", "agent_completed"]
    assert events[-2].data["status"] == "interrupted"


async def test_a_drained_worker_ends_its_runs_first(daemon: Daemon) -> None:
    worker = worker_of(daemon)
    go_on = asyncio.Event()

    @worker.agent("slow", slots=2)
    async def slow(run: Run) -> str:
        await run.output("begun")
        await go_on.wait()
        return "done"

    async with serving(worker) as task, client_of(daemon) as client:
        run = client.run("slow", None)
        async for event in run:
            if event.event == "agent_output":
                worker.drain()
                go_on.set()
        assert (await run).output == "done"
        await task


async def test_a_device_goes_on_where_it_was_processed(daemon: Daemon) -> None:
    worker = worker_of(daemon)

    @worker.agent("shout")
    async def shout(run: Run) -> str:
        return run.text.upper()

    async with serving(worker):
        seen = []
        async with client_of(daemon) as client:
            events = client.events()
            await client.submit("shout", "hi")
            async for event in events:
                seen.append(event.seq)
                if len(seen) == 3:
                    break
        async with client_of(daemon) as client:
            async for event in client.events():
                seen.append(event.seq)
                if event.event == "agent_completed":
                    break
    assert sorted(set(seen)) == [1, 2, 3, 4]


async def test_a_refusal_is_typed(daemon: Daemon) -> None:
    async with client_of(daemon) as client:
        with pytest.raises(RefusedError) as refused:
            await client.run("nobody", None)
        assert refused.value.code == "agent_unknown"
        with pytest.raises(RefusedError, match="run_not_found"):
            await client.cancel("run_x_00000000")


async def test_a_question_is_answered_by_the_first_and_others_are_told(daemon: Daemon) -> None:
    worker = worker_of(daemon)

    @worker.agent("ask")
    async def ask(run: Run) -> Done:
        return Done({"chosen": await run.ask("Which?", schema={"enum": [1, 2]})})

    async with serving(worker), client_of(daemon) as client:
        run = client.run("ask", None)
        events = []
        async for event in run:
            events.append(event)
            if event.event == "input_required":
                await run.input(2, request=event.data["request"])
                with pytest.raises(RefusedError, match=r"input_already_given|input_not_awaited"):
                    await client.input(event.run, 1, request=event.data["request"])
        end = await run
    assert end.output == {"chosen": 2}
    assert [event.data["data"] for event in events if event.event == "input_received"] == [2]


async def test_a_question_outlives_a_kill_of_the_daemon(daemon: Daemon) -> None:
    worker = worker_of(daemon)

    @worker.agent("ask")
    async def ask(run: Run) -> Done:
        return Done(await run.ask("Which?"))

    async with serving(worker), client_of(daemon) as client:
        run = client.run("ask", None)
        async for event in run:
            if event.event == "input_required":
                daemon.kill()
                answering = asyncio.create_task(run.input("yes", request=event.data["request"]))
                await asyncio.sleep(0)
                daemon.start()
                await answering
        assert (await run).output == "yes"


async def test_a_question_that_nobody_answers_expires(daemon: Daemon) -> None:
    worker = worker_of(daemon)

    @worker.agent("ask")
    async def ask(run: Run) -> str:
        try:
            await run.ask("Which?", expires=0.05)
        except InputExpired:
            return "nobody"
        return "somebody"

    async with serving(worker), client_of(daemon) as client:
        assert (await client.run("ask", None)).output == {"text": "nobody"}


async def test_an_agent_is_steered_while_it_runs(daemon: Daemon) -> None:
    worker = worker_of(daemon)

    @worker.agent("obey")
    async def obey(run: Run) -> None:
        await run.thinking("ready")
        async for word in run.steering():
            await run.output(word)
            if word == "stop":
                return

    async with serving(worker), client_of(daemon) as client:
        run = client.run("obey", None)
        async for event in run:
            if event.event == "agent_thinking":
                await run.input("left ")
                await run.input("stop")
        assert (await run).output == {"text": "left stop"}


async def test_a_retryable_run_goes_on_with_another_worker(daemon: Daemon) -> None:
    stuck = worker_of(daemon, "w-1")
    other = worker_of(daemon, "w-2")

    @stuck.agent("try", retryable=True)
    async def hang(run: Run) -> None:
        await run.output("half")
        await asyncio.Event().wait()

    @other.agent("try", retryable=True)
    async def succeed(run: Run) -> str:
        return f"attempt {run.attempt}"

    async with client_of(daemon) as client:
        async with serving(stuck) as task:
            await client.connected()
            run = client.run("try", None)
            events = []
            async for event in run:
                events.append(event)
                if event.event == "agent_output":
                    break
            task.cancel()
        async with serving(other):
            end = await run
    assert end.ok
    assert end.data["attempts"] == 2


async def test_a_busy_thread_is_interrupted(daemon: Daemon) -> None:
    worker = worker_of(daemon)

    @worker.agent("slow", slots=2)
    async def slow(run: Run) -> str:
        if run.text == "first":
            await asyncio.Event().wait()
        return "done"

    async with serving(worker), client_of(daemon) as client:
        first = client.run("slow", "first", thread="t")
        async for event in first:
            if event.event == "agent_started":
                second = client.run("slow", "second", thread="t", on_busy="interrupt", priority="high")
        assert ((await first).status, (await first).reason) == ("cancelled", "interrupt")
        assert (await second).ok


async def test_who_watches_a_run_that_is_over_is_told() -> None:
    daemon = Daemon("server.heartbeat=1s")
    try:
        async with client_of(daemon) as client:
            run = client.run("echo", "hello")
            assert (await run).status == "ok"
            with pytest.raises(ResetError):
                await client.watch(str(run.id))
        async with client_of(daemon) as client:
            with pytest.raises(ResetError):
                await client.watch(str(run.id))
    finally:
        daemon.close()
