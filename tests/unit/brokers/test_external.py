from __future__ import annotations

import pytest

from orchestrator.brokers import BrokerStatus, ExternalBroker
from orchestrator.errors import BrokerError, UsageError


def test_it_is_looked_at_and_nothing_else() -> None:
    asked: list[str] = []

    def ping(address: str) -> bool:
        asked.append(address)
        return True

    broker = ExternalBroker("a:1,b:2", ping)
    assert broker.start() == "a:1,b:2"
    assert broker.status() == BrokerStatus("external", "running", "a:1,b:2")
    assert asked == ["a:1,b:2"] * 2


def test_one_that_is_away() -> None:
    broker = ExternalBroker("a:1", lambda _: False)
    assert broker.status().state == "unreachable"
    with pytest.raises(BrokerError, match=r"no Kafka answers at a:1 \(kafka.bootstrap\)") as caught:
        broker.start()
    assert caught.value.exit_code == 4


def test_it_is_never_stopped_and_cannot_be_wiped() -> None:
    with pytest.raises(UsageError, match="did not start it and does not stop it"):
        ExternalBroker("a:1", lambda _: True).stop()
    assert not hasattr(ExternalBroker, "wipe")
