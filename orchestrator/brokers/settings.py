"""The configuration of kpipe's Kafka: what the local broker and compose.yaml share, and what is local only.

Names and defaults: the broker configuration of Kafka 4. Nothing here depends on the project's path: Kafka runs
in its folder and all paths are relative, so commas, spaces and letters of any language in a path do no harm
(`log.dirs` is a comma-separated list; .properties files are Latin-1).
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.brokers.ports import LOOPBACK, Ports

DATA = "data"
LOGS = "../logs"
LOG_FILE = "broker.log"

#: Alike in every broker that kpipe starts; a test compares compose.yaml with it.
SHARED: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    # A typing mistake in a topic's name must be an error, not a new topic.
    "auto.create.topics.enable": "false",
    # One node: whatever is kept, is kept once.
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # 50 by default, each with files and timers of its own, and each opened at every start.
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "2",
    # Waiting for more members makes every start of a handler three seconds slower.
    "group.initial.rebalance.delay.ms": "0",
    # Readers wait for a transaction whose producer is gone; it is looked for every 10 s unless told otherwise.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    # As long as dead letters are kept: a project left alone for two weeks goes on where it stopped (7 days else).
    "offsets.retention.minutes": "43200",
    # The log cleaner takes this much heap at once: 128 MB unless told otherwise.
    "log.cleaner.dedupe.buffer.size": "16777216",
    # The controller's sign of life, 500 ms unless told otherwise: with one node nobody listens to it, and it
    # is half of what an idle broker does.
    "metadata.max.idle.interval.ms": "10000",
    # After an unclean end the controller waits this long for the dead broker before it takes the new one: 9 s
    # unless told otherwise. Above the pauses of a busy laptop, since a broker that misses it is fenced for a moment.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # Threads that a laptop's load never fills.
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "4",
    "num.recovery.threads.per.data.dir": "2",
}


def server_properties(ports: Ports, data: str = DATA) -> str:
    """The text of server.properties for the local broker."""
    client, controller = f"PLAINTEXT://{LOOPBACK}:{ports.broker}", f"{LOOPBACK}:{ports.controller}"
    lines = {
        **SHARED,
        "listeners": f"{client},CONTROLLER://{controller}",
        "advertised.listeners": client,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        # A static quorum: the controller's port is not written into the data, so it may change between runs.
        "controller.quorum.voters": f"1@{controller}",
        "log.dirs": data,
    }
    return "".join(f"{name}={value}\n" for name, value in lines.items())


def log4j2_properties() -> str:
    """Kafka's log into one file of at most 5 MB, with two older ones; nothing on the console."""
    return f"""\
status = error
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {LOGS}/{LOG_FILE}
appender.file.filePattern = {LOGS}/{LOG_FILE}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d %p %m (%c)%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 5MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 2
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
"""
