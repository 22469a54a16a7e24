"""An event that could not be settled on its first pass: only then does it become an object with a state."""

from __future__ import annotations

from orchestrator.delivery.outcome import Failed, Reason
from orchestrator.records import Record

#: What dedup knows an event by: the text or integer that stands in the value's `dedup.by` field.
EventId = str | int


def known_as(event_id: EventId | None) -> str | None:
    """The id as a handler sees it."""
    return event_id if event_id is None or type(event_id) is str else str(event_id)


class Pending:
    """One unsettled event in its lane. Its decoded value is not kept: the handler may have changed it.

    `attempts` counts the runs that were spent, `waits` the unavailable ones in a row; times are epoch seconds, 0
    when it never failed. `buried` is the reason once the event was given up and only its letter is missing. `alone`
    asks for a run with no other event before the same barrier. `seen` is how many events the handler had ended well at
    this one's last run in a process of its own. `cuts` is how often its letter was too large, and cut.
    """

    __slots__ = (
        "alone",
        "attempts",
        "buried",
        "cuts",
        "event_id",
        "failed",
        "first_failed",
        "last_failed",
        "record",
        "seen",
        "waits",
    )

    def __init__(self, record: Record, event_id: EventId | None) -> None:
        self.record = record
        self.event_id = event_id
        self.attempts = 0
        self.waits = 0
        self.first_failed = 0.0
        self.last_failed = 0.0
        self.failed: Failed | None = None
        self.buried: Reason | None = None
        self.alone = False
        self.cuts = 0
        self.seen = 0

    def note_failure(self, failed: Failed, now: float) -> None:
        """A run failed at `now`: keep when and why."""
        self.failed = failed
        self.first_failed = self.first_failed or now
        self.last_failed = now
