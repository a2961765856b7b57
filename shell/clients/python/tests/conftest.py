"""What all tests share."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from daemon import Daemon

TEST_SECONDS = 120.0


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs `async` tests, each on an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments: dict[str, Any] = {name: pyfuncitem.funcargs[name] for name in names}

    async def limited() -> None:
        await asyncio.wait_for(pyfuncitem.obj(**arguments), TEST_SECONDS)

    asyncio.run(limited())
    return True


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """A real daemon with the limits of production, but short leases."""
    daemon = Daemon("runs.lease=2s")
    yield daemon
    daemon.close()
