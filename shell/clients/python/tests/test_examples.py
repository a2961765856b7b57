"""The examples and the README's programs, as processes, against the real daemon."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon import Daemon
from runcast import Client, Event

HERE = Path(__file__).parents[1]
EXAMPLES = ["tools_worker.py", "langgraph_worker.py"]
WORDS = [f"w{'o' * i}rd" for i in range(10)]


@contextmanager
def running(daemon: Daemon, *command: str, scope: str = "worker") -> Iterator[subprocess.Popen[str]]:
    """A program that finds the daemon in its environment."""
    environment = os.environ | {"RUNCAST_URL": daemon.url, "RUNCAST_TOKEN": daemon.token("me", scope)}
    process = subprocess.Popen(
        [sys.executable, *command], env=environment, cwd=HERE, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        if scope == "worker":
            assert process.stderr is not None
            assert any("connected" in line for line in process.stderr), "it ended before it had connected"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("example", EXAMPLES)
async def test_an_example_survives_a_kill_of_the_daemon(daemon: Daemon, example: str) -> None:
    with running(daemon, f"examples/{example}"):
        async with Client(daemon.url, daemon.token("alice", "user")) as client:
            run = client.run("longest", " ".join(WORDS))
            events: list[Event] = []
            kills = 0
            async for event in run:
                events.append(event)
                if event.event == "tool_completed" and str(event.data["result"]) == str(len(WORDS[3])):
                    daemon.kill()
                    daemon.start()
                    kills += 1
            end = await run
    assert (end.status, kills) == ("ok", 1)
    assert end.output["text"].split()[-1] == WORDS[-1]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    opened = [event.data["args"]["word"] for event in events if event.event == "tool_executing"]
    closed = [int(event.data["result"]) for event in events if event.event == "tool_completed"]
    assert (opened, closed) == (WORDS, [len(word) for word in WORDS])


@pytest.mark.parametrize("example", EXAMPLES)
async def test_a_killed_example_ends_its_run_cleanly(daemon: Daemon, example: str) -> None:
    with running(daemon, f"examples/{example}") as process:
        async with Client(daemon.url, daemon.token("alice", "user")) as client:
            run = client.run("longest", " ".join(WORDS))
            events: list[Event] = []
            async for event in run:
                events.append(event)
                if event.event == "tool_executing" and process.poll() is None:
                    process.kill()
                    process.wait()
            end = await run
    assert end.status == "worker_lost"
    opened = [event.data["call"] for event in events if event.event == "tool_executing"]
    closed = [event.data["call"] for event in events if event.event == "tool_completed"]
    assert opened == closed


@pytest.mark.parametrize("example", EXAMPLES)
async def test_sigterm_ends_an_example(daemon: Daemon, example: str) -> None:
    with running(daemon, f"examples/{example}") as process:
        async with Client(daemon.url, daemon.token("alice", "user")) as client:
            async for event in client.run("longest", "a b"):
                if event.event == "agent_started":
                    process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def programs(language: str) -> list[str]:
    """The README's programs."""
    return re.findall(rf"```{language}\n(.*?)```", (HERE / "README.md").read_text(), re.DOTALL)


async def test_the_readmes_worker_and_client_talk_to_each_other(daemon: Daemon) -> None:
    worker, client = programs("python")[:2]
    for program in (worker, client):
        assert sum(bool(line.strip()) for line in program.splitlines()) <= 10
    with running(daemon, "-c", worker), running(daemon, "-c", client, scope="user") as asking:
        printed, _ = asking.communicate(timeout=30)
    assert asking.returncode == 0
    assert "HELLO" in printed


BLOCKED = """
import os, time
from runcast import Worker
worker = Worker(os.environ["RUNCAST_URL"], os.environ["RUNCAST_TOKEN"])
@worker.agent("block")
def block(run):
    yield "I block. "
    time.sleep(3600)
worker.run()
"""


async def test_a_thread_that_blocks_does_not_keep_a_drained_worker_alive(daemon: Daemon) -> None:
    with running(daemon, "-c", BLOCKED) as process:
        assert process.stderr is not None
        async with Client(daemon.url, daemon.token("alice", "user")) as client:
            run = client.run("block", "")
            async for event in run:
                if event.event != "agent_output":
                    continue
                process.send_signal(signal.SIGTERM)
                assert any("draining" in line for line in process.stderr)
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0
            assert (await run).status == "worker_lost"
