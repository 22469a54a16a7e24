"""Looking at a running pipeline and changing it: `ps`, `restart`, `scale`, `wait`, with small services."""

from __future__ import annotations

import json
import re
import secrets
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.errors import UsageError
from orchestrator.supervisor.control.client import ask
from tests.support.shell import kpipe, on_terminal, running
from tests.support.supervised import wait_until
from tests.support.up import CRASH, DEAF, IDLE, WEB, Project, Up, free_port

pytestmark = pytest.mark.kafka

#: Fails as long as there is no file named `healed`.
SICK = f"import os, sys\nif not os.path.exists('healed'): sys.exit('ill')\n{IDLE}"


def handlers(project: Project, *words: str) -> dict[str, dict[str, Any]]:
    return {h["name"]: h for h in json.loads(project.kpipe("ps", "--json", *words).stdout)["handlers"]}


def pids(project: Project, name: str) -> list[int]:
    return [one["pid"] for one in handlers(project)[name]["instances"]]


def scraped(up: Up) -> dict[tuple[str, ...], float]:
    """The metrics as a Prometheus would have them: the name, and the labels' values in the order of their names."""
    found = re.search(r"http://127\.0\.0\.1:\d+/metrics", up.err)
    assert found
    answer = httpx.get(found[0])
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.text)
    return {(s.name, *(s.labels[k] for k in sorted(s.labels))): s.value for family in families for s in family.samples}


# -- ps ---------------------------------------------------------------------------------------------------------------


def test_ps_shows_what_went_wrong_and_the_command_that_shows_more(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"bad": CRASH, "idle": IDLE, "other": IDLE})
    with project.up("--json") as up:
        up.says('"type": "gave-up"')
        done = project.kpipe("ps")
        head, bad, error, idle, _ = done.stdout.splitlines()
        assert head.split() == ["HANDLER", "STATE", "REPLICAS", "UP", "RESTARTS", "IN/s", "OUT/s", "LAG", "DLQ"]
        assert bad.split() == ["bad", "crash-loop", "0/1", "-", "4", "-", "-", "-", "-"]
        assert error == "  last error: boom  (`kpipe logs bad` · `kpipe restart bad`)"
        assert idle.split()[:3] == ["idle", "ready", "1/1"]
        assert (done.returncode, done.stderr) == (0, "")


def test_ps_a_shows_what_does_not_run_too(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"one": IDLE, "two": IDLE})
    with running(tmp_path, "up", "two"):
        assert project.kpipe("wait", "ready").returncode == 0
        assert list(handlers(project)) == ["two"]
        everything = handlers(project, "-a")
        assert [(h["name"], h["state"], h["replicas"]) for h in everything.values()] == [
            ("one", "stopped", 0),
            ("two", "ready", 1),
        ]
        assert project.kpipe("ps", "-a").stdout.splitlines()[1].split()[:3] == ["one", "stopped", "0/0"]
        project.kpipe("down")


def test_ps_watch(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"idle": IDLE})
    refused = project.kpipe("ps", "--watch")
    assert refused.returncode == 2 and "needs a terminal" in refused.stderr and refused.stdout == ""
    assert project.kpipe("ps", "--watch", "--json").stdout == "", "it ends with the pipeline"
    with project.up() as up:
        up.ready()
        with running(tmp_path, "ps", "--watch", "--json") as watch:
            for _ in range(2):
                assert json.loads(watch.line())["handlers"][0]["state"] == "ready"
            assert watch.interrupt() == 130
        with running(tmp_path, "ps", "--watch", "--json") as watch:
            watch.line()
            project.kpipe("down")
            assert watch.child.wait(10) == 0
    with project.up() as up:
        up.ready()
        terminal = Terminal(tmp_path)
        wait_until("two tables", lambda: terminal.seen.count(b"HANDLER") >= 2)
        project.kpipe("down")
        assert terminal.ended() == 0
        assert b"idle" in terminal.seen and b"nothing runs" in terminal.seen


class Terminal:
    """`kpipe ps --watch` on a terminal, read in a thread."""

    def __init__(self, folder: Path) -> None:
        import threading

        self.seen = b""
        self._result: tuple[int, bytes] | None = None

        def read() -> None:
            self._result = on_terminal(folder, "ps", "--watch", heard=self._hear)

        self._thread = threading.Thread(target=read)
        self._thread.start()

    def _hear(self, data: bytes) -> None:
        self.seen += data

    def ended(self) -> int:
        self._thread.join(30)
        assert self._result is not None
        return self._result[0]


