"""`kpipe up -d`, `logs` and `down -v`, from outside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from orchestrator.state import MARKER
from orchestrator.supervisor.control.lock import holder
from tests.support.shell import Running, kpipe, on_terminal, running
from tests.support.supervised import wait_until
from tests.support.up import CODE, CRASH, DEAF, IDLE, WEB, Project, free_port

pytestmark = pytest.mark.kafka


@contextlib.contextmanager
def project(folder: Path, bootstrap: str, services: dict[str, str], **options: str) -> Iterator[Project]:
    """Nothing of it lives on."""
    made = Project(folder, bootstrap, services, **options)
    try:
        yield made
    finally:
        found = holder(made.state)
        if found is not None and found.pid:
            os.kill(found.pid, signal.SIGKILL)
        wait_until("nothing left of it", lambda: not made.processes)


def own_log(made: Project) -> str:
    return (made.state / "logs" / "_up.log").read_text()


def gone(pid: int) -> bool:
    """Ended; who reaps it is up to the machine."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


# -- up -d ------------------------------------------------------------------------------------------------------------


def test_it_returns_once_it_runs_and_goes_on(tmp_path: Path, kafka: str) -> None:
    port = free_port()
    with project(tmp_path, kafka, {"web": WEB}, web=f"port: {port}, ready: {{http: /}}") as made:
        done = made.kpipe("up", "-d")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert f"http://localhost:{port}" in done.stderr and "next: `kpipe ps`" in done.stderr
        assert "Ctrl-C" not in done.stderr
        again = made.kpipe("up", "-d")
        assert again.returncode == 1 and "already running" in again.stderr
        found = holder(made.state)
        assert found is not None and os.getsid(found.pid) == found.pid, "in a session of its own"
        streams = [Path(f"/proc/{found.pid}/fd/{fd}") for fd in range(3)]
        assert not streams[0].exists() or {str(s.readlink()) for s in streams} == {"/dev/null"}
        assert made.kpipe("down").returncode == 0
        wait_until("its process is gone", lambda: gone(found.pid))
        assert "web: stopped" in own_log(made) and own_log(made).endswith("ended with 0\n")


def test_its_terminal_may_go(tmp_path: Path, kafka: str) -> None:
    with project(tmp_path, kafka, {"idle": IDLE}) as made:
        code, said = on_terminal(tmp_path, "up", "-d")
        assert code == 0 and b"ready after" in said, "and its terminal is closed now"
        assert json.loads(made.kpipe("ps", "--json").stdout)["handlers"][0]["state"] == "ready"
        made.kpipe("down")


def test_wait_returns_when_all_are_ready(tmp_path: Path, kafka: str) -> None:
    slow = f"import time\ntime.sleep(4)\n{WEB}"
    with project(tmp_path, kafka, {"slow": slow, "idle": IDLE}, slow=f"port: {free_port()}") as made:
        done = made.kpipe("up", "--wait", "--json")
        assert done.returncode == 0, done.stderr
        found = holder(made.state)
        assert found is not None
        assert json.loads(done.stdout) == {"pid": found.pid, "bootstrap": kafka, "ready": True}
        assert made.kpipe("wait", "ready", "--timeout", "1s").returncode == 0
        made.kpipe("down")


def test_wait_that_takes_too_long_is_124_and_it_goes_on(tmp_path: Path, kafka: str) -> None:
    never = free_port()
    with project(tmp_path, kafka, {"never": IDLE}, never=f"port: {never}") as made:
        done = made.kpipe("up", "-d", "--wait", "--wait-timeout", "5s")
        assert done.returncode == 124 and "not ready within 5 s" in done.stderr
        assert json.loads(made.kpipe("ps", "--json").stdout)["handlers"][0]["state"] == "starting"
        plain = made.kpipe("up", "--wait-timeout", "5s")
        assert plain.returncode == 2
        made.kpipe("down")


def test_without_wait_it_does_not_wait_for_what_is_slow(tmp_path: Path, kafka: str) -> None:
    with project(tmp_path, kafka, {"never": IDLE}, never=f"port: {free_port()}") as made:
        done = made.kpipe("up", "-d", "--json")
        assert done.returncode == 0 and json.loads(done.stdout)["ready"] is False
        made.kpipe("down")


