"""`DockerBroker` against a program that answers like `docker`: which words it is given, what its failures become."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.brokers import BrokerRecord, DockerBroker, recorded
from orchestrator.brokers import record as records
from orchestrator.errors import BrokerError, UsageError

FAKE = f"""#!{sys.executable}
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as log:
    log.write(json.dumps([sys.argv[1:], os.environ.get("KPIPE_KAFKA_PORT")]) + "\\n")
answers = json.loads((here / "answers").read_text())
line = " ".join(sys.argv[1:])
for part, code, out, err in answers:
    if part in line:
        print(out, end=""); print(err, end="", file=sys.stderr); sys.exit(code)
"""


@dataclass
class Docker:
    """The pretended engine: answers by a part of the command line, and what it was asked."""

    folder: Path

    def answer(self, *answers: tuple[str, int, str, str]) -> None:
        (self.folder / "answers").write_text(json.dumps(answers))

    def calls(self) -> list[tuple[list[str], str | None]]:
        if not (self.folder / "calls").exists():
            return []
        return [tuple(json.loads(line)) for line in (self.folder / "calls").read_text().splitlines()]

    def words(self, verb: str) -> list[str]:
        """The one call with this verb, from the verb on."""
        (found,) = (call for call, _ in self.calls() if verb in call)
        return found[found.index(verb) :]


@pytest.fixture
def docker(tmp_path: Path) -> Docker:
    made = Docker(tmp_path / "bin")
    made.folder.mkdir()
    (made.folder / "docker").write_text(FAKE)
    (made.folder / "docker").chmod(0o755)
    made.answer()
    return made


def broker(tmp_path: Path, docker: Docker, *, answers: bool = True, **more: object) -> DockerBroker:
    (tmp_path / "project").mkdir(exist_ok=True)
    environ = {"PATH": str(docker.folder)}
    return DockerBroker(tmp_path / "project" / ".kpipe", lambda _: answers, environ=environ, **more)  # type: ignore[arg-type]


def test_start_waits_for_the_health_check_and_records_the_address(tmp_path: Path, docker: Docker) -> None:
    address = broker(tmp_path, docker).start(20)
    assert docker.words("up") == ["up", "--detach", "--wait", "--wait-timeout", "20", "kafka"]
    port = docker.calls()[-1][1]
    assert address == f"127.0.0.1:{port}"
    found = recorded(tmp_path / "project" / ".kpipe")
    assert found == BrokerRecord(address, "docker", None, "broker", version=found.version if found else "")


def test_a_second_start_keeps_the_port_though_it_is_in_use(tmp_path: Path, docker: Docker) -> None:
    first = broker(tmp_path, docker).start(20)
    docker.answer(("--status running", 0, "kafka\n", ""))
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", int(first.split(":")[1])))
        server.listen()
        assert broker(tmp_path, docker).start(20) == first


def test_two_folders_are_two_compose_projects(tmp_path: Path, docker: Docker) -> None:
    one = DockerBroker(tmp_path / "a" / ".kpipe", lambda _: True, environ={})
    two = DockerBroker(tmp_path / "b" / ".kpipe", lambda _: True, environ={})
    assert one.project != two.project
    assert one.project == DockerBroker(tmp_path / "a" / ".kpipe", lambda _: True, environ={}).project


def test_the_folders_own_compose_file_is_used_when_it_has_a_kafka(tmp_path: Path, docker: Docker) -> None:
    made = broker(tmp_path, docker)
    own = tmp_path / "project" / "compose.yaml"
    own.write_text("services: {kafka: {}}")
    docker.answer(("config --services", 0, "db\nkafka\n", ""))
    made.start(20)
    assert str(own) in docker.calls()[-1][0]


def test_a_compose_file_about_other_things_is_left_alone(tmp_path: Path, docker: Docker) -> None:
    made = broker(tmp_path, docker)
    own = tmp_path / "project" / "compose.yaml"
    own.write_text("services: {db: {}}")
    docker.answer(("config --services", 0, "db\n", ""))
    made.start(20)
    assert str(own) not in docker.calls()[-1][0]
    assert any(word.endswith("brokers/compose.yaml") for word in docker.calls()[-1][0])


def test_stop_keeps_the_volume(tmp_path: Path, docker: Docker) -> None:
    docker.answer(("--status running", 0, "kafka\n", ""))
    made = broker(tmp_path, docker)
    made.start(20)
    assert made.stop(7)
    assert docker.words("down") == ["down", "--timeout", "7"]
    assert recorded(tmp_path / "project" / ".kpipe") is None


def test_stop_without_a_container_is_fine(tmp_path: Path, docker: Docker) -> None:
    assert not broker(tmp_path, docker).stop(5)


def test_wipe_deletes_the_volume(tmp_path: Path, docker: Docker) -> None:
    docker.answer(("volume ls", 0, "kpipe-1_kafka-data\n", ""))
    broker(tmp_path, docker).wipe()
    assert docker.words("down") == ["down", "--volumes"]


def test_wipe_leaves_docker_alone_where_it_has_nothing_of_the_project(tmp_path: Path, docker: Docker) -> None:
    """The volumes that a compose.yaml names are anybody's: one that came with a checkout deletes none."""
    made = broker(tmp_path, docker)
    (tmp_path / "project" / "compose.yaml").write_text("volumes: {x: {name: of-another-project}}")
    made.wipe()
    assert not any("down" in words for words, _ in docker.calls())
    asked = [words for words, _ in docker.calls() if "--filter" in words]
    assert [words[-1] for words in asked] == [f"label=com.docker.compose.project={made.project}"] * 2


