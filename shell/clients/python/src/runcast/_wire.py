"""Messages as text, and what every part of the library says the same way."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

Json: TypeAlias = Any
"""Whatever JSON can say."""

Message: TypeAlias = dict[str, Any]
"""One message of the protocol."""

Token: TypeAlias = str | Callable[[], "str | Awaitable[str]"]
"""A token, or a function (plain or `async`) that is asked for one before each connection."""

ID_BYTES = 128
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,127}")


def encode(message: Mapping[str, Any]) -> bytes:
    """One message as compact JSON in UTF-8, lone surrogates replaced (the protocol refuses them).

    Raises ValueError for NaN and infinities, which JSON does not have.
    """
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain)
    return text.encode("utf-8", "replace")


def _plain(value: object) -> Json:
    """What JSON has no word for: models and dataclasses as objects, sets as lists, the rest as text."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, (set, frozenset)):
        return list(value)
    return str(value)


def is_id(text: str) -> bool:
    """Whether the protocol takes it as the name of a thread, an agent, a worker, a device …"""
    return _ID.fullmatch(text) is not None


def checked_id(what: str, text: str) -> str:
    """The same text, or ValueError when it cannot be an id."""
    if not is_id(text):
        wanted = "1 to 128 of A-Z a-z 0-9 _ . : @ -, beginning with a letter or digit"
        raise ValueError(f"{what}: expected {wanted}, found {text!r}")
    return text


def as_id(text: str) -> str:
    """The nearest id to a text that others made."""
    cleaned = re.sub(r"[^A-Za-z0-9_.:@-]", "-", text)
    return (cleaned if cleaned[:1].isalnum() else f"x{cleaned}")[:ID_BYTES]


async def ask_token(token: Token) -> str:
    """The token for the next connection."""
    if isinstance(token, str):
        return token
    answer = token()
    return await answer if inspect.isawaitable(answer) else answer


def without_none(**fields: Any) -> Message:
    """The fields that say something."""
    return {name: value for name, value in fields.items() if value is not None}
