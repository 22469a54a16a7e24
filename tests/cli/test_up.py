"""`kpipe up`, `down` and `ps` from outside, with small services on a real Kafka."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.supervised import wait_until
from tests.support.up import CODE, CRASH, DEAF, IDLE, WEB, Project, free_port

pytestmark = pytest.mark.kafka


def test_up_ps_down(tmp_path: Path, kafka: str) -> None:
    port = free_port()
    project = Project(tmp_path, kafka, {"web": WEB, "idle": IDLE}, web=f"port: {port}, ready: {{http: /}}")
    assert json.loads(project.kpipe("ps", "--json").stdout) == {"handlers": []}
    with project.up() as up:
        up.ready()
        assert f"http://localhost:{port}" in up.err
        assert "web   | listening" in up.out and "idle  | idle" in up.out

        handlers = json.loads(project.kpipe("ps", "--json").stdout)["handlers"]
        assert [(h["name"], h["state"], h["replicas"], h["restarts"], h["lag"], h["accounting"]) for h in handlers] == [
            ("web", "ready", 1, 0, None, None),
            ("idle", "ready", 1, 0, None, None),
        ]
        table = project.kpipe("ps").stdout.splitlines()
        assert table[0].split()[:2] == ["HANDLER", "STATE"] and table[1].split()[:3] == ["web", "ready", "1/1"]

        down = project.kpipe("down")
        assert (down.returncode, down.stderr) == (0, "stopped\n")
        assert up.ended(1) == 0
        assert "web   | draining\nweb   | drained" in up.out
    assert not project.processes and not (project.state / "control.sock").exists()
    again = project.kpipe("down")
    assert again.returncode == 0 and "nothing runs" in again.stderr
    assert "drained" in (project.state / "logs" / "web.log").read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_stops_in_order(tmp_path: Path, kafka: str, number: signal.Signals, code: int) -> None:
    project = Project(tmp_path, kafka, {"web": WEB}, web=f"port: {free_port()}")
    with project.up() as up:
        up.ready().signal(number)
        assert up.ended() == code
        assert "drained" in up.out and f"stopping: {number.name}" in up.err
    assert not project.processes


def test_a_second_ctrl_c_kills(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"deaf": DEAF})
    with project.up() as up:
        up.says("| deaf")
        up.signal(signal.SIGINT)
        up.says("stopping: SIGINT")
        up.signal(signal.SIGINT)
        assert up.ended(5) == 130
        assert not project.processes


def test_a_handler_that_has_to_be_killed_is_not_reported_as_0(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"deaf": DEAF}, deaf="stop-timeout: 1s")
    with project.up() as up:
        up.says("| deaf")
        assert project.kpipe("down").returncode == 0
        assert up.ended(1) == 5
        assert "error: deaf did not stop in order (killed by SIGKILL)" in up.err


def test_kill_9_leaves_nothing_and_the_next_up_starts(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"deaf": DEAF, "web": WEB}, web=f"port: {free_port()}")
    with project.up() as up:
        up.ready()
        up.process.kill()
        up.process.wait()
        wait_until("nothing left", lambda: not project.processes, 2.0)
    assert (project.state / "control.sock").exists(), "left over, and harmless"
    assert "nothing runs" in project.kpipe("ps").stderr
    with project.up() as up:
        up.ready()
        assert len(json.loads(project.kpipe("ps", "--json").stdout)["handlers"]) == 2


def test_a_second_up_says_who_is_running(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"idle": IDLE})
    with project.up() as up:
        up.ready()
        second = project.kpipe("up")
        assert second.returncode == 1
        assert f"already running (process {up.process.pid}, since 20" in second.stderr
        assert "kpipe down" in second.stderr
        assert up.process.poll() is None and len(project.processes) == 2


def test_two_projects_do_not_meet(tmp_path: Path, kafka: str) -> None:
    one, two = (Project(tmp_path / name, kafka, {"idle": IDLE}) for name in ("one", "two"))
    with one.up() as first, two.up() as second:
        first.ready(), second.ready()
        assert one.kpipe("down").returncode == 0
        assert second.process.poll() is None and len(two.processes) == 2


def test_a_project_with_a_long_path(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path / ("long" * 20) / ("deep" * 20), kafka, {"idle": IDLE})
    with project.up() as up:
        up.ready()
        named = Path((project.state / "control.path").read_text().strip())
        assert named.is_socket() and not (project.state / "control.sock").exists()
        assert json.loads(project.kpipe("ps", "--json").stdout)["handlers"][0]["state"] == "ready"
        assert project.kpipe("down").returncode == 0
        assert not named.exists()


def test_a_crash_loop_rests_while_the_others_run_on(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"bad": CRASH, "idle": IDLE})
    with project.up() as up:
        up.says("crash loop, 5 failures in 60 s")
        states = {h["name"]: h for h in json.loads(project.kpipe("ps", "--json").stdout)["handlers"]}
        assert (states["bad"]["state"], states["bad"]["restarts"]) == ("crash-loop", 4)
        assert states["bad"]["last_error"] == "boom" and states["idle"]["state"] == "ready"
        up.signal(signal.SIGINT)
        assert up.ended() == 5, "the first failure decides the exit code"
        assert "error: bad failed 5 times in a row (exit code 3)" in up.err and "Traceback" not in up.err


def test_an_essential_handler_ends_everything(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"bad": CRASH, "idle": IDLE}, bad="essential: true, restart: false")
    with project.up() as up:
        assert up.ended() == 5
        assert "essential" in up.err and not project.processes


CANNOT = [
    ("service: no-such-command --flag", "the command 'no-such-command' was not found"),
    ("service: python -m handlers.nowhere", "there is no module handlers.nowhere"),
    ("service: python nowhere.py", "there is no file"),
    ("service: \"sh -c 'echo wrong; exit 78'\"", "broken could not start: exit code 78"),
]


@pytest.mark.parametrize(("service", "said"), CANNOT)
def test_a_handler_that_cannot_start_leaves_nothing_half_started(
    tmp_path: Path, kafka: str, service: str, said: str
) -> None:
    project = Project(tmp_path, kafka, {"idle": IDLE})
    with (tmp_path / "pipeline.yaml").open("a") as file:
        file.write(f"  broken: {{{service}}}\n")
    done = project.kpipe("up")
    assert done.returncode == 5
    assert done.stderr.count(said) == 1 and done.stderr.count("error:") == 1 and "Traceback" not in done.stderr
    assert not project.processes


def test_a_port_in_use_is_found_before_anything_starts(tmp_path: Path, kafka: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        project = Project(tmp_path, kafka, {"idle": IDLE, "web": WEB}, web=f"port: {port}")
        done = project.kpipe("up")
    assert done.returncode == 5 and done.stdout == ""
    assert (
        f"error: port {port} of `web` is already in use by " in done.stderr and f"process {os.getpid()}" in done.stderr
    )
    assert not (project.state / "logs" / "idle.log").exists()


def test_kafka_that_is_away(tmp_path: Path) -> None:
    project = Project(tmp_path, f"127.0.0.1:{free_port()}", {"idle": IDLE})
    done = project.kpipe("up")
    assert done.returncode == 4 and done.stdout == "" and "error: no Kafka answers at" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["up", "iddle"], "did you mean `idle`"),
        (["up", "--kafka", "local"], "contradict"),
        (["up", "--kafka", "x"], "x"),
    ],
)
def test_words_that_are_wrong(tmp_path: Path, words: list[str], said: str) -> None:
    project = Project(tmp_path, "127.0.0.1:1", {"idle": IDLE})
    done = project.kpipe(*words)
    assert done.returncode == 2 and said in done.stderr


def test_only_the_named_handlers(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"one": IDLE, "two": IDLE})
    up = subprocess.Popen(
        [sys.executable, "-c", CODE, "up", "two"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert up.stderr is not None
        assert any("next: " in line for line in up.stderr)
        assert [h["name"] for h in json.loads(project.kpipe("ps", "--json").stdout)["handlers"]] == ["two"]
    finally:
        project.kpipe("down")
        assert up.wait(10) == 0
        up.stderr.close()


def test_json_lines(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"idle": IDLE})
    with project.up("--json") as up:
        up.says('"type": "ready"')
        up.says('"text": "idle"')
        project.kpipe("down")
        assert up.ended() == 0
        said = [json.loads(line) for line in up.out.splitlines()]
        assert up.err == ""
    kinds = [body["type"] for body in said if body["type"] != "line"]
    assert kinds == ["started", "ready", "stopping", "stopped"]
    assert {"type": "line", "name": "idle", "stream": "stdout", "text": "idle", "partial": False} in said


def test_head_takes_its_lines_and_up_stops_in_order(tmp_path: Path, kafka: str) -> None:
    chatty = """
