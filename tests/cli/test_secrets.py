"""What comes from the environment is printed by no command, and reaches only the processes that it is for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.shell import kpipe
from tests.support.up import Project

#: Where nothing listens, by a name that no message has for other reasons.
NOWHERE = "127.0.0.99:1"
FILE = """\
kpipe: 1
pipeline: shop
kafka:
  bootstrap: ${WHERE}
  client: {debug: "${DEBUG:-conf}"}
topics:
  orders: {dlq: "${LETTERS}"}
  paid: {}
handlers:
  pay: {python: "m:f", consumes: ["${TOPIC}"], produces: [paid]}
  late: {python: "m:f", consumes: [paid], dlq: "${LETTERS}"}
  web: {service: "${PROG} --serve"}
"""
ENV = {"WHERE": NOWHERE, "LETTERS": "s3cr3t.dlq", "TOPIC": "orders", "PROG": "s3cr3t-program"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.yaml").write_text(FILE)
    (tmp_path / "m.py").write_text("def f(event):\n    return None\n")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    ["validate", "graph", "graph --format mermaid", "graph --json", "broker status", "broker status --json",
     "broker stop", "broker start --kafka local", "doctor", "doctor --json", "topics ls", "lag", "tail orders", "up"],
)  # fmt: skip
def test_no_command_prints_it(folder: Path, words: str) -> None:
    done = kpipe(folder, *words.split(), env=ENV)
    printed = done.out + done.err
    assert printed and "s3cr3t" not in printed and NOWHERE not in printed
    assert "Traceback" not in printed


def test_the_graph_shows_it_as_it_is_written(folder: Path) -> None:
    text = kpipe(folder, "graph", env=ENV).out
    assert "x> ${LETTERS}" in text and "<- orders" in text
    drawn = json.loads(kpipe(folder, "graph", "--json", env=ENV).out)
    assert {topic["name"] for topic in drawn["topics"]} == {"orders", "paid", "${LETTERS}"}
    assert {"from": "pay", "to": "${LETTERS}", "kind": "dead-letters"} in drawn["edges"]


def test_an_error_names_the_cluster_as_the_file_does(folder: Path) -> None:
    done = kpipe(folder, "topics", "ls", env=ENV)
    assert done.code == 4 and "error: cannot reach Kafka at ${WHERE}: " in done.err


@pytest.mark.parametrize("words", ["topics ls", "lag", "doctor", "broker status", "up"])
def test_a_value_that_librdkafka_refuses(folder: Path, words: str) -> None:
    done = kpipe(folder, *words.split(), env={**ENV, "DEBUG": "s3cr3t"})
    printed = done.out + done.err
    assert 'Invalid value "${DEBUG:-conf}" for configuration property "debug"' in printed
    assert "s3cr3t" not in printed and "Traceback" not in printed


@pytest.mark.parametrize("words", ["validate", "topics ls", "lag", "tail orders", "up", "send orders {}"])
def test_a_property_that_runs_code_stops_every_command(tmp_path: Path, words: str) -> None:
    planted = tmp_path / "evil.so"
    planted.write_text("")
    (tmp_path / "pipeline.yaml").write_text(
        "kpipe: 1\npipeline: p\nkafka:\n  bootstrap: 127.0.0.1:1\n  client:\n"
        f"    plugin.library.paths: {planted}\ntopics: {{orders: {{}}}}\n"
    )
    done = kpipe(tmp_path, *words.split())
    assert done.code == 2 and "pipeline.yaml:6:5: error: `plugin.library.paths` loads libraries" in done.out + done.err
    allowed = kpipe(tmp_path, *words.split(), env={"KPIPE_ALLOW_PROPERTIES": "plugin.library.paths"})
    # The library is looked for, and is none.
    assert allowed.code == 0 if words == "validate" else "plugin" in allowed.err or "evil.so" in allowed.err


#: Writes its environment, and that of the process that started it if that is a shim, where the test finds it.
TELL = """
import json, os, time
with open("env.tmp", "w") as file:
    json.dump(dict(os.environ), file)
os.rename("env.tmp", "env.json")
time.sleep(600)
"""


#: Publishes by what `kpipe up` tells it: the pipeline file's references are not in its environment.
PUBLISH = """
import os, time
from orchestrator import Publisher
with Publisher() as publisher:
    publisher.publish("orders", {"id": 1}, key="k")
print("published, with" if "MY_TOKEN" in os.environ else "published, without", flush=True)
time.sleep(600)
"""


@pytest.mark.kafka
def test_a_running_service_has_its_own_variables_only(tmp_path: Path, kafka: str) -> None:
    secrets = {"AWS_SECRET_ACCESS_KEY": "s3cr3t-1", "MY_TOKEN": "s3cr3t-2", "OTHER": "s3cr3t-3", "WHERE": kafka}
    options = "env: {TOKEN: '${MY_TOKEN}'}, inherit-env: [OTHER]"
    services = {"tell": TELL, "publish": PUBLISH}
    project = Project(tmp_path, "${WHERE}", services, tell=options, publish="produces: [orders]")
    with (tmp_path / "pipeline.yaml").open("a") as file:
        file.write("topics: {orders: {}}\n")
    with project.up(env={**os.environ, **secrets}) as up:
        up.ready().says("published, without")
        told = _read(tmp_path / "env.json")
        assert {name for name, value in told.items() if "s3cr3t" in value} == {"TOKEN", "OTHER"}
        assert told["KPIPE_BOOTSTRAP"] == kafka and told["PATH"] and told["HOME"] == os.environ["HOME"]
        listed = project.kpipe("ps", "--json", env={**os.environ, **secrets}).stdout
        words = [Path(f"/proc/{process.pid}/cmdline").read_text() for process in project.processes]
        assert words and "s3cr3t" not in listed + "".join(words)
        assert kafka not in up.out + up.err and "Kafka answers at ${WHERE}" in up.err
        assert project.kpipe("down").returncode == 0


def _read(path: Path) -> dict[str, Any]:
    from tests.support.supervised import wait_until

    wait_until("it has told", path.exists)
    told: dict[str, Any] = json.loads(path.read_text())
    return told
