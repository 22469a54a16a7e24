"""`kpipe lag` and `kpipe graph`, which need no running pipeline."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.docs.test_json_docs import check
from tests.support.orders import Orders, orders_in, write
from tests.support.shell import Done, kpipe

MORE = """
handlers:
  first: {python: 'work:handle', consumes: [orders], produces: [notes]}
  late: {python: 'work:handle', consumes: [notes], from: latest, dlq: none}
  web: {service: sleep 600, produces: [orders]}
"""
FILES = ("-f", "pipeline.yaml", "-f", "more.yaml")


def prepare(folder: Path) -> None:
    (folder / "more.yaml").write_text(MORE)
    (folder / "work.py").write_text("def handle(event): ...\n")


@pytest.fixture(scope="module")
def shop(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orders]:
    with orders_in(tmp_path_factory.mktemp("shop"), kafka) as made:
        prepare(made.folder)
        ago = (int(time.time()) - 600) * 1000
        write(
            kafka, made.topic("orders"), [{"value": b"%d" % n, "partition": n % 2, "timestamp": ago} for n in range(8)]
        )
        write(kafka, made.topic("notes"), [{"value": b"1"}])
        group = lag(made, "first")["group"]
        committer = Consumer({"bootstrap.servers": kafka, "group.id": group})
        committer.commit(offsets=[TopicPartition(made.topic("orders"), 1, 3)], asynchronous=False)
        committer.close()
        yield made


def lag(shop: Orders, handler: str) -> dict[str, Any]:
    [answer] = shop.lines(*FILES, "lag")
    check("lag", answer)
    assert [told["name"] for told in answer["handlers"]] == ["first", "late"], "a service consumes nothing"
    found: dict[str, Any] = next(told for told in answer["handlers"] if told["name"] == handler)
    return found


@pytest.mark.kafka
def test_how_far_it_is_behind_in_events_and_in_time(shop: Orders) -> None:
    told = lag(shop, "first")
    seen = [
        (part["topic"], part["partition"], part["committed"], part["end"], part["lag"]) for part in told["partitions"]
    ]
    assert seen == [("orders", 0, None, 4, 4), ("orders", 1, 3, 4, 1), ("orders", 2, None, 0, 0)]
    assert told["lag"] == 5
    behind = [part["lag_seconds"] for part in told["partitions"]]
    assert behind[2] == 0
    assert all(595 < seconds < 900 for seconds in behind[:2])
    assert told["lag_seconds"] == max(behind)


@pytest.mark.kafka
def test_what_never_started_counts_from_where_it_would_start(shop: Orders) -> None:
    told = lag(shop, "late")
    assert (told["lag"], told["lag_seconds"]) == (0, 0)
    assert told["partitions"][0]["end"] == 1


@pytest.mark.kafka
def test_lag_for_people_and_of_some(shop: Orders) -> None:
    done = shop.run(*FILES, "lag", "first")
    assert (done.code, done.err) == (0, "")
    head, *rows = [line.split() for line in done.out.splitlines()]
    assert head == ["HANDLER", "TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "BEHIND"]
    assert rows[1][:6] == ["first", "orders", "1", "3", "4", "1"]
    assert rows[2] == ["first", "orders", "2", "-", "0", "0", "0s"]
    assert len(rows) == 3


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("word", "said"), [("frist", "did you mean `first`"), ("web", "web is a service"), ("zzz", "there are first, late")]
)
def test_lag_of_what_is_not_there(shop: Orders, word: str, said: str) -> None:
    done = shop.run(*FILES, "lag", word)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.kafka
def test_lag_without_the_topics(shop: Orders, tmp_path: Path) -> None:
    text = (shop.folder / "pipeline.yaml").read_text().replace(shop.namespace, f"{shop.namespace}x")
    (tmp_path / "pipeline.yaml").write_text(text)
    for name in ("order.json", "example.json", "work.py", "more.yaml"):
        (tmp_path / name).write_text((shop.folder / name).read_text())
    done = kpipe(tmp_path, *FILES, "lag")
    assert (done.code, done.out) == (4, "")
    assert "kpipe topics sync" in done.err


def graph(folder: Path, *words: str) -> Done:
    text = "kpipe: 1\npipeline: shop\ntopics: {orders: {dlq: orders.dlq}, notes: {dlq: orders.dlq}, dusty: {}}\n"
    (folder / "pipeline.yaml").write_text(text)
    prepare(folder)
    return kpipe(folder, *FILES, "graph", *words)


def test_the_graph_as_text(tmp_path: Path) -> None:
    shown = (
        "first  python\n  <- orders\n  -> notes\n  x> orders.dlq\n"
        "late  python\n  <- notes\n  x> orders.dlq\n"
        "web  service\n  -> orders\n"
        "read by no handler: dusty\n"
    )
    assert graph(tmp_path) == (0, shown, "")


def test_the_graph_for_mermaid(tmp_path: Path) -> None:
    code, out, err = graph(tmp_path, "--format", "mermaid")
    assert (code, err) == (0, "")
    first, *lines = out.splitlines()
    assert first == "flowchart LR"
    assert {'  h0["first"]', '  t0(["orders"])', "  t0 --> h0", "  h0 --> t1", "  h2 --> t0"} <= set(lines)
    assert sum(" -.-> " in line for line in lines) == 2


def test_the_graph_as_json(tmp_path: Path) -> None:
    shape = json.loads(graph(tmp_path, "--json").out)
    check("graph", shape)
    assert {"from": "orders", "to": "first", "kind": "consumes"} in shape["edges"]
    assert {"from": "late", "to": "orders.dlq", "kind": "dead-letters"} in shape["edges"], "contract letters"
    assert [topic["name"] for topic in shape["topics"] if topic["is_dlq"]] == ["orders.dlq"]
    assert graph(tmp_path, "--json", "--format", "text").code == 2
