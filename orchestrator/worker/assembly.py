"""From a worker's configuration to a replica that can run: every part is made and joined here."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from orchestrator.config.model import Handler
from orchestrator.contracts import load_contracts
from orchestrator.delivery.headers.dead_letters import Sender
from orchestrator.errors import BrokerError
from orchestrator.kafka.consumer import Membership
from orchestrator.kafka.epochs import first_above
from orchestrator.kafka.reader import Reader
from orchestrator.kafka.transactional_producer import TransactionalProducer
from orchestrator.worker.configuration import WorkerConfig
from orchestrator.worker.consume.assignments import Assignments
from orchestrator.worker.consume.inputs import Input, sources_of
from orchestrator.worker.consume.poller import Poller
from orchestrator.worker.consume.topic_identity import TopicIdentities
from orchestrator.worker.engine.attempts import Attempts
from orchestrator.worker.engine.concurrent import ConcurrentEngine
from orchestrator.worker.engine.flow_control import FlowControl
from orchestrator.worker.engine.pool import pool_for
from orchestrator.worker.engine.serial import SerialEngine
from orchestrator.worker.events import WorkerEvents
from orchestrator.worker.isolation.memory import collect_seldom, confine
from orchestrator.worker.isolation.quarantine import PythonChild, Quarantine, isolated
from orchestrator.worker.isolation.suspects import Suspects
from orchestrator.worker.metrics import WorkerMetrics
from orchestrator.worker.produce.barrier import ProducerBarrier
from orchestrator.worker.produce.kept_records import KeptRecords
from orchestrator.worker.produce.outputs import Outputs
from orchestrator.worker.produce.transactional_barrier import TransactionalBarrier
from orchestrator.worker.produce.transactional_id import instance_id, transactional_id
from orchestrator.worker.replica import HUNG_GRACE, LEAVING_SECONDS, Parts, Worker
from orchestrator.worker.runners.base import Runner, load_runner, probe_of
from orchestrator.worker.status import StatusPipe

log = logging.getLogger("kpipe.worker")

_DEFAULT_MAX_POLL_MS = 300_000
#: How long the question about topics' limits may take, before the worker goes on without (seconds).
LIMITS_SECONDS = 3.0


def assemble(config: WorkerConfig, report: StatusPipe) -> Worker:
    """A replica that only has to be run. Raises KpipeError for what keeps it from starting: no restart would help."""
    pipeline, handler = config.pipeline, config.handler
    contracts = load_contracts(pipeline)
    collections = gc.get_threshold()
    runner = load_runner(handler, pipeline)
    inside = handler.kind == "python" and handler.interpreter is None
    facts, ledger = WorkerEvents(KeptRecords(pipeline.state_dir / "records" / handler.name)), Assignments()
    # The producer comes first: its first acknowledgement is slow when it is used right after its creation.
    barrier = _barrier(config, facts, ledger, lambda: worker.poller.member)
    inputs = sources_of(pipeline, handler, contracts)
    guard = FlowControl(handler, facts, probe=probe_of(handler, ledger.work.set))
    suspects = Suspects(handler, pipeline.state_dir / "journal", config.slot, ledger, facts)
    if suspects.journal.path is not None:
        report.journal(suspects.journal.path)
    alone = PythonChild(handler, pipeline.base) if inside else isolated(runner)
    quarantine = Quarantine(alone, suspects.announce, suspects.wary)
    attempts = Attempts(
        handler, runner, Outputs(pipeline, handler, contracts), barrier,
        Sender(handler.group, pipeline.name, handler.name), facts, guard, quarantine, suspects.journal, ledger,
    )  # fmt: skip
    loop = _loop(handler, runner, inputs, ledger, attempts, barrier, facts, guard)
    properties = config.clients.consumer_properties(handler.group)
    measures = WorkerMetrics(facts.meter, ledger, guard, lambda: loop.overdue(0.0)[0])
    parts = Parts(
        handler, inside, report, inputs, ledger, facts, guard, suspects, quarantine, attempts, barrier, loop, measures,
        partial(Reader, properties),
    )  # fmt: skip
    worker = Worker(
        parts,
        lambda hooks: Poller(
            handler,
            inputs,
            ledger,
            facts,
            lambda poller: config.clients.group_consumer(handler.group, list(inputs), poller, _redriven(inputs)),
            hooks,
            drain_budget=_drain_budget(handler, properties),
            transactions=barrier if isinstance(barrier, TransactionalBarrier) else None,
            topics=_topics(config, inputs, properties),
        ),
    )
    if handler.memory is not None and inside:
        confine(handler.memory, handler.name)
    collect_seldom(collections)
    return worker


def _loop(
    handler: Handler,
    runner: Runner,
    inputs: Mapping[str, Input],
    ledger: Assignments,
    attempts: Attempts,
    barrier: ProducerBarrier | TransactionalBarrier,
    facts: WorkerEvents,
    guard: FlowControl,
) -> SerialEngine:
    """One event at a time, or several."""
    if handler.concurrency == 1 and not runner.has_pool:
        return SerialEngine(handler, inputs, ledger, attempts, barrier, facts, guard)
    pool = partial(pool_for, runner, handler.concurrency, ledger.wake)
    return ConcurrentEngine(handler, inputs, ledger, attempts, barrier, facts, guard, pool=pool)


def _barrier(
    config: WorkerConfig, facts: WorkerEvents, ledger: Assignments, member: Callable[[], Membership | None]
) -> ProducerBarrier | TransactionalBarrier:
    """What the handler's `guarantee` asks for. Raises UsageError."""
    properties, dense = _producer_properties(config), config.clients.denser()
    if config.handler.guarantee == "at-least-once":
        return ProducerBarrier(properties, facts, denser=dense)
    instance = instance_id(os.environ, config.pipeline.state_dir)
    properties["transactional.id"] = transactional_id(config.handler, instance, config.slot)
    return TransactionalBarrier(
        lambda: TransactionalProducer(properties),
        member,
        ledger,
        facts,
        denser=(lambda: TransactionalProducer({**properties, **dense})) if dense else None,
    )


