"""What may be an agent, and how each kind is executed."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from ._threads import Threads
from ._wire import Json, Message, checked_id, without_none
from .run import Run
from .say import Done, Said

Yielded: TypeAlias = "Said | str | Done"

AgentFunction: TypeAlias = (
    Callable[[Run], AsyncIterator[Yielded]]
    | Callable[[Run], Iterator[Yielded]]
    | Callable[[Run], Awaitable[Any]]
    | Callable[[Run], Any]
)
"""A function of a run: one that yields what it says, or one that returns the output; each `async` or not."""


@dataclass(frozen=True)
class Agent:
    """A function with the name that users call it by."""

    name: str
    function: AgentFunction
    slots: int = 1
    """How many runs of it are executed at a time."""
    retryable: bool = False
    """Whether a run that lost its worker may be executed again: true only for what changes nothing."""
    timeout: float | None = None
    """The seconds it asks for one attempt; the daemon's default when None."""
    threads: Threads | None = field(init=False, default=None)
    _steps: dict[Future[Any], asyncio.Task[Any] | None] = field(init=False, default_factory=dict, repr=False)
    """What is done in threads, and for which task."""

    def __post_init__(self) -> None:
        checked_id("agent", self.name)
        if not 1 <= self.slots <= 10_000:
            raise ValueError(f"slots: expected 1 to 10000, found {self.slots}")
        function = self.function
        if not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)):
            # Made when it is first used, so that an agent without threads costs none.
            object.__setattr__(self, "threads", Threads(self.slots, f"agent-{self.name}"))

    def serves(self) -> Message:
        """As `hello` names it."""
        timeout_ms = None if self.timeout is None else int(self.timeout * 1000)
        return without_none(
            agent=self.name, slots=self.slots, retryable=self.retryable, timeout_ms=timeout_ms
        )

    async def execute(self, run: Run) -> Done:
        """Executes one run to its end."""
        made: Any = self.function(run) if self.threads is None else await self._in_thread(self.function, run)
        if isinstance(made, AsyncGenerator):
            return self._ending(run, await _drive(run, made))
        if isinstance(made, Generator):
            return self._ending(run, await self._drive_in_threads(run, made))
        if inspect.isawaitable(made):
            made = await made
        if isinstance(made, str) and not run.said:
            await run.output(made)
            made = None
        return self._ending(run, made)

    def _ending(self, run: Run, made: Json) -> Done:
        done = made if isinstance(made, Done) else Done(made)
        output = {"text": run.said} if done.output is None else done.output
        return Done(output, run.usage if done.usage is None else done.usage)

    def _in_thread(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        if self.threads is None:
            raise TypeError(f"{self.name}: an async function has returned a generator that is not async")
        step = self.threads.submit(function, *args)
        self._steps[step] = asyncio.current_task()
        step.add_done_callback(lambda done: self._steps.pop(done, None))
        return asyncio.wrap_future(step)

    @property
    def stuck(self) -> int:
        """How many threads are still at work for runs that are over: no thread can be interrupted."""
        return sum(task is not None and task.done() for task in list(self._steps.values()))

    async def _drive_in_threads(self, run: Run, generator: Generator[Yielded, None, Any]) -> Json:
        """A plain generator: each of its steps is done in a thread, so that it may block."""
        while True:
            step = self._in_thread(_step, generator)
            try:
                more, value = await asyncio.shield(step)
            except asyncio.CancelledError:
                # A thread cannot be interrupted: the generator is closed when this step of it is over.
                step.add_done_callback(lambda _: self._close(generator))
                raise
            if not more or isinstance(value, Done):
                await self._in_thread(generator.close)
                return value
            try:
                await _say(run, value)
            except BaseException:
                self._close(generator)
                raise

    def _close(self, generator: Generator[Yielded, None, Any]) -> None:
        if self.threads is not None:
            closed: Future[None] = self.threads.submit(generator.close)
            closed.add_done_callback(lambda done: done.exception())


async def _drive(run: Run, generator: AsyncGenerator[Yielded, None]) -> Json:
    try:
        async for said in generator:
            if isinstance(said, Done):
                return said
            await _say(run, said)
    finally:
        await generator.aclose()
    return None


def _step(generator: Generator[Yielded, None, Any]) -> tuple[bool, Any]:
    """The next thing that is said, or that there is none and what is returned."""
    try:
        return True, next(generator)
    except StopIteration as stop:
        return False, stop.value


async def _say(run: Run, said: Yielded) -> None:
    if not isinstance(said, (Said, str)):
        kind = type(cast(object, said)).__name__
        raise TypeError(f"an agent yields strings, runcast.say.* or Done; found {kind}")
    await run.emit(said)
