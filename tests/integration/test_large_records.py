"""Large records on a real Kafka: what it holds is handled, emitted and dead-lettered; what does not fit has an end."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer as RdProducer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from orchestrator.delivery.headers.dead_letters import TRUNCATED, read_letter
from orchestrator.errors import BrokerError
from orchestrator.event import Letter
from orchestrator.kafka.admin.admin import ClusterAdmin
from orchestrator.kafka.exclusive_writer import ExclusiveWriter
from orchestrator.kafka.properties import client_properties
from orchestrator.operations.send.recorded import recorded
from orchestrator.publish.publisher import Publisher, TooLargeError
from orchestrator.records import Outgoing, Record
from tests.docs.test_json_docs import check
from tests.support.shell import Done, kpipe
from tests.support.worker import Project, Worker

pytestmark = pytest.mark.kafka

YAML = """
pipeline: test
defaults: {topic: {partitions: 1}}
topics:
  in: {schema: in.json, key: k, dlq: in.dlq}
  out: {key: k, dlq: out.dlq}
handlers:
  h:
    python: code:handle
    consumes: [in]
    produces: [out]
    dlq: h.dlq
    guarantee: GUARANTEE
    concurrency: CONCURRENCY
    retry: {attempts: 2, backoff: 20ms, max-backoff: 200ms}
"""
SCHEMA = json.dumps({"type": "object", "required": ["k"], "properties": {"n": {"type": "integer"}}})
CODE = """
import os
from orchestrator import Emit, Reject

def handle(event):
    v = event.value
    if v["do"] == "reject":
        raise Reject("no")
    if v["do"] == "noise":
        return Emit("out", {"k": v["k"], "n": v["n"], "noise": os.urandom(1_500_000).hex()})
    return Emit("out", v)
"""
#: Three million bytes that zstd makes far smaller than the topic's limit of 1 MB, and lz4 does not.
DENSE = "".join(f"{n:07d}" for n in range(430_000))

Make = Callable[..., Project]
guarantees = pytest.mark.parametrize("guarantee", ["at-least-once", "exactly-once"])


@pytest.fixture
def make(tmp_path: Path, kafka: str) -> Make:
    def build(guarantee: str, yaml: str = YAML, concurrency: int = 1) -> Project:
        text = yaml.replace("GUARANTEE", guarantee).replace("CONCURRENCY", str(concurrency))
        return Project(tmp_path, kafka, text, {"code.py": CODE, "in.json": SCHEMA})

    return build


def foreign(project: Project, topic: str, values: list[Any], headers: Any = ()) -> None:
    """Somebody else's producer, with zstd."""
    properties = {"bootstrap.servers": project.bootstrap, "compression.type": "zstd", "message.max.bytes": 200_000_000}
    producer = RdProducer({**properties, "linger.ms": 0})
    failed: list[Any] = []
    for value in values:
        raw = json.dumps(value).encode() if isinstance(value, dict) else value
        key = value.get("k", "a") if isinstance(value, dict) else "a"
        producer.produce(
            project.name(topic),
            raw,
            key,
            headers=list(headers),
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )
        producer.flush(20)
    assert not failed, failed


