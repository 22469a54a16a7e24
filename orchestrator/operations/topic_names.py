"""From the name that somebody typed to a topic: the file's own names first, then what is on the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.config.model import Topic
from orchestrator.errors import BrokerError, UsageError
from orchestrator.text import did_you_mean

if TYPE_CHECKING:
    from orchestrator.config.model import Pipeline


def declared_topic(pipeline: Pipeline, name: str) -> Topic | None:
    """The topic of the file that is called `name`, there or (with its namespace) on the cluster."""
    if name in pipeline.topics:
        return pipeline.topics[name]
    return next((topic for topic in pipeline.topics.values() if topic.kafka_name == name), None)


def find_topic(
    pipeline: Pipeline, name: str, cluster: Callable[[], Mapping[str, int]], others: Iterable[str] = ()
) -> Topic:
    """The topic `name`; one that only the cluster knows has no schema and no key.

    `cluster` gives the topics there with their numbers of partitions; it is asked for unknown names only.
    `others` are names that would have done as well. Raises UsageError.
    """
    topic = declared_topic(pipeline, name)
    if topic is not None:
        return topic
    there = cluster()
    if name in there:
        return Topic(name, name, there[name], 0, {})
    raise UsageError(
        f"there is no topic `{name}`, neither in the pipeline file nor, as far as may be seen, on the cluster",
        did_you_mean(name, {*others, *pipeline.topics, *there}) or _followed_by_a_file(name),
    )


def not_created(topic: Topic) -> BrokerError:
    """For a topic that is declared and that the cluster does not have."""
    return BrokerError(
        f"the topic {topic.kafka_name} is declared, but not on the cluster",
        "`kpipe topics sync` creates what is declared",
    )


def check_partitions(topic: Topic, count: int, wanted: Iterable[int]) -> None:
    """Raise UsageError for a partition that `topic`, which has `count` of them, has not."""
    beyond = [number for number in wanted if number >= count]
    if not beyond:
        return
    if count == 1:
        raise UsageError(f"-p {min(beyond)}: {topic.name} has one partition", "it is 0")
    raise UsageError(f"-p {min(beyond)}: {topic.name} has {count} partitions", f"they are 0 to {count - 1}")


def _followed_by_a_file(name: str) -> str:
    if Path(name).is_file():
        return f"to name the pipeline file, put it before the command: kpipe -f {name} …"
    return "`kpipe topics ls` lists what is declared"