def _redriven(sources: Mapping[str, Input]) -> list[str]:
    """The topic that exists only once letters were sent back."""
    return [name for name, source in sources.items() if source.origins is not None]


def _topics(config: WorkerConfig, sources: Mapping[str, Input], consumer: Mapping[str, Any]) -> TopicIdentities:
    """Every topic that this worker reads or writes."""
    pipeline, handler = config.pipeline, config.handler
    dlqs = [dlq.name for source in sources.values() for dlq in (source.dlq, source.contract_dlq) if dlq is not None]
    outputs = [pipeline.topics[name].kafka_name for name in handler.produces]
    return TopicIdentities(
        list(dict.fromkeys([*sources, *outputs, *dlqs])),
        config.clients.topic_ids(),
        lambda: Reader(consumer),
        partial(first_above, consumer),
    )


def _producer_properties(config: WorkerConfig) -> dict[str, Any]:
    """With batches that fit into the smallest topic that this worker writes to: a broker refuses a batch as a whole."""
    smallest = min(_limits(config), default=None)
    return config.clients.producer_properties(smallest)


def _limits(config: WorkerConfig) -> list[int]:
    """The record limits of the topics that this worker writes to, in bytes.

    As they are on the cluster, where somebody else may have changed them, or in the file where it does not say.
    """
    pipeline, handler = config.pipeline, config.handler
    written = {*handler.produces, *pipeline.dlqs_of(handler)}
    topics = [topic for name, topic in pipeline.topics.items() if name in written]
    if not topics:
        return []
    try:
        admin = config.clients.admin(timeout=LIMITS_SECONDS)
        actual = admin.describe([topic.kafka_name for topic in topics]).topics
    except BrokerError as e:
        log.warning("the record limits of the topics are not known, those of the file are taken: %s", e.message)
        actual = {}
    limits = {name: state.record_limit for name, state in actual.items()}
    return [limits.get(topic.kafka_name) or topic.record_limit for topic in topics]


def _drain_budget(handler: Handler, properties: dict[str, Any]) -> float:
    """Seconds that running events get when partitions are taken away or the worker stops.

    Below `max.poll.interval.ms`, past which the group would throw this member out, and below the stop timeout, past
    which the supervisor kills it.
    """
    max_poll = float(properties.get("max.poll.interval.ms", _DEFAULT_MAX_POLL_MS)) / 1000
    return max(1.0, min(handler.timeout + HUNG_GRACE, max_poll / 2, handler.stop_timeout - LEAVING_SECONDS))
