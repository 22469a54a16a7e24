"""What every command keeps to, each run as a program: exit code, what goes where, JSON as documented, no colours when
`NO_COLOR` says so, a reader that goes away, Ctrl-C. A command without a row here fails.
"""

from __future__ import annotations

import json
import os
import pty
import re
import secrets
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from orchestrator.cli.main import cli
from tests.docs.test_json_docs import check
from tests.support.shell import KPIPE, Done, environment, kpipe, running
from tests.support.supervised import wait_until

pytestmark = pytest.mark.kafka

PIPELINE = """\
kpipe: 1
pipeline: every
namespace: {namespace}
kafka: {{bootstrap: "{bootstrap}"}}
topics:
  orders: {{schema: schemas/order.json, key: id, dlq: orders.dlq}}
events:
  order: {{topic: orders, example: order.json, generate: {{eventId: uuid}}}}
handlers:
  echo: {{python: "work:handle", consumes: [orders]}}
  idle: {{service: sleep 600}}
"""
SCHEMA = '{"required": ["id"], "properties": {"id": {"type": "string"}, "eventId": {"type": "string"}}}'


@dataclass(frozen=True)
class Row:
    """`words` are what is typed after `kpipe`; `{new}` in them is another name each time.

    `shape` is the heading of docs/json.md for what `--json` prints, one object a line; None: nothing. With a `code`
    that is an error, `--json` prints one on stderr. `quiet`: in a folder where nothing runs. `goes_on`: words with
    which it prints something and does not end. `silent`: nothing on stdout for people either.
    """

    words: str
    shape: str | None = None
    code: int = 0
    quiet: bool = False
    silent: bool = False
    goes_on: str = ""


ROWS = {
    "up": Row("up", code=1, silent=True, goes_on="up --json --no-sync"),
    "down": Row("down", quiet=True, silent=True),
    "ps": Row("ps", "handlers", goes_on="ps --watch --json"),
    "logs": Row("logs -n 2 _up", "log line", goes_on="logs -f _up"),
    "restart": Row("restart idle", "restart", silent=True),
    "scale": Row("scale idle=1", "scale", silent=True),
    "wait ready": Row("wait ready", "wait", silent=True),
    "wait idle": Row("wait idle", "wait", silent=True),
    "init": Row("init {new}", "init"),
    "validate": Row("validate"),
    "schemas check": Row("schemas check --against .", "contracts"),
    "schemas show": Row("schemas show order", "contract"),
    "topics ls": Row("topics ls", "topics"),
    "topics sync": Row("topics sync --check", "plan"),
    "broker start": Row("broker start", "broker"),
    "broker stop": Row("broker stop", "broker stop", quiet=True, silent=True),
    "broker status": Row("broker status", "broker"),
    "broker fetch": Row("broker fetch", "broker fetch"),
    "send": Row("send order", "record", goes_on="send order --rate 50 -n 100000"),
    "tail": Row("tail orders -n 2", "record", goes_on="tail -f orders"),
    "dlq ls": Row("dlq ls", "dead letters"),
    "dlq show": Row("dlq show {letter}", "letter"),
    "dlq redrive": Row("dlq redrive --dry-run", "redrive"),
    "dlq drop": Row("dlq drop orders.dlq", code=2),
    "trace": Row("trace bad", "story"),
    "handler check": Row("handler check -- ./none", code=5, silent=True),
    "lag": Row("lag", "lag"),
    "graph": Row("graph", "graph"),
    "doctor": Row("doctor", "checks"),
    "smoke": Row("smoke", code=2, silent=True),
    "completion": Row("completion bash"),
}
#: Commands whose `--json` is what they print anyway.
NO_JSON = {"completion"}


def leaves(group: click.Group, context: click.Context, before: tuple[str, ...] = ()) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, click.Context(command), (*before, name))
        else:
            yield " ".join((*before, name))


def test_every_command_has_a_row() -> None:
    assert set(ROWS) == set(leaves(cli, click.Context(cli)))


