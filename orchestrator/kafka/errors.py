"""What librdkafka reports, as errors that name the address, the reason and the next step.

Kafka does not tell a topic that may not be described from one that does not exist: what is refused is unknown, never
absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from confluent_kafka import KafkaError

from orchestrator.errors import BrokerError, UsageError
from orchestrator.outside import masked, shown
from orchestrator.records import Permission

NOTHING: Mapping[str, Any] = MappingProxyType({})

#: The cluster did not answer at all. As the result of a single request `_TIMED_OUT` says the same.
UNREACHABLE = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._TRANSPORT,
    }
)

#: The cluster answered, and we are not who we say we are, or one of the two does not trust the other's certificate.
NOT_TRUSTED = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
        KafkaError.ILLEGAL_SASL_STATE,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
    }
)

#: Kafka understood who asks, and does not let that user do it.
REFUSED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)

# librdkafka prefixes the broker's name and appends how long the connection was in which state.
_PREFIX = re.compile(r"^(\S+/(bootstrap|\d+)|Broker|Local): ")
_SUFFIX = re.compile(r" \(after \d+ms in state \w+(, \d+ identical error\(s\) suppressed)?\)$")


def reason_of(error: KafkaError, properties: Mapping[str, Any] = NOTHING) -> str:
    """What went wrong in the broker's or librdkafka's words, without the decoration meant for its log.

    Of the client's `properties` it shows none that came from outside of the pipeline file.
    """
    if error.code() == KafkaError._TIMED_OUT:
        return "no answer in time"
    return masked(_SUFFIX.sub("", _PREFIX.sub("", error.str())), properties.values())


def cannot_use(properties: Mapping[str, Any], error: KafkaError) -> BrokerError:
    """The error for the cluster of a client with these properties that `error` keeps us from."""
    bootstrap = shown(properties.get("bootstrap.servers", ""))
    reason = reason_of(error, properties)
    if error.code() in NOT_TRUSTED:
        return BrokerError(
            f"Kafka at {bootstrap} did not let us in: {reason}",
            "check security.protocol, sasl.* and ssl.* under `kafka: client:`",
        )
    if error.code() in UNREACHABLE:
        return BrokerError(
            f"cannot reach Kafka at {bootstrap}: {reason}",
            "is it running, and is kafka.bootstrap (and security.protocol, if it asks for one) right?",
        )
    return BrokerError(f"Kafka at {bootstrap} refused: {reason} ({error.name()})")


def wrong_property(problem: Exception, properties: Mapping[str, Any]) -> UsageError:
    """The error for a client that librdkafka would not make from these properties.

    `problem` is what confluent_kafka raised: KafkaException, or ValueError and TypeError for some properties.
    """
    first = problem.args[0] if problem.args else problem
    reason = first.str() if isinstance(first, KafkaError) else str(first)
    return UsageError(
        f"a property under `kafka` cannot be used: {masked(reason, properties.values())}",
        "librdkafka's CONFIGURATION.md lists every property and its values",
    )


def on_topics(operation: str, topics: Iterable[str]) -> list[Permission]:
    return [Permission(operation, "topic", name) for name in dict.fromkeys(topics)]