CANNOT = [
    ("pipeline: '!'", 2, "more.yaml:1:11: error: pipeline"),
    ("handlers: {x: {service: no-such-command}}", 5, "error: x could not start: the command 'no-such-command'"),
    ("handlers: {x: {service: \"sh -c 'exit 78'\"}}", 5, "error: x could not start: exit code 78"),
    ("kafka: {bootstrap: '127.0.0.1:1'}", 4, "error: no Kafka answers at"),
]


@pytest.mark.parametrize(("text", "code", "said"), CANNOT)
@pytest.mark.parametrize("words", [["-d"], ["--wait"]])
def test_a_start_that_fails_is_told_at_once(
    tmp_path: Path, kafka: str, words: list[str], text: str, code: int, said: str
) -> None:
    with project(tmp_path, kafka, {"idle": IDLE}) as made:
        (tmp_path / "more.yaml").write_text(text)
        done = made.kpipe("-f", "pipeline.yaml", "-f", "more.yaml", "up", *words)
        assert done.returncode == code and said in done.stderr, done.stderr
        assert done.stdout == "" and "Traceback" not in done.stderr
        assert holder(made.state) is None and not made.processes


def test_wait_says_which_handler_cannot_get_ready(tmp_path: Path, kafka: str) -> None:
    with project(tmp_path, kafka, {"bad": CRASH, "idle": IDLE}) as made:
        done = made.kpipe("up", "--wait", "--json")
        error = json.loads(done.stderr.splitlines()[-1])["error"]
        assert done.returncode == 5 and error["message"] == "bad (crash-loop): boom"
        assert holder(made.state) is not None, "the others run on"
        assert made.kpipe("down").returncode == 0
        assert "error: bad failed 5 times in a row" in own_log(made) and own_log(made).endswith("ended with 5\n")


def test_ctrl_c_before_it_runs_stops_it(tmp_path: Path, kafka: str) -> None:
    import fcntl

    (tmp_path / ".kpipe").mkdir()
    with project(tmp_path, "", {"idle": IDLE}) as made, (made.state / "broker.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        starting = subprocess.Popen(
            [sys.executable, "-c", CODE, "up", "-d"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
        )
        assert starting.stderr is not None
        assert "Another kpipe" in starting.stderr.readline()
        starting.send_signal(signal.SIGINT)
        assert starting.wait(20) == 130 and holder(made.state) is None
        starting.stderr.close()


# -- down -------------------------------------------------------------------------------------------------------------


def test_down_with_a_time_does_not_wait_longer(tmp_path: Path, kafka: str) -> None:
    with project(tmp_path, kafka, {"deaf": DEAF}) as made:
        assert made.kpipe("up", "-d").returncode == 0
        began = time.monotonic()
        assert made.kpipe("down", "-t", "1").returncode == 0
        assert time.monotonic() - began < 15 and not made.processes
        assert "deaf: killed after 1." in own_log(made)


def test_a_second_down_can_hurry_the_first(tmp_path: Path, kafka: str) -> None:
    with project(tmp_path, kafka, {"deaf": DEAF}) as made:
        assert made.kpipe("up", "-d").returncode == 0
        with running(tmp_path, "down") as first:
            wait_until("it stops", lambda: "deaf: stopping" in own_log(made))
            assert made.kpipe("down", "-t", "0").returncode == 0
            assert first.child.wait(5) == 0


def test_down_v_never_touches_a_cluster_of_others(tmp_path: Path, kafka: str) -> None:
    with project(tmp_path, kafka, {"idle": IDLE}) as made:
        assert made.kpipe("up", "-d").returncode == 0
        (made.state / "read-model.db").write_text("made from events that stay")
        done = made.kpipe("down", "-v")
        assert done.returncode == 0 and f"the cluster at {kafka} keeps its topics" in done.stderr
        assert {path.name for path in made.state.iterdir()} == {"up.lock", MARKER, "read-model.db"}
        (tmp_path / "pipeline.yaml").write_text("kpipe: [broken")
        broken = made.kpipe("down", "-v")
        assert broken.returncode == 2 and "pipeline.yaml" in broken.stderr, "whose Kafka it is has to be known"


def test_down_v_of_kafkas_own_begins_from_nothing(tmp_path: Path, kafka: str) -> None:
    with project(tmp_path, "", {"idle": IDLE}) as made:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "kept").touch()
        for folder in (made.state / "broker" / "data", made.state / "logs"):
            folder.mkdir(parents=True)
        (made.state / "link").symlink_to(outside)
        (made.state / "read-model.db").touch()
        done = made.kpipe("down", "-v")
        assert done.returncode == 0 and "deleted Kafka's data" in done.stderr
        assert [path.name for path in made.state.iterdir() if not path.name.endswith(".lock")] == [MARKER]
        assert (outside / "kept").exists(), "a link goes, not what it leads to"
        assert made.kpipe("down", "-v").returncode == 0


