"""Threads for plain functions, which may block: none of them keeps the process from ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

Work = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...]]


class Threads:
    """At most `most` threads, made when they are needed.

    An executor's threads are waited for when the interpreter exits; a function that blocks for ever would
    hold up a worker that was told to stop. Nothing waits for these.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._lock = threading.Lock()
        self._count = 0
        self._unfinished = 0
        self._work: SimpleQueue[Work] = SimpleQueue()

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Does it in a thread, after what came before when all are at work."""
        future: Future[Any] = Future()
        with self._lock:
            self._unfinished += 1
            if self._unfinished > self._count and self._count < self._most:
                self._count += 1
                thread = threading.Thread(target=self._serve, name=f"{self._name}_{self._count}", daemon=True)
                thread.start()
        self._work.put((future, function, args))
        return future

    def _serve(self) -> None:
        while True:
            future, function, args = self._work.get()
            self._do(future, function, args)
            # Else a thread that waits would keep what the last run has left alive.
            del future, function, args

    def _do(self, future: Future[Any], function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        made, failed = None, None
        if is_wanted := future.set_running_or_notify_cancel():
            try:
                made = function(*args)
            except BaseException as error:  # noqa: BLE001 - whoever asked for it is told
                failed = error
        with self._lock:
            self._unfinished -= 1
        if not is_wanted:
            return
        if failed is not None:
            future.set_exception(failed)
        else:
            future.set_result(made)
