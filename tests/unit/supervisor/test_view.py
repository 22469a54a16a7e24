from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.observe.measured import OwnedPartition
from orchestrator.observe.totals import Totals
from orchestrator.supervisor import view
from orchestrator.supervisor.metering import Metering
from orchestrator.supervisor.policy import Life, State
from orchestrator.supervisor.rates import Rates
from orchestrator.supervisor.reports import Status
from orchestrator.supervisor.spec import ChildSpec

NONE = Status()


@dataclass
class Fake:
    spec: ChildSpec
    life: Life
    status: Status = field(default_factory=Status)
    pid: int | None = None
    last_error: str | None = None
    rates: Rates = field(default_factory=Rates)
    metering: Metering = field(default_factory=lambda: Metering(Totals()))


def fake(name: str, state: State, slot: int = 0, status: Status = NONE, **more: object) -> Fake:
    life = Life(state=state, started_at=None if state is State.WAITING else 10.0, restarts=slot)
    return Fake(ChildSpec(f"{name}.{slot}", (), Path(), {}, group=name, slot=slot), life, status, **more)  # type: ignore[arg-type]


def counts(n: int) -> dict[str, int]:
    return {"in": n, "done": n - 1, "dead_lettered": 0, "skipped": 1, "in_flight": 0}


def test_replicas_are_one_handler() -> None:
    kept = [
        fake("payments", State.READY, 0, Status(counts(3), lag=2), pid=11),
        fake("payments", State.STARTING, 1, Status(counts(4), lag=5), pid=12, last_error="boom"),
        fake("api", State.WAITING),
    ]
    for one in kept[:2]:
        one.rates.saw(11, counts(3))
        one.rates.saw(12, counts(6))
    kept[0].metering.places = (OwnedPartition("t", 0, 3, 2, 1.5), OwnedPartition("t", 1, 3, None, None))
    kept[1].metering.places = (OwnedPartition("t", 2, 3, 5, 4.5),)
    payments, api = view.handlers(kept, now=12.5)
    assert payments.to_json() == {
        "name": "payments",
        "state": "starting",
        "replicas": 2,
        "ready": 1,
        "restarts": 1,
        "up_seconds": 2.5,
        "in_per_second": 6.0,
        "out_per_second": 6.0,
        "lag": 7,
        "lag_seconds": 4.5,
        "partitions": 3,
        "paused": 0,
        "breaker": "closed",
        "accounting": {"in": 7, "done": 5, "dead_lettered": 0, "skipped": 2, "in_flight": 0},
        "last_error": "boom",
        "instances": [
            {"name": "payments.0", "slot": 0, "state": "ready", "pid": 11, "restarts": 0, "up_seconds": 2.5},
            {"name": "payments.1", "slot": 1, "state": "starting", "pid": 12, "restarts": 1, "up_seconds": 2.5},
        ],
    }
    assert list(api.to_json()) == list(payments.to_json()) == list(view.absent("x").to_json())
    assert api.state == "waiting"
    assert (api.up_seconds, api.lag, api.partitions, api.accounting) == (None,) * 4


def test_the_numbers_of_a_replica_that_died_are_now_counted_by_the_one_that_took_over() -> None:
    kept = [fake("p", State.READY, 0, Status(counts(9))), fake("p", State.BACKING_OFF, 1, Status(counts(4)))]
    assert view.accounting(kept) == counts(9)
    for one in kept:
        one.life = Life(state=State.STOPPED)
    assert view.accounting(kept) == {"in": 13, "done": 11, "dead_lettered": 0, "skipped": 2, "in_flight": 0}


def test_what_needs_a_look_comes_first() -> None:
    states = [State.READY, State.CRASH_LOOP, State.BACKING_OFF]
    assert view.handlers([fake("p", s, n) for n, s in enumerate(states)], 0)[0].state == "crash-loop"
    assert set(view.WORST_FIRST) == set(State)


def test_the_accounting_line() -> None:
    said = view.accounting_text({"in": 20, "done": 17, "dead_lettered": 1, "skipped": 1, "in_flight": 1})
    assert said == "in 20 = done 17 + dead-lettered 1 + skipped 1 + in flight 1"
