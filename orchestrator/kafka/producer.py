"""Sending records: one thin layer over librdkafka's idempotent producer.

A send either ends in a delivery report or in an exception that says why it could not even be queued; both reach
the caller as a `SendFailure`, so that there is one place to look. What a failure means for an event is decided in
`delivery/`, not here.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Producer as RdProducer

from orchestrator.errors import BrokerError, ForbiddenError
from orchestrator.kafka.checked import checked
from orchestrator.kafka.errors import REFUSED, on_topics, wrong_property
from orchestrator.kafka.header_names import are_plain, writing
from orchestrator.kafka.interrupt import uninterrupted
from orchestrator.records import Outgoing

#: How long one wait for room in librdkafka's queue lasts before the caller's `should_stop` is asked again (seconds).
_ROOM_WAIT = 0.1
#: Bytes that are compressed at a time.
_CHUNK = 1_048_576
#: How long one wait of `close` lasts before Ctrl-C is heard (seconds).
_CLOSE_WAIT = 0.1

#: Refusals that no repetition can cure: the record itself is at fault.
TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})
_PERMANENT = TOO_LARGE | {KafkaError.INVALID_RECORD, KafkaError._INVALID_ARG}


#: A broker closes the connection of a client whose request is larger, without a word (`socket.request.max.bytes`, by
#: Kafka's default): librdkafka would send it again for ever, and everything else behind it. Bytes.
LARGEST_REQUEST = 104_857_600


class SendFailure(NamedTuple):
    """Why a record was not written.

    `permanent`: sending the same record again cannot succeed. `fatal`: this producer is finished and has to be
    replaced (KIP-360: an idempotent producer that lost its sequence). `purged`: we threw the record away ourselves.
    `suspect`: its whole transaction failed, more than once, and which record is to blame is not known.
    `forbidden`: this user may not write there. `too_large`: this record, or the batch that it was in, is larger than
    its topic takes.
    """

    code: str
    message: str
    permanent: bool = False
    fatal: bool = False
    purged: bool = False
    suspect: bool = False
    forbidden: bool = False
    too_large: bool = False


#: What becomes of a record that no request can carry.
NEVER_ARRIVES = SendFailure(
    "MSG_SIZE_TOO_LARGE",
    f"a broker takes no request of more than {LARGEST_REQUEST} bytes",
    permanent=True,
    too_large=True,
)

#: Called once a send with (failure or None, partition, offset); from `poll`, `flush` or `send` itself.
OnDelivery = Callable[[SendFailure | None, int, int], None]


#: What `Producer.produce` raises when it queued nothing; `send` then meets it again, and says what it is.
NOT_QUEUED = (BufferError, KafkaException, TypeError, ValueError)

#: Called with (an error of librdkafka, a `SendFailure` or None; librdkafka's message or None).
OnReport = Callable[[Any, Any], None]

#: The headers of a record by name, or where one occurs twice as pairs.
PostHeaders = dict[str, bytes] | list[tuple[str, bytes | None]]
#: A record on the path of every event: topic, key, value and headers.
Parts = tuple[str, str | None, bytes, PostHeaders]

#: With this in its properties a producer reports failures only, and calls no Python for a record that was written. That
#: all were written is then what `flush` returning 0 without a failure proves.
ONLY_FAILURES: Mapping[str, Any] = {"delivery.report.only.error": True}


def failure_of(error: KafkaError | SendFailure, topic: str = "") -> SendFailure:
    """`topic` is where the record was to go. Without WRITE on any topic a producer does not even get its id."""
    if isinstance(error, SendFailure):
        return error
    code = error.code()
    refused = code in REFUSED and bool(topic)
    return SendFailure(
        code=error.name(),
        message=ForbiddenError(on_topics("WRITE", [topic])).message if refused else error.str(),
        forbidden=refused,
        permanent=code in _PERMANENT,
        too_large=code in TOO_LARGE,
        fatal=bool(error.fatal()) or code == KafkaError._FATAL,
        purged=code in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT),
    )


class Producer:
    """One librdkafka producer. Not for use from several threads at once, save where librdkafka allows it: `send`,
    `poll` and `flush` may be called by different threads.
    """

    def __init__(self, properties: Mapping[str, Any]) -> None:
        """Raises UsageError when librdkafka refuses the properties (an unknown or contradictory one)."""
        #: What finished this producer, None while it works. Some delivery reports may be missing then.
        self.fatal: KafkaError | None = None
        self._compresses = properties.get("compression.type", "none") != "none"
        try:
            self._rd = RdProducer(dict(properties))
        except (KafkaException, TypeError, ValueError) as problem:
            raise wrong_property(problem, properties) from problem
        #: librdkafka's own, for the path of every event: (topic, value, key, partition or -1, an `OnReport`, None,
        #: timestamp or 0, headers as a list). By position: names cost a third more.
        self.produce: Callable[..., None] = self._rd.produce

    def send(
        self,
        out: Outgoing,
        on_delivery: OnDelivery | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """Queue one record; the outcome goes to `on_delivery`. Waits while the local queue is full.

        `should_stop` ends that wait (the record is then reported as purged).
        """
        if out.value is not None and len(out.value) > LARGEST_REQUEST and not self._travels(out.value):
            _tell(on_delivery, NEVER_ARRIVES)
            return
        callback = None if on_delivery is None else _report_to(on_delivery, out.topic)
        extra: dict[str, Any] = {}
        if out.partition is not None:
            extra["partition"] = out.partition
        if out.headers:
            extra["headers"] = list(out.headers)
        if out.timestamp is not None:
            extra["timestamp"] = out.timestamp
        while True:
            try:
                produce = writing(self._rd.produce, out.headers)
                checked(produce, out.topic, out.value, out.key, on_delivery=callback, **extra)
                return
            except BufferError:
                self.poll(_ROOM_WAIT)
                if should_stop is not None and should_stop():
                    _tell(on_delivery, SendFailure("_PURGE_QUEUE", "stopped while waiting for room", purged=True))
                    return
            except KafkaException as e:
                _tell(on_delivery, failure_of(self._cause_of(e.args[0]), out.topic))
                return
            except (TypeError, ValueError) as e:
                _tell(on_delivery, SendFailure("_INVALID_ARG", str(e), permanent=True))
                return

    def post(self, out: Outgoing, on_report: OnReport, should_stop: Callable[[], bool]) -> None:
        """As `send`, save that `on_report` gets librdkafka's own report: only failures where the producer was made with
        `ONLY_FAILURES`.
        """
        plain = out.partition is None and out.timestamp is None and are_plain(out.headers)
        if plain and (out.value is None or len(out.value) <= LARGEST_REQUEST):
            try:
                self.produce(out.topic, out.value, out.key, -1, on_report, None, 0, list(out.headers))
                return
            except NOT_QUEUED:
                pass

        def told(failure: SendFailure | None, partition: int, offset: int) -> None:
            if failure is not None:
                on_report(failure, None)

        self.send(out, told, should_stop)

    def post_parts(self, parts: Parts, on_report: OnReport, should_stop: Callable[[], bool]) -> None:
        """The same without an `Outgoing`."""
        topic, key, value, headers = parts
        try:
            if len(value) <= LARGEST_REQUEST:
                self.produce(topic, value, key, -1, on_report, None, 0, headers)
                return
        except NOT_QUEUED:
            pass
        self.post(outgoing_of(*parts), on_report, should_stop)

    def poll(self, timeout: float = 0) -> None:
        """Serve delivery reports for up to `timeout` seconds."""
        self._serve(self._rd.poll, timeout)

    def flush(self, timeout: float) -> int:
        """Send everything without waiting for linger; returns how many records are still unacknowledged."""
        return self._serve(self._rd.flush, timeout)

    def purge(self) -> None:
        """Throw away what is queued and not yet on its way; each is reported as `purged`."""
        self._rd.purge(in_queue=True, in_flight=False, blocking=False)
        self.poll(0)

    def close(self, timeout: float) -> int:
        """Flush for up to `timeout` seconds, then drop the rest; returns how many were dropped."""
        deadline = time.monotonic() + timeout
        with uninterrupted():
            left = self.flush(min(_CLOSE_WAIT, max(0.0, timeout)))
        while left and time.monotonic() < deadline:
            with uninterrupted():
                left = self.flush(_CLOSE_WAIT)
        if left:
            with uninterrupted():
                self._rd.purge(in_queue=True, in_flight=True, blocking=False)
                self.flush(1.0)
        return left

    def _travels(self, value: bytes) -> bool:
        """Whether a value of more than `LARGEST_REQUEST` bytes is small enough once it is compressed."""
        return self._compresses and compressed_below(value, LARGEST_REQUEST)

    def _cause_of(self, error: KafkaError) -> KafkaError:
        """Why nothing can be queued: a producer that is finished says `_FATAL`, and the reason with its callbacks."""
        if error.code() == KafkaError._FATAL and self.fatal is None:
            self.poll(_ROOM_WAIT)
        return error if self.fatal is None or error.code() != KafkaError._FATAL else self.fatal

    def _serve(self, call: Callable[[float], int], timeout: float) -> int:
        """Serve callbacks; how many records are still unacknowledged.

        confluent-kafka raises a fatal error out of whatever call serves callbacks, and a delivery report that is
        due in the same call then fails at it: a SystemError, and that report is gone.
        """
        try:
            return int(checked(call, timeout))
        except (KafkaException, SystemError) as e:
            self.fatal = raised_by(e)
            return len(self._rd)


def compressed_below(value: bytes, limit: int) -> bool:
    """Whether `value` has at most `limit` bytes once it is compressed by lz4, or better.

    Estimated by what lz4 does, too: repetitions are replaced and everything else stays (Z_FIXED: no entropy coding).
    """
    squeeze, size = zlib.compressobj(1, strategy=zlib.Z_FIXED), 0
    for start in range(0, len(value), _CHUNK):
        size += len(squeeze.compress(value[start : start + _CHUNK]))
        if size > limit:
            return False
    return size + len(squeeze.flush()) <= limit


def outgoing_of(topic: str, key: str | None, value: bytes, headers: PostHeaders) -> Outgoing:
    """`Parts`, for those who keep them."""
    pairs = headers.items() if isinstance(headers, dict) else headers
    return Outgoing(topic, None if key is None else key.encode(), value, tuple(pairs))


def raised_by(e: KafkaException | SystemError) -> KafkaError:
    """The error behind what confluent-kafka raised: of a SystemError the one that it hides, else `_FATAL`."""
    raised = e if isinstance(e, KafkaException) else e.__cause__
    if isinstance(raised, KafkaException):
        error: KafkaError = raised.args[0]
        return error
    return KafkaError(KafkaError._FATAL, "the producer failed for good", fatal=True)


def _report_to(on_delivery: OnDelivery, topic: str) -> Callable[[KafkaError | None, Any], None]:
    def report(error: KafkaError | None, message: Any) -> None:
        if error is not None:
            on_delivery(failure_of(error, topic), -1, -1)
        else:
            on_delivery(None, message.partition(), message.offset())

    return report


def _tell(on_delivery: OnDelivery | None, failure: SendFailure) -> None:
    if on_delivery is None:
        raise BrokerError(f"Kafka refused a record: {failure.message}")
    on_delivery(failure, -1, -1)