# -- logs -------------------------------------------------------------------------------------------------------------

TALK = "import sys, time\nfor n in range(5): print('line', n, flush=True)\nprint('\\x1b[2J', file=sys.stderr)\n" + IDLE


def test_logs(tmp_path: Path, kafka: str) -> None:
    with project(tmp_path, kafka, {"talk": TALK, "idle": IDLE}) as made:
        nothing = made.kpipe("logs")
        assert nothing.returncode == 2 and "there are no logs" in nothing.stderr
        assert made.kpipe("up", "-d").returncode == 0
        made.kpipe("down")
        newest = made.kpipe("logs", "talk", "-n", "3").stdout.splitlines()
        assert sorted(newest) == ["talk | \\x1b[2J", "talk | idle", "talk | line 4"]
        all_of_it = made.kpipe("logs").stdout
        assert {line.split(" | ")[0].strip() for line in all_of_it.splitlines()} == {"_up", "idle", "talk"}
        assert made.kpipe("logs", "--grep", r"^line [12]$").stdout == "talk | line 1\ntalk | line 2\n"
        [last] = [json.loads(line) for line in made.kpipe("logs", "_up", "-n", "1", "--json").stdout.splitlines()]
        assert (last["name"], last["stream"], last["text"]) == ("_up", "stderr", "ended with 0")
        assert made.kpipe("logs", "--since", "1h").stdout == all_of_it
        wait_until("time passes", lambda: made.kpipe("logs", "--since", "1ms").stdout == "")
        for words, said in (
            (["tolk"], "did you mean `talk`"), (["--grep", "("], "--grep ("), (["-n", "0"], "shows nothing"),
            (["--since", "5"], "no duration"),
        ):  # fmt: skip
            wrong = made.kpipe("logs", *words)
            assert wrong.returncode == 2 and said in wrong.stderr and wrong.stdout == ""


def test_logs_follow(tmp_path: Path, kafka: str) -> None:
    talk = "import time\nfor n in range(10**6):\n    print('line', n, flush=True)\n    time.sleep(0.05)"
    with project(tmp_path, kafka, {"talk": talk, "idle": IDLE}) as made:
        assert made.kpipe("up", "-d").returncode == 0
        with running(tmp_path, "logs", "-f", "-n", "5", "talk") as follow:
            numbers = [int(follow.line().split()[-1]) for _ in range(40)]
            assert numbers == list(range(numbers[0], numbers[0] + 40)), "each once, over the seam"
            assert follow.interrupt() == 130
        with running(tmp_path, "logs", "-f", "-n", "0") as follow:
            assert "talk" in follow.line()
            assert made.kpipe("scale", "idle=2").returncode == 0
            assert_line(follow, "idle.1 | idle")
            made.kpipe("down")
            assert_line(follow, "ended with 0")
        head = subprocess.run(
            f"{sys.executable} -c '{CODE}' logs talk | head -2",
            shell=True,
            cwd=tmp_path,
            capture_output=True,
            timeout=30,
        )
        assert head.stdout.count(b"\n") == 2 and head.stderr == b""


def assert_line(follow: Running, text: str) -> None:
    for _ in range(2000):
        if text in follow.line():
            return
    raise AssertionError(text)


def test_logs_need_no_valid_file(tmp_path: Path, kafka: str) -> None:
    with project(tmp_path, kafka, {"talk": TALK}) as made:
        assert made.kpipe("up", "-d").returncode == 0
        made.kpipe("down")
        (tmp_path / "pipeline.yaml").unlink()
        assert "line 4" in kpipe(tmp_path, "logs", "talk").out