import os, time
while not os.path.exists(".kpipe/logs/web.log"): time.sleep(0.01)
for n in range(10**6):
    print("line", n, flush=True)
    time.sleep(0.01)
"""
    project = Project(tmp_path, kafka, {"chatty": chatty, "web": WEB}, web=f"port: {free_port()}")
    head = subprocess.Popen(["head", "-3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert head.stdin is not None
    with project.up(stdout=head.stdin) as up:
        head.stdin.close()
        assert up.ended() == 141
        assert "stopping: nobody reads the output any more" in up.err and "Traceback" not in up.err
        assert head.stdout is not None
        assert len(head.stdout.read().splitlines()) == 3
        head.stdout.close()
        head.wait()
        assert "drained" in (project.state / "logs" / "web.log").read_text()
        assert not project.processes


def test_a_reader_that_is_stuck_holds_up_nobody(tmp_path: Path, kafka: str) -> None:
    """Ctrl-S: nothing is read from stdout, and the handler prints on, and everything is in its log."""
    loud = f"for n in range(130_000): print('number', n, '.' * 50)\nprint('all printed', flush=True)\n{IDLE}"
    project = Project(tmp_path, kafka, {"loud": loud})
    reading, writing = os.pipe()
    try:
        with project.up(stdout=writing) as up:
            log = project.state / "logs" / "loud.log"
            wait_until("all of it in the log", lambda: log.exists() and "all printed" in log.read_text()[-200:], 60)
            numbers = [
                int(line.split()[4])
                for file in sorted(log.parent.glob("loud.log*"), key=lambda p: p.name, reverse=True)
                for line in file.read_text().splitlines()
                if " number " in line
            ]
            assert numbers == list(range(130_000))
            assert project.kpipe("down").returncode == 0
            assert up.ended() == 0
            assert "lines are not shown here" in up.err
    finally:
        os.close(reading)
        os.close(writing)


def test_ctrl_c_in_a_terminal_reaches_kpipe_alone(tmp_path: Path, kafka: str) -> None:
    """The terminal sends SIGINT to the whole foreground group; handlers must get one SIGTERM instead."""
    code = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: print("INTERRUPTED", flush=True))
signal.signal(signal.SIGTERM, lambda *_: (print("told", flush=True), time.sleep(0.2), sys.exit(0)))
print("idle", flush=True)
time.sleep(600)
"""
    import pty

    project = Project(tmp_path, kafka, {"idle": code})
    main, side = pty.openpty()
    try:
        with project.up(stdin=side, stdout=side, stderr=side, start_new_session=True) as up:
            os.close(side)
            said = b""
            while b"next: " not in said or b"\x1b[0midle\r\n" not in said:
                said += os.read(main, 4096)
            os.killpg(up.process.pid, signal.SIGINT)
            while True:
                try:
                    more = os.read(main, 4096)
                except OSError:  # Linux says EIO when the last one has closed the terminal
                    break
                if not more:
                    break
                said += more
            assert up.ended() == 130
    finally:
        os.close(main)
    assert b"told" in said and b"INTERRUPTED" not in said
    assert b"\x1b[36midle  | \x1b[0m" in said, "a coloured prefix on a terminal"


