"""`kpipe doctor`: it finds what is missing, and says what to do."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
from pathlib import Path

import pytest

from tests.docs.test_json_docs import check
from tests.support.shell import KPIPE, environment, kpipe

PIPELINE = """
kpipe: 1
pipeline: shop
kafka: {{bootstrap: "{bootstrap}"}}
handlers:
  web: {{service: sleep 600, port: {port}}}
"""
Checks = dict[str, dict[str, str]]


def examined(folder: Path, env: dict[str, str] | None = None) -> tuple[int, Checks]:
    """The exit code, and the checks by name."""
    done = kpipe(folder, "doctor", "--json", env=env)
    assert done.err == ""
    shape = json.loads(done.out)
    check("checks", shape)
    assert all(bool(one["fix"]) == (one["state"] != "ok") for one in shape["checks"]), "every fault has its fix"
    assert (done.code == 1) == any(one["state"] == "problem" for one in shape["checks"])
    return done.code, {one["name"]: one for one in shape["checks"]}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def project(folder: Path, *, bootstrap: str = "", port: int = 0) -> None:
    (folder / "pipeline.yaml").write_text(PIPELINE.format(bootstrap=bootstrap, port=port or free_port()))


@pytest.mark.kafka
def test_all_is_well(kafka: str, tmp_path: Path) -> None:
    project(tmp_path, bootstrap=kafka)
    code, checks = examined(tmp_path)
    assert code == 0
    states = {name: checks[name]["state"] for name in ("python", "pipeline", "broker", "port")}
    assert set(states.values()) == {"ok"}
    assert kafka in checks["broker"]["message"]


def test_without_a_project_it_says_how_to_get_one(tmp_path: Path) -> None:
    _, checks = examined(tmp_path)
    assert checks["pipeline"]["state"] == "warning"
    assert "kpipe init" in checks["pipeline"]["fix"]
    assert checks["broker"] == {"name": "broker", "state": "ok", "message": checks["broker"]["message"], "fix": ""}


def test_a_file_with_errors(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text("kpipe: 1\npipeline: shop\ntopcis: {}\n")
    code, checks = examined(tmp_path)
    assert code == 1
    assert checks["pipeline"]["message"] == "1 error in pipeline.yaml"
    assert "kpipe validate" in checks["pipeline"]["fix"]


def test_a_kafka_that_does_not_answer(tmp_path: Path) -> None:
    project(tmp_path, bootstrap=f"127.0.0.1:{free_port()}")
    code, checks = examined(tmp_path)
    assert code == 1
    assert "cannot reach Kafka" in checks["broker"]["message"]
    assert checks["kafka"]["state"] != "problem", "a Kafka is named: none is needed here"


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        project(tmp_path, port=port)
        code, checks = examined(tmp_path)
    assert code == 1
    assert checks["port"]["message"] == f"{port}, which web needs, is in use"
    assert str(port) in checks["port"]["fix"]


def test_a_wrong_kafka_home_an_empty_cache_and_no_docker(tmp_path: Path) -> None:
    project(tmp_path)
    code, checks = examined(tmp_path, {"KAFKA_HOME": str(tmp_path), "PATH": "/nowhere"})
    assert code == 1
    assert "KAFKA_HOME" in checks["kafka"]["message"]
    assert checks["docker"]["state"] == "warning"
    _, checks = examined(tmp_path, {"KPIPE_CACHE": str(tmp_path / "none"), "KAFKA_HOME": ""})
    assert checks["kafka"]["state"] == "warning"
    assert "kpipe broker fetch" in checks["kafka"]["fix"]
    assert not (tmp_path / "none").exists(), "looking changes nothing"


def test_few_open_files(tmp_path: Path) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 400))

    words = [KPIPE, "doctor", "--json"]
    done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, timeout=60, preexec_fn=few)
    limit = json.loads(done.stdout)["checks"][-1]
    assert (limit["state"], limit["message"]) == ("warning", "at most 200")
    assert "ulimit -n" in limit["fix"]


def test_for_people(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text("kpipe: 1\npipeline: shop\ntopcis: {}\n")
    code, out, err = kpipe(tmp_path, "doctor")
    assert code == 1
    assert "problem  pipeline     1 error in pipeline.yaml\n                      fix: `kpipe validate`" in out
    assert err.splitlines()[-1].startswith("1 problem") or "problems" in err


def test_a_state_folder_that_is_a_link(tmp_path: Path) -> None:
    project(tmp_path)
    (tmp_path / ".kpipe").symlink_to("/")
    code, checks = examined(tmp_path)
    assert code == 1 and checks["state"]["state"] == "problem"
    assert "symbolic link" in checks["state"]["message"] and "remove it" in checks["state"]["fix"]
