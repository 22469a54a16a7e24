"""When a worker asks for the ids of its topics, and which answers count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.kafka.admin.topic_ids import TopicIdentity
from orchestrator.worker.consume.topic_identity import TopicIdentities


@dataclass
class SlowIds:
    """A cluster that answers when the test says so. As with `TopicIds`, a second question gives up the first one."""

    now: str = "old"
    asked: int = 0
    out: str | None = None
    there: bool = False

    def of(self, names: Sequence[str], /) -> dict[str, TopicIdentity]:
        return {name: TopicIdentity(self.now, 1) for name in names}

    def ask(self, names: Sequence[str], /) -> None:
        self.asked, self.out, self.there = self.asked + 1, self.now, False

    def answer(self) -> dict[str, TopicIdentity] | None:
        if self.out is None or not self.there:
            return None
        out, self.out = self.out, None
        return {"in": TopicIdentity(out, 1)}


@dataclass
class Clock:
    now: float = 100.0
    ids: SlowIds = field(default_factory=SlowIds)

    def __call__(self) -> float:
        return self.now


def topics(clock: Clock) -> TopicIdentities:
    return TopicIdentities(["in"], clock.ids, clock=clock)


def test_an_answer_that_takes_longer_than_a_second_is_heard() -> None:
    clock = Clock()
    asked = topics(clock)
    assert asked.ask_in_time()
    clock.now += 3
    assert not asked.ask_in_time()
    clock.ids.there = True
    assert asked.answered() == frozenset(["in"])
    assert asked.id_of("in") == "old"
    assert asked.ask_in_time()
    assert clock.ids.asked == 2


def test_an_answer_that_is_older_than_what_was_seen_since_does_not_count() -> None:
    """Else a partition of the topic made anew would be taken for one of the former topic, and start once more."""
    clock = Clock()
    asked = topics(clock)
    assert asked.ask_in_time()
    clock.ids.there = True
    clock.ids.now = "new"
    asked.look()
    assert asked.answered() is None
    assert asked.id_of("in") == "new"
    clock.now += 1
    assert asked.ask_in_time()
    clock.ids.there = True
    assert asked.answered() == frozenset(["in"])
    assert asked.id_of("in") == "new"
