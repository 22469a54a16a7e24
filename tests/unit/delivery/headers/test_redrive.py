"""Which letter goes back to whom, as what, and through which topic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.config import load
from orchestrator.config.model import DedupPolicy, Pipeline
from orchestrator.delivery.headers.dead_letters import Death, Sender, read_letter, write_letter
from orchestrator.delivery.headers.redrive import key_of_letter, key_of_redriven, restore, send_back
from orchestrator.delivery.outcome import Failed, Reason
from orchestrator.event import Letter
from orchestrator.operations.dead_letters.routing import Chosen, Routes
from orchestrator.provisioning.ownership import owner_of
from orchestrator.provisioning.plan import specs
from orchestrator.provisioning.redrive_topics import as_they_are, redrive_specs
from orchestrator.provisioning.survey import survey
from orchestrator.records import (
    Claim,
    ClusterState,
    GroupUse,
    Headers,
    Outgoing,
    Record,
    TopicSpec,
    TopicState,
    TopicUse,
)
from orchestrator.worker.consume.inputs import sources_of
from orchestrator.worker.engine.attempts import identify
from tests.support.cluster import DEFAULTS, FakeClaims, FakeCluster, state

YAML = """
kpipe: 1
pipeline: shop
namespace: dev
kafka: {bootstrap: "x:1"}
defaults: {dlq: {retention: 20d}}
topics:
  in: {key: k, dlq: in.dlq, partitions: 6, configs: {max.message.bytes: 2MB}}
  more: {key: k, dlq: more.dlq}
  more.dlq: {retention: unlimited}
handlers:
  h: {python: 'code:handle', consumes: [in], dlq: h.dlq}
  g: {python: 'code:handle', consumes: [in, more], group: custom}
  letters: {python: 'code:handle', consumes: [in.dlq], dlq: none}
