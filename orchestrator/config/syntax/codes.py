"""The codes of findings: stable names for scripts, with what each stands for. Messages may change, codes do not."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

CODES: Mapping[str, str] = MappingProxyType(
    {
        # The file and its YAML
        "missing-file": "a file cannot be read",
        "encoding": "the file is not UTF-8",
        "yaml": "the file is not YAML",
        "empty": "the file holds nothing",
        "documents": "the file holds more than one YAML document",
        "too-large": "a file is too large, or what its aliases, references or patterns come to",
        "too-deep": "the document is nested too deeply",
        "tag": "a YAML tag that is not supported",
        "alias": "an alias without its anchor",
        "merge-key": "`<<` with something that is no mapping",
        "key": "a key that is no text",
        "duplicate-key": "a key that is there twice",
        "text": "text with characters that it cannot have",
        "interpolation": "a `${…}` that cannot be replaced",
        # The grammar
        "version": "another version of the format",
        "unknown-key": "a key that the format does not have",
        "missing-key": "a key that has to be there",
        "misplaced-key": "a key that does not apply to this kind of handler",
        "type": "a value of the wrong type",
        "value": "a value that is not allowed",
        "unit": "a duration or size without its unit, or with a wrong one",
        "name": "a name that is not allowed",
        "handler-kind": "a handler that is not exactly one of `python`, `exec`, `http` and `service`",
        # Topics and DLQs
        "topic-name": "a name that Kafka does not take",
        "topic-collision": "two names that Kafka takes for the same",
        "unknown-topic": "a topic that nothing declares",
        "conflict": "one config said in two ways",
        "replication": "more replicas required in sync than there are",
        "no-dlq": "a consumed topic without a DLQ",
        "dlq-circle": "DLQs that lead back to their source",
        "dlq-unused": "a DLQ that never gets an event (warning)",
        "dlq-schema": "a topic with a schema that is named as a DLQ",
        "dlq-output": "a handler that writes to a DLQ",
        "dlq-size": "a DLQ whose records may be too small for its letters (warning)",
        "dlq-retention": "a DLQ that deletes letters before their events (warning)",
        "compaction": "a compacted topic without a `key`, or a compacted DLQ (warning)",
        "unproduced": "a consumed topic that nothing in the file sends to (warning)",
        # Handlers and events
        "group": "two handlers in one consumer group",
        "replicas": "more replicas than partitions (warning)",
        "port": "a port that is used twice",
        "command": "a command that cannot be split into words",
        "env": "an environment variable that kpipe sets itself",
        "process-list": "a `${…}` in the words of a command, which others on the machine can read (warning)",
        "event-name": "an event with the name of a topic that it does not go to",
        # Kafka and time
        "bootstrap": "an address that is none",
        "narrow-client": "a client's limit below what a topic takes (warning)",
        "owned-property": "a property of Kafka's clients that kpipe sets itself",
        "unsafe-property": "a property of Kafka's clients that runs code, and that your environment does not allow",
        "insecure": "a login or its data that others can read, or a server that nobody checks (warning)",
        "timing": "times that cannot work together",
        # Smoke files
        "step-kind": "a step, or a part of one, that is not exactly one of its kinds",
        "unknown-name": "an event, a handler or a DLQ that the pipeline file does not have",
        "expression": "a JMESPath expression that cannot be read",
        "reference": "a `${name}` that no earlier step captures and no variable defines",
        # What the file names
        "json": "a file that is not JSON",
        "schema": "a file that is not a JSON Schema",
        "contract": "a contract that no event can keep, or whose events cannot have their topic's `key`",
        "unknown-field": "a field that the schema does not know (warning)",
        "example": "an example that breaks its topic's contract",
    }
)