def test_a_record_that_came_with_a_checkout_starts_no_docker(tmp_path: Path, docker: Docker) -> None:
    """It names a Kafka in Docker, which the compose.yaml beside it would then be asked about."""
    made = broker(tmp_path, docker)
    made.start(20)
    state = tmp_path / "project" / ".kpipe"
    copied = tmp_path / "copy" / ".kpipe"
    shutil.copytree(state, copied)
    assert recorded(state) is not None and recorded(copied) is None
    planted = json.loads((copied / "broker.json").read_text())
    for seal in ({}, {"seal": ""}, {"seal": None}, {"seal": 0}):
        (copied / "broker.json").write_text(json.dumps({k: v for k, v in planted.items() if k != "seal"} | seal))
        assert recorded(copied) is None


def test_fetch_pulls_the_image_once(tmp_path: Path, docker: Docker) -> None:
    made = broker(tmp_path, docker)
    images = ("config --images", 0, "apache/kafka:1\n", "")
    docker.answer(images, ("image inspect", 1, "", "Error: No such image: apache/kafka:1"))
    assert made.fetch()
    assert docker.words("pull") == ["pull", "--quiet", "kafka"]
    docker.answer(images)
    assert not made.fetch()
    assert docker.words("pull") == ["pull", "--quiet", "kafka"]


def test_stop_leaves_the_broker_of_a_running_up_alone(tmp_path: Path, docker: Docker) -> None:
    made = broker(tmp_path, docker)
    mine = BrokerRecord("127.0.0.1:1", "docker", None, "up", owner_pid=os.getppid())
    records.write(tmp_path / "project" / ".kpipe", mine)
    with pytest.raises(UsageError, match="belongs to the running `kpipe up`"):
        made.stop(5)
    assert docker.calls() == []


def test_the_broker_of_up_is_recorded_as_its_own(tmp_path: Path, docker: Docker) -> None:
    broker(tmp_path, docker, started_by="up").start(20)
    found = recorded(tmp_path / "project" / ".kpipe")
    assert found is not None and (found.started_by, found.owner_pid) == ("up", os.getpid())


@pytest.mark.parametrize(
    ("part", "said", "message"),
    [
        ("version --format", "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is it running?",
         "no Docker engine answers"),
        ("version --format", "permission denied while trying to connect to the Docker daemon socket",
         "may not be used by this user"),
        ("compose version", "docker: 'compose' is not a docker command.", "has no `docker compose`"),
        ("compose version", "docker: unknown command: docker compose\n\nRun it", "has no `docker compose`"),
        (" up ", "Error response from daemon: Bind for 127.0.0.1:20001 failed: port is already allocated",
         "port is in use"),
        (" up ", "Error response from daemon: manifest for apache/kafka:9 not found: manifest unknown",
         "could not be pulled"),
        (" up ", "container kpipe-1-kafka-1 is unhealthy", "did not become healthy"),
        (" up ", "dependency failed to start: container x exited (1)", "did not become healthy"),
        (" up ", "first\nsomething new\n", "`docker compose up .* failed: something new"),
    ],
)  # fmt: skip
def test_failures_in_words(tmp_path: Path, docker: Docker, part: str, said: str, message: str) -> None:
    docker.answer((part, 1, "", said))
    with pytest.raises(BrokerError, match=message) as caught:
        broker(tmp_path, docker).start(20)
    assert caught.value.hint and caught.value.exit_code == 4
    assert recorded(tmp_path / "project" / ".kpipe") is None


def test_without_docker(tmp_path: Path) -> None:
    made = DockerBroker(tmp_path / ".kpipe", lambda _: False, environ={"PATH": str(tmp_path)})
    with pytest.raises(BrokerError, match="no `docker` on the PATH") as caught:
        made.start(5)
    assert "leave out `--kafka docker`" in caught.value.hint


def test_healthy_but_silent(tmp_path: Path, docker: Docker) -> None:
    with pytest.raises(BrokerError, match=r"no Kafka answers at 127\.0\.0\.1"):
        broker(tmp_path, docker, answers=False).start(0.1)


def test_status(tmp_path: Path, docker: Docker) -> None:
    made = broker(tmp_path, docker)
    assert made.status().state == "stopped"
    made.start(20)
    assert made.status().state == "running"
    away = broker(tmp_path, docker, answers=False)
    assert away.status().state == "stopped"
    docker.answer(("--status running", 0, "kafka\n", ""))
    assert away.status().state == "unreachable"
