"""`kpipe topics sync` on shared clusters: reviewed plans, what the broker would refuse, ownership, pruning."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from orchestrator.records import Claim, TopicSpec
from tests.support.orders import write as produce
from tests.support.shell import eventually
from tests.support.shop import Shop

pytestmark = pytest.mark.kafka

HANDLER = """
handlers:
  pay: {python: 'm:f', consumes: [orders], replicas: 5}
"""


@pytest.fixture
def shop(tmp_path: Path, kafka: str) -> Iterator[Shop]:
    made = Shop(tmp_path, kafka)
    yield made
    made.admin.delete(made.names())


def planned(shop: Shop, *words: str) -> dict[str, Any]:
    """`--dry-run --json`, kept as `plan.json`."""
    done = shop.run("sync", "--dry-run", "--json", *words)
    assert done.returncode == 0, done.stderr
    (shop.folder / "plan.json").write_text(done.stdout)
    plan: dict[str, Any] = json.loads(done.stdout)
    return plan


def read_some(shop: Shop, group: str, offset: int) -> None:
    """Commit for `group`, without members."""
    consumer = Consumer({"bootstrap.servers": shop.bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition(shop.topic, 0, offset)], asynchronous=False)
    consumer.close()


def test_a_reviewed_plan_is_applied_without_asking_and_only_once(shop: Shop) -> None:
    plan = planned(shop)
    assert set(plan["topics"].values()) == {""}
    assert shop.names() == []
    done = shop.run("sync", "--plan", "plan.json")
    assert done.returncode == 0, done.stderr
    assert len(shop.names()) == 2
    again = shop.run("sync", "--plan", "plan.json")
    assert again.returncode == 2
    assert "the plan is stale, nothing was changed" in again.stderr


def test_a_plan_whose_topic_was_made_again_is_stale(shop: Shop) -> None:
    shop.run("sync", "-y")
    shop.admin.alter({shop.topic: {"retention.ms": "5"}})
    planned(shop)
    shop.admin.delete([shop.topic])
    eventually(lambda: shop.topic not in shop.admin.topic_names())
    shop.admin.create([TopicSpec(shop.topic, 3, 1, {"retention.ms": "5", "cleanup.policy": "delete"})])
    eventually(lambda: shop.topic in shop.admin.topic_names())
    done = shop.run("sync", "--plan", "plan.json")
    assert done.returncode == 2
    assert f"topics: {shop.topic} came, went or was made again" in done.stderr
    overrides = shop.admin.describe([shop.topic]).topics[shop.topic].overrides
    assert overrides is not None
    assert overrides["retention.ms"] == "5"


def test_a_reviewed_plan_does_not_cover_its_risks(shop: Shop) -> None:
    shop.run("sync", "-y")
    shop.declare("retention: 1d")
    planned(shop)
    refused = shop.run("sync", "--plan", "plan.json")
    assert refused.returncode == 2
    assert f"--allow data-loss={shop.topic}" in refused.stderr
    assert shop.run("sync", "--plan", "plan.json", "--allow", "data-loss=orders").returncode == 0


@pytest.mark.parametrize("words", [["--check"], ["--prune"]])
def test_plan_excludes_what_the_plan_itself_says(shop: Shop, words: list[str]) -> None:
    assert shop.run("sync", "--plan", "x", *words).returncode == 2


def test_the_plan_says_whom_a_change_hits(shop: Shop) -> None:
    shop.declare("key: id", HANDLER)
    shop.run("sync", "-y")
    produce(shop.bootstrap, shop.topic, [{"value": b"1", "partition": 0} for _ in range(5)])
    read_some(shop, f"{shop.namespace}.shop.pay", 2)
    shop.declare("key: id, partitions: 6", HANDLER)
    [orders, dlq] = planned(shop)["impact"]
    assert orders == {
        "topic": shop.topic,
        "handlers": [{"handler": "pay", "role": "consumes", "replicas": 5, "idle_before": 2, "idle_after": 0}],
        "groups": [{"group": f"{shop.namespace}.shop.pay", "active": False, "lag": 3}],
        "groups_hidden": False,
        "records": 5,
    }
    assert (dlq["topic"], dlq["groups"], dlq["records"]) == (f"{shop.topic}.dlq", [], 0)
    shown = shop.run("sync", "--dry-run").stdout
    assert "handler pay consumes it with 5 replicas, idle 2 → 0" in shown
    assert "pay: no members, lag 3 records" in shown


def test_only_records_older_than_the_new_retention_are_at_stake(shop: Shop) -> None:
    shop.declare("retention: unlimited")
    shop.run("sync", "-y")
    old = [{"value": b"1", "partition": 0, "timestamp": 1_000_000_000_000} for _ in range(3)]
    produce(shop.bootstrap, shop.topic, [*old, {"value": b"1", "partition": 0}, {"value": b"1", "partition": 1}])
    shop.declare("retention: 1d")
    assert [hit["records"] for hit in planned(shop)["impact"]] == [3]


def test_markdown(shop: Shop) -> None:
    done = shop.run("sync", "--dry-run", "--format", "markdown")
    assert done.stdout.startswith("| | topic | what | change |\n|---|---|---|---|\n| `+` | ")
    assert shop.run("sync", "--dry-run", "--format", "markdown", "--json").returncode == 2


@pytest.mark.parametrize("words", [["--dry-run"], ["-y"]])
def test_what_the_broker_would_refuse_is_shown_at_its_line_and_nothing_is_written(shop: Shop, words: list[str]) -> None:
    shop.declare("configs: {compression.type: rot13}")
    done = shop.run("sync", *words)
    assert done.returncode == 2
    line = next(line for line in done.stderr.splitlines() if line.startswith("pipeline.yaml:"))
    text = (shop.folder / "pipeline.yaml").read_text().splitlines()
    row, column = (int(part) for part in line.split(":")[1:3])
    assert text[row - 1][column - 1 :].startswith("rot13")
    assert "Invalid value rot13" in line
    assert shop.names() == []


def test_every_refusal_is_shown_at_once(shop: Shop) -> None:
    shop.run("sync", "-y")
    more = "  late: {dlq: none, replication: 200}\n  typo: {dlq: none, configs: {retention.msec: 1d}}\n"
    shop.declare("configs: {segment.bytes: 1}", more)
    done = shop.run("sync", "-y", "--json")
    assert done.returncode == 2
    findings = json.loads(done.stderr.splitlines()[-1])["error"]["findings"]
    assert {(f["line"], f["code"]) for f in findings} == {(6, "broker"), (7, "broker"), (8, "broker")}
    assert len(shop.names()) == 2


def test_what_was_created_is_on_record_and_what_was_found_is_too(shop: Shop) -> None:
    shop.admin.create([TopicSpec(shop.topic, 3, 1, {"retention.ms": "604800000", "cleanup.policy": "delete"})])
    eventually(lambda: shop.topic in shop.admin.topic_names())
    assert shop.run("sync", "-y").returncode == 0
    claims = shop.claims()
    assert {name: claim.created for name, claim in claims.items()} == {shop.topic: False, f"{shop.topic}.dlq": True}
    assert claims[shop.topic].configs == ("cleanup.policy", "retention.ms")


def test_prune_removes_what_this_pipeline_created_and_nothing_else(shop: Shop) -> None:
    theirs = f"{shop.namespace}.theirs"
    shop.admin.create([TopicSpec(theirs, 1, 1)])
    shop.declare(rest="  old: {dlq: none}\n  theirs: {dlq: none, partitions: 1}\n")
    assert shop.run("sync", "-y").returncode == 0
    old = f"{shop.namespace}.old"
    shop.declare()
    plain = shop.run("sync")
    assert plain.returncode == 0
    assert f"no longer in its file: {old} (see --prune)" in plain.stderr
    refused = shop.run("sync", "-y", "--prune")
    assert refused.returncode == 2
    assert f"kpipe topics sync --prune --allow data-loss={old}" in refused.stderr
    assert old in shop.names()
    done = shop.run("sync", "-y", "--prune", "--allow", f"data-loss={old}")
    assert done.returncode == 0, done.stderr
    assert f"- {old}  topic  3 partitions → gone" in done.stdout
    eventually(lambda: old not in shop.names())
    assert theirs in shop.names()
    assert set(shop.claims()) == {shop.topic, f"{shop.topic}.dlq"}


def test_internal_topics_and_those_that_begin_with_an_underscore_are_never_pruned(shop: Shop) -> None:
    """Not even when a claim says that this pipeline created them."""
    shop.run("sync", "-y")
    consumer = Consumer({"bootstrap.servers": shop.bootstrap, "group.id": shop.namespace})
    consumer.commit(offsets=[TopicPartition(shop.topic, 0, 0)], asynchronous=False)  # makes __consumer_offsets
    consumer.close()
    hidden = [f"_{shop.namespace}", "__consumer_offsets"]
    shop.admin.create([TopicSpec(hidden[0], 1, 1)])
    eventually(lambda: set(hidden) <= shop.admin.topic_names())
    ids = {name: state.topic_id for name, state in shop.admin.describe(hidden).topics.items()}
    owner = f"{shop.namespace}.shop"
    forged = {(name, owner): Claim(name, owner, ids[name], True, False, ()) for name in hidden}
    registry = shop.registry()
    assert registry.write(forged) == ""
    try:
        allowed = [word for name in hidden for word in ("--allow", f"data-loss={name}", "--allow", f"in-use={name}")]
        done = shop.run("sync", "-y", "--prune", *allowed)
        assert (done.returncode, done.stdout) == (0, "Nothing to do: the topics are as declared.\n")
        assert set(hidden) <= shop.admin.topic_names()
    finally:
        registry.write(dict.fromkeys(forged))
        shop.admin.delete(hidden[:1])


def test_more_in_sync_replicas_than_replicas_is_a_finding_at_its_line(shop: Shop) -> None:
    shop.declare("replication: 1, configs: {min.insync.replicas: 2}")
    done = shop.run("sync", "-y")
    assert done.returncode == 2
    assert done.stderr.startswith("pipeline.yaml:6:76: error: `orders` needs 2 replicas in sync and has 1")
    assert shop.names() == []


def test_a_topic_that_is_still_read_needs_another_word(shop: Shop) -> None:
    shop.declare(rest="  old: {dlq: none}\n")
    shop.run("sync", "-y")
    old = f"{shop.namespace}.old"
    consumer = Consumer({"bootstrap.servers": shop.bootstrap, "group.id": old, "auto.offset.reset": "earliest"})
    consumer.subscribe([old])
    try:
        eventually(lambda: consumer.poll(0.1) is not None or bool(consumer.assignment()), 30)
        shop.declare()
        refused = shop.run("sync", "-y", "--prune", "--allow", f"data-loss={old}")
        assert refused.returncode == 2
        assert f"--allow in-use={old}" in refused.stderr
        assert f"group {old}: active" in refused.stdout
    finally:
        consumer.close()
    assert old in shop.names()


def test_a_topic_made_again_by_somebody_else_is_not_pruned(shop: Shop) -> None:
    shop.declare(rest="  old: {dlq: none}\n")
    shop.run("sync", "-y")
    old = f"{shop.namespace}.old"
    shop.admin.delete([old])
    eventually(lambda: old not in shop.names())
    shop.admin.create([TopicSpec(old, 1, 1)])
    eventually(lambda: old in shop.names())
    shop.declare()
    assert f"no longer in its file: {old}" in shop.run("sync").stderr
    done = shop.run("sync", "-y", "--prune")
    assert (done.returncode, done.stdout) == (0, "Nothing to do: the topics are as declared.\n")
    assert old in shop.names()
    assert shop.run("sync").stderr == ""


def test_two_pipelines_that_claim_one_topic_are_an_error(shop: Shop) -> None:
    shop.run("sync", "-y")
    path = shop.folder / "pipeline.yaml"
    ours = path.read_text()
    path.write_text(ours.replace("pipeline: shop", "pipeline: till"))
    for words in (["--dry-run"], ["-y"]):
        done = shop.run("sync", *words)
        assert done.returncode == 2
        assert f"owner {shop.namespace}.shop -> {shop.namespace}.till" in done.stderr
    allowed = [word for name in shop.names() for word in ("--allow", f"takeover={name}")]
    assert shop.run("sync", "-y", *allowed).returncode == 0
    assert shop.run("sync").stdout == "Nothing to do: the topics are as declared.\n"
    path.write_text(ours)
    assert shop.run("sync", "-y").returncode == 2


def test_a_key_that_left_the_file_goes_back_to_the_brokers_default(shop: Shop) -> None:
    shop.declare("configs: {flush.ms: 5s, compression.type: lz4}")
    shop.run("sync", "-y")
    shop.admin.alter({shop.topic: {"segment.ms": "9000000"}})
    shop.declare()
    done = shop.run("sync", "-y")
    assert done.returncode == 0, done.stderr
    assert "flush.ms          5s → (default)" in done.stdout
    overrides = shop.admin.describe([shop.topic]).topics[shop.topic].overrides
    assert overrides is not None
    assert set(overrides) == {"cleanup.policy", "retention.ms", "segment.ms"}
    assert shop.run("sync", "--check").returncode == 0


def test_what_a_config_would_be_without_its_override_is_known(shop: Shop) -> None:
    shop.declare("configs: {compression.type: lz4}")
    shop.run("sync", "-y")
    assert shop.admin.describe([shop.topic]).topics[shop.topic].defaults["compression.type"] == "producer"


def test_an_allow_that_fits_nothing_is_said(shop: Shop) -> None:
    done = shop.run("sync", "-y", "--allow", "reorders=order")
    assert done.returncode == 0
    assert "--allow reorders=order: nothing in this plan has that risk" in done.stderr
    assert shop.run("sync", "-y", "--allow", "orders").returncode == 2
