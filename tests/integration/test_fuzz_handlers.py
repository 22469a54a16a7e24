"""Random records against every kind of handler, and against the topic of redriven letters. See test_fuzz_records.py."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.endpoint import Reply, endpoint
from tests.support.foreign import Foreign, send
from tests.support.noise import Noise, allow, write
from tests.support.programs import program
from tests.support.shell import kpipe
from tests.support.worker import Project, Worker

pytestmark = pytest.mark.kafka

SEED = int(os.environ.get("KPIPE_FUZZ_SEED", "20261130"))
RECORDS = 600
WARM = 50
PARTITIONS = 2

YAML = """
pipeline: fuzz
defaults:
  topic: {{partitions: 2}}
  handler: {{retry: {{attempts: 1}}, fuse: off}}
topics:
  in: {{schema: in.json, key: k, dlq: in.dlq}}
  out: {{dlq: out.dlq}}
handlers:
  lanes: {{python: 'code:handle', concurrency: 4, consumes: [in], produces: [out], dlq: lanes.dlq}}
  program: {{exec: {argv}, consumes: [in], produces: [out], dlq: program.dlq}}
  endpoint: {{http: '{url}', consumes: [in], produces: [out], dlq: endpoint.dlq}}
"""
CODE = """
import pathlib
from orchestrator import Emit, Reject

def handle(event):
    if event.value and event.value.get("do") and not pathlib.Path("fixed").exists():
        raise Reject("no")
    return Emit("out", {}, headers=event.headers)
"""
PROGRAM = """
sys.set_int_max_str_digits(0)
sys.setrecursionlimit(5_000)
for line in requests:
    event = json.loads(line)
    say({"id": event["id"], "emit": [{"topic": "out", "value": {}, "headers": event["headers"]}]})
"""
HANDLERS = ("lanes", "program", "endpoint")


@pytest.mark.timeout(600)
def test_every_kind_of_handler_gets_over_it(tmp_path: Path, kafka: str) -> None:
    print(f"KPIPE_FUZZ_SEED={SEED}")
    with endpoint(lambda request: Reply(204)) as there, ExitStack() as running:
        yaml = YAML.format(url=there.url, argv=json.dumps(program(PROGRAM)))
        project = Project(tmp_path, kafka, yaml, {"code.py": CODE, "in.json": '{"type": "object"}'})
        topic = project.name("in")
        allow(project, [topic])
        noise = Noise(SEED, project.pipeline.handlers["lanes"].group, [topic])
        workers = {name: running.enter_context(project.worker(name)) for name in HANDLERS}
        send(kafka, [Foreign(topic, b"k", b'{"n":1}', (), n % PARTITIONS) for n in range(WARM)])
        settled(workers, WARM)
        write(kafka, noise.records(topic, PARTITIONS, RECORDS))
        settled(workers, WARM + RECORDS)
        (tmp_path / "fixed").touch()
        redriven(project, noise, workers)
        assert [worker.terminate() for worker in workers.values()] == [0, 0, 0]
    assert "Traceback" not in "".join(worker.log for worker in workers.values())


def settled(workers: Mapping[str, Worker], count: int) -> None:
    for name, worker in workers.items():
        counts = worker.wait_settled(count, 120)
        assert counts["done"] + counts["dead_lettered"] + counts["skipped"] == counts["in"] == count, (name, counts)


def redriven(project: Project, noise: Noise, workers: Mapping[str, Worker]) -> None:
    """Letters go back, and then what nobody sent back comes into the same topic."""
    ran = project.pipeline.handlers["lanes"]
    before = workers["lanes"].accounting
    done = kpipe(project.folder, "dlq", "redrive", "lanes.dlq", "-y")
    assert done.code == 0 and "Traceback" not in done.err, done.err
    topic = project.pipeline.inputs_of(ran).redrive
    assert topic is not None
    letters = len(project.read_cluster(topic))
    assert letters > 0
    workers["lanes"].wait_settled(before["in"] + letters, 60)
    allow(project, [topic])
    write(project.bootstrap, noise.records(topic, PARTITIONS, RECORDS))
    workers["lanes"].wait_settled(before["in"] + letters + RECORDS, 60)