# -- restart ----------------------------------------------------------------------------------------------------------


def test_a_restart_stops_in_order_and_is_no_failure(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"web": WEB, "idle": IDLE}, web=f"port: {free_port()}, ready: {{http: /}}")
    with project.up() as up:
        up.ready()
        before, other = pids(project, "web"), pids(project, "idle")
        done = project.kpipe("restart", "web")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "restarted: web\n")
        assert pids(project, "web") != before and pids(project, "idle") == other
        assert "web   | draining\nweb   | drained\nweb   | listening" in up.out
        assert handlers(project)["web"]["restarts"] == 0
        assert json.loads(project.kpipe("restart", "web", "idle", "--json").stdout) == {"restarted": ["web", "idle"]}
        assert project.kpipe("down").returncode == 0 and up.ended(1) == 0


def test_a_restart_of_the_only_handler_does_not_end_up(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"deaf": DEAF}, deaf="stop-timeout: 1s")
    with project.up() as up:
        up.says("| deaf")
        assert project.kpipe("restart", "deaf").returncode == 0
        assert up.process.poll() is None and up.out.count("| deaf") == 2, "it had to be killed, and runs again"
        up.signal(signal.SIGINT)
        assert up.ended() == 130


def test_a_restart_wakes_what_rests(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"sick": SICK, "idle": IDLE})
    with project.up() as up:
        up.says("crash loop")
        still = project.kpipe("restart", "sick", "--timeout", "30s")
        assert still.returncode == 5 and "error: sick (crash-loop): ill" in still.stderr
        (tmp_path / "healed").touch()
        assert project.kpipe("restart", "sick").returncode == 0
        assert handlers(project)["sick"]["state"] == "ready"


def test_down_during_a_restart_starts_nothing_again(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"deaf": DEAF, "idle": IDLE}, deaf="stop-timeout: 2s")
    with project.up() as up:
        up.says("| deaf")
        up.ready()
        ask(project.state / "control.sock", "POST", "/v1/restart?handler=deaf")
        assert project.kpipe("down").returncode == 0
        assert up.out.count("| deaf") == 1 and not project.processes


# -- scale ------------------------------------------------------------------------------------------------------------


def test_scale_up_down_and_to_none(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"idle": IDLE, "web": WEB}, web=f"port: {free_port()}")
    with project.up() as up:
        up.ready()
        [first] = pids(project, "idle")
        done = project.kpipe("scale", "idle=3")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "scaled: idle=3\n")
        assert [i["name"] for i in handlers(project)["idle"]["instances"]] == ["idle", "idle.1", "idle.2"]
        assert pids(project, "idle")[0] == first, "the one that ran is untouched"
        assert (project.state / "logs" / "idle.2.log").exists() and "idle.2 | idle" in up.out
        assert json.loads(project.kpipe("scale", "idle=1", "--json").stdout) == {"replicas": {"idle": 1}}
        assert pids(project, "idle") == [first] and up.process.poll() is None
        assert project.kpipe("scale", "idle=0", "web=0").returncode == 0
        assert handlers(project) == {} and up.process.poll() is None, "none is wanted: that is no end"
        assert handlers(project, "-a")["idle"]["replicas"] == 0
        assert project.kpipe("scale", "idle=1").returncode == 0
        assert project.kpipe("down").returncode == 0 and up.ended(1) == 0


def test_scale_at_up(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"idle": IDLE, "web": WEB}, web=f"port: {free_port()}")
    with running(tmp_path, "up", "--scale", "idle=2", "--scale", "web=0"):
        assert project.kpipe("wait", "ready").returncode == 0
        assert len(pids(project, "idle")) == 2 and list(handlers(project)) == ["idle"]
        project.kpipe("down")


def test_a_replica_that_is_scaled_away_and_has_to_be_killed_is_no_failure(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"deaf": DEAF, "idle": IDLE}, deaf="stop-timeout: 1s, replicas: 2")
    with project.up() as up:
        up.ready()
        assert project.kpipe("scale", "deaf=0").returncode == 0
        up.signal(signal.SIGTERM)
        assert up.ended() == 143


