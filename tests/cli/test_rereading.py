"""What `kpipe up` has checked is what runs: half-saved or missing files matter to `restart` and `--watch` only."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.kafka.producer import Producer
from orchestrator.kafka.properties import client_properties
from orchestrator.kafka.reader import Reader
from orchestrator.records import Outgoing, Record, TopicPartition
from tests.support.supervised import wait_until
from tests.support.up import Project, Up

pytestmark = pytest.mark.kafka

WORK = """
import os, signal
def handle(event):
    if event.value["n"] == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    print("did", event.value["n"], flush=True)
"""
#: A service that publishes one event in each of its lives, as SAYS wants it.
SERVICE = """
import time
from pathlib import Path
from publish import publish
publish(1)
print("published", flush=True)
time.sleep(600)
"""
BY_LIBRARY = """
from orchestrator import Publisher
def publish(n):
    Publisher().publish("jobs", {"n": n})
"""
BY_HTTP = """
import json, os, urllib.request
def publish(n):
    request = urllib.request.Request(os.environ["KPIPE_PUBLISH_URL"] + "/topics/jobs", json.dumps({"n": n}).encode())
    request.add_header("Authorization", "Bearer " + os.environ["KPIPE_PUBLISH_TOKEN"])
    assert urllib.request.urlopen(request).status == 202
