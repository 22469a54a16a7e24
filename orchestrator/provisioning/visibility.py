"""Waiting until a change shows: leaders that answer, configs that are in force, topics that are gone.

CreateTopics answers before every broker knows of the topic, the metadata names a leader before it leads, and each
broker answers from its own copy of the metadata.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from orchestrator.errors import WaitTimeout
from orchestrator.provisioning.configs import same
from orchestrator.provisioning.plan import Change
from orchestrator.records import ClusterState, TopicPartition, TopicSpec, TopicState

#: Seconds to wait, and between two looks.
LEADER_DEADLINE = 30.0
_LOOK_EVERY = 0.2
#: What a slow broker makes, each with its files.
_PARTITIONS_A_SECOND = 100
#: Topics at one look: describing thousands over and over would take from the broker the time to make them.
_AT_ONCE = 500


class Seen(Protocol):
    """The cluster, as waiting needs it."""

    def describe(self, names: Sequence[str], /) -> ClusterState: ...

    def serving(self, partitions: Sequence[TopicPartition], /) -> Collection[TopicPartition]:
        """Those of `partitions` whose leader answers for them."""
        ...


def await_leaders(
    declared: Sequence[TopicSpec],
    admin: Seen,
    *,
    known: ClusterState | None = None,
    applied: Sequence[Change] = (),
    deadline: float = LEADER_DEADLINE,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> ClusterState:
    """The topics, once every partition of every declared one has a leader, and that leader answers for it.

    Configs among the `applied` changes have to show too: a broker answers from its own copy of the metadata, which
    is behind the controller's. `known` is what the cluster said just now, if it was asked. Raises WaitTimeout, naming
    the topics that are not there yet, after `deadline` seconds (and one for every hundred partitions, which a broker
    may make in one go) in which not one more came: thousands of topics take a broker minutes.
    """
    patience = deadline + sum(spec.partitions for spec in declared) / _PARTITIONS_A_SECOND
    until = clock() + patience
    configs = {(c.topic, c.field): c.new for c in applied if c.action == "config"}
    left, topics, unknown = list(declared), dict[str, TopicState](), dict[str, str]()
    while True:
        looked = left[:_AT_ONCE] if known is None else left
        state, known = known or admin.describe([spec.name for spec in looked]), None
        topics |= state.topics
        unknown |= state.unknown
        late = _without_leaders(looked, state, admin) | _behind(state, configs)
        missing = [spec for spec in looked if spec.name in late]
        if len(missing) < len(looked):
            until = clock() + patience
        left = missing + left[len(looked) :]
        if not left:
            return ClusterState(topics, unknown)
        if clock() >= until:
            shown = ", ".join(spec.name for spec in missing[:5])
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise WaitTimeout(
                f"after {patience:.0f} s some partitions still have no leader: {shown}{more}",
                "look at the brokers' logs: too few of them may be alive",
            )
        progress(len(declared) - len(left), len(declared))
        if missing:
            sleep(_LOOK_EVERY)


def await_gone(
    names: Collection[str],
    admin: Seen,
    *,
    deadline: float = LEADER_DEADLINE,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return once none of these topics is described any more. Raises WaitTimeout after `deadline` seconds."""
    until = clock() + deadline
    while left := list(admin.describe(list(names)).topics) if names else []:
        if clock() >= until:
            raise WaitTimeout(f"after {deadline:g} s deleted topics are still there: {', '.join(left[:5])}")
        sleep(_LOOK_EVERY)


def _without_leaders(declared: Sequence[TopicSpec], state: ClusterState, admin: Seen) -> set[str]:
    """The topics that are not usable yet; one that we may not see is not waited for."""
    seen = [spec for spec in declared if spec.name not in state.unknown]
    complete = [spec for spec in seen if _complete(spec, state.topics.get(spec.name))]
    wanted = [TopicPartition(spec.name, number) for spec in complete for number in range(spec.partitions)]
    silent = {where.topic for where in set(wanted).difference(admin.serving(wanted))}
    return {spec.name for spec in seen} - ({spec.name for spec in complete} - silent)


def _behind(state: ClusterState, configs: Mapping[tuple[str, str], int | str | None]) -> set[str]:
    """The topics whose new configs do not show yet, as far as they may be read."""
    return {topic for (topic, key), new in configs.items() if not _shows(state.topics.get(topic), key, new)}


def _shows(topic: TopicState | None, key: str, new: int | str | None) -> bool:
    if topic is None or topic.overrides is None:
        return True
    now = topic.overrides.get(key)
    return now is None if new is None else now is not None and same(key, now, str(new))


def _complete(spec: TopicSpec, topic: TopicState | None) -> bool:
    return topic is not None and not topic.leaderless and topic.partitions >= spec.partitions
