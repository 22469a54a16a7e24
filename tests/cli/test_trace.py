"""`kpipe trace` against a worker that has handled, rejected, skipped and not yet seen events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.docs.test_json_docs import check
from tests.support.shell import Done, kpipe, on_terminal
from tests.support.worker import Project, Worker, until

pytestmark = pytest.mark.kafka

YAML = """
pipeline: p
topics:
  in: {key: k, dlq: in.dlq, partitions: 2}
  out: {key: k, dlq: in.dlq, partitions: 2}
events:
  order: {topic: in, generate: {eventId: uuid}}
handlers:
  pay: {python: "code:pay", consumes: [in], produces: [out]}
  late: {python: "code:pay", consumes: [out]}
"""
CODE = """
from orchestrator import Emit, Reject, Retry
def pay(event):
    if event.value["k"] == "bad":
        raise Reject("no such user")
    if event.attempt < event.value.get("attempts", 1):
        raise Retry("not yet")
    headers = {"traceparent": "00-" + "ab" * 16 + "-" + "12" * 8 + "-01"} if event.value["k"] == "new-trace" else None
    return [Emit("out", {"k": event.value["k"], "n": n}, headers=headers) for n in range(2)]
"""


class Traced(Project):
    """With one worker of `pay`, and none of `late`."""

    def run(self, *words: str) -> Done:
        return kpipe(self.folder, *words)

    def sent(self, *words: str) -> dict[str, Any]:
        done = self.run("send", *words, "--json")
        assert done.code == 0, done.err
        return dict(json.loads(done.out))

    def traced(self, *words: str) -> list[dict[str, Any]]:
        done = self.run("trace", *words, "--json")
        assert done.code == 0, done.err
        found = json.loads(done.out)
        check("story", found)
        return list(found["records"])


@pytest.fixture(scope="module")
def traced(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Traced, Worker]]:
    project = Traced(tmp_path_factory.mktemp("traced"), kafka, YAML, {"code.py": CODE})
    with project.worker("pay") as worker:
        yield project, worker.wait_ready()


def settled(project: Traced, *words: str) -> list[dict[str, Any]]:
    """The story once `pay` has committed past all of its events."""

    def done() -> list[dict[str, Any]]:
        records = project.traced(*words)
        pays = [h for record in records for h in record["handlers"] if h["name"] == "pay"]
        return [] if any(handler["outcome"] == "pending" for handler in pays) else records

    return list(until("settled", done))


def test_one_story_by_id_key_trace_and_place(traced: tuple[Traced, Worker]) -> None:
    project, _ = traced
    sent = project.sent("order", '{"k": "one", "attempts": 2}')
    records = settled(project, sent["value"]["eventId"])
    event, *outputs = records
    assert (event["offset"], event["topic"], event["caused_by"], event["matched"]) == (sent["offset"], "in", None, True)
    assert [(h["name"], h["outcome"], h["attempts"]) for h in event["handlers"]] == [("pay", "done", 2)]
    assert [o["topic"] for o in outputs] == ["out", "out"]
    for output in outputs:
        assert output["caused_by"] == {
            n: sent[n] if n != "topic" else project.name("in") for n in ("topic", "partition", "offset")
        }
        assert output["latency_ms"] >= 0 and output["attempt"] == 2 and output["group"].endswith("p.pay")
        assert [(h["name"], h["outcome"]) for h in output["handlers"]] == [("late", "pending")]

    def places(found: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
        return [(r["topic"], r["partition"], r["offset"]) for r in found]

    trace = dict(sent["headers"])["traceparent"][3:35]
    assert {r["trace_id"] for r in records} == {trace}
    one = outputs[0]
    for word in ("one", trace.upper(), f"out/{one['partition']}/{one['offset']}"):
        assert places(project.traced(word)) == places(records), word


def test_a_letter_and_what_it_says(traced: tuple[Traced, Worker]) -> None:
    project, _ = traced
    project.sent("order", '{"k": "bad"}')
    event, letter = settled(project, "bad")
    assert event["handlers"] == [
        {"name": "pay", "outcome": "dead-lettered", "attempts": 1, "reason": "rejected",
         "effects": [{"topic": project.name("in.dlq"), "partition": letter["partition"], "offset": letter["offset"]}]}
    ]  # fmt: skip
    assert (letter["kind"], letter["reason"], letter["error"]) == (
        "letter",
        "rejected",
        "orchestrator.event.Reject: no such user",
    )
    by_id = f"{letter['group']}/{project.name('in')}/{event['partition']}/{event['offset']}"
    assert [r["kind"] for r in project.traced(by_id)] == ["event", "letter"]


def test_a_copy_is_skipped_and_a_trace_that_a_handler_begins_is_followed(traced: tuple[Traced, Worker]) -> None:
    project, _ = traced
    sent = project.sent("order", '{"k": "new-trace"}')
    project.sent("in", json.dumps(sent["value"]))
    first, *outputs, copy = settled(project, "new-trace")
    assert [h["outcome"] for h in first["handlers"]] == ["done"]
    assert [h["reason"] for h in copy["handlers"]] == [f"a copy of offset {first['offset']}"]
    assert {r["trace_id"] for r in outputs} == {"ab" * 16} != {first["trace_id"]}
    assert [r["offset"] for r in project.traced(first["trace_id"]) if r["topic"] == "in"] == [first["offset"]]


def test_what_people_see_and_what_is_not_there(traced: tuple[Traced, Worker]) -> None:
    project, _ = traced
    sent = project.sent("order", '{"k": "seen"}')
    settled(project, "seen")
    done = project.run("trace", "seen")
    lines = done.out.splitlines()
    assert done.code == 0 and len(lines) == 6
    assert lines[0].startswith(f"→ in[{sent['partition']}]@{sent['offset']}  ") and lines[0].endswith(
        sent["value"]["eventId"]
    )
    assert "pay  done, attempt 1, +" in lines[1] and "late  pending" in lines[3]
    assert "scanned " in done.err and " of 3 topics, from the last 1h on" in done.err and "\x1b" not in done.out
    code, screen = on_terminal(project.folder, "trace", "seen")
    assert code == 0 and b"\x1b[" in screen and "└──".encode() in screen
    nothing = project.run("trace", "nobody")
    assert nothing.code == 1 and nothing.out == ""
    assert "no event of the last 1h has the id, key or trace id nobody: looked at" in nothing.err
    assert project.run("trace", "seen", "--since", "soon").code == 2


def test_many_with_one_key_are_the_newest(traced: tuple[Traced, Worker]) -> None:
    project, _ = traced
    project.send("in", [{"k": "many", "eventId": f"m{n}"} for n in range(30)])
    settled(project, "m29")
    done = project.run("trace", "many", "-n", "6", "--json")
    found = json.loads(done.out)
    assert found["not_shown"] == 84, "30 events and 60 outputs have the key"
    assert {r["event_id"] for r in found["records"] if r["topic"] == "in"} == {"m27", "m28", "m29"}
    assert found["scanned"]["topics"] == 3 and found["scanned"]["records"] >= 90
