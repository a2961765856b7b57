"""When to connect again, and when not (PROTOCOL §3)."""

from __future__ import annotations

import logging

import pytest

from runcast._dial import BACKOFF_MAX, BACKOFF_MIN, FAULT_SECONDS, Dial, is_final
from runcast._line import Lost


@pytest.mark.parametrize(
    ("lost", "final", "final_with_new_token"),
    [
        (Lost("", code=4400), False, False),
        (Lost("", code=4403), False, False),
        (Lost("", code=4499), False, False),
        (Lost("", code=4501), True, False),
        (Lost("", code=4506), True, False),
        (Lost("", code=4504), True, True),
        (Lost("", code=4510), True, True),
        (Lost("", code=4599), True, True),
        (Lost("", code=1000), False, False),
        (Lost("", code=1011), False, False),
        (Lost("no close frame"), False, False),
        (Lost("", status=400), True, True),
        (Lost("", status=401), True, False),
        (Lost("", status=403), True, True),
        (Lost("", status=408), False, False),
        (Lost("", status=426), True, True),
        (Lost("", status=429), False, False),
        (Lost("", status=502), False, False),
        (Lost("", status=503), False, False),
    ],
)
def test_the_range_says_what_to_do(lost: Lost, final: bool, final_with_new_token: bool) -> None:
    assert is_final(lost, may_renew=False) is final
    assert is_final(lost, may_renew=True) is final_with_new_token


def waits(lost: Lost, count: int = 200) -> list[float]:
    dial = Dial("", logging.getLogger("test"))
    return [dial.wait_after(lost) for _ in range(count)]


def test_waits_grow_with_full_jitter_to_a_limit() -> None:
    found = waits(Lost("unreachable"))
    assert found[0] <= BACKOFF_MIN
    assert BACKOFF_MAX / 2 < max(found) <= BACKOFF_MAX
    assert min(found[20:]) < BACKOFF_MAX / 4, "full jitter begins at nothing"


@pytest.mark.parametrize("code", [4403, 1002, 1009])
def test_a_fault_of_one_of_the_sides_is_backed_off_from_to_a_minute(code: int) -> None:
    assert BACKOFF_MAX < max(waits(Lost("", code=code))) <= FAULT_SECONDS


def test_what_the_daemon_says_comes_on_top_or_in_place() -> None:
    assert min(waits(Lost("", status=429, retry_ms=2_000))) >= 2
    dial = Dial("", logging.getLogger("test"))
    assert all(1 <= wait <= 5 for wait in waits(Lost("", code=4400)))
    dial.reconnect_ms = 250
    assert dial.wait_after(Lost("", code=4400)) == 0.25
    assert dial.wait_after(Lost("it broke while it drained")) == 0.25
