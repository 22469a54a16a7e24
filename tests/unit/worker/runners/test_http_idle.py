"""`http:` handlers whose endpoint closes connections between two events: that is no event's fault."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
import trustme

from orchestrator.config.model import Handler
from orchestrator.delivery.outcome import Failed
from orchestrator.event import Event
from orchestrator.records import Record
from orchestrator.worker.runners.http import HttpHandler
from tests.support.breaking import GOOD, STAYS, Act, Breaking, breaking


def event(n: int = 0) -> Event:
    record = Record("in", 0, n, 1_700_000_000_123, None, b"%d" % n, ())
    return Event(record, n, topic="in")


def handler(server: Breaking, **options: Any) -> HttpHandler:
    return HttpHandler(Handler("h", "http", server.url, "g", timeout=options.pop("timeout", 10.0), **options), "shop")


def run_all(runner: HttpHandler, count: int, pause: Callable[[int], float]) -> list[Any]:
    """The outcomes of so many events, one after the other."""

    async def one_by_one() -> list[Any]:
        outcomes = []
        for n in range(count):
            outcomes.append(await runner.run_async(event(n)))
            await asyncio.sleep(pause(n))
        return outcomes

    return asyncio.run(one_by_one())


@pytest.fixture(params=["http", "https"])
def serve(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """`breaking`, once without and once with TLS."""
    if request.param == "http":
        yield lambda decide: (breaking(decide), None)
        return
    authority = trustme.CA()
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    authority.configure_trust(ours)
    yield lambda decide: (breaking(decide, theirs), ours)


def trusting(runner: HttpHandler, context: ssl.SSLContext | None) -> HttpHandler:
    runner._connections._ssl = context
    return runner


@pytest.mark.parametrize("end", ["close", "reset"])
def test_connections_that_are_closed_for_being_idle(serve: Any, end: Literal["close", "reset"]) -> None:
    """2 ms after each answer, while the next event comes 0 to 4 ms after it: some requests meet the end."""
    chance = random.Random(7)
    opened, context = serve(lambda *_: Act(wait=0.002, end=end))
    with opened as server:
        runner = trusting(handler(server), context)
        assert run_all(runner, 300, lambda n: chance.random() * 0.004) == [[]] * 300
        assert set(server.bodies) == {b"%d" % n for n in range(300)}


@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_kept_connection_that_ends_at_any_moment_before_an_answer(serve: Any, end: Literal["close", "reset"]) -> None:
    """Whether its request was read or not; a fresh connection answers its first request."""
    chance = random.Random(3)

    def decide(_connection: int, count: int) -> Act:
        if count == 0:
            return Act(wait=chance.choice([None, None, None, 0.0, chance.random() * 0.003]), end=end)
        return chance.choice([STAYS, STAYS, Act(b"", end, 0.0), Act(b"", end, unread=True), Act(wait=0.0, end=end)])

    opened, context = serve(decide)
    with opened as server:
        runner = trusting(handler(server), context)
        assert run_all(runner, 300, lambda n: chance.choice([0.0, 0.0, 0.001])) == [[]] * 300
        assert len(server.requests) > 310, "some were sent twice: delivery is at least once"


def test_many_events_at_once(serve: Any) -> None:
    opened, context = serve(lambda *_: Act(wait=0.002))
    with opened as server:
        runner = trusting(handler(server, concurrency=16), context)

        async def all_of_them() -> list[Any]:
            lanes = asyncio.Semaphore(16)

            async def one(n: int) -> Any:
                async with lanes:
                    answer = await runner.run_async(event(n))
                    await asyncio.sleep(0.002)
                    return answer

            return await asyncio.gather(*(one(n) for n in range(400)))

        assert asyncio.run(all_of_them()) == [[]] * 400


def failed(outcome: Any) -> Failed:
    assert isinstance(outcome, Failed)
    return outcome


def test_a_fresh_connection_that_ends_costs_an_attempt() -> None:
    with breaking(lambda *_: Act(b"", wait=0.0)) as server:
        runner = handler(server)
        outcome = failed(runner.run(event()))
        assert (outcome.verdict, outcome.error_type) == ("retry", "RemoteProtocolError")
        assert server.requests == [(0, 0)], "and is not tried again here"
        runner.close()


def test_the_fresh_one_after_a_kept_one_may_end_too() -> None:
    """An event that the endpoint dies of: one more request than it has attempts for each of them, and no more."""
    with breaking(lambda connection, count: STAYS if (connection, count) == (0, 0) else Act(b"", wait=0.0)) as server:
        runner = handler(server)
        assert runner.run(event()) == []
        assert failed(runner.run(event(1))).verdict == "retry"
        assert server.requests == [(0, 0), (0, 1), (1, 0)]
        assert failed(runner.run(event(1))).verdict == "retry"
        assert server.requests[3:] == [(2, 0)]
        runner.close()


@pytest.mark.parametrize("part", [b"H", b"HTTP/1.1 2", b"HTTP/1.1 100 Continue\r\n\r\n", GOOD[:-2]])
@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_part_of_an_answer_costs_an_attempt(part: bytes, end: Literal["close", "reset"]) -> None:
    with breaking(lambda _, count: STAYS if count == 0 else Act(part, end, 0.05)) as server:
        runner = handler(server)
        assert runner.run(event()) == []
        assert failed(runner.run(event(1))).verdict == "retry"
        assert server.requests == [(0, 0), (0, 1)]
        runner.close()


def test_a_part_of_a_body_costs_an_attempt() -> None:
    part = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}"
    with breaking(lambda _, count: STAYS if count == 0 else Act(part, wait=0.0)) as server:
        runner = handler(server)
        assert runner.run(event()) == []
        assert failed(runner.run(event(1))).verdict == "retry"
        assert server.requests == [(0, 0), (0, 1)]
        runner.close()


def test_the_deadline_covers_both_requests() -> None:
    """The first takes a part of the time; the second gets no answer."""
    with breaking(
        lambda connection, count: Act(b"", wait=60.0) if connection else (Act(b"", wait=0.3) if count else STAYS)
    ) as server:
        runner = handler(server, timeout=0.6)
        assert runner.run(event()) == []
        began = time.monotonic()
        assert failed(runner.run(event(1))).verdict == "timeout"
        assert 0.5 < time.monotonic() - began < 0.85
        assert server.requests == [(0, 0), (0, 1), (1, 0)]
        runner.close()


def test_an_endpoint_that_is_gone_is_away() -> None:
    """Its kept connection ends, and nothing listens any more: no attempt is spent."""
    with breaking(lambda _, count: STAYS if count == 0 else Act(b"", wait=0.0)) as server:
        runner = handler(server)
        assert runner.run(event()) == []
        server.decide = lambda _, count: Act(b"", wait=0.2)
    assert failed(runner.run(event(1))).verdict == "unavailable"
    runner.close()


def test_an_endpoint_that_keeps_no_connection() -> None:
    says = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    with breaking(lambda *_: Act(says, wait=0.0)) as server:
        runner = handler(server)
        assert [runner.run(event(n)) for n in range(20)] == [[]] * 20
        assert server.requests == [(n, 0) for n in range(20)]
        runner.close()
