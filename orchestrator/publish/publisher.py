"""Publishing from a `service:` handler: validated, keyed, sent, and acknowledged before it returns.

    from orchestrator import Publisher

    publisher = Publisher()                                  # under `kpipe up` it finds everything by itself
    publisher.publish("orders.created", order)               # or: await publisher.publish_async(…)

Where it looks: `kpipe up` sets four variables for every service, `KPIPE_PIPELINE_FILES` (the pipeline file
and its overlays, absolute, joined by the path separator), `KPIPE_BOOTSTRAP` (host:port), `KPIPE_HANDLER`
(the service's name in the file) and `KPIPE_CONTROL_SOCKET`, where `up` hands out the pipeline and the schemas that it
has checked; the files are read where no `up` answers there. Without them it reads ./pipeline.yaml and asks for the
cluster as every command does: `kafka.bootstrap`, else the broker recorded under .kpipe/.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from orchestrator.brokers import recorded
from orchestrator.config import load
from orchestrator.config.model import Pipeline
from orchestrator.contracts import load_contracts, outgoing
from orchestrator.delivery.headers.lineage import begun
from orchestrator.errors import BrokerError, ContractError, FindingsError, ForbiddenError, KpipeError, UsageError
from orchestrator.kafka.clients import Clients
from orchestrator.kafka.errors import on_topics
from orchestrator.kafka.isolating_producer import IsolatingProducer
from orchestrator.kafka.producer import SendFailure, failure_of
from orchestrator.publish.validated_pipeline import validated
from orchestrator.records import EmitHeaders, Outgoing

FILES_VARIABLE = "KPIPE_PIPELINE_FILES"
BOOTSTRAP_VARIABLE = "KPIPE_BOOTSTRAP"
HANDLER_VARIABLE = "KPIPE_HANDLER"

_AWAY = "Check that Kafka is running (`kpipe ps`) and that the topic exists (`kpipe topics sync --check`)."
_POLL = 0.1
#: So many bytes may wait for Kafka before a publisher refuses more; a single event may always wait.
_MOST_WAITING = 67_108_864
#: How much longer than librdkafka's own deadline a caller waits for its report, before assuming that none
#: comes.
_GRACE = 5.0


class TooLargeError(ContractError):
    """The event, compressed, is larger than its topic takes."""


class Delivered(NamedTuple):
    """Where Kafka put the event: `topic` as the pipeline file names it."""

    topic: str
    partition: int
    offset: int


class Publisher:
    """Publishes events of one pipeline. Make one for the process and share it: threads and tasks may use it at once.

    `timeout` (seconds) bounds every publish. Kafka being away is a BrokerError after that time, and what
    was not acknowledged by then is dropped: nothing is sent later behind the caller's back. If the request
    was already on its way, Kafka may have written it all the same, unseen; a caller that tries again may
    therefore cause a second event, unless it gives both attempts the same key and `eventId`, which handlers
    under kpipe are given once.
    """

    def __init__(
        self,
        timeout: float = 5.0,
        *,
        pipeline: Pipeline | None = None,
        bootstrap: str | None = None,
        handler: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """What is not given comes from `environ` (default: the process's), see above.

        Raises FindingsError (a wrong pipeline file or schema), BrokerError (no cluster known), UsageError
        (the handler is not in the file). Nothing is connected to yet.
        """
        environ = os.environ if environ is None else environ
        self._pipeline = pipeline or _pipeline(environ)
        self._allowed = _allowed(self._pipeline, handler or environ.get(HANDLER_VARIABLE))
        self._contracts = load_contracts(self._pipeline)
        self._timeout = timeout
        address = bootstrap or _bootstrap(self._pipeline, environ)
        self._make_producer = _maker(self._pipeline, self._allowed, address, timeout)
        self._lock = threading.Lock()
        self._producer = _Polled(self._make_producer())
        self._closed = False

    def publish(
        self,
        topic: str,
        value: Any,
        key: str | bytes | None = None,
        headers: EmitHeaders | None = None,
    ) -> Delivered:
        """Send one event and wait until Kafka has acknowledged it on all in-sync replicas.

        The key is the value's member that the topic's `key` names unless it is given; None as value is a
        tombstone. A `traceparent` among `headers` (W3C Trace Context) is passed on; without one a trace begins here.
        Raises ContractError (with every violation; nothing was sent), UsageError (the service
        does not declare `topic` under `produces`) and BrokerError (not acknowledged within the timeout; as
        ForbiddenError when Kafka does not let this user write there).
        """
        sent = self._send(topic, self._record(topic, value, key, headers))
        try:
            return sent.result(self._timeout + _GRACE)
        except TimeoutError:
            raise _silence() from None

    async def publish_async(
        self,
        topic: str,
        value: Any,
        key: str | bytes | None = None,
        headers: EmitHeaders | None = None,
    ) -> Delivered:
        """`publish` without blocking the event loop. Cancelling the task does not recall the event."""
        sent = self._send(topic, self._record(topic, value, key, headers))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(sent), self._timeout + _GRACE)
        except TimeoutError:
            raise _silence() from None

    def violations(self, topic: str, value: Any) -> Sequence[tuple[str, str]]:
        """Everything for which `publish` would refuse `value`, as (path, message); empty when it would not."""
        try:
            self._record(topic, value, None, None)
        except ContractError as error:
            return error.violations
        return ()

    def close(self, timeout: float | None = None) -> int:
        """Wait for what is under way, then drop the rest; returns how many events were dropped.

        Waits for `timeout` seconds, by default the publisher's own. Calling it again does nothing.
        """
        with self._lock:
            if self._closed:
                return 0
            self._closed = True
        return self._producer.close(self._timeout if timeout is None else timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _record(self, topic: str, value: Any, key: str | bytes | None, headers: EmitHeaders | None) -> Outgoing:
        if self._allowed is not None and topic not in self._allowed:
            raise UsageError(
                f"this service does not declare that it produces {topic}",
                f"Add {topic} to the handler's `produces` in the pipeline file.",
            )
        if topic not in self._pipeline.topics:
            raise UsageError(f"the pipeline file declares no topic {topic}")
        record = outgoing(self._pipeline.topics[topic], self._contracts[topic], value, key, headers)
        return record._replace(headers=begun(record.headers, random.getrandbits(192)))

    def _send(self, topic: str, record: Outgoing) -> Future[Delivered]:
        polled = self._usable()
        sent: Future[Delivered] = Future()
        # From here on it cannot be cancelled: a report that came for a cancelled future would raise in the
        # poller.
        sent.set_running_or_notify_cancel()

        def fail(failure: SendFailure) -> None:
            polled.fatal = polled.fatal or failure.fatal
            if failure.forbidden:
                sent.set_exception(ForbiddenError(on_topics("WRITE", [record.topic])))
            else:
                sent.set_exception(_refusal(topic, failure, self._timeout))

        def report(failure: SendFailure | None, partition: int, offset: int) -> None:
            if failure is None:
                if polled.answered(sent):
                    sent.set_result(Delivered(topic, partition, offset))
            elif not (failure.purged and polled.explains()) and polled.answered(sent):
                fail(failure)

        if not polled.accept(sent, record, fail):
            return sent
        # A full queue means that Kafka has not kept up for long: say so at once instead of blocking an
        # event loop.
        polled.producer.send(record, report, should_stop=lambda: True)
        return sent

    def _usable(self) -> _Polled:
        """The producer, replaced when librdkafka has given it up (a fatal error, KIP-360)."""
        with self._lock:
            if self._closed:
                raise UsageError("this publisher is closed")
            if self._producer.fatal:
                self._producer.close(0)
                self._producer = _Polled(self._make_producer())
            return self._producer


class _Polled:
    """A producer with the thread that serves its delivery reports."""

    def __init__(self, producer: IsolatingProducer) -> None:
        self.producer = producer
        self.fatal = False
        #: What is under way: the cluster's name of its topic, how it is told that it failed, and its size in bytes.
        self.open: dict[Future[Delivered], tuple[str, Callable[[SendFailure], None], int]] = {}
        self._waiting = 0
        self._count = threading.Lock()
        self._purged = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="kpipe-publisher", daemon=True)
        self._thread.start()

    def accept(self, sent: Future[Delivered], record: Outgoing, fail: Callable[[SendFailure], None]) -> bool:
        """Whether it may be sent; else it has failed. librdkafka's own limit lets through what no queue should hold."""
        size = len(record.value or b"")
        with self._count:
            full = bool(self.open) and self._waiting + size > _MOST_WAITING
            if not full:
                self.open[sent] = record.topic, fail, size
                self._waiting += size
        if full:
            fail(SendFailure("_QUEUE_FULL", "too much waits", purged=True))
        return not full

    def answered(self, sent: Future[Delivered]) -> bool:
        """Whether this is the first answer to it."""
        with self._count:
            _, _, size = self.open.get(sent, ("", None, 0))
            self._waiting -= size
            return self.open.pop(sent, None) is not None

    def explains(self) -> bool:
        """Whether a purge that is reported just now is explained when `poll` returns.

        librdkafka throws away what a producer holds that it gives up, and says why only afterwards.
        """
        self._purged = threading.current_thread() is self._thread
        return self._purged

    def _serve(self) -> None:
        while not self._stop.is_set():
            self.producer.poll(_POLL)
            if self._purged or self.producer.fatal is not None:
                self._give_up()

    def _give_up(self) -> None:
        """Answer all that is under way: a report may be lost with the error that it came with (`Producer`)."""
        why = self.producer.fatal or SendFailure("_PURGE_QUEUE", "thrown away", purged=True)
        self._purged = False
        for sent, (topic, fail, _) in list(self.open.items()):
            if self.answered(sent):
                fail(failure_of(why, topic))

    def close(self, timeout: float) -> int:
        self._stop.set()
        self._thread.join()
        return self.producer.close(timeout)


def _pipeline(environ: Mapping[str, str]) -> Pipeline:
    named = environ.get(FILES_VARIABLE)
    checked = validated(environ, environ.get(HANDLER_VARIABLE, ""), named) if named else None
    if checked is not None:
        return checked
    files = [Path(name) for name in named.split(os.pathsep)] if named else [Path("pipeline.yaml")]
    for path in files:
        if not path.is_file():
            raise UsageError(
                f"there is no pipeline file {path}",
                f"Start the service with `kpipe up`, in the folder of pipeline.yaml, or set {FILES_VARIABLE}.",
            )
    loaded = load(files, environ)
    if loaded.pipeline is None:
        raise FindingsError(loaded.findings)
    return loaded.pipeline


def _bootstrap(pipeline: Pipeline, environ: Mapping[str, str]) -> str:
    own, given = pipeline.kafka.bootstrap, environ.get(BOOTSTRAP_VARIABLE)
    if own and given in (None, "", own):
        return own  # the same text, which says where it comes from
    if given:
        return given
    broker = recorded(pipeline.state_dir)
    if broker is None:
        raise BrokerError(
            "no Kafka is running for this pipeline",
            "Start one with `kpipe up` or `kpipe broker start`, or set kafka.bootstrap in the pipeline file.",
        )
    return broker.address


def _allowed(pipeline: Pipeline, handler: str | None) -> frozenset[str] | None:
    """The topics that the service may write to; None (all) when it does not run as a handler of the file."""
    if not handler:
        return None
    if handler not in pipeline.handlers:
        raise UsageError(f"the pipeline file declares no handler {handler}", f"{HANDLER_VARIABLE} names it.")
    return frozenset(pipeline.handlers[handler].produces)


def _maker(
    pipeline: Pipeline, allowed: frozenset[str] | None, bootstrap: str, timeout: float
) -> Callable[[], IsolatingProducer]:
    topics = (topic for topic in pipeline.topics.values() if allowed is None or topic.name in allowed)
    smallest = min((topic.record_limit for topic in topics), default=None)
    # A worker's records never expire; here a caller waits, and what it was told has failed must not be sent
    # later.
    return partial(Clients(pipeline.kafka, bootstrap).isolating_producer, smallest, expiry=timeout)


def _refusal(topic: str, failure: SendFailure, timeout: float) -> KpipeError:
    if failure.too_large:
        return TooLargeError(f"Kafka cannot take this event: {failure.message}", [("$", failure.message)])
    if failure.permanent:
        return ContractError(f"Kafka cannot take this event: {failure.message}", [("$", failure.message)])
    if failure.purged:
        return BrokerError("too many events are waiting for Kafka", _AWAY)
    if failure.code == "_MSG_TIMED_OUT":
        return BrokerError(f"Kafka did not acknowledge the event for {topic} within {timeout:g} s", _AWAY)
    return BrokerError(f"Kafka did not take the event for {topic}: {failure.message}", _AWAY)


def _silence() -> BrokerError:
    return BrokerError("the Kafka client did not report what became of the event", _AWAY)
