"""What `kpipe ps` shows of the children: one entry per handler, its replicas in it (docs/operating.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from orchestrator.supervisor.control.status import HandlerStatus, ReplicaStatus
from orchestrator.supervisor.metering import Metering
from orchestrator.supervisor.policy import RUNNING, Life, State
from orchestrator.supervisor.rates import Rate, Rates
from orchestrator.supervisor.reports import COUNTS, Status
from orchestrator.supervisor.spec import ChildSpec

#: Of several replicas the state that comes first here is the handler's: what needs a look comes before what is fine.
WORST_FIRST = (
    State.CRASH_LOOP,
    State.FAILED_TO_START,
    State.FAILED,
    State.BACKING_OFF,
    State.STOPPING,
    State.WAITING,
    State.STARTING,
    State.NOT_READY,
    State.READY,
    State.STOPPED,
)


class ObservedChild(Protocol):
    """What is looked at: `keeper.Keeper`."""

    spec: ChildSpec
    life: Life
    status: Status
    pid: int | None
    last_error: str | None
    rates: Rates
    metering: Metering


def handlers(kept: Iterable[ObservedChild], now: float) -> list[HandlerStatus]:
    """What `kpipe ps` shows; `now` is on the clock of the lives."""
    groups: dict[str, list[ObservedChild]] = {}
    for one in kept:
        groups.setdefault(one.spec.handler, []).append(one)
    return [_handler(name, replicas, now) for name, replicas in groups.items()]


def accounting(replicas: Sequence[ObservedChild]) -> dict[str, int] | None:
    """The handler's counts: those of the replicas that run, since they share its partitions; of all when none does."""
    running = [one for one in replicas if one.life.state in RUNNING] or replicas
    told = [one.status.accounting for one in running if one.status.accounting is not None]
    return {name: sum(counts[name] for counts in told) for name in COUNTS} if told else None


def accounting_text(counts: Mapping[str, int]) -> str:
    """The accounting line: `in 20 = done 18 + dead-lettered 1 + skipped 1 + in flight 0`."""
    first, *others = ((name.replace("_", "-"), counts[name]) for name in COUNTS)
    parts = " + ".join(f"{name.replace('in-flight', 'in flight')} {count}" for name, count in others)
    return f"{first[0]} {first[1]} = {parts}"


def _handler(name: str, replicas: Sequence[ObservedChild], now: float) -> HandlerStatus:
    lags = [one.status.lag for one in replicas if one.life.state in RUNNING and one.status.lag is not None]
    rate = _rate(replicas, now)
    errors = [one.last_error for one in replicas if one.last_error]
    return HandlerStatus(
        name,
        state=str(min((one.life.state for one in replicas), key=WORST_FIRST.index)),
        replicas=len(replicas),
        ready=sum(one.life.state is State.READY for one in replicas),
        restarts=sum(one.life.restarts for one in replicas),
        up_seconds=max((up for one in replicas if (up := _up(one, now)) is not None), default=None),
        in_per_second=None if rate is None else round(rate.received, 1),
        out_per_second=None if rate is None else round(rate.settled, 1),
        lag=sum(lags) if lags else None,
        lag_seconds=_lag_seconds(replicas),
        partitions=_partitions(replicas),
        paused=sum(one.status.paused for one in replicas if one.life.state in RUNNING),
        breaker=_breaker(replicas),
        accounting=accounting(replicas),
        last_error=errors[-1] if errors else None,
        instances=tuple(_replica(one, now) for one in replicas),
    )


def absent(name: str) -> HandlerStatus:
    """The entry of a handler that is not to run: scaled to none, or not among those that `up` was asked for."""
    return HandlerStatus(name, str(State.STOPPED), replicas=0, ready=0, restarts=0)


def _breaker(replicas: Sequence[ObservedChild]) -> str | None:
    """Of several replicas the state that comes first in `open, half-open, closed`; None where nothing is counted."""
    states = [one.status.breaker for one in replicas if one.life.state in RUNNING and one.status.accounting is not None]
    return min(states, key=("open", "half-open", "closed").index, default=None)


def _partitions(replicas: Sequence[ObservedChild]) -> int | None:
    """How many partitions the replicas hold together, None for services: one that nobody holds is not accounted for."""
    running = [one for one in replicas if one.life.state in RUNNING]
    if all(one.status.accounting is None for one in running):
        return None
    return len({(place.topic, place.partition) for one in running for place in one.metering.places})


def _lag_seconds(replicas: Sequence[ObservedChild]) -> float | None:
    """How old the oldest event is that waits for one of the replicas; None where that is not known."""
    ages = [place.lag_seconds for one in replicas if one.life.state in RUNNING for place in one.metering.places]
    known = [age for age in ages if age is not None]
    return max(known) if known else None


def _rate(replicas: Sequence[ObservedChild], now: float) -> Rate | None:
    told = [rate for one in replicas if one.life.state in RUNNING and (rate := one.rates.now(now)) is not None]
    return Rate(sum(r.received for r in told), sum(r.settled for r in told)) if told else None


def _replica(one: ObservedChild, now: float) -> ReplicaStatus:
    return ReplicaStatus(one.spec.name, one.spec.slot, str(one.life.state), one.pid, one.life.restarts, _up(one, now))


def _up(one: ObservedChild, now: float) -> float | None:
    """Seconds since the process that runs now was started."""
    if one.life.state not in RUNNING or one.life.started_at is None:
        return None
    return round(now - one.life.started_at, 1)
