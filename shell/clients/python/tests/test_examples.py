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
WORDS = [f"w{'o' * i}rd" for i in range(20)]


@contextmanager
def running(daemon: Daemon, *command: str, scope: str = "worker") -> Iterator[subprocess.Popen[str]]:
    """A program that finds the daemon in its environment."""
    environment = os.environ | {"RUNCAST_URL": daemon.url, "RUNCAST_TOKEN": daemon.token("me", scope)}
    process = subprocess.Popen(
        [sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True, cwd=HERE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("example", EXAMPLES)
async def test_an_example_survives_a_kill_of_the_daemon(daemon: Daemon, example: str) -> None:
    with running(daemon, f"examples/{example}"):
        async with Client(daemon.url, daemon.token("alice", "user")) as client:
            run = await _begun(client)
            events: list[Event] = []
            async for event in run:
                events.append(event)
                if event.event == "tool_completed" and event.data["result"] in (len(WORDS[3]), str(len(WORDS[3]))):
                    daemon.kill()
                    daemon.start()
            end = await run
    assert end.ok
    assert end.output["text"].split()[-1] == WORDS[-1]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    for kind in ("tool_executing", "tool_completed"):
        assert sum(event.event == kind for event in events) == len(WORDS)


@pytest.mark.parametrize("example", EXAMPLES)
async def test_a_killed_example_ends_its_run_cleanly(daemon: Daemon, example: str) -> None:
    with running(daemon, f"examples/{example}") as process:
        async with Client(daemon.url, daemon.token("alice", "user")) as client:
            run = await _begun(client)
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


async def _begun(client: Client) -> RunHandle:
    """A run, as soon as the worker has come."""


@pytest.mark.parametrize("example", EXAMPLES)
async def test_sigterm_ends_an_example(daemon: Daemon, example: str) -> None:
    with running(daemon, f"examples/{example}") as process:
        async with Client(daemon.url, daemon.token("alice", "user")) as client:
            async for event in await _begun(client):
                if event.event == "agent_started":
                    process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
