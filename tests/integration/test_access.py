"""Clusters with TLS, logins and ACLs: everything works with the permissions of docs/security.md, and with no fewer."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
import trustme
from confluent_kafka import Producer

from orchestrator.config import load
from orchestrator.config.model import Pipeline
from orchestrator.errors import ForbiddenError
from orchestrator.kafka.admin.admin import ClusterAdmin
from orchestrator.kafka.properties import client_properties
from orchestrator.provisioning.apply import look
from orchestrator.provisioning.visibility import await_leaders
from orchestrator.publish.gateway import Gate
from orchestrator.publish.publisher import Publisher
from orchestrator.records import TopicSpec
from tests.support.letters import letter
from tests.support.secured import PASSWORD, SCRAM_USER, USERS, Acl, Secured, secured_kafka
from tests.support.shell import Done, eventually, kpipe, running

pytestmark = pytest.mark.kafka

PIPELINE = """\
kpipe: 1
pipeline: shop
kafka:
  bootstrap: "{address}"
  client:
    security.protocol: SASL_SSL
    ssl.ca.location: "${{CA}}"
    sasl.mechanism: "${{MECHANISM:-PLAIN}}"
    sasl.username: "${{KAFKA_USER}}"
    sasl.password: "${{file:password}}"
topics:
  orders: {{schema: order.json, key: id, dlq: orders.dlq, partitions: 1}}
  bills: {{key: id, dlq: orders.dlq, partitions: 1}}
events:
  order: {{topic: orders, example: example.json, generate: {{id: uuid, eventId: uuid}}}}
handlers:
  pay: {{python: "work:handle", consumes: [orders], produces: [bills]}}
"""
HANDLER = """\
from orchestrator import Emit

def handle(event):
    return Emit("bills", {"id": event.value["id"]})