def test_closed_standard_streams(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"idle": IDLE})
    sh = shutil.which("sh")
    assert sh
    done = subprocess.Popen([sh, "-c", f"exec {sys.executable} -c '{CODE}' up <&- >&- 2>&-"], cwd=tmp_path)
    try:
        wait_until(
            "ready",
            lambda: "ready" in [h["state"] for h in json.loads(project.kpipe("ps", "--json").stdout)["handlers"]],
        )
        assert project.kpipe("down").returncode == 0
        assert done.wait(10) == 0
    finally:
        done.kill()
        done.wait()
    assert "idle" in (project.state / "logs" / "idle.log").read_text()


def test_replicas_share_the_work_and_one_that_is_killed_comes_back(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"idle": IDLE})
    (tmp_path / "work.py").write_text("def handle(event): print('did', event.value['n'], flush=True)")
    with (tmp_path / "pipeline.yaml").open("a") as file:
        file.write(
            f"  work: {{python: 'work:handle', consumes: [jobs], dlq: none, replicas: 2}}\nnamespace: n{project.mark}\n"
            "topics: {jobs: {partitions: 4, key: n, dlq: none}}\n"
        )

    def work() -> dict[str, Any]:
        return next(h for h in json.loads(project.kpipe("ps", "--json").stdout)["handlers"] if h["name"] == "work")

    def send(first: int) -> None:
        events = "\n".join(json.dumps({"n": n}) for n in range(first, first + 50))
        assert project.kpipe("send", "jobs", "-", input=events).returncode == 0

    with project.up() as up:
        up.ready()
        assert [i["name"] for i in work()["instances"]] == ["work.0", "work.1"] and work()["ready"] == 2
        send(0)
        wait_until("all done", lambda: (work()["accounting"] or {}).get("done") == 50)
        assert "work.0 | did" in up.out and "work.1 | did" in up.out
        os.kill(work()["instances"][0]["pid"], signal.SIGKILL)
        wait_until("restarted", lambda: work()["restarts"] == 1 and work()["ready"] == 2, 60)
        send(50)
        wait_until("all done", lambda: (work()["accounting"] or {}).get("done") == 100, 60)
        assert project.kpipe("down").returncode == 0
        assert up.ended(1) == 0
        assert "work  in 100 = done 100 + dead-lettered 0 + skipped 0 + in flight 0" in up.err
        assert {f"did {n}" for n in range(100)} <= {line.split("| ")[1] for line in up.out.splitlines()}


