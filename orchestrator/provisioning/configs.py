"""Topic configs as typed values: when two are the same, and which changes can cost data.

Types from Apache Kafka's topic configuration reference. A key that is in no table is compared as text: it may
be called changed when it is not, never the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

_BOOLEANS = frozenset(
    {
        "message.downconversion.enable",
        "preallocate",
        "remote.log.copy.disable",
        "remote.log.delete.on.disable",
        "remote.storage.enable",
        "unclean.leader.election.enable",
    }
)
_INTEGERS = frozenset(
    {
        "delete.retention.ms",
        "file.delete.delay.ms",
        "flush.messages",
        "flush.ms",
        "index.interval.bytes",
        "local.retention.bytes",
        "local.retention.ms",
        "max.compaction.lag.ms",
        "max.message.bytes",
        "message.timestamp.after.max.ms",
        "message.timestamp.before.max.ms",
        "min.compaction.lag.ms",
        "min.insync.replicas",
        "retention.bytes",
        "retention.ms",
        "segment.bytes",
        "segment.index.bytes",
        "segment.jitter.ms",
        "segment.ms",
    }
)
_DECIMALS = frozenset({"min.cleanable.dirty.ratio"})
_SETS = frozenset({"cleanup.policy"})

Value = bool | int | float | str | frozenset[str]


def typed(key: str, text: str) -> Value:
    """The value behind a config's text. Text that is not of its key's type stays text: the broker judges."""
    text = text.strip()
    if key in _SETS:
        return frozenset(part.strip() for part in text.split(",") if part.strip())
    if key in _BOOLEANS:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        if key in _INTEGERS:
            return int(text)
        if key in _DECIMALS:
            return float(text)
    except ValueError:
        pass
    return text


def same(key: str, left: str, right: str) -> bool:
    """Whether the broker would take both texts for the same value of `key`."""
    return typed(key, left) == typed(key, right)


def loses_data(key: str, old: str | None, new: str | None) -> bool:
    """Whether going from `old` to `new` can delete records, or keep fewer copies of new ones.

    Both are values in force (None: not known, which is taken as the worst).
    """
    rule = _RULES.get(key)
    if rule is None:
        return False
    return old is None or new is None or rule(typed(key, old), typed(key, new))


def _lowered(old: Value, new: Value) -> bool:
    return isinstance(old, int) and isinstance(new, int) and new < old


def _lowered_limit(old: Value, new: Value) -> bool:
    """As `_lowered`, where -1 stands for "unlimited"."""
    if not isinstance(old, int) or not isinstance(new, int) or new == -1:
        return False
    return old == -1 or new < old


def _policy_added(old: Value, new: Value) -> bool:
    """Compaction drops all but a key's last record, deletion what is old; removing a policy drops nothing."""
    return isinstance(old, frozenset) and isinstance(new, frozenset) and not new <= old


_RULES: Mapping[str, Callable[[Value, Value], bool]] = {
    "cleanup.policy": _policy_added,
    # Tombstones that vanish earlier are missed by a reader that was away.
    "delete.retention.ms": _lowered,
    "min.insync.replicas": _lowered,
    "remote.log.delete.on.disable": lambda old, new: new is True and old is not True,
    "remote.storage.enable": lambda old, new: new is False and old is not False,
    "retention.bytes": _lowered_limit,
    "retention.ms": _lowered_limit,
    "unclean.leader.election.enable": lambda old, new: new is True and old is not True,
}
