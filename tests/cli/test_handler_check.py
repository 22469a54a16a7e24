"""`kpipe handler check`: a good program passes, and of every bad one it says what is wrong."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import jsonschema_rs
import pytest

from tests.support.programs import NAIVE, each, program
from tests.support.shell import Done, kpipe

JSON_PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text(encoding="utf-8")


def check(folder: Path, argv: list[str], *options: str) -> Done:
    return kpipe(folder, "handler", "check", *options, "--", *argv)


def test_a_good_program(tmp_path: Path) -> None:
    done = check(tmp_path, NAIVE, "--json")
    assert done.code == 0, done
    said = json.loads(done.out)
    assert said["passed"] and {c["result"] for c in said["checks"]} == {"ok"}
    shape = re.search(r"^## handler check\n.*?^```json\n(.*?)^```", JSON_PAGE, re.MULTILINE | re.DOTALL)
    assert shape
    jsonschema_rs.validate(json.loads(shape[1]), said)
    assert [c["name"] for c in said["checks"]] == json.loads(shape[1])["properties"]["checks"]["items"]["properties"][
        "name"
    ]["enum"]


NTH = "n = event['offset']\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (each("time.sleep(60)"), "no answer to request 1 within 0.3 s; does it flush"),
        (program("time.sleep(60)"), "it has not read anything from file descriptor 3"),
        (program("say('hello')\ntime.sleep(60)"), "it said a line that is not JSON: 'hello'"),
        (each("say('garbage ' * 3)"), "it said a line that is not JSON: 'garbage garbage garbage '"),
        (each("say({'emit': []})"), "it said a line without the `id` of a request"),
        (each("say({'id': event['id'], 'emits': []})"), "did you mean `emit`?"),
        (each("replies.write('{\"id\": 1'); replies.flush(); time.sleep(60)"), "it began a line of 8 bytes"),
        (each("replies.write('x' * (9 << 20)); replies.flush()"), "a line of more than 8388608 bytes"),
        (
            each("sys.exit('no such table')"),
            "it ended (exit code 1) with 1 of 1 requests unanswered; its last words: no",
        ),
        (program("sys.exit(4)"), "it ended (exit code 4) with 0 of 0 requests unanswered"),
        (each("echo(event); echo(event)"), "it answered request 1 twice"),
        (
            each("echo(event); say({'id': event['id'] + 999, 'emit': []})"),
            "it answered request 1000, which nobody asked",
        ),
        (each(NTH + "os.kill(os.getpid(), signal.SIGSEGV) if n > 200 else echo(event)"), "it ended (signal SIGSEGV)"),
        (each("value['id']\necho(event)"), "an event without a value (a tombstone): it ended (exit code 1)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_bad_program_does_wrong(tmp_path: Path, argv: list[str], said: str) -> None:
    done = check(tmp_path, argv, "--timeout", "300ms")
    assert done.code == 6, done
    assert said in done.out and "failed" in done.out


def test_warnings_do_not_fail(tmp_path: Path) -> None:
    clock = "say({'id': event['id'], 'emit': [{'topic': 'out', 'value': time.time()}]})"
    done = check(tmp_path, each(clock))
    assert done.code == 0 and "warning  gives the same answer to the same event" in done.out


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    done = check(tmp_path, ["./nowhere"])
    assert done.code == 5 and "the command './nowhere' was not found" in done.err


def test_the_events_are_those_that_were_asked_for(tmp_path: Path) -> None:
    picky = each("echo(event) if value is None or value == {'a': 1.50} else sys.exit(repr(value))")
    assert check(tmp_path, picky, "--value", '{"a": 1.50}').code == 0
    assert check(tmp_path, picky).code == 6
    (tmp_path / "pipeline.yaml").write_text(
        "kpipe: 1\npipeline: p\ntopics: {t: {}}\nevents: {e: {topic: t, example: e.json, generate: {id: uuid}}}\n"
    )
    (tmp_path / "e.json").write_text('{"id": "x", "a": 1}')
    fresh = (
        "seen = globals().setdefault('seen', [])\nassert value is None or value['id'] != 'x' and event['topic'] == 't'"
    )
    assert check(tmp_path, each(fresh + "\necho(event)"), "--event", "e").code == 0
    wrong = check(tmp_path, [sys.executable], "--event", "f")
    assert wrong.code == 2 and "the file has no event `f`" in wrong.err
