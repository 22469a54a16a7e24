"""The words of `-o`."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orchestrator.errors import UsageError
from orchestrator.operations.records.positions import Position, parse_position

NOW = datetime(2025, 1, 31, 12, 0, tzinfo=UTC)
EPOCH = 1_738_324_800_000


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("beginning", Position("beginning")),
        ("end", Position("end")),
        ("0", Position("offset", 0)),
        ("42", Position("offset", 42)),
        ("@-15m", Position("time", EPOCH - 900_000)),
        ("@-500ms", Position("time", EPOCH - 500)),
        ("@2025-01-31T12:00:00Z", Position("time", EPOCH)),
        ("@2025-01-31T12:00:00+02:00", Position("time", EPOCH - 7_200_000)),
        (f"@{EPOCH}", Position("time", EPOCH)),
        ("@-30000d", Position("time", 0)),
    ],
)
def test_what_can_be_said(text: str, position: Position) -> None:
    assert parse_position(text, NOW) == position


@pytest.mark.parametrize(
    "text", ["", "start", "-5", "@", "@-", "@-15", "@15m", "@-unlimited", "@yesterday", "4.2", "٣", "9" * 30]
)
def test_what_cannot(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_position(text, NOW)
    assert f"-o {text}" in caught.value.message
    assert "@-15m" in caught.value.hint
