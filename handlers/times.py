"""Moments as text: RFC 3339 in UTC with milliseconds, so that text sorts as time does."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestrator import Event

_LAST = 253_402_300_799_000  # the last second of the year 9999


def utc(moment: datetime) -> str:
    """`2026-01-15T10:30:00.120Z`"""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def record_time(event: Event) -> str:
    """When the event was written to Kafka: the same at every delivery, as the clock on the wall is not."""
    millis = min(max(0, event.timestamp), _LAST)  # a producer may write any number
    return utc(datetime.fromtimestamp(millis / 1000, UTC))
