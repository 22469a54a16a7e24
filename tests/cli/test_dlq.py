"""`kpipe dlq ls`, `show` and `drop` on a real Kafka. `redrive`: tests/integration/test_redrive.py."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.delivery.outcome import Failed
from orchestrator.records import Outgoing
from tests.docs.test_json_docs import check
from tests.support.letters import BORN, letter, letters, schema
from tests.support.shell import KPIPE, Done, environment, kpipe, on_terminal
from tests.support.worker import Project

pytestmark = pytest.mark.kafka

YAML = """
pipeline: shop
defaults: {topic: {partitions: 2}}
topics:
  in: {key: k, dlq: in.dlq}
  other: {key: k, dlq: other.dlq}
handlers:
  h: {python: 'code:handle', consumes: [in]}
"""
START = 1_760_000_000_000


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, kafka: str) -> Iterator[Project]:
    made = Project(tmp_path_factory.mktemp("dlq"), kafka, YAML, {"code.py": "def handle(event): ...\n"})
    evil = Failed("rejected", "gone\x1b[31m red\nand a line", "orchestrator.event.Reject", frame="h:2")
    made.produce(
        [
            *(out._replace(timestamp=START + n) for n, out in enumerate(letters(made, 20))),
            letter(
                made, 90, b'{"amount":1.50,"a":[{},[1]]}', headers=(("own", b"1"),), written=START + 500, failed=evil
            ),
            letter(made, 91, b"{", key=None, partition=1, written=START + 300, **schema(("$.a", "is no number"))),
            letter(made, 1, b"\xff", topic="other", key=b"\xff", written=START + 400, **schema(("$", "is not JSON"))),
            Outgoing(made.name("in.dlq"), b"k", b"no letter"),
        ]
    )
    yield made


def run(project: Project, *words: str) -> Done:
    return kpipe(project.folder, "dlq", *words)


def listed(project: Project, *words: str) -> dict[str, Any]:
    done = run(project, "ls", *words, "--json")
    assert done.code == 0, done.err
    shape: dict[str, Any] = json.loads(done.out)
    check("dead letters", shape)
    return shape


def test_letters_are_listed_by_their_cause_the_newest_first(project: Project) -> None:
    shape = listed(project)
    assert (shape["letters"], shape["ungrouped"], shape["foreign"]) == (23, 0, 1)
    told = [(g["dlq"], g["reason"], g["count"], g["first"] - START, g["last"] - START) for g in shape["groups"]]
    assert told == [
        ("in.dlq", "rejected", 1, 500, 500),
        ("other.dlq", "schema", 1, 400, 400),
        ("in.dlq", "schema", 1, 300, 300),
        ("in.dlq", "rejected", 20, 0, 19),
    ]
    sample = shape["groups"][3]["sample"]
    assert (sample["error_message"], sample["id"].split("/")[2:]) == ("below zero", ["0", "19"]), "the newest one"


def test_the_table_is_for_people_and_no_letter_reaches_the_terminal(project: Project) -> None:
    code, sent = on_terminal(project.folder, "dlq", "ls", "in.dlq")
    text = sent.decode()
    assert code == 0
    assert "COUNT" in text and "\\x1b[31m red\\nand a line" in text and "\x1b[31m red" not in text
    assert "$.a: is no number" in text and "other.dlq" not in text
    assert "1 of 23 records are no letters" in text and "kpipe dlq show" in text


def test_where_and_names_choose_the_letters(project: Project) -> None:
    assert listed(project, "--where", "letter.reason == 'schema'")["letters"] == 2
    assert listed(project, "in.dlq", "--where", "value.n >= `15`")["letters"] == 5
    assert listed(project, project.name("other.dlq"))["letters"] == 1
    assert run(project, "ls", "--where", "value.n ==").code == 2
    done = run(project, "ls", "in.dlqq")
    assert done.code == 2 and "did you mean `in.dlq`" in done.err


def test_none_is_no_failure_and_a_queue_that_is_not_there_has_none(
    tmp_path: Path, kafka: str, project: Project
) -> None:
    done = run(project, "ls", "--where", "key == 'nobody'")
    assert (done.code, done.out, done.err) == (
        0,
        "No dead letters.\n",
        "1 of 24 records are no letters of kpipe; `kpipe tail` shows them\n",
    )
    text = (project.folder / "pipeline.yaml").read_text()
    (tmp_path / "pipeline.yaml").write_text(re.sub("namespace: .*", "namespace: nowhere", text))
    assert kpipe(tmp_path, "dlq", "ls").out == "No dead letters.\n"
    assert kpipe(tmp_path, "dlq", "ls", "in.dlq").code == 4


def test_show_is_the_newest_of_a_cause_whole(project: Project) -> None:
    fingerprint = listed(project)["groups"][0]["fingerprint"]
    done = run(project, "show", fingerprint)
    assert (done.code, done.err) == (0, "")
    assert re.match(r"in\.dlq\[\d\]@\d+\n", done.out)
    for part in (
        "reason        rejected by h, 1 attempt\n",
        "error         orchestrator.event.Reject: gone\\x1b[31m red\\nand a line\n",
        f"from          {project.name('in')}[0]@90\n",
        "event id      e90\n",
        "header        own: 1\n",
        '\n{\n  "amount": 1.50,\n  "a": [\n    {},\n    [\n      1\n    ]\n  ]\n}\n',
    ):
        assert part in done.out
    assert "kpipe-dlq" not in done.out


def test_show_by_id_as_json(project: Project) -> None:
    sample = listed(project)["groups"][1]["sample"]
    done = run(project, "show", sample["id"], "--json")
    shape = json.loads(done.out)
    check("letter", shape)
    assert (shape["topic"], shape["value"], shape["value_base64"]) == ("other.dlq", None, "/w==")
    told = shape["letter"]
    assert (told["topic"], told["offset"], told["timestamp"]) == (project.name("other"), 1, BORN + 1)
    assert told["violations"] == [{"path": "$", "message": "is not JSON"}]
    done = run(project, "show", "nothing")
    assert done.code == 2 and "no letter" in done.err


@pytest.fixture
def full(tmp_path: Path, kafka: str) -> Project:
    """A DLQ of 10 letters in one of its two partitions, and one record that is no letter."""
    made = Project(tmp_path, kafka, YAML, {"code.py": "def handle(event): ...\n"})
    made.produce([*letters(made, 10), Outgoing(made.name("in.dlq"), b"k", b"no letter")])
    return made


def typed(project: Project, text: str, *words: str) -> tuple[int, str]:
    """Run with a terminal on which `text` is typed; the exit code, and what the terminal showed."""
    ours, theirs = pty.openpty()
    os.write(ours, text.encode() + b"\n")
    child = subprocess.Popen(
        [KPIPE, "dlq", *words], cwd=project.folder, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # Linux: EIO once nobody holds the other side any more
        while data := os.read(ours, 65_536):
            shown += data
    os.close(ours)
    return child.wait(30), shown.decode()


def test_a_dlq_is_emptied_only_by_its_name(full: Project) -> None:
    code, shown = typed(full, "yes", "drop", "in.dlq")
    assert code == 1 and "Nothing was deleted" in shown
    assert "in.dlq: 11 records" in shown and "10 of them were never sent back" in shown
    for words in (("in.dlq",), ("in.dlq", "--yes-drop", "other.dlq"), ("in", "--yes-drop", "in")):
        assert run(full, "drop", *words).code == 2
    assert len(full.read("in.dlq")) == 11
    code, shown = typed(full, "in.dlq", "drop", "in.dlq")
    assert code == 0 and "Deleted 11 records of in.dlq." in shown
    assert full.read("in.dlq") == []
    full.produce(letters(full, 2))
    done = run(full, "drop", "in.dlq", "--yes-drop", "in.dlq", "--json")
    shape = json.loads(done.out)
    check("drop", shape)
    assert (done.code, shape["records"], shape["waiting"], shape["deleted"]) == (0, 2, 2, 2)
    assert run(full, "drop", "in.dlq", "--yes-drop", "in.dlq").out == "in.dlq is empty.\n"


def test_a_redrive_is_asked_for_on_a_terminal_and_then_shows_in_the_list(full: Project) -> None:
    code, shown = typed(full, "n", "redrive")
    assert code == 1 and "Send 10 letters back? [y/N]" in shown and "Nothing was sent back." in shown
    code, shown = typed(full, "y", "redrive", "--max", "4")
    assert code == 0 and "Sent back 4 letters: 4 to h." in shown
    [group] = listed(full)["groups"]
    assert (group["count"], group["redriven"]) == (10, 4)
    assert json.loads(run(full, "drop", "in.dlq", "--json").out)["waiting"] == 6
