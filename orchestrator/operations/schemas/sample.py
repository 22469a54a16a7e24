"""The last records of a topic under its contract as it is now: which of them would be dead-lettered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.errors import BrokerError

if TYPE_CHECKING:
    import jsonschema_rs

    from orchestrator.config.model import Topic
    from orchestrator.contracts import Contract
    from orchestrator.contracts.contract import Violation
    from orchestrator.kafka.reader import Reader
    from orchestrator.records import Record

#: Offsets that the text names; JSON has all.
_MOST_SHOWN = 10


class Failing(NamedTuple):
    """A record that breaks the contract; `kept` says whether it keeps the earlier one (None: there is none)."""

    partition: int
    offset: int
    violations: tuple[Violation, ...]
    kept: bool | None

    @property
    def is_new(self) -> bool:
        """Whether the change is to blame: a record that was bad before is no news."""
        return self.kept is not False


class Sample(NamedTuple):
    """`read` records were looked at; tombstones keep every contract."""

    read: int
    failing: tuple[Failing, ...]

    @property
    def broken(self) -> tuple[Failing, ...]:
        return tuple(one for one in self.failing if one.is_new)

    def as_json(self) -> dict[str, Any]:
        return {
            "read": self.read,
            "failing": [
                {
                    "partition": one.partition,
                    "offset": one.offset,
                    "kept_earlier": one.kept,
                    "violations": [violation._asdict() for violation in one.violations],
                }
                for one in self.failing
            ],
        }


def take_sample(reader: Reader, topic: Topic, contract: Contract, earlier: Any, count: int) -> Sample:
    """The last `count` records of `topic`; `earlier` is its earlier schema, resolved. Raises BrokerError.

    A topic that is not on the cluster has no records.
    """
    from orchestrator.operations.records.latest import latest
    from orchestrator.records import TopicPartition

    partitions = [TopicPartition(topic.kafka_name, number) for number in range(reader.partitions(topic.kafka_name))]
    if not partitions:
        return Sample(0, ())
    records = latest(reader, reader.beginnings(partitions), reader.ends(partitions), count)
    before = None if earlier is None else _compiled(earlier, topic)
    return Sample(len(records), tuple(_failing(records, contract, before)))


def _compiled(schema: Any, topic: Topic) -> jsonschema_rs.Validator:
    from orchestrator.config.drafts import compile_offline

    try:
        return compile_offline(schema, validate_formats=True)
    except ValueError as problem:
        raise BrokerError(f"the earlier schema of {topic.name} cannot be used: {problem}") from None


def _failing(records: list[Record], contract: Contract, before: jsonschema_rs.Validator | None) -> Iterator[Failing]:
    from orchestrator.contracts import Undecodable, decode_json
    from orchestrator.contracts.contract import Violation

    for record in records:
        if record.value is None:
            continue
        try:
            value = decode_json(record.value)
        except Undecodable as problem:
            violations = (Violation("$", f"not JSON: {problem.reason}"),)
            yield Failing(record.partition, record.offset, violations, None if before is None else False)
            continue
        if found := contract.violations(value):
            kept = None if before is None else before.is_valid(value)
            yield Failing(record.partition, record.offset, found, kept)


def lines(sample: Sample) -> Iterator[str]:
    """What the sample shows, for people."""
    broken, bad = sample.broken, len(sample.failing) - len(sample.broken)
    yield f"  of the last {sample.read:,} records {len(broken):,} would fail" + (
        f", and {bad:,} that broke the earlier contract too" if bad else ""
    )
    for one in broken[:_MOST_SHOWN]:
        first = one.violations[0]
        more = f" (and {len(one.violations) - 1} more)" if len(one.violations) > 1 else ""
        yield f"    partition {one.partition}, offset {one.offset}: {first.path} {first.message}{more}"
    if len(broken) > _MOST_SHOWN:
        yield f"    and {len(broken) - _MOST_SHOWN:,} more: --json has all of them"
