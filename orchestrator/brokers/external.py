"""A Kafka that somebody else runs: kpipe looks at it and never starts, stops or wipes it."""

from __future__ import annotations

from orchestrator.brokers.model import BrokerKind, BrokerState, BrokerStatus, Ping
from orchestrator.errors import BrokerError, UsageError
from orchestrator.outside import shown


class ExternalBroker:
    """The cluster at `bootstrap` ("host:port[,host:port]")."""

    kind: BrokerKind = "external"

    def __init__(self, bootstrap: str, ping: Ping) -> None:
        self._bootstrap = bootstrap
        self._ping = ping

    def start(self, timeout: float = 0.0) -> str:
        """Its address, when it answers. Raises `BrokerError` when it does not."""
        if not self._ping(self._bootstrap):
            raise BrokerError(
                f"no Kafka answers at {shown(self._bootstrap)} (kafka.bootstrap)",
                "kpipe does not start a Kafka that the pipeline file names; an empty kafka.bootstrap means a local one",
            )
        return self._bootstrap

    def stop(self, timeout: float = 0.0) -> bool:
        raise UsageError(
            f"kafka.bootstrap names the Kafka at {shown(self._bootstrap)}: kpipe did not start it and does not stop it"
        )

    def status(self) -> BrokerStatus:
        state: BrokerState = "running" if self._ping(self._bootstrap) else "unreachable"
        return BrokerStatus("external", state, self._bootstrap)
