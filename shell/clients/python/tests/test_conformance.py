"""Every conformance case of the protocol, against this client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conformance import NOT_HERE, Script

CASES = Path(__file__).parents[4] / "tests" / "conformance"


def cases() -> list[Any]:
    """All of them; what this library does not have is skipped by name."""
    found = []
    for path in sorted(CASES.glob("*.json")):
        for case in json.loads(path.read_text())["cases"]:
            lacks = sorted(NOT_HERE.intersection(case.get("needs", [])))
            reason = f"not in this library: {', '.join(lacks)}"
            marks = [pytest.mark.skip(reason=reason)] if lacks else []
            found.append(pytest.param(case["steps"], id=f"{path.stem}: {case['name']}", marks=marks))
    return found


@pytest.mark.parametrize("steps", cases())
async def test_a_case(steps: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    await Script(monkeypatch.setattr).play(steps)