"""
TOPICS = ("orders", "bills", "orders.dlq")
REDRIVE, CLAIMS = "shop.pay.redrive", "kpipe.claims"


class Shop:
    """A project on the secured cluster, with its topics."""

    def __init__(self, folder: Path, cluster: Secured) -> None:
        self.folder, self.cluster = folder, cluster
        (folder / "pipeline.yaml").write_text(PIPELINE.format(address=cluster.address))
        (folder / "order.json").write_text('{"type": "object", "required": ["id"]}')
        (folder / "example.json").write_text('{"id": "x", "eventId": "x"}')
        (folder / "work.py").write_text(HANDLER)
        (folder / "password").write_text(PASSWORD + "\n")
        (folder / "before").mkdir()
        self._users = iter(USERS)
        done = self.run("admin", "topics", "sync", "-y")
        assert done.code == 0, done.err
        assert self.run("admin", "send", "order").code == 0

    def environment(self, user: str) -> dict[str, str]:
        return {"KAFKA_USER": user, "CA": str(self.cluster.ca)}

    def run(self, user: str, *words: str, **env: str) -> Done:
        """`kpipe`, which never prints the password."""
        done = kpipe(self.folder, *words, env={**self.environment(user), **env})
        assert PASSWORD not in done.out + done.err
        assert "Traceback" not in done.err
        return done

    def users(self, number: int) -> list[str]:
        """Users that nobody else has."""
        return [next(self._users) for _ in range(number)]

    def pipeline(self, user: str) -> Pipeline:
        pipeline = load([self.folder / "pipeline.yaml"], self.environment(user)).pipeline
        assert pipeline is not None
        return pipeline

    def die(self, offset: int) -> str:
        """Put a letter of the event at `offset` into the DLQ; its id."""
        project = cast("Any", SimpleNamespace(pipeline=self.pipeline("admin")))
        out = letter(project, offset, b"{}", topic="orders", handler="pay", dlq="orders.dlq")
        producer = Producer({**self.cluster.client("admin"), "bootstrap.servers": self.cluster.address})
        producer.produce(out.topic, out.value, out.key, headers=list(out.headers))
        assert producer.flush(20) == 0
        return f"shop.pay/orders/0/{offset}"

    def refuses(self, words: Sequence[str], acls: Sequence[Acl], without: Sequence[Acl]) -> None:
        """Users who have `acls` save for one of `without` are told which, and exit with 4."""
        users = dict(zip(without, self.users(len(without)), strict=True))
        self.cluster.allow([(user, [acl for acl in acls if acl != left_out]) for left_out, user in users.items()])
        # Of these only one runs at a time.
        with ThreadPoolExecutor(1 if "up" in words or "redrive" in words else 4) as several:
            dones = several.map(lambda user: self.run(user, *words), users.values())
        for left_out, done in zip(users, dones, strict=True):
            assert done.code == 4, (left_out, done)
            assert str(left_out) in done.err, (left_out, done)

    def takes(self, words: Sequence[str], acls: Sequence[Acl]) -> Done:
        """A user who has just `acls` gets it done."""
        [user] = self.users(1)
        self.cluster.allow([(user, acls)])
        done = self.run(user, *words)
        assert done.code == 0, done
        return done


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("secured")
    with secured_kafka(folder) as cluster:
        (folder / "shop").mkdir()
        yield Shop(folder / "shop", cluster)


class Case(NamedTuple):
    """A command and the ACLs that it needs: the rows of docs/security.md."""

    words: tuple[str, ...]
    acls: tuple[Acl, ...]


def on(operation: str, *topics: str) -> tuple[Acl, ...]:
    return tuple(Acl(operation, "topic", topic) for topic in topics)


GROUP, ALL_GROUPS = Acl("DESCRIBE", "group", "shop.pay"), Acl("DESCRIBE", "group", "*")
EXACTLY_ONCE = Acl("WRITE", "transactional-id", "shop.pay", prefixed=True)
HANDLERS = (*on("READ", "orders", REDRIVE), Acl("READ", "group", "shop.pay"), *on("WRITE", "bills", "orders.dlq"))
CASES = {
    "tail": Case(("tail", "orders"), on("READ", "orders")),
    "send": Case(("send", "order"), on("WRITE", "orders")),
    "lag": Case(("lag",), (*on("DESCRIBE", "orders", REDRIVE), GROUP)),
    "dlq ls": Case(("dlq", "ls"), on("READ", "orders.dlq", REDRIVE)),
    "trace": Case(("trace", "orders/0/0"), (*on("READ", *TOPICS, REDRIVE), GROUP)),
    "schemas check --sample": Case(("schemas", "check", "--against", "before", "--sample", "5"), on("READ", "orders")),
    "topics sync --check": Case(
        ("topics", "sync", "--check"), (*on("DESCRIBE", *TOPICS), *on("DESCRIBE_CONFIGS", *TOPICS))
    ),
    "up": Case(("up",), HANDLERS),
    "wait idle": Case(("wait", "idle"), (*on("DESCRIBE", *TOPICS, REDRIVE), GROUP)),
    "dlq show": Case(("dlq", "show"), on("READ", "orders.dlq")),
    "dlq redrive": Case(
        ("dlq", "redrive", "-y"),
        (
            *on("READ", "orders.dlq", REDRIVE),
            *on("CREATE", REDRIVE),
            Acl("WRITE", "transactional-id", "shop.dlq-redrive"),
            *on("WRITE", REDRIVE),
        ),
    ),
    "dlq drop": Case(
        ("dlq", "drop", "orders.dlq", "--yes-drop", "orders.dlq"),
        (*on("READ", "orders.dlq", REDRIVE), *on("DELETE", "orders.dlq")),
    ),
    "topics sync --prune": Case(
        ("topics", "sync", "-y", "--prune", "--allow", "data-loss=old"),
        (*on("READ", CLAIMS), *on("WRITE", CLAIMS), *on("DELETE", "old"), ALL_GROUPS),
    ),
}
#: These need something to work on.
APART = ("up", "wait idle", "dlq show", "dlq redrive", "dlq drop", "topics sync --prune")


@pytest.mark.parametrize("name", [name for name in CASES if name not in APART])
def test_with_exactly_these_permissions_it_works(shop: Shop, name: str) -> None:
    shop.takes(*CASES[name])


@pytest.mark.parametrize("name", ["up", *(name for name in CASES if name not in APART)])
def test_without_any_one_of_them_the_error_names_it(shop: Shop, name: str) -> None:
    words, acls = CASES[name]
    shop.refuses(words, acls, acls)


def test_a_pipeline_runs_with_exactly_what_its_handlers_need(shop: Shop) -> None:
    [user] = shop.users(1)
    shop.cluster.allow([(user, CASES["up"].acls)])
    with running(shop.folder, "up", "--json", env=shop.environment(user)) as up:
        while json.loads(up.line(40))["type"] != "ready":
            pass
        assert shop.run("admin", "tail", "bills", "--expect", "1", "--timeout", "30s").code == 0
        assert shop.run(user, "wait", "idle").code == 0
        shop.takes(*CASES["wait idle"])
        shop.refuses(*CASES["wait idle"], CASES["wait idle"].acls)
        assert shop.run(user, "lag").code == 0
        assert up.interrupt() == 130


def test_topics_are_created_and_changed_with_what_that_needs(shop: Shop) -> None:
    needs = [("CREATE", "create"), ("ALTER", "grow"), ("ALTER_CONFIGS", "config")]
    users = shop.users(len(needs) + 1)
    name = "made"
    seen = (*on("DESCRIBE", name, *TOPICS), *on("DESCRIBE_CONFIGS", name, *TOPICS))
    every = [*seen, *(acl for operation, _ in needs for acl in on(operation, name))]
    lacking = [(user, [a for a in every if a.operation != what]) for user, (what, _) in zip(users, needs, strict=False)]
    shop.cluster.allow([*lacking, (users[-1], every)])
    steps = ("{partitions: 1}", "{partitions: 2}", "{partitions: 2, retention: 8d}")
    for user, (operation, _), declared in zip(users, needs, steps, strict=False):
        (shop.folder / "more.yaml").write_text(f"topics: {{{name}: {declared}}}\n")
        words = ("-f", "pipeline.yaml", "-f", "more.yaml", "topics", "sync", "-y")
        done = shop.run(user, *words)
        assert done.code == 4, done
        assert f"{operation} on the topic {name}" in done.err
        done = shop.run(users[-1], *words)
        assert done.code == 0, done.err


def test_what_may_not_be_seen_is_unknown_and_never_absent(shop: Shop) -> None:
    [user] = shop.users(1)
    rows = json.loads(shop.run(user, "topics", "ls", "--json").out)["topics"]
    assert {row["state"] for row in rows} == {"unknown"}
    done = shop.run(user, "topics", "sync", "-y")
    assert done.code == 4
    assert "0 to create" in done.out
    assert "DESCRIBE on the topic orders" in done.err
    assert "No dead letters" not in shop.run(user, "dlq", "ls").out


def test_scram(shop: Shop) -> None:
    shop.cluster.allow([(SCRAM_USER, [*on("READ", "orders"), *on("WRITE", "orders")])])
    assert shop.run(SCRAM_USER, "send", "order", MECHANISM="SCRAM-SHA-512").code == 0
    assert shop.run(SCRAM_USER, "tail", "orders", MECHANISM="SCRAM-SHA-512").code == 0


@pytest.mark.parametrize(
    "words", [("up",), ("tail", "orders"), ("topics", "ls"), ("send", "order"), ("broker", "status")]
)
def test_whoever_is_not_let_in_is_told_so(shop: Shop, words: tuple[str, ...]) -> None:
    done = shop.run("nobody", *words)
    assert done.code == 4, done
    assert "did not let us in" in done.err and "Invalid username or password" in done.err


def test_a_certificate_that_is_not_trusted(shop: Shop, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    done = shop.run("admin", "tail", "orders", CA=str(other))
    assert done.code == 4
    assert "did not let us in" in done.err and "certificate" in done.err
    done = shop.run("admin", "tail", "orders", CA=str(tmp_path / "gone.pem"))
    assert done.code == 2
    assert "ssl.ca.location" in done.err


def test_the_page_has_these_rows() -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `kpipe ([\w -]+)`.*? \| (.*?) \|$", page, flags=re.MULTILINE))
    for name, case in CASES.items():
        assert {acl.operation for acl in case.acls} == set(re.findall(r"\b[A-Z_]{4,}\b", rows[name])), name


def test_users_are_enough() -> None:
    assert len(USERS) > sum(len(case.acls) + 1 for case in CASES.values())


def test_whoever_may_read_and_not_write_is_told_by_the_producer(shop: Shop) -> None:
    reader, elsewhere = shop.users(2)
    shop.cluster.allow([(reader, on("READ", "orders")), (elsewhere, [*on("READ", "orders"), *on("WRITE", "bills")])])
    for user in (reader, elsewhere):
        done = shop.run(user, "send", "order")
        assert done.code == 4, done
        assert "WRITE on the topic orders" in done.err


def test_exactly_once_needs_the_transactional_ids(shop: Shop) -> None:
    (shop.folder / "exact.yaml").write_text("handlers: {pay: {guarantee: exactly-once}}\n")
    words = ("-f", "pipeline.yaml", "-f", "exact.yaml", "up", "--json")
    acls = (*HANDLERS, EXACTLY_ONCE)
    [user] = shop.users(1)
    shop.cluster.allow([(user, acls)])
    before = len(shop.run("admin", "tail", "bills", "--json", "-n", "100").out.splitlines())
    assert shop.run("admin", "send", "order").code == 0
    # Nothing is begun without: the order waits for whoever may.
    shop.refuses(words, acls, [EXACTLY_ONCE])
    assert len(shop.run("admin", "tail", "bills", "--json", "-n", "100").out.splitlines()) == before
    with running(shop.folder, *words, env=shop.environment(user)) as up:
        while json.loads(up.line(40))["type"] != "ready":
            pass
        want = str(before + 1)
        done = shop.run("admin", "tail", "bills", "-o", "beginning", "--expect", want, "--timeout", "30s")
        assert done.code == 0, done.err
        assert up.interrupt() == 130


def test_a_letter_is_shown_by_whoever_may_read_its_dlq(shop: Shop) -> None:
    words, acls = CASES["dlq show"]
    id_ = shop.die(1)
    assert f" {id_}\n" in shop.takes((*words, id_), acls).out
    shop.refuses((*words, id_), acls, acls)


def test_letters_go_back_with_exactly_what_that_needs(shop: Shop) -> None:
    words, acls = CASES["dlq redrive"]
    shop.die(2)
    create = next(acl for acl in acls if acl.operation == "CREATE")
    shop.refuses(words, acls, [create])
    shop.takes(words, acls)
    shop.die(3)  # the topic is there now
    shop.refuses(words, acls, [acl for acl in acls if acl != create])


def test_letters_are_dropped_with_exactly_what_that_needs(shop: Shop) -> None:
    words, acls = CASES["dlq drop"]
    shop.die(4)
    shop.refuses(words, acls, acls)
    shop.takes(words, acls)
    assert shop.run("admin", "dlq", "ls").out == "No dead letters.\n"


def test_topics_are_pruned_with_exactly_what_that_needs(shop: Shop) -> None:
    (shop.folder / "old.yaml").write_text("topics: {old: {partitions: 1, dlq: none}}\n")
    assert shop.run("admin", "-f", "pipeline.yaml", "-f", "old.yaml", "topics", "sync", "-y").code == 0
    words, acls = CASES["topics sync --prune"]
    seen = (*on("DESCRIBE", "old", *TOPICS), *on("DESCRIBE_CONFIGS", *TOPICS))
    shop.refuses(words, (*seen, *acls), on("READ", CLAIMS) + on("DELETE", "old"))
    # A group that may not be seen may read it.
    [blind] = shop.users(1)
    shop.cluster.allow([(blind, [acl for acl in (*seen, *acls) if acl != ALL_GROUPS])])
    done = shop.run(blind, *words)
    assert done.code == 2
    assert "--allow in-use=old" in done.err
    assert "DESCRIBE on all groups" in done.out
    done = shop.takes(words, (*seen, *acls))
    assert "- old" in done.out and "on record" not in done.err
    assert shop.run("admin", "topics", "sync", "--check").code == 0


def test_what_does_not_depend_on_a_refused_step_is_done_and_a_second_run_finishes(shop: Shop) -> None:
    def sync(user: str, *more: str) -> Done:
        return shop.run(user, "-f", "pipeline.yaml", "-f", "part.yaml", "topics", "sync", "-y", *more)

    [user] = shop.users(1)
    part = shop.folder / "part.yaml"
    part.write_text("topics: {gone: {partitions: 1, dlq: none}}\n")
    assert sync("admin").code == 0
    part.write_text("topics: {come: {partitions: 1, dlq: none}}\n")
    seen = on("DESCRIBE", "gone", "come", *TOPICS) + on("DESCRIBE_CONFIGS", "come", *TOPICS)
    shop.cluster.allow([(user, [*seen, *on("CREATE", "come"), *on("READ", CLAIMS), *on("WRITE", CLAIMS), ALL_GROUPS])])
    prune = ("--prune", "--allow", "data-loss=gone")
    done = sync(user, *prune)
    assert done.code == 1
    assert "gone: delete: " in done.err and "TOPIC_AUTHORIZATION_FAILED" in done.err
    assert "everything else was applied" in done.err
    shop.cluster.allow([(user, on("DELETE", "gone"))])
    done = sync(user, *prune)
    assert done.code == 0, done.err
    assert "Plan: 0 to create, 0 to grow, 0 to change, 1 to delete, 0 refused." in done.out
    assert sync("admin", "--dry-run").out == "Nothing to do: the topics are as declared.\n"


def test_replication_is_counted_from_the_replicas_and_not_from_those_in_sync(shop: Shop, tmp_path: Path) -> None:
    def connected() -> ClusterAdmin:
        return ClusterAdmin(client_properties(shop.pipeline("admin").kafka, "admin", shop.cluster.address))

    spec = TopicSpec("twice", 1, 2, {"min.insync.replicas": "2"})
    with shop.cluster.another_broker(tmp_path):
        admin = connected()
        assert admin.create([spec]) == {"twice": None}
        await_leaders([spec], admin)
    admins = shop.cluster.admin()

    def in_sync() -> int:
        return len(admins.list_topics("twice", timeout=5).topics["twice"].partitions[0].isrs)

    eventually(lambda: in_sync() == 1)
    admin = connected()
    assert look([spec], admin).is_empty
    assert [c.field for c in look([replace(spec, replication=1)], admin).refused] == ["replication"]
    refused = look([replace(spec, configs={"min.insync.replicas": "3"})], admin).refused
    assert [(c.field, c.new) for c in refused] == [("min.insync.replicas", "3")]
    assert admin.delete(["twice"]) == {"twice": None}


def test_services_publish_with_write_and_are_told_what_is_missing(shop: Shop) -> None:
    able, reader, elsewhere = shop.users(3)
    grants = [(able, on("WRITE", "orders")), (reader, on("READ", "orders")), (elsewhere, on("WRITE", "bills"))]
    shop.cluster.allow(grants)
    with Publisher(20.0, pipeline=shop.pipeline(able), environ={}) as publisher:
        assert publisher.publish("orders", {"id": "p"}).topic == "orders"
    for user in (reader, elsewhere):
        with (
            Publisher(20.0, pipeline=shop.pipeline(user), environ={}) as publisher,
            pytest.raises(ForbiddenError, match="WRITE on the topic orders"),
        ):
            publisher.publish("orders", {"id": "p"})
    pipeline = shop.pipeline(elsewhere)
    gate = Gate(pipeline, shop.cluster.address, {"t": "pay"}, 20.0)
    assert asyncio.run(gate.publish("pay", "bills", b'{"id":"p"}', None, {})).status == 202
    gate.close()
    gate = Gate(shop.pipeline(reader), shop.cluster.address, {"t": "pay"}, 20.0)
    answer = asyncio.run(gate.publish("pay", "bills", b'{"id":"p"}', None, {}))
    assert (answer.status, answer.body["error"]) == (503, "Kafka does not allow this user: WRITE on the topic bills")
    gate.close()
