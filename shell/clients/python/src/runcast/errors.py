"""What can go wrong, as types: each says what was expected, what was found, and what to do."""

from __future__ import annotations

from typing import Any


class RuncastError(Exception):
    """Everything that this library raises."""


class RefusedError(RuncastError):
    """The daemon refused a request; `code` is one of PROTOCOL §5."""

    def __init__(
        self, code: str, message: str, *, hint: str = "", retry_ms: int | None = None, temporary: bool = False
    ) -> None:
        super().__init__(f"{code}: {message}" + (f" ({hint})" if hint else ""))
        self.code = code
        self.message = message
        self.hint = hint
        self.retry_ms = retry_ms
        self.temporary = temporary

    @classmethod
    def of(cls, message: dict[str, Any]) -> RefusedError:
        """From an `error` message, or a problem of HTTP."""
        return cls(
            str(message.get("code", "")),
            str(message.get("message", "")),
            hint=str(message.get("hint", "")),
            retry_ms=message.get("retry_ms"),
            temporary=bool(message.get("temporary")),
        )


class ClosedError(RuncastError):
    """There is no connection, and there will be none: closed by you, or refused for good.

    `code` is the WebSocket's close code (PROTOCOL §3), or the HTTP status of a refused upgrade; `error` what
    the daemon said before it closed.
    """

    def __init__(self, code: int, reason: str, error: RefusedError | None = None) -> None:
        super().__init__(reason if error is None else f"{reason}: {error}")
        self.code = code
        self.reason = reason
        self.error = error


class TooLargeError(RuncastError):
    """A message is longer than the daemon takes. It was not sent."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"a message of {size} bytes, where at most {limit} are taken: send less, or a link")
        self.size = size
        self.limit = limit


class OfflineError(RuncastError):
    """More requests wait for a connection than are kept."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} requests wait for a connection already: wait for some of them first")
        self.limit = limit


class ResetError(RuncastError):
    """The run's end is not in what follows: it came before, or the stream began anew without it (its store
    was restored, or trimmed)."""

    def __init__(self, run: str) -> None:
        super().__init__(f"the end of {run} is not in what follows: it came before, or is no longer kept")
        self.run = run


class UserChangedError(RuncastError):
    """The token names another user than before: what the one asked for is never asked for as the other."""

    def __init__(self, user: str, other: str) -> None:
        super().__init__(f"the token names {other!r}, where it named {user!r}: ask again if you mean it")
        self.user = user
        self.other = other


class AgentError(RuncastError):
    """Raised by an agent: its run ends `error`, and the user reads `code` and `message`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class InputExpired(RuncastError):
    """Nobody answered a question of an agent in time."""

    def __init__(self, request: str) -> None:
        super().__init__(f"no answer to {request} came in time")
        self.request = request
