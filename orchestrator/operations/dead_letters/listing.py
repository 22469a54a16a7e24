"""Listing dead letters by their cause, and finding a single one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.operations.dead_letters.grouping import Cause, Causes
from orchestrator.operations.dead_letters.reader import Letterbox, Progress, find_dlqs
from orchestrator.operations.dead_letters.redrive import sent_before, was_sent

if TYPE_CHECKING:
    from orchestrator.event import Letter
    from orchestrator.operations.loading import Project
    from orchestrator.operations.records.where import Where
    from orchestrator.records import Record


@dataclass(frozen=True, slots=True)
class CauseList:
    """What is in some DLQs. `causes` have the newest first.

    `letters` counts all letters, `ungrouped` those of further causes, `records` everything that was read, and `foreign`
    what is in the DLQs and is no letter of kpipe.
    """

    causes: tuple[Cause, ...]
    letters: int
    ungrouped: int
    records: int
    foreign: int


@dataclass(frozen=True, slots=True)
class FoundLetter:
    """One letter: its record, what its headers say, and the file's name of its DLQ."""

    record: Record
    letter: Letter
    dlq: str


def list_causes(
    project: Project, dlqs: Sequence[str] = (), where: Where | None = None, progress: Progress | None = None
) -> CauseList:
    """The letters of the named DLQs (without names: of all in the file) of which `where` is true, by their cause.

    Raises UsageError for a name that nothing has, BrokerError.
    """
    causes = Causes()
    with project.reader() as reader:
        box = Letterbox(reader, find_dlqs(project.pipeline, dlqs, reader), progress)
        before = sent_before(project.pipeline, reader)
        for record, letter in box.read(where):
            causes.add(box.names[record.topic], record, letter, was_sent(letter, before))
    return CauseList(tuple(causes.newest_first()), causes.letters, causes.others, box.seen, box.foreign)


def find_letter(project: Project, what: str, dlqs: Sequence[str] = ()) -> FoundLetter | None:
    """The newest letter whose id or fingerprint is `what`; None when there is none. Raises as `list_causes` does."""
    with project.reader() as reader:
        box = Letterbox(reader, find_dlqs(project.pipeline, dlqs, reader))
        newest = box.newest(what)
    return None if newest is None else FoundLetter(*newest, box.names[newest[0].topic])