WRONG = [
    (["restart", "iddle"], "did you mean `idle`"),
    (["restart"], "Missing argument"),
    (["scale", "idle"], "payments=3"),
    (["scale", "idle=-1"], "payments=3"),
    (["scale", "idle=1001"], "0 to 1000"),
    (["scale", "web=2"], "only one process can have"),
    (["scale", "web=1", "wep=1"], "did you mean `web`"),
    (["scale", "idle=1", "idle=2"], "two numbers"),
    (["wait", "ready", "iddle"], "did you mean `idle`"),
    (["wait", "ready", "--timeout", "5"], "no duration"),
    (["wait", "steady"], "steady"),
    (["up", "--scale", "web=2"], "only one process can have"),
    (["up", "--scale", "wep=1"], "did you mean `web`"),
]


def test_words_that_are_wrong(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"idle": IDLE, "web": WEB}, web=f"port: {free_port()}")
    with project.up() as up:
        up.ready()
        before = pids(project, "idle")
        for words, said in WRONG:
            done = project.kpipe(*words)
            assert done.returncode == 2 and said in done.stderr and done.stdout == "", (words, done)
        assert pids(project, "idle") == before


@pytest.mark.parametrize("words", [["restart", "idle"], ["scale", "idle=1"]])
def test_nothing_runs(tmp_path: Path, words: list[str]) -> None:
    Project(tmp_path, "127.0.0.1:1", {"idle": IDLE})
    done = kpipe(tmp_path, *words)
    assert done.code == 2 and "nothing runs in" in done.err and "kpipe up" in done.err
    assert json.loads(kpipe(tmp_path, *words, "--json").err)["error"]["exit_code"] == 2


# -- wait -------------------------------------------------------------------------------------------------------------


def test_wait_ready(tmp_path: Path, kafka: str) -> None:
    slow = f"import os, time\nwhile not os.path.exists('go'): time.sleep(0.05)\n{WEB}"
    project = Project(tmp_path, kafka, {"slow": slow, "idle": IDLE}, slow=f"port: {free_port()}")
    with running(tmp_path, "wait", "ready", "--json") as waiting, project.up() as up:
        up.says("idle: ready")
        assert project.kpipe("wait", "ready", "idle").returncode == 0
        late = project.kpipe("wait", "ready", "--timeout", "300ms")
        assert late.returncode == 124 and "not within 0.3 s: slow (starting)" in late.stderr and late.stdout == ""
        (tmp_path / "go").touch()
        assert json.loads(waiting.line()) == {"state": "ready"} and waiting.child.wait(10) == 0
    nothing = project.kpipe("wait", "ready", "--timeout", "100ms")
    assert nothing.returncode == 124 and "`kpipe up` is not running" in nothing.stderr


def test_wait_ends_when_it_cannot_come_true(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"bad": CRASH, "done": "pass", "idle": IDLE}, done="restart: false")
    with project.up() as up:
        up.says("crash loop")
        for name, said in (("bad", "bad (crash-loop): boom"), ("done", "done has ended")):
            done = project.kpipe("wait", "ready", name)
            assert done.returncode == 5 and said in done.stderr
        with running(tmp_path, "wait", "idle") as waiting:
            assert waiting.child.wait(10) == 0, "nothing consumes: nothing is left to do"


def test_wait_ends_with_the_pipeline(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"web": WEB, "stuck": IDLE}, web=f"port: {free_port()}, ready: {{http: /no}}")
    with project.up() as up, running(tmp_path, "wait", "ready") as waiting:
        up.says("listening")
        wait_until("it looked", lambda: "web" in handlers(project))
        project.kpipe("down")
        assert waiting.child.wait(10) in (0, 1)


