"""The loop for events without trouble: what it sends, in which order, and when."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from orchestrator.event import Emit, Event, Reject
from orchestrator.records import Headers, Outgoing
from orchestrator.worker.engine import fast_path
from orchestrator.worker.produce.batch import Batch
from orchestrator.worker.runners.python import PythonHandler
from tests.support.simulation import Life, World


class Sent:
    """Stands in for the barrier: all that is sent, as (number of the event, what for, index in the batch)."""

    def __init__(self) -> None:
        self.all: list[tuple[int, str, int]] = []
        self.headers: dict[int, Any] = {}

    def poster(self, batch: Batch, most: int) -> Any:
        def post(topic: str, key: str | None, value: bytes, headers: Any, index: int) -> None:
            self.all.append((json.loads(value)["of"], "plain", index))
            self.headers[index] = headers

        return post

    def send(self, out: Outgoing, batch: Batch, told: object = None) -> None:
        self.all.append((json.loads(out.value or b"")["of"], "other", len(batch.records) - 1))


class Path:
    """The real loop over `events` events of one partition."""

    def __init__(self, function: Any, events: int = 200, headers: Headers = ()) -> None:
        world = World()
        for number in range(events):
            record = world.append(0, f"k{number % 3}", f"e{number}")
            world.log[0][-1] = record._replace(headers=headers)
        self.life = Life(world)
        self.life.assign(0)
        self.life.deliver(0, events)
        self.sent = Sent()
        self.happy: Any = self.life.loop._attempts.happy
        runner = PythonHandler(function, None)
        self.happy._call, self.happy._read, self.happy._blame = runner.inline
        self.happy._receipts = self.sent
        (self.part,) = self.life.ledger.partitions
        self.batch = Batch(self.part)

    def run(self, most: int = 1_000, seconds: float = 60.0) -> Any:
        return self.happy.run(self.life.sources["in"], self.batch, most, seconds)


def plain(event: Event) -> Emit:
    return Emit("out", {"of": event.offset})


def test_outputs_are_sent_in_the_order_of_their_events_each_for_its_own() -> None:
    def some(event: Event) -> Any:
        kind = event.offset % 4
        return [plain(event), None, [plain(event)] * 2, Emit("out", {"of": event.offset, "in": []})][kind]

    path = Path(some)
    assert path.run() is None
    wanted = [
        (n, *how)
        for n in range(200)
        for how in {0: [("plain", n)], 1: [], 2: [("other", n)] * 2, 3: [("other", n)]}[n % 4]
    ]
    assert path.sent.all == wanted
    assert [r.offset for r in path.batch.records] == list(range(200)) and not path.part.fresh
    assert list(path.batch.ids) == [f"e{n}" for n in range(200)]


def test_what_ended_well_before_a_failure_is_sent_and_the_failed_one_stays() -> None:
    def some(event: Event) -> Emit:
        if event.offset == 130:
            raise Reject("no")
        return plain(event)

    path = Path(some)
    pending, failed = path.run()
    assert (pending.record.offset, pending.event_id, failed.verdict) == (130, "e130", "reject")
    assert path.sent.all == [(n, "plain", n) for n in range(130)]
    assert path.part.fresh[0].offset == 130 and path.batch.records[-1].offset == 130
    assert path.life.loop._facts.meter.ok == 130


def test_an_output_that_may_not_be_sent_is_known_before_the_next_event_runs() -> None:
    ran: list[int] = []

    def some(event: Event) -> Emit:
        ran.append(event.offset)
        return Emit("elsewhere", {}) if event.offset == 7 else plain(event)

    _, failed = Path(some).run()
    assert failed.verdict == "output" and ran[-1] == 7


def test_outputs_do_not_wait_for_slow_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_path, "SEND_SECONDS", 0.0)
    waiting: list[int] = []

    def some(event: Event) -> Emit:
        waiting.append(event.offset - len(path.sent.all))
        return plain(event)

    path = Path(some)
    path.run()
    assert set(waiting) == {0}


def test_after_a_slow_event_outputs_wait_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_path, "SLOW_SECONDS", 0.01)
    monkeypatch.setattr(fast_path, "SEND_SECONDS", 60.0)
    sent_before: list[int] = []

    def handle(event: Event) -> Emit:
        sent_before.append(len(path.sent.all))
        if event.offset == 0:
            time.sleep(0.02)
        return plain(event)

    path = Path(handle)
    assert path.run() is None
    assert sent_before == list(range(200)), "each is sent before the next event runs"


@pytest.mark.parametrize("stop", ["draining", "time", "most"])
def test_no_event_starts_when_it_is_time_to_stop(stop: str) -> None:
    def some(event: Event) -> Emit:
        if event.offset == 50:
            path.part.draining = stop == "draining"
            time.sleep(0.6 if stop == "time" else 0)
        return plain(event)

    path = Path(some)
    assert path.run(51 if stop == "most" else 1_000, 0.5) is None
    assert len(path.sent.all) == 51 and path.part.fresh[0].offset == 51
    assert path.life.journal.running == {} and path.life.loop._attempts.deadline == 0.0


def test_while_an_event_runs_the_journal_has_it_after_a_wait_for_room_too() -> None:
    seen: list[Any] = []

    def some(event: Event) -> Emit:
        seen.append(dict(path.life.journal.running) == {0: (0, event.offset)} and path.life.loop._attempts.deadline > 0)
        if event.offset == 60:
            path.batch.stalled()
        return plain(event)

    path = Path(some)
    path.life.ledger.partitions[0].journal_index = 1
    path.run()
    assert all(seen) and len(seen) == 200


def test_headers_of_the_event_are_passed_on() -> None:
    trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    path = Path(plain, 3, (("traceparent", trace), ("baggage", b"a=1"), ("baggage", b"b=2")))
    path.run()
    names = [name for name, _ in path.sent.headers[2]]
    assert names == ["kpipe-source", "traceparent", "baggage", "baggage"]
    assert dict(path.sent.headers[2])["traceparent"].startswith(trace[:35])