"""
NUMBERS = {"type": "object", "properties": {"n": {"$ref": "shared/n.json"}}, "required": ["n"]}
WORDS = {"type": "object", "properties": {"n": {"type": "string"}}, "required": ["n"]}


class Shop:
    """A pipeline of one worker whose events have a number `n`, with an example beside it."""

    def __init__(self, folder: Path, kafka: str, handlers: str = "", partitions: int = 1) -> None:
        self.folder, self.kafka = folder, kafka
        self.project = Project(folder, kafka, {})
        self.namespace = f"n{secrets.token_hex(4)}"
        (folder / "schemas" / "shared").mkdir(parents=True)
        (folder / "work.py").write_text(WORK)
        self.schema = folder / "schemas" / "job.json"
        self.schema.write_text(json.dumps(NUMBERS))
        self.part = folder / "schemas" / "shared" / "n.json"
        self.part.write_text(json.dumps({"type": "integer", "maximum": 1000}))
        self.example = folder / "job-example.json"
        self.example.write_text('{"n": 1}')
        (folder / "secret").write_text("hush")
        self.file = folder / "pipeline.yaml"
        with self.file.open("a") as file:
            file.write(
                "  work: {python: 'work:handle', consumes: [jobs], dlq: jobs.dlq, env: {SECRET: '${file:secret}'}}\n"
                f"{handlers}namespace: {self.namespace}\n"
                f"topics: {{jobs: {{schema: schemas/job.json, dlq: jobs.dlq, partitions: {partitions}}}}}\n"
                "events: {job: {topic: jobs, example: job-example.json}}\n"
            )

    def send(self, values: Iterable[Any], partition_keys: bool = False) -> None:
        """As another program would: nothing is checked."""
        producer = Producer({"bootstrap.servers": self.kafka})
        failures: list[Any] = []
        for n, value in enumerate(values):
            key = str(n).encode() if partition_keys else None
            out = Outgoing(f"{self.namespace}.jobs", key, json.dumps(value).encode(), ())
            producer.send(out, lambda failure, p, o: failures.append(failure) if failure else None)
        assert producer.flush(30) == 0 and not failures

    def letters(self) -> list[Record]:
        tp = TopicPartition(f"{self.namespace}.jobs.dlq", 0)
        with Reader(client_properties(_kafka(self.kafka), "consumer", self.kafka)) as reader:
            tps = [TopicPartition(tp.topic, p) for p in range(reader.partitions(tp.topic))]
            return [r for batch in reader.read(reader.beginnings(tps), reader.ends(tps)) for r in batch]

    def reasons(self) -> list[str]:
        return sorted(dict(r.headers)["kpipe-dlq-reason"].decode() for r in self.letters())  # type: ignore[union-attr]

    def handler(self, name: str = "work") -> dict[str, Any]:
        listed = json.loads(self.project.kpipe("ps", "--json").stdout)["handlers"]
        return next(h for h in listed if h["name"] == name)

    def pids(self, name: str = "work") -> list[int]:
        return [one["pid"] for one in self.handler(name)["instances"]]

    def kill(self, name: str = "work") -> None:
        """kill -9 for one process of it, and wait until another one is ready."""
        pid = self.pids(name)[0]
        os.kill(pid, signal.SIGKILL)
        wait_until("it runs again", lambda: pid not in self.pids(name) and self._ready(name), 60)

    def _ready(self, name: str) -> bool:
        now = self.handler(name)
        assert now["state"] not in ("failed-to-start", "crash-loop"), now["last_error"]
        return bool(now["ready"] == now["replicas"])

    def settled(self, done: int, letters: int) -> None:
        def counted() -> bool:
            a = self.handler()["accounting"]
            return a is not None and (a["done"], a["dead_lettered"], a["in_flight"]) == (done, letters, 0)

        wait_until(f"{done} done, {letters} letters: {self.handler()}", counted, 60)


def _kafka(bootstrap: str) -> Any:
    from orchestrator.config.model import KafkaSettings

    return KafkaSettings(bootstrap)


def truncate(shop: Shop) -> None:
    shop.schema.write_bytes(shop.schema.read_bytes()[:20])


HARMS: dict[str, Callable[[Shop], None]] = {
    "the schema half saved": truncate,
    "the schema gone": lambda shop: shop.schema.unlink(),
    "what the schema refers to half saved": lambda shop: shop.part.write_text('{"typ'),
    "the example half saved": lambda shop: shop.example.write_text('{"n'),
    "the pipeline file half saved": lambda shop: shop.file.write_bytes(shop.file.read_bytes()[:90]),
    "the file of a value gone": lambda shop: (shop.folder / "secret").unlink(),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_worker_comes_back_with_what_was_checked_at_the_start(tmp_path: Path, kafka: str, harm: str) -> None:
    shop = Shop(tmp_path, kafka)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    with shop.project.up() as up:
        up.ready()
        HARMS[harm](shop)
        harmed = next(path for path, was in before.items() if not path.is_file() or path.read_bytes() != was)
        shop.kill()
        shop.send([{"n": 1}, {"n": "word"}, {"n": 1001}])
        shop.settled(1, 2)
        assert shop.reasons() == ["schema", "schema"]

        pids = shop.pids()
        refused = shop.project.kpipe("restart", "work")
        assert refused.returncode == 2, refused
        where = "pipeline.yaml" if harmed.name == "secret" else harmed.name
        assert where in refused.stderr and "error:" in refused.stderr and "warning:" not in refused.stderr
        assert "nothing was restarted" in refused.stderr and shop.pids() == pids
        findings = json.loads(shop.project.kpipe("restart", "work", "--json").stderr)["error"]["findings"]
        assert findings and {finding["severity"] for finding in findings} == {"error"}

        for path, was in before.items():
            path.write_bytes(was)
        shop.schema.write_text(json.dumps(WORDS))
        shop.example.write_text('{"n": "one"}')
        assert shop.project.kpipe("restart", "work").returncode == 0
        assert set(shop.pids()).isdisjoint(pids)
        shop.send([{"n": "word"}, {"n": 2}])
        shop.settled(2, 3)
        assert shop.project.kpipe("down").returncode == 0
        assert up.ended(20) == 0
    assert "could not start" not in up.err + up.out


def test_an_event_that_kills_is_tried_alone_while_the_files_are_broken(tmp_path: Path, kafka: str) -> None:
    shop = Shop(tmp_path, kafka)
    with shop.project.up() as up:
        up.ready()
        truncate(shop)
        shop.example.unlink()
        shop.send([{"n": 7}, {"n": 8}])
        shop.settled(1, 1)
        assert shop.reasons() == ["crash"]


def test_replicas_of_a_handler_have_one_contract(tmp_path: Path, kafka: str) -> None:
    """Old ones and those that `scale` adds, until a restart gives all of them the new one."""
    shop = Shop(tmp_path, kafka, partitions=8)
    with shop.project.up() as up:
        up.ready()
        shop.schema.write_text(json.dumps(WORDS))
        shop.example.write_text('{"n": "one"}')
        assert shop.project.kpipe("scale", "work=3").returncode == 0
        shop.send([{"n": 100 + n} for n in range(80)], partition_keys=True)
        shop.settled(80, 0)
        assert shop.project.kpipe("restart", "work").returncode == 0
        assert len(shop.pids()) == 3, "as many as `scale` said"
        shop.send([{"n": str(n)} for n in range(80)], partition_keys=True)
        shop.settled(160, 0)
        shop.send([{"n": 100 + n} for n in range(80)], partition_keys=True)
        shop.settled(160, 80)


def test_a_restart_takes_the_options_of_its_handler_and_leaves_others_alone(tmp_path: Path, kafka: str) -> None:
    other = "  other: {python: 'work:handle', consumes: [jobs], dlq: jobs.dlq, env: {WHO: one}}\n"
    shop = Shop(tmp_path, kafka, other)
    text = shop.file.read_text()
    with shop.project.up() as up:
        up.ready()
        shop.file.write_text(text.replace("WHO: one", "WHO: two").replace("hush", "x").replace("secret}", "secret2}"))
        (tmp_path / "secret2").write_text("louder")
        other_pids = shop.pids("other")
        assert shop.project.kpipe("restart", "work").returncode == 0
        assert shop.pids("other") == other_pids
        assert _environ(shop.pids()[0])["SECRET"] == "louder"
        shop.kill("other")
        assert _environ(shop.pids("other")[0])["WHO"] == "one", "as it was started, until it is restarted itself"
        assert shop.project.kpipe("restart", "other").returncode == 0
        assert _environ(shop.pids("other")[0])["WHO"] == "two"

        shop.file.write_text(text.replace("  work:", "  renamed:"))
        gone = shop.project.kpipe("restart", "work")
        assert gone.returncode == 2 and "declares no handler `work` any more" in gone.stderr
        shop.file.write_text(text.replace("kafka: {", "kafka: {consumer: {fetch.min.bytes: 2}, "))
        cluster = shop.project.kpipe("restart", "work")
        assert cluster.returncode == 2 and "kafka stay as they are" in cluster.stderr


def _environ(pid: int) -> dict[str, str]:
    return psutil.Process(pid).environ()


@pytest.mark.parametrize("way", [BY_LIBRARY, BY_HTTP], ids=["library", "endpoint"])
def test_a_service_publishes_by_the_contracts_it_was_started_with(tmp_path: Path, kafka: str, way: str) -> None:
    (tmp_path / "publish.py").write_text(way)
    (tmp_path / "service.py").write_text(SERVICE)
    shop = Shop(tmp_path, kafka, f"  api: {{service: {sys.executable} service.py, produces: [jobs]}}\n")
    with shop.project.up() as up:
        up.ready()
        shop.settled(1, 0)
        truncate(shop)
        shop.file.write_bytes(shop.file.read_bytes()[:90])
        for gate in _gates(up):
            gate.kill()
        shop.kill("api")
        shop.settled(2, 0)


def test_the_publish_endpoint_has_the_contracts_of_the_last_restart(tmp_path: Path, kafka: str) -> None:
    (tmp_path / "publish.py").write_text(BY_HTTP)
    (tmp_path / "service.py").write_text(SERVICE)
    shop = Shop(tmp_path, kafka, f"  api: {{service: {sys.executable} service.py, produces: [jobs]}}\n")
    with shop.project.up() as up:
        up.ready()
        shop.settled(1, 0)
        shop.schema.write_text(json.dumps(WORDS))
        shop.example.write_text('{"n": "one"}')
        (tmp_path / "service.py").write_text(SERVICE.replace("publish(1)", "publish('word')"))
        assert shop.project.kpipe("restart", "api", "work").returncode == 0
        shop.settled(2, 0)


def _gates(up: Up) -> list[psutil.Process]:
    children = psutil.Process(up.process.pid).children(recursive=True)
    return [child for child in children if "orchestrator.publish.gateway" in child.cmdline()]


def test_schemas_of_megabytes_reach_every_worker(tmp_path: Path, kafka: str) -> None:
    shop = Shop(tmp_path, kafka)
    words = [secrets.token_hex(40) for _ in range(52_000)]
    schema = {**NUMBERS, "properties": {"n": {"type": "integer"}, "word": {"enum": words}}}
    shop.schema.write_text(json.dumps(schema))
    assert shop.schema.stat().st_size > 4_000_000
    with shop.project.up(after=("--scale", "work=3")) as up:
        up.ready()
        truncate(shop)
        shop.kill()
        shop.send([{"n": 1, "word": words[-1]}, {"n": 1, "word": "none of them"}])
        shop.settled(1, 1)