"""
HEADERS: Headers = (("own", b"\xff"), ("own", None))


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return built(tmp_path, YAML)


def built(folder: Path, text: str) -> Pipeline:
    (folder / "pipeline.yaml").write_text(text)
    loaded = load([folder / "pipeline.yaml"], {})
    assert loaded.pipeline is not None, loaded.findings
    return loaded.pipeline


def record(topic: str = "dev.in", offset: int = 7, headers: Headers = HEADERS, key: bytes | None = b"k") -> Record:
    return Record(topic, 5, offset, 1_000, key, b"\xfe", headers)


def buried(of: Record, reason: Reason = "rejected", handler: str = "h") -> tuple[Record, Letter]:
    """The letter of a record, as it is read from the DLQ."""
    sender = Sender("dev.shop." + handler, "shop", handler)
    out = write_letter(of, sender, Death(reason, Failed("reject", "no", "E"), 1, 0.0, 0.0), "dlq", 3)
    read = Record("dlq", 0, 99, 2_000, out.key, out.value, out.headers)
    letter = read_letter(read.headers)
    assert letter is not None
    return read, letter


def arrived(out: Outgoing, offset: int = 0) -> Record:
    return Record(out.topic, out.partition or 0, offset, 3_000, out.key, out.value, out.headers)


def test_what_is_sent_back_is_the_event_again() -> None:
    out = send_back(*buried(record()), "dev.shop.h.redrive", 3)
    assert (out.topic, out.partition, out.timestamp) == ("dev.shop.h.redrive", None, None)
    event = restore(arrived(out))
    assert event == record(headers=(*HEADERS, ("kpipe-dlq-redrive-count", b"1")))


def test_an_event_without_a_key_keeps_its_partition() -> None:
    assert send_back(*buried(record(key=None)), "t", 3).partition == 5 % 3


@pytest.mark.parametrize(
    "headers", [(), (("kpipe-redrive-topic", b"in"),), (("kpipe-redrive-offset", b"x"),), (("kpipe-redrive-id", None),)]
)
def test_anybodys_record_tells_of_no_event(headers: Headers) -> None:
    assert restore(record(headers=headers)) is None


def test_a_letter_that_fails_again_and_again_does_not_grow_and_counts() -> None:
    sizes, keys, event = [], set(), record()
    for times in range(1, 5):
        read, letter = buried(event)
        out = send_back(read, letter, "t", 3)
        assert letter.redrive_count == times - 1
        assert key_of_redriven(arrived(out)) == key_of_letter(letter)
        keys.add(key_of_letter(letter))
        sizes.append(len(out.headers))
        restored = restore(arrived(out))
        assert restored is not None
        assert (restored.topic, restored.partition, restored.offset) == ("dev.in", 5, 7)
        event = restored
    assert len(set(sizes)) == 1
    assert len(keys) == 4, "each time it is another letter"


def test_the_same_offset_of_a_topic_that_was_made_anew_is_another_letter() -> None:
    first, second = (buried(record()._replace(timestamp=at))[1] for at in (1, 2))
    assert first.id == second.id and key_of_letter(first) != key_of_letter(second)


def test_a_handler_on_a_dlq_takes_an_event_that_failed_again_for_no_copy(pipeline: Pipeline) -> None:
    source = sources_of(pipeline, pipeline.handlers["letters"], {})["dev.in.dlq"]
    read, letter = buried(record())
    again = restore(arrived(send_back(read, letter, "t", 3)))
    assert again is not None
    ids = [identify(source, DedupPolicy(), r, None) for r in (read, read, buried(again)[0])]
    assert ids == [letter.id, letter.id, f"{letter.id}#1"]


def test_a_handler_of_letters_only_has_no_way_back(pipeline: Pipeline) -> None:
    assert list(sources_of(pipeline, pipeline.handlers["letters"], {})) == ["dev.in.dlq"]
    assert list(sources_of(pipeline, pipeline.handlers["h"], {})) == ["dev.in", "dev.shop.h.redrive"]


def names(routes: Routes, letter: Letter) -> list[str]:
    return [handler.name for handler in routes.of(letter)]


def routes(pipeline: Pipeline, **chosen: object) -> Routes:
    return Routes(pipeline, Chosen(**chosen), {"h": set(), "g": set()})  # type: ignore[arg-type]


def letter_of(reason: Reason = "rejected", handler: str = "h", count: int = 0, **more: object) -> Letter:
    letter = buried(record(**more), reason, handler)[1]  # type: ignore[arg-type]
    return replace(letter, redrive_count=count)


@pytest.mark.parametrize(
    ("letter", "chosen", "to"),
    [
        (letter_of(), {}, ["h"]),
        (letter_of("schema"), {}, ["h", "g"]),
        (letter_of("decode"), {"handler": "g"}, ["g"]),
        (letter_of("schema", "g", count=1), {}, ["g"]),
        (letter_of(), {"handler": "g"}, []),
        (letter_of(handler="gone"), {}, []),
        (letter_of(handler="gone"), {"handler": "g"}, ["g"]),
        (letter_of(topic="dev.elsewhere"), {}, []),
        (letter_of(handler="letters"), {}, []),
        (letter_of(count=3), {}, []),
        (letter_of(count=3), {"most_redrives": 4}, ["h"]),
        (letter_of(), {"fingerprints": frozenset({"other"})}, []),
        (replace(letter_of(), headers={"pipeline": "another"}), {}, []),
    ],
)
def test_who_gets_a_letter(pipeline: Pipeline, letter: Letter, chosen: dict[str, object], to: list[str]) -> None:
    made = routes(pipeline, **chosen)
    assert names(made, letter) == to
    assert made.totals.letters == bool(to)


def test_each_letter_goes_once_and_copies_of_it_do_not(pipeline: Pipeline) -> None:
    made = routes(pipeline)
    made._before["h"].add(key_of_letter(letter_of("schema")))
    assert names(made, letter_of("schema")) == ["g"], "the other handler had it before"
    assert names(made, letter_of("schema")) == []
    assert (made.totals.letters, made.totals.before, made.totals.guarded) == (1, 1, 0)


def test_no_more_than_asked_for(pipeline: Pipeline) -> None:
    made = routes(pipeline, most=2)
    assert [names(made, letter_of(offset=n)) for n in range(3)] == [["h"], ["h"], []]
    assert made.full


def test_why_letters_stay_is_told_apart_within_bounds(pipeline: Pipeline) -> None:
    made = routes(pipeline)
    for n in range(100):
        made.of(letter_of(topic=f"t{n}"))
    made.of(letter_of(count=3))
    assert made.totals.guarded == 1
    assert sum(made.totals.unknown.values()) == 100 and len(made.totals.unknown) < 25


# -- the topics -------------------------------------------------------------------------------------------------------

DAY = 86_400_000


def test_the_topics_that_letters_go_back_through(pipeline: Pipeline) -> None:
    h, g = redrive_specs(pipeline)
    limit = {"max.message.bytes": "2064000", "cleanup.policy": "delete"}
    assert h == TopicSpec("dev.shop.h.redrive", 6, 1, {**limit, "retention.ms": str(20 * DAY)})
    assert g == TopicSpec("dev.shop.g.redrive", 6, 1, {**limit, "retention.ms": "-1"}), "as long as its longest DLQ"


def cluster_of(pipeline: Pipeline, *more: TopicState) -> FakeCluster:
    return FakeCluster([*map(state, specs(pipeline)), *more])


def claim(topic: str, pipeline: Pipeline, topic_id: str = "") -> Claim:
    return Claim(topic, owner_of(pipeline), topic_id, created=True, declared=True, configs=("retention.ms",))


def test_a_sync_neither_makes_nor_removes_nor_shrinks_them(pipeline: Pipeline) -> None:
    assert survey(pipeline, cluster_of(pipeline), FakeClaims()).plan.is_empty, "not made by a sync"
    there = TopicState("dev.shop.h.redrive", 2, 3, {"retention.ms": "-1", "cleanup.policy": "delete"}, DEFAULTS)
    seen = survey(pipeline, cluster_of(pipeline, there), FakeClaims(claim(there.name, pipeline)), prune=True)
    assert [(c.action, c.topic, c.field) for c in seen.plan.changes] == [("config", there.name, "max.message.bytes")]
    assert there.name not in seen.plan.left_over


def test_without_its_handler_one_is_left_over_and_goes_only_by_name(pipeline: Pipeline, tmp_path: Path) -> None:
    there = replace(state(redrive_specs(pipeline)[0]), topic_id="id")
    claims = FakeClaims(claim(there.name, pipeline, "id"))
    smaller = built(tmp_path, "".join(line for line in YAML.splitlines(True) if not line.startswith("  h:")))
    cluster = cluster_of(smaller, there)
    assert there.name in survey(smaller, cluster, claims).plan.left_over
    cluster.uses[there.name] = TopicUse((GroupUse("dev.shop.h", active=False, lag=4),), 9)
    [change] = survey(smaller, cluster, claims, prune=True).plan.of("delete")
    assert (change.topic, change.risk) == (there.name, "in-use"), "letters wait there"


def test_one_that_nobody_may_see_is_no_hindrance(pipeline: Pipeline) -> None:
    cluster = FakeCluster(list(map(state, specs(pipeline))), unknown={"dev.shop.h.redrive": "forbidden"})
    plan = survey(pipeline, cluster, FakeClaims()).plan
    assert plan.is_empty and not plan.unknown


def test_as_they_are_leaves_out_what_does_not_exist(pipeline: Pipeline) -> None:
    assert as_they_are(redrive_specs(pipeline), ClusterState()) == ()


def test_a_topic_of_the_same_name_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(YAML.replace("  more:", "  shop.h_redrive: {key: k, dlq: in.dlq}\n  more:"))
    loaded = load([tmp_path / "pipeline.yaml"], {})
    [finding] = [f for f in loaded.findings if f.severity == "error"]
    assert finding.code == "topic-collision" and "go back to `h`" in finding.message