class Folder:
    """A project that runs, with some events and a letter; the same at rest, `quiet` without an address of Kafka."""

    def __init__(self, folder: Path, bootstrap: str) -> None:
        self.running, self.quiet, self.other = folder / "running", folder / "quiet", folder / "other"
        text = PIPELINE.format(namespace=f"t{secrets.token_hex(5)}", bootstrap=bootstrap)
        for place in (self.running, self.quiet, self.other):
            (place / "schemas").mkdir(parents=True)
            (place / "schemas" / "order.json").write_text(SCHEMA)
            (place / "order.json").write_text('{"id": "a", "eventId": "x"}')
            (place / "work.py").write_text("def handle(event):\n    pass\n")
            (place / "pipeline.yaml").write_text(text)
            (place / "kafka" / "libs").mkdir(parents=True)
            (place / "kafka" / "libs" / "kafka_2.13-4.0.0.jar").touch()
        quiet = self.quiet / "pipeline.yaml"
        quiet.write_text("\n".join(line for line in text.splitlines() if not line.startswith("kafka:")))
        self.letter = ""

    def words(self, row: str) -> list[str]:
        return [word.format(new=f"n{secrets.token_hex(4)}", letter=self.letter) for word in row.split()]

    def kpipe(self, *words: str) -> Done:
        return kpipe(self.running, *words)

    def letters(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = json.loads(self.kpipe("dlq", "ls", "--json").out)["groups"]
        return found


@pytest.fixture(scope="module")
def folder(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    made = Folder(tmp_path_factory.mktemp("every"), kafka)
    up = made.kpipe("up", "--wait")
    assert up.code == 0, up.err
    try:
        assert made.kpipe("send", "order", "-n", "3").code == 0
        assert made.kpipe("send", "orders", '{"eventId": "bad"}', "-k", "bad", "--no-validate").code == 0
        wait_until("the letter is there", lambda: made.letters())
        made.letter = made.letters()[0]["fingerprint"]
        yield made
    finally:
        made.kpipe("down", "-t", "5")


def at_once(*runs: object) -> None:
    """Run these side by side: they wait for Python to start more than for anything else."""
    errors: list[BaseException] = []

    def run(one: object) -> None:
        try:
            one()  # type: ignore[operator]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def on_terminal_without_color(place: Path, words: Sequence[str], env: dict[str, str]) -> tuple[int, bytes]:
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [KPIPE, *words], cwd=place, env=environment({**env, "NO_COLOR": "1", "TERM": "dumb"}), stdin=subprocess.DEVNULL,
        stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    sent = b""
    try:
        while data := os.read(ours, 65_536):
            sent += data
    except OSError:  # nobody holds the other side any more
        pass
    os.close(ours)
    return child.wait(60), sent


def to_nobody(place: Path, words: Sequence[str], env: dict[str, str]) -> tuple[int, str]:
    """With a stdout whose reader has gone."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [KPIPE, *words], cwd=place, env=environment(env), stdin=subprocess.DEVNULL, stdout=write,
            stderr=subprocess.PIPE, timeout=60, text=True, check=False,
        )  # fmt: skip
    finally:
        os.close(write)
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", ROWS)
def test_a_command(folder: Folder, name: str) -> None:
    row = ROWS[name]
    place = folder.quiet if row.quiet else folder.running
    env = {"KAFKA_HOME": str(place / "kafka")}

    def plain() -> None:
        done = kpipe(place, *folder.words(row.words), env=env)
        assert done.code == row.code, done
        assert bool(done.out) is not row.silent, done
        assert "Traceback" not in done.err and "\x1b" not in done.out + done.err
        if row.code:
            assert "error: " in done.err and "hint: " in done.err

    def in_json() -> None:
        done = kpipe(place, *([] if name in NO_JSON else ["--json"]), *folder.words(row.words), env=env)
        assert done.code == row.code, done
        if row.code:
            check("error", json.loads(done.err.splitlines()[-1]))
        if row.shape is None:
            assert row.code or name in NO_JSON or not done.out, done.out
            return
        shapes = [json.loads(line) for line in done.out.splitlines()]
        assert shapes
        for shape in shapes:
            check(row.shape, shape)

    def plain_terminal() -> None:
        code, sent = on_terminal_without_color(place, folder.words(row.words), env)
        assert code == row.code, sent
        assert b"\x1b" not in sent and b"Traceback" not in sent

    def closed_pipe() -> None:
        code, err = to_nobody(place, folder.words(row.words), env)
        assert code in (row.code, 141), err
        assert "Traceback" not in err and "Exception ignored" not in err and "BrokenPipe" not in err

    at_once(plain, in_json)
    at_once(plain_terminal, *([] if row.silent else [closed_pipe]))


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.goes_on])
def test_ctrl_c(folder: Folder, name: str) -> None:
    row = ROWS[name]
    place = folder.other if name == "up" else folder.running
    with running(place, *row.goes_on.split()) as child:
        child.line()
        assert child.interrupt() == 128 + signal.SIGINT
        assert child.child.stderr is not None
        assert b"Traceback" not in child.child.stderr.read()


def test_the_graph_of_what_runs_has_rates(folder: Folder) -> None:
    def live() -> dict[str, object]:
        return {one["name"]: one["live"] for one in json.loads(folder.kpipe("graph", "--json").out)["handlers"]}

    wait_until("rates are known", lambda: live()["echo"]["in_per_second"] is not None)  # type: ignore[index]
    assert re.search(r"echo  python  ready, [\d.]+ in/s, [\d.]+ out/s, lag \d", folder.kpipe("graph").out)
    assert '"idle<br>ready"' in folder.kpipe("graph", "--format", "mermaid").out
    assert set(json.loads(kpipe(folder.other, "graph", "--json").out)["handlers"][0]) == {"name", "kind", "live"}