@pytest.mark.parametrize(
    ("text", "said"),
    [("kpipe: [1", "pipeline.yaml:"), ("kpipe: 1\npipeline: p\ntopics: {a: {schema: s.json}}\n", "s.json")],
)
def test_a_file_with_errors_starts_nothing(tmp_path: Path, text: str, said: str) -> None:
    project = Project(tmp_path, "127.0.0.1:1", {"idle": IDLE})
    (tmp_path / "s.json").write_text('{"type": "nonsense"}')
    (tmp_path / "pipeline.yaml").write_text(text)
    done = project.kpipe("up")
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == "" and not project.state.exists()


def test_nohup_is_heeded(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"idle": IDLE})
    with project.up(before=["sh", "-c", 'trap "" HUP; exec "$@"', "sh"]) as up:
        up.ready().signal(signal.SIGHUP)
        up.signal(signal.SIGTERM)
        assert up.ended() == 143, "the first one was ignored"


def test_a_folder_that_cannot_be_written(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"idle": IDLE})
    (tmp_path / ".kpipe").write_text("no folder")
    done = project.kpipe("up")
    assert done.returncode == 2 and ".kpipe is a file, not a folder" in done.stderr and "hint: " in done.stderr


def test_down_and_ps_need_no_valid_file(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"idle": IDLE})
    with project.up() as up:
        up.ready()
        (tmp_path / "pipeline.yaml").write_text("kpipe: [broken")
        assert "idle" in project.kpipe("ps").stdout
        assert project.kpipe("down").returncode == 0
        assert up.ended() == 0


def test_a_frozen_up_is_not_waited_for_for_ever(tmp_path: Path, kafka: str) -> None:
    project = Project(tmp_path, kafka, {"idle": IDLE})
    with project.up() as up:
        up.ready().signal(signal.SIGSTOP)
        ps = project.kpipe("ps")
        assert ps.returncode == 1 and "does not answer" in ps.stderr and "Traceback" not in ps.stderr