def test_wait_idle_is_when_all_is_settled(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"idle": IDLE})
    (tmp_path / "work.py").write_text(
        "import os, time\ndef handle(event):\n    while not os.path.exists('go'): time.sleep(0.02)\n"
    )
    with (tmp_path / "pipeline.yaml").open("a") as file:
        file.write(
            f"  work: {{python: 'work:handle', consumes: [jobs], dlq: none}}\nnamespace: n{secrets.token_hex(4)}\n"
            "topics: {jobs: {partitions: 2, key: n, dlq: none}}\n"
        )
    with project.up() as up:
        up.ready()
        assert project.kpipe("wait", "idle").returncode == 0, "nothing was sent"
        events = "\n".join(json.dumps({"n": n}) for n in range(20))
        assert project.kpipe("send", "jobs", "-", input=events).returncode == 0
        late = project.kpipe("wait", "idle", "--timeout", "3s")
        assert late.returncode == 124 and re.search(r"work (has \d+ in flight|is \d+ behind)", late.stderr)
        (tmp_path / "go").touch()
        assert project.kpipe("wait", "idle").returncode == 0
        work = handlers(project)["work"]
        assert (work["accounting"]["done"], work["lag"]) == (20, 0)
        assert work["in_per_second"] > 0 and work["out_per_second"] > 0
        assert "in 20 = done 20" in project.kpipe("ps", "-a").stdout


def test_workers_restarted_and_scaled_under_load_account_for_every_event(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"idle": IDLE})
    (tmp_path / "work.py").write_text(
        "import time\ndef handle(event):\n    time.sleep(0.01)\n    print('did', event.value['n'], flush=True)\n"
    )
    with (tmp_path / "pipeline.yaml").open("a") as file:
        file.write(
            f"  work: {{python: 'work:handle', consumes: [jobs], dlq: none}}\nnamespace: n{secrets.token_hex(4)}\n"
            "topics: {jobs: {partitions: 4, key: n, dlq: none}}\n"
        )
    with project.up(after=("--metrics-port", "0")) as up:
        up.ready()
        events = "\n".join(json.dumps({"n": n}) for n in range(1500))
        assert project.kpipe("send", "jobs", "-", input=events).returncode == 0
        for words in (["restart", "work"], ["scale", "work=3"], ["restart", "work"], ["scale", "work=1"]):
            done = project.kpipe(*words)
            assert done.returncode == 0, (words, done.stderr)
        assert project.kpipe("wait", "idle").returncode == 0
        work = handlers(project)["work"]
        assert (work["accounting"]["in"], work["accounting"]["done"], work["restarts"]) == (1500, 1500, 0)
        metrics = scraped(up)
        assert metrics["kpipe_records_total", "work", "done"] >= 1500, "of all processes that there have been"
        assert metrics["kpipe_handler_seconds_count", "work"] == metrics["kpipe_attempts_total", "work", "ok"] >= 1500
        assert metrics["kpipe_handler_seconds_sum", "work"] >= 15
        assert metrics["kpipe_handler_restarts_total", "asked", "work"] >= 2
        assert {metrics["kpipe_lag", "work", str(n), "jobs"] for n in range(4)} == {0}
        assert (metrics["kpipe_inflight", "work"], metrics["kpipe_handler_ready", "idle"]) == (0, 1)
        did = [line.split("did ")[1] for line in up.out.splitlines() if "| did " in line]
        assert set(map(int, did)) == set(range(1500)), "all of them (a rebalance may repeat some), counted once"


# -- the API ----------------------------------------------------------------------------------------------------------


def test_the_api(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"idle": IDLE})
    with project.up() as up:
        up.ready()
        socket = project.state / "control.sock"
        version = ask(socket, "GET", "/v1")
        assert version["api"] == 1 and version["pid"] == up.process.pid
        ps = ask(socket, "GET", "/v1/ps")
        assert (ps["phase"], ps["bootstrap"], ps["pid"]) == ("running", kafka, up.process.pid)
        for method, target in (
            ("GET", "/v1/ps?x=1"), ("POST", "/v1/restart"), ("POST", "/v1/restart?handler=no"),
            ("POST", "/v1/scale?handler=idle"), ("POST", "/v1/scale?handler=idle&replicas=x"),
            ("POST", "/v1/down?timeout=-1"), ("POST", "/v1/down?timeout=nan"),
        ):  # fmt: skip
            with pytest.raises(UsageError):
                ask(socket, method, target)
        assert ask(socket, "POST", "/v1/down?timeout=3") == {"stopping": True, "within": 18.0}
        assert up.ended(10) == 0


# -- how it ends ------------------------------------------------------------------------------------------------------


def test_abort_on_failure_takes_every_handler_for_essential(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"bad": CRASH, "idle": IDLE}, bad="restart: false")
    done = project.kpipe("up", "--abort-on-failure")
    assert done.returncode == 5 and "bad is essential and has failed for good" in done.stderr
    assert not project.processes