def limit(project: Project, topic: str, most: int) -> None:
    """Somebody else sets what the topic takes."""
    entry = ConfigEntry("max.message.bytes", str(most), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, project.name(topic), incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": project.bootstrap})
    admin.incremental_alter_configs([resource])[resource].result(10)


def outs(project: Project) -> list[int]:
    return [value["n"] for value in project.values("out")]


def letters(project: Project, dlq: str = "h.dlq") -> list[tuple[Record, Letter]]:
    found = [(record, read_letter(record.headers)) for record in project.read(dlq)]
    return [(record, letter) for record, letter in found if letter is not None]


def kept(project: Project) -> list[Path]:
    return sorted((project.folder / ".kpipe" / "records").rglob("*.json"))


def settled(project: Project, count: int, seconds: float = 40.0) -> tuple[Worker, dict[str, int]]:
    """A worker's whole life, until so many events are settled."""
    with project.worker("h") as worker:
        counts = worker.wait_settled(count, seconds)
        worker.terminate()
    return worker, counts


@guarantees
def test_what_zstd_made_small_enough_for_kafka_is_emitted_and_dead_lettered_whole(make: Make, guarantee: str) -> None:
    project = make(guarantee)
    what = ["emit", "emit", "reject", "emit"]
    texts = ["", DENSE, DENSE, ""]
    events = [{"k": "a", "n": n, "do": do, "text": text} for n, (do, text) in enumerate(zip(what, texts, strict=True))]
    foreign(project, "in", events)
    worker, counts = settled(project, 4)
    assert (counts["done"], counts["dead_lettered"]) == (3, 1)
    assert [value["n"] for value in project.values("out")] == [0, 1, 3] or set(outs(project)) == {0, 1, 3}
    [(record, letter)] = letters(project)
    assert json.loads(record.value or b"") == events[2] and not letter.truncated
    assert "ALARM" not in worker.log and not kept(project)


@guarantees
@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_letter_that_does_not_fit_is_cut_and_the_record_kept(make: Make, guarantee: str, concurrency: int) -> None:
    yaml = YAML.replace("handlers:", "  h.dlq: {configs: {max.message.bytes: 20KB}}\nhandlers:")
    project = make(guarantee, yaml, concurrency)
    noise = os.urandom(150_000).hex()
    events = [
        {"k": "a", "n": 0, "do": "emit"},
        {"k": "a", "n": 1, "do": "reject", "text": noise},
        {"k": "b", "n": 2, "do": "emit"},
        {"k": "a", "n": 3, "do": "emit"},
        {"k": "b", "n": 4, "do": "reject", "text": noise},
        {"k": "a", "n": 5, "do": "reject"},
    ]
    foreign(project, "in", events, headers=[("own", b"header")])
    worker, counts = settled(project, 6)
    assert (counts["done"], counts["dead_lettered"], counts["skipped"]) == (3, 3, 0)
    found = {letter.offset: (record, letter) for record, letter in letters(project)}
    assert [letter.truncated for _, (_, letter) in sorted(found.items())] == [True, True, False]
    record = found[1][0]
    assert json.loads(dict(record.headers)[TRUNCATED] or b"")["value"] == len(json.dumps(events[1]))
    assert json.dumps(events[1]).encode().startswith(record.value or b"") and len(record.value or b"") == 4_096
    assert ("own", b"header") in record.headers and record.key == b"a"
    assert worker.log.count("ALARM") == 2, f"once for each: {worker.log}"
    first, second = kept(project)
    for path in (first, second):
        assert path.stat().st_mode & 0o777 == 0o600
    again = recorded(json.loads(first.read_text()), "it")
    assert again.value.value == json.dumps(events[1]).encode() and again.headers == (("own", b"header"),)
    by_key = [n for n in outs(project) if n in (0, 3)]
    assert list(dict.fromkeys(by_key)) == [0, 3], "in order, and what follows goes on"


@guarantees
def test_with_headers_of_a_megabyte_the_letter_has_only_its_own(make: Make, guarantee: str) -> None:
    project = make(guarantee)
    limit(project, "in", 3_000_000)
    foreign(project, "in", [{"k": "a", "n": 0, "do": "reject"}], headers=[("big", os.urandom(1_300_000))])
    foreign(project, "in", [{"k": "a", "n": 1, "do": "emit"}])
    worker, counts = settled(project, 2)
    assert (counts["done"], counts["dead_lettered"]) == (1, 1), "the DLQ was made before somebody raised its source"
    [(record, letter)] = letters(project)
    assert letter.truncated and "big" not in dict(record.headers) and json.loads(record.value or b"")["n"] == 0
    assert letter.error_type.endswith("Reject") and worker.log.count("ALARM") == 1
    [path] = kept(project)
    assert len(recorded(json.loads(path.read_text()), "it").headers[0][1] or b"") == 1_300_000


@guarantees
def test_where_not_even_the_shortest_letter_fits_the_event_is_skipped_and_kept(make: Make, guarantee: str) -> None:
    project = make(guarantee)
    limit(project, "h.dlq", 300)
    foreign(project, "in", [{"k": "a", "n": 0, "do": "reject"}, {"k": "a", "n": 1, "do": "emit"}])
    worker, counts = settled(project, 2)
    assert (counts["done"], counts["dead_lettered"], counts["skipped"]) == (1, 0, 1)
    assert worker.log.count("ALARM") == 2 and "not even the shortest" in worker.log
    assert len(kept(project)) == 1 and outs(project) == [1]


@guarantees
def test_letters_of_events_that_break_their_contract_are_cut_too(make: Make, guarantee: str) -> None:
    yaml = YAML.replace("handlers:", "  in.dlq: {configs: {max.message.bytes: 30KB}}\nhandlers:")
    project = make(guarantee, yaml)
    garbage = os.urandom(200_000)
    foreign(
        project, "in", [garbage, {"k": "a", "n": "no integer", "t": garbage.hex()}, {"k": "a", "n": 2, "do": "emit"}]
    )
    _, counts = settled(project, 3)
    assert (counts["done"], counts["dead_lettered"]) == (1, 2)
    found = letters(project, "in.dlq")
    assert [(letter.reason, letter.truncated) for _, letter in found] == [("decode", True), ("schema", True)]
    assert [garbage.startswith(found[0][0].value or b""), len(kept(project))] == [True, 2]


@guarantees
def test_an_output_that_is_too_large_is_a_letter_at_once_and_no_alarm(make: Make, guarantee: str) -> None:
    project = make(guarantee)
    foreign(project, "in", [{"k": "a", "n": n, "do": "noise" if n == 1 else "emit"} for n in range(4)])
    worker, counts = settled(project, 4)
    assert (counts["done"], counts["dead_lettered"]) == (3, 1)
    [(_, letter)] = letters(project)
    assert (letter.reason, letter.attempts, letter.truncated) == ("output", 1, False)
    assert "ALARM" not in worker.log and list(dict.fromkeys(outs(project)))[-1] == 3


@guarantees
def test_without_a_dlq_a_large_output_is_logged_and_skipped(make: Make, guarantee: str) -> None:
    project = make(guarantee, YAML.replace("dlq: h.dlq", "dlq: none"))
    foreign(project, "in", [{"k": "a", "n": 0, "do": "noise"}, {"k": "a", "n": 1, "do": "emit"}])
    worker, counts = settled(project, 2)
    assert (counts["done"], counts["skipped"]) == (1, 1)
    assert worker.log.count("skipped record:") == 1 and "ALARM" not in worker.log


def test_a_value_of_150_megabytes_is_read_emitted_and_its_successors_too(make: Make) -> None:
    """Above librdkafka's own limits: 100 MB once decompressed, 1 MB for a record, 64 MB that wait."""
    project = make("at-least-once")
    foreign(
        project,
        "in",
        [b'{"k":"a","n":0,"do":"emit","text":"' + b"x" * 150_000_000 + b'"}', {"k": "a", "n": 1, "do": "emit"}],
    )
    _, counts = settled(project, 2, 120)
    assert counts["done"] == 2
    assert [len(record.value or b"") > 150_000_000 for record in project.read("out")] == [True, False]


# -- commands ---------------------------------------------------------------------------------------------------------

LARGE = """
pipeline: shop
defaults: {topic: {partitions: 1}}
topics:
  in: {key: k, dlq: in.dlq}
handlers:
  h: {python: "code:reject", consumes: [in], dedup: off, retry: {attempts: 1, backoff: 10ms}}
"""
REJECT = """
import pathlib
from orchestrator import Reject

def reject(event):
    if not pathlib.Path("fixed").exists():
        raise Reject("no")
"""


@pytest.fixture
def shop(tmp_path: Path, kafka: str) -> Project:
    return Project(tmp_path, kafka, LARGE, {"code.py": REJECT})


def run(project: Project, *words: str) -> Done:
    return kpipe(project.folder, *words)


def record_limit(project: Project, topic: str) -> int | None:
    admin = ClusterAdmin(client_properties(project.pipeline.kafka, "admin", project.bootstrap))
    return admin.describe([topic]).topics[topic].record_limit


def test_a_source_that_somebody_raised_is_no_longer_as_declared(shop: Project) -> None:
    assert run(shop, "topics", "sync", "--check").code == 0
    limit(shop, "in", 5_000_000)
    done = run(shop, "topics", "sync", "--check", "--json")
    assert done.code == 3, done
    [change] = json.loads(done.out)["changes"]
    assert (change["topic"], change["field"]) == (shop.name("in.dlq"), "max.message.bytes")
    assert (change["old"], change["new"], change["risk"]) == ("1112588", "5064000", "safe")
    listed = {row["name"]: row["state"] for row in json.loads(run(shop, "topics", "ls", "--json").out)["topics"]}
    assert listed == {"in": "in sync", "in.dlq": "drift"}
    assert run(shop, "topics", "sync", "-y").code == 0
    assert record_limit(shop, shop.name("in.dlq")) == 5_064_000
    assert "as declared" in run(shop, "topics", "sync").out
    limit(shop, "in", 2_000_000)
    assert run(shop, "topics", "sync", "--check").code == 0, "what is larger already may be on its way"


def test_letters_as_large_as_a_raised_source_allows_go_there_and_back(shop: Project) -> None:
    limit(shop, "in", 5_000_000)
    assert run(shop, "topics", "sync", "-y").code == 0
    noise = os.urandom(2_000_000).hex()  # no compression makes less than 2 MB of it
    foreign(shop, "in", [{"k": "a", "n": n, "text": noise} for n in range(3)])
    with shop.worker("h") as worker:
        assert worker.wait_settled(3)["dead_lettered"] == 3
        assert not [letter for _, letter in letters(shop, "in.dlq") if letter.truncated]
        (shop.folder / "fixed").touch()
        done = run(shop, "dlq", "redrive", "-y")
        assert done.code == 0 and "Sent back 3 letters" in done.err, done.err
        assert worker.wait_settled(6, 20)["done"] == 3
    redriven = f"{shop.namespace}.shop.h.redrive"
    assert record_limit(shop, redriven) == 5_064_000
    limit(shop, "in", 6_000_000)
    assert run(shop, "topics", "sync", "-y").code == 0
    assert record_limit(shop, redriven) == 6_064_000, "a sync looks after it"


def test_letters_that_were_cut_are_listed_shown_and_not_sent_back(shop: Project) -> None:
    limit(shop, "in.dlq", 20_000)
    noise = os.urandom(100_000).hex()
    foreign(shop, "in", [{"k": "a", "n": 0, "text": noise}, {"k": "a", "n": 1}])
    with shop.worker("h") as worker:
        assert worker.wait_settled(2)["dead_lettered"] == 2
        worker.terminate()
    done = run(shop, "dlq", "ls", "--json")
    check("dead letters", json.loads(done.out))
    assert [group["truncated"] for group in json.loads(done.out)["groups"]] == [1]
    assert "1 of them were too large" in run(shop, "dlq", "ls").err
    [cut] = [letter for _, letter in letters(shop, "in.dlq") if letter.truncated]
    shown = json.loads(run(shop, "dlq", "show", cut.id, "--json").out)
    check("letter", shown)
    assert shown["letter"]["truncated"]["value"] > 200_000
    assert "4,096 bytes of the value are here" in run(shop, "dlq", "show", cut.id).out
    back = json.loads(run(shop, "dlq", "redrive", "-y", "--json").out)
    assert (back["letters"], back["redriven"]) == (1, 1)
    assert back["left_alone"][0]["letters"] == 1 and "cut" in back["left_alone"][0]["why"]
    [path] = kept(shop)
    again = run(shop, "send", "in", f"@{path}", "--records", "--json")
    assert again.code == 0, "the event can be sent again whole"
    assert json.loads(again.out)["value"]["text"] == noise


def test_send_blames_the_record_that_is_too_large_and_no_neighbour(shop: Project) -> None:
    limit(shop, "in", 20_000)
    lines = [json.dumps({"k": "a", "n": n, "text": os.urandom(60_000 if n == 20 else 300).hex()}) for n in range(100)]
    (shop.folder / "events.jsonl").write_text("\n".join(lines))
    done = run(shop, "send", "in", "@events.jsonl")
    assert done.code == 1 and "refused 1 of 100 events" in done.err and "line 21" in done.err, done.err
    assert len(shop.read("in")) == 99


def test_a_publisher_blames_the_event_that_is_too_large_and_no_neighbour(shop: Project) -> None:
    limit(shop, "in", 20_000)
    values = [{"k": "a", "n": n, "text": os.urandom(40_000 if n == 20 else 1_000).hex()} for n in range(60)]

    async def publish(publisher: Publisher) -> list[Any]:
        asked = [publisher.publish_async("in", value) for value in values]
        return await asyncio.gather(*asked, return_exceptions=True)

    with Publisher(pipeline=shop.pipeline, bootstrap=shop.bootstrap, environ={}) as publisher:
        answers = asyncio.run(publish(publisher))
    assert [n for n, answer in enumerate(answers) if isinstance(answer, BaseException)] == [20]
    assert isinstance(answers[20], TooLargeError)
    assert {value["n"] for value in shop.values("in")} == set(range(60)) - {20}


def test_a_record_that_a_transaction_cannot_write_is_named_as_too_large(shop: Project) -> None:
    producer = ExclusiveWriter(
        client_properties(shop.pipeline.kafka, "producer", shop.bootstrap), f"{shop.namespace}.x"
    )
    producer.start()
    producer.send(Outgoing(shop.name("in"), b"a", os.urandom(3_000_000)))
    with pytest.raises(BrokerError, match=r"too large for .*\.in"):
        producer.commit()
    producer.abort()
