"""The worker on a real Kafka: what DESIGN section 5 promises for one handler."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as RdPartition

from orchestrator.delivery.headers.dead_letters import read_letter
from orchestrator.records import Outgoing
from tests.support.worker import Project, until

pytestmark = pytest.mark.kafka

YAML = """
pipeline: test
defaults: {topic: {partitions: 2}}
topics:
  in: {schema: in.json, key: k, dlq: in.dlq}
  out: {key: k, dlq: out.dlq}
handlers:
  h:
    python: code:handle
    consumes: [in]
    produces: [out]
    dlq: h.dlq
    retry: {attempts: 5, backoff: 50ms, max-backoff: 1s}
"""
SCHEMA = json.dumps(
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["k", "n"],
        "properties": {"k": {"type": "string"}, "n": {"type": "integer"}},
    }
)
CODE = """
from orchestrator import Emit, Event, Reject, Retry, Unavailable
import os, pathlib, time

def handle(event):
    v = event.value
    if v is None:
        return Emit("out", {"k": event.key, "n": "tombstone"})
    what = v.get("do")
    if what == "raise":
        raise ValueError(f"no {v['n']}")
    if what == "reject":
        raise Reject("never")
    if what == "exit":
        raise SystemExit(3)
    if what == "undeclared":
        return Emit("in", v)
    if what == "keyless":
        return Emit("out", {"n": 1})
    if what == "flaky" and event.attempt < 3:
        raise Retry("later")
    if what == "away" and not pathlib.Path("back").exists():
        raise ConnectionRefusedError("psp")
    if what == "huge":
        return Emit("out", {"k": v["k"], "n": os.urandom(1_500_000).hex()})
    if what == "sleep":
        time.sleep(v["s"])
    return Emit("out", {"k": v["k"], "n": v["n"], "attempt": event.attempt})
"""

Make = Callable[..., Project]


@pytest.fixture
def make(tmp_path: Path, kafka: str) -> Make:
    def build(yaml: str = YAML, **code: str) -> Project:
        return Project(tmp_path, kafka, yaml, {"code.py": CODE, "in.json": SCHEMA, **code})

    return build


def outs(project: Project) -> list[tuple[str, Any]]:
    return [(v["k"], v["n"]) for v in project.values("out")]


def test_good_events_reach_the_output_in_order_per_key(make: Make) -> None:
    project = make()
    project.send("in", ({"k": f"k{i % 7}", "n": i} for i in range(3000)))
    with project.worker("h") as worker:
        counts = worker.wait_settled(3000)
        assert worker.terminate() == 0
    assert counts == {"in": 3000, "done": 3000, "dead_lettered": 0, "skipped": 0, "in_flight": 0}
    found = outs(project)
    for k in range(7):
        assert [n for key, n in found if key == f"k{k}"] == list(range(k, 3000, 7))


def test_a_clean_restart_repeats_nothing(make: Make) -> None:
    project = make()
    project.send("in", ({"k": f"k{i}", "n": i} for i in range(50)))
    with project.worker("h") as worker:
        worker.wait_settled(50)
        worker.terminate()
    project.send("in", ({"k": f"k{i}", "n": i} for i in range(50, 60)))
    with project.worker("h") as worker:
        counts = worker.wait_settled(60)
        worker.terminate()
    assert counts["done"] == 60, "the accounting goes on where it stood"
    assert sorted(n for _, n in outs(project)) == list(range(60))


def test_a_failing_event_parks_only_its_key_and_ends_in_the_dlq_with_its_story(make: Make) -> None:
    project = make()
    with project.worker("h") as worker:
        worker.wait_ready()
        project.send("in", [{"k": "bad", "n": 0, "do": "raise"}, {"k": "bad", "n": 1}], headers=(("a", b"\x00\xff"),))
        project.send("in", [{"k": "good", "n": i} for i in range(20)])
        until("other keys flow on", lambda: len([1 for k, _ in outs(project) if k == "good"]) == 20, 10)
        assert ("bad", 1) not in outs(project), "the key keeps its order"
        counts = worker.wait_settled(22)
        assert worker.terminate() == 0
    assert counts == {"in": 22, "done": 21, "dead_lettered": 1, "skipped": 0, "in_flight": 0}
    [record] = project.read("h.dlq")
    letter = read_letter(record.headers)
    assert letter is not None and letter.headers is not None
    assert (letter.reason, letter.attempts, letter.error_type, letter.error_message) == (
        "exhausted", 5, "ValueError", "no 0",
    )  # fmt: skip
    assert json.loads(record.value or b"") == {"k": "bad", "n": 0, "do": "raise"}
    assert record.key == b"bad"
    assert ("a", b"\x00\xff") in record.headers
    assert "ValueError: no 0" in letter.headers["stack"]
    for name in ("version", "id", "topic", "partition", "offset", "timestamp", "group", "pipeline", "handler"):
        assert letter.headers[name], name
    assert len(letter.fingerprint) == 12
    assert letter.headers["first-failed-at"] < letter.headers["last-failed-at"]
    assert letter.id == f"{project.namespace}.test.h/{project.name('in')}/{letter.partition}/{letter.offset}"


@pytest.mark.parametrize(
    ("do", "reason", "attempts"),
    [("reject", "rejected", 1), ("undeclared", "output", 1), ("keyless", "output", 1), ("exit", "exhausted", 5)],
)
def test_verdicts(make: Make, do: str, reason: str, attempts: int) -> None:
    project = make()
    project.send("in", [{"k": "a", "n": 0, "do": do}, {"k": "a", "n": 1}])
    with project.worker("h") as worker:
        worker.wait_settled(2)
        worker.terminate()
    [record] = project.read("h.dlq")
    letter = read_letter(record.headers)
    assert letter is not None
    assert (letter.reason, letter.attempts) == (reason, attempts)
    assert outs(project) == [("a", 1)]


def test_an_output_that_kafka_refuses_ends_in_the_dlq(make: Make) -> None:
    project = make()
    project.send("in", [{"k": "a", "n": 0}, {"k": "a", "n": 1, "do": "huge"}, {"k": "a", "n": 2}])
    with project.worker("h") as worker:
        worker.wait_settled(3)
        worker.terminate()
    [record] = project.read("h.dlq")
    letter = read_letter(record.headers)
    assert letter is not None
    assert letter.reason == "output" and "MSG_SIZE" in letter.error_type
    assert [n for _, n in outs(project)][:1] == [0]
    assert outs(project)[-1] == ("a", 2)


def test_garbage_is_dead_lettered_once_byte_for_byte(make: Make) -> None:
    project = make()
    name = project.name("in")
    garbage = [
        Outgoing(name, b"a", os.urandom(64), (("h", None),)),
        Outgoing(name, b"\xff\xfe\x00", b'{"k": NaN, "n": 1}'),
        Outgoing(name, None, b"[" * 100_000),
        Outgoing(name, b"", b""),
        Outgoing(name, b"a", b'{"k": "a", "n": "ten"}'),
        Outgoing(name, b"big", b'"' + b"x" * 900_000),
    ]
    project.produce(garbage)
    project.send("in", [{"k": "a", "n": 1}])
    with project.worker("h") as worker:
        counts = worker.wait_settled(7)
        worker.terminate()
    assert (counts["done"], counts["dead_lettered"]) == (1, 6)
    letters = project.read("in.dlq")
    assert sorted((r.key or b"", r.value) for r in letters) == sorted((g.key or b"", g.value) for g in garbage)
    stories = {r.value: read_letter(r.headers) for r in letters}
    wrong = stories[b'{"k": "a", "n": "ten"}']
    assert wrong is not None
    assert wrong.reason == "schema" and [v["path"] for v in wrong.violations] == ["$.n"]
    assert {s.reason for v, s in stories.items() if s is not None and v != b'{"k": "a", "n": "ten"}'} == {"decode"}
    assert outs(project) == [("a", 1)]


def test_a_tombstone_is_no_error(make: Make) -> None:
    project = make()
    project.produce([Outgoing(project.name("in"), b"gone", None)])
    with project.worker("h") as worker:
        worker.wait_settled(1)
        worker.terminate()
    assert outs(project) == [("gone", "tombstone")]


def test_retry_counts_attempts(make: Make) -> None:
    project = make()
    project.send("in", [{"k": "a", "n": 0, "do": "flaky"}])
    with project.worker("h") as worker:
        worker.wait_settled(1)
        worker.terminate()
    assert [v["attempt"] for v in project.values("out")] == [3]


def test_what_is_away_is_waited_for_and_blames_no_event(make: Make) -> None:
    project = make(YAML.replace("attempts: 5", "attempts: 2"))
    project.send("in", [{"k": "a", "n": 0, "do": "away"}, {"k": "a", "n": 1}])
    with project.worker("h") as worker:
        until("more waits than attempts", lambda: worker.log.count("unavailable, waiting") > 3)
        (project.folder / "back").touch()
        worker.wait_settled(2)
        worker.terminate()
    assert outs(project) == [("a", 0), ("a", 1)]
    assert project.read("h.dlq") == []


def test_copies_are_skipped_within_the_window(make: Make) -> None:
    project = make()
    good = {"k": "a", "n": 0, "eventId": "one"}
    failing = {"k": "a", "n": 1, "eventId": "two", "do": "reject"}
    project.send("in", [good, good, failing, failing, {**good, "n": 5}])
    with project.worker("h") as worker:
        counts = worker.wait_settled(5)
        worker.terminate()
        assert "another payload" in worker.log
    assert counts == {"in": 5, "done": 1, "dead_lettered": 1, "skipped": 3, "in_flight": 0}
    assert outs(project) == [("a", 0)]


def test_what_is_taken_survives_a_death_and_a_move(make: Make) -> None:
    """The ids are read back from the log: by the successor of a killed worker, and by a replica that takes over."""
    project = make()
    events = [{"k": f"k{i % 20}", "n": i, "eventId": f"id-{i}"} for i in range(2000)]
    project.send("in", events)
    with project.worker("h") as worker:
        worker.wait_settled(2000)
        until("all committed", lambda: sum(o for o, _ in project.committed("h", "in").values()) == 2000)
        worker.kill()
    project.send("in", events[:1000])
    with project.worker("h") as first:
        assert first.wait_settled(3000)["skipped"] == 1000
        with project.worker("h", slot=1) as second:
            second.wait_ready()
            until("both own one", lambda: first.is_ready and len(second.said[-1:]) and second.accounting.get("in"))
            project.send("in", events[1000:])
            until("all settled", lambda: first.accounting["in"] + second.accounting["in"] == 4000)
            until("none in flight", lambda: not first.accounting["in_flight"] + second.accounting["in_flight"])
            assert second.terminate() == 0
        assert first.terminate() == 0
    assert len(outs(project)) == 2000


def test_a_copy_of_one_in_progress_waits_for_it(make: Make) -> None:
    """The copy has another key, so that its own lane is free; it must not run beside its original."""
    project = make(YAML.replace("partitions: 2", "partitions: 1"))
    project.send("in", [{"k": "a", "n": 0, "eventId": "x", "do": "flaky"}, {"k": "b", "n": 0, "eventId": "x"}])
    with project.worker("h") as worker:
        counts = worker.wait_settled(2)
        worker.terminate()
    assert (counts["done"], counts["skipped"]) == (1, 1)
    assert outs(project) == [("a", 0)]


def test_settled_ranges_above_the_frontier_survive_a_kill(make: Make) -> None:
    project = make(YAML.replace("backoff: 50ms, max-backoff: 1s", "backoff: 60s, max-backoff: 60s"))
    project.send("in", [{"k": "stuck", "n": 0, "do": "raise"}, *({"k": f"g{i}", "n": i} for i in range(40))])
    with project.worker("h") as worker:
        until("the good ones", lambda: len(outs(project)) == 40)
        until("the commit", lambda: sum('"n":[' in m for _, m in project.committed("h", "in").values()) == 2)
        until(
            "all settled in the metadata",
            lambda: sum(sum(json.loads(m)["n"]) for _, m in project.committed("h", "in").values()) == 40,
        )
        worker.kill()
    with project.worker("h") as worker:
        until("the stuck one runs again", lambda: "attempt 1 failed" in worker.log)
        until("accounting", lambda: worker.accounting.get("in") == 41)
        assert worker.accounting["done"] == 40 and worker.accounting["in_flight"] == 1
        assert worker.terminate() == 0
    assert len(outs(project)) == 40, "nothing settled was repeated"


def test_what_somebody_else_committed_counts_by_its_offset_alone(make: Make) -> None:
    project = make()
    project.send("in", [{"k": f"k{i}", "n": i} for i in range(40)])
    foreign = ["not ours \u2603 " * 300, '{"v": 99, "s": "AQE=", "n": [7, 7, 7]}']
    group = project.pipeline.handlers["h"].group
    other = Consumer({"bootstrap.servers": project.bootstrap, "group.id": group, "enable.auto.commit": False})
    other.commit(offsets=[RdPartition(project.name("in"), p, 3, foreign[p]) for p in (0, 1)], asynchronous=False)
    other.close()
    with project.worker("h") as worker:
        assert worker.wait_settled(34) == {"in": 34, "done": 34, "dead_lettered": 0, "skipped": 0, "in_flight": 0}
        assert worker.terminate() == 0
    skipped = {json.loads(r.value or b"")["n"] for r in project.read("in") if r.offset < 3}
    assert {n for _, n in outs(project)} == set(range(40)) - skipped
    assert all(json.loads(metadata)["v"] == 1 for _, metadata in project.committed("h", "in").values())


def test_a_new_group_starts_where_it_says_and_commits_that_at_once(make: Make) -> None:
    project = make(YAML.replace("consumes: [in]", "consumes: [in]\n    from: latest"))
    project.send("in", [{"k": f"k{i}", "n": i} for i in range(10)])
    with project.worker("h") as worker:
        worker.wait_ready()
        assert sum(offset for offset, _ in project.committed("h", "in").values()) == 10
        worker.kill()
    project.send("in", [{"k": "late", "n": 1}])
    with project.worker("h") as worker:
        worker.wait_settled(1)
        worker.terminate()
    assert outs(project) == [("late", 1)]


def test_an_offset_that_does_not_exist_any_more_is_told_and_the_first_that_does_is_next(make: Make) -> None:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    project = make(YAML.replace("partitions: 2", "partitions: 1"))
    project.send("in", [{"k": "a", "n": n} for n in range(5)])
    with project.worker("h") as worker:
        worker.wait_settled(5)
        worker.terminate()
    project.send("in", [{"k": "a", "n": n} for n in range(5, 10)])
    admin = AdminClient({"bootstrap.servers": project.bootstrap})
    for answer in admin.delete_records([TopicPartition(project.name("in"), 0, 8)]).values():
        answer.result()
    with project.worker("h") as worker:
        counts = worker.wait_settled(7)
        worker.terminate()
        assert "up to 3 event(s) were removed unread" in worker.log
    assert counts["done"] == 7
    assert [n for _, n in outs(project)] == [0, 1, 2, 3, 4, 8, 9]


def test_the_event_knows_its_id(make: Make) -> None:
    code = "from orchestrator import Emit\ndef handle(event):\n    return Emit('out', {'k': 'a', 'n': event.id})\n"
    project = make(**{"code.py": code})
    project.send("in", [{"k": "a", "n": 1, "eventId": "e1"}, {"k": "a", "n": 2}])
    with project.worker("h") as worker:
        worker.wait_settled(2)
        worker.terminate()
    assert [n for _, n in outs(project)] == ["e1", None]


def test_a_handler_on_a_dlq_gets_the_letter_and_never_writes_one(make: Make) -> None:
    yaml = (
        YAML
        + """
  watcher:
    {python: "watch:handle", consumes: [h.dlq, in.dlq], produces: [out], dlq: none, retry: {attempts: 2, backoff: 1ms}}
"""
    )
    watch = """
        import pathlib
        from orchestrator import Emit

        def handle(event):
            if event.value is None and not pathlib.Path("fixed").exists():
                raise RuntimeError("cannot read")
            return Emit("out", {"k": event.letter.reason, "n": event.letter.offset})
    """
    project = make(yaml, **{"watch.py": watch})
    project.send("in", [{"k": "a", "n": 0, "do": "reject"}])
    project.produce([Outgoing(project.name("in"), b"a", b"no json")])
    with project.worker("h") as worker, project.worker("watcher") as watcher:
        worker.wait_settled(2)
        until("the rejected one", lambda: [k for k, _ in outs(project)] == ["rejected"])
        until("the stalled lane is an alarm", lambda: "its lane stalls" in watcher.log)
        assert watcher.terminate() == 0
    (project.folder / "fixed").touch()
    with project.worker("watcher") as watcher:
        watcher.wait_settled(2)
        watcher.terminate()
    assert sorted(k for k, _ in outs(project)) == ["decode", "rejected"]


def test_without_a_dlq_the_whole_record_is_logged_and_skipped(make: Make) -> None:
    project = make(YAML.replace("dlq: h.dlq", "dlq: none"))
    project.send("in", [{"k": "a", "n": 7, "do": "reject"}])
    with project.worker("h") as worker:
        counts = worker.wait_settled(1)
        worker.terminate()
        assert '{\\"k\\": \\"a\\", \\"n\\": 7, \\"do\\": \\"reject\\"}' in worker.log
    assert counts["skipped"] == 1


def test_scaling_out_moves_partitions_and_loses_nothing(make: Make) -> None:
    project = make()
    project.send("in", ({"k": f"k{i % 20}", "n": i} for i in range(2000)))
    with project.worker("h") as first:
        first.wait_ready()
        with project.worker("h", slot=1) as second:
            second.wait_ready()
            project.send("in", ({"k": f"k{i % 20}", "n": i} for i in range(2000, 4000)))
            until("all outputs", lambda: len(outs(project)) >= 4000, 60)
            assert second.terminate() == 0
        assert first.terminate() == 0
    found = outs(project)
    for k in range(20):
        assert [n for key, n in found if key == f"k{k}"] == list(range(k, 4000, 20))


def test_a_stop_waits_for_the_running_event(make: Make) -> None:
    project = make()
    project.send("in", [{"k": "a", "n": 0, "do": "sleep", "s": 2}])
    with project.worker("h") as worker:
        until("it runs", lambda: worker.accounting.get("in_flight") == 1)
        assert worker.terminate() == 0
    assert outs(project) == [("a", 0)]
    with project.worker("h") as worker:
        worker.wait_settled(1)
        assert worker.accounting["done"] == 1
        worker.terminate()
    assert outs(project) == [("a", 0)]


def test_an_async_handler_is_cancelled_at_its_deadline(make: Make) -> None:
    code = """
        import asyncio
        from orchestrator import Emit

        async def handle(event):
            if event.value.get("do") == "hang" and event.attempt < 3:
                await asyncio.sleep(60)
            return Emit("out", {"k": event.value["k"], "n": event.attempt})
    """
    project = make(YAML.replace("dlq: h.dlq", "dlq: h.dlq\n    timeout: 200ms"), **{"code.py": code})
    project.send("in", [{"k": "a", "n": 0, "do": "hang"}])
    with project.worker("h") as worker:
        worker.wait_settled(1)
        worker.terminate()
        assert "no answer within 0.2 s" in worker.log
    assert outs(project) == [("a", 3)]


BROKEN = {"broken.py": "import nothing_like_it\n", "stream.py": "async def handle(event):\n    yield None\n"}


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nowhere:handle", "there is no module nowhere"),
        ("code:nothing", "code has no nothing"),
        ("broken:handle", "importing broken failed"),
        ("stream:handle", "is an async generator"),
    ],
)
def test_what_cannot_start_says_why(make: Make, target: str, said: str) -> None:
    project = make(YAML.replace("code:handle", target), **BROKEN)
    with project.worker("h") as worker:
        assert worker.process.wait(30) == 78
        until("the message", lambda: any(s["type"] == "failed-to-start" for s in worker.said))
        [failure] = [s for s in worker.said if s["type"] == "failed-to-start"]
        assert said in failure["message"]
        assert "Traceback" not in worker.log


def test_what_a_failed_attempt_changed_in_the_value_is_undone(make: Make) -> None:
    code = """
        from orchestrator import Emit

        def handle(event):
            event.value["n"] *= 10
            if event.attempt < 3:
                raise RuntimeError("after the change")
            return Emit("out", event.value)
    """
    project = make(**{"code.py": code})
    project.send("in", [{"k": "a", "n": 1}])
    with project.worker("h") as worker:
        worker.wait_settled(1)
        worker.terminate()
    assert outs(project) == [("a", 10)]


LIMITED = YAML.replace("out: {key: k, dlq: out.dlq}", "out: {key: k, dlq: out.dlq, configs: {max.message.bytes: 20KB}}")
BULKY = """
    import os
    from orchestrator import Emit

    def handle(event):
        n = event.value["n"]
        return Emit("out", {"k": event.value["k"], "n": n, "noise": os.urandom(30_000 if n == 250 else 250).hex()})
"""


@pytest.mark.parametrize("limit", ["20KB", ""])
def test_many_outputs_at_once_to_a_topic_that_takes_small_batches(make: Make, limit: str) -> None:
    """Only the one that is too large by itself is given up, whether the limit is in the file or only on the broker."""
    project = make(LIMITED if limit else YAML, **{"code.py": BULKY})
    if not limit:
        shrink(project, "out", 20_000)
    project.send("in", ({"k": f"k{i % 5}", "n": i} for i in range(500)))
    with project.worker("h") as worker:
        counts = worker.wait_settled(500, 60)
        worker.terminate()
    assert (counts["done"], counts["dead_lettered"]) == (499, 1)
    [record] = project.read("h.dlq")
    assert json.loads(record.value or b"")["n"] == 250
    found = outs(project)
    for k in range(5):
        written = [n for key, n in found if key == f"k{k}"]
        # A request that was refused whole may stand behind a later one: then all of the lane is written again.
        last = list(dict.fromkeys(reversed(written)))[::-1]
        assert last == [n for n in range(k, 500, 5) if n != 250]
        assert not limit or list(dict.fromkeys(written)) == last


def shrink(project: Project, topic: str, most: int) -> None:
    """Somebody else makes the topic take smaller records than the file says."""
    from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

    entry = ConfigEntry("max.message.bytes", str(most), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, project.name(topic), incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": project.bootstrap})
    admin.incremental_alter_configs([resource])[resource].result(10)


def test_a_letter_whose_output_kafka_refuses_is_not_skipped(make: Make) -> None:
    yaml = (
        YAML
        + """
  watcher: {python: "watch:handle", consumes: [h.dlq], produces: [out], dlq: none, retry: {attempts: 2, backoff: 10ms}}
"""
    )
    watch = """
        import os, pathlib
        from orchestrator import Emit

        def handle(event):
            fixed = pathlib.Path("fixed").exists()
            return Emit("out", {"k": "a", "n": "x" if fixed else os.urandom(1_500_000).hex()})
    """
    project = make(yaml, **{"watch.py": watch})
    project.send("in", [{"k": "a", "n": 0, "do": "reject"}])
    with project.worker("h") as worker, project.worker("watcher") as watcher:
        worker.wait_settled(1)
        until("it is refused again and again", lambda: watcher.log.count("ALARM") > 2)
        (project.folder / "fixed").touch()
        assert watcher.wait_settled(1)["done"] == 1
    assert outs(project) == [("a", "x")]


def test_a_thread_that_a_handler_left_behind_does_not_keep_the_worker(make: Make) -> None:
    code = """
        import asyncio, time

        async def handle(event):
            asyncio.get_running_loop().run_in_executor(None, time.sleep, 1_000)
    """
    project = make(**{"code.py": code})
    project.send("in", [{"k": "a", "n": 1}])
    with project.worker("h") as worker:
        worker.wait_settled(1)
        assert worker.terminate(15) == 0


@pytest.mark.parametrize(
    "code",
    [
        """
        from orchestrator import Emit

        class Handler:
            async def __call__(self, event):
                return Emit("out", event.value)

        handle = Handler()
        """,
        """
        from orchestrator import Emit

        async def later(event):
            return Emit("out", event.value)

        def handle(event):
            return later(event)
        """,
    ],
)
def test_whatever_answers_with_an_awaitable_is_async(make: Make, code: str) -> None:
    project = make(**{"code.py": code})
    project.send("in", [{"k": "a", "n": 1}])
    with project.worker("h") as worker:
        assert worker.wait_settled(1)["done"] == 1
    assert outs(project) == [("a", 1)]


AWAY = """
    import asyncio, pathlib
    from orchestrator import Emit

    async def handle(event):
        if not pathlib.Path("back").exists():
            if pathlib.Path("hangs").exists():
                await asyncio.sleep(60)
            raise ConnectionRefusedError("psp")
        return Emit("out", {"k": event.value["k"], "n": event.value["n"]})
"""
QUICK_BREAKER = "dlq: h.dlq\n    timeout: 100ms\n    breaker: {failures: 3, wait: 100ms, max-wait: 500ms}"


@pytest.mark.parametrize("hangs", [False, True])
def test_an_outage_downstream_opens_the_breaker_and_the_flow_resumes(make: Make, hangs: bool) -> None:
    """Every attempt of every event would be spent many times over; none is, and nothing is dead-lettered."""
    project = make(YAML.replace("dlq: h.dlq", QUICK_BREAKER).replace("attempts: 5", "attempts: 2"), **{"code.py": AWAY})
    if hangs:
        (project.folder / "hangs").touch()
    project.send("in", [{"k": f"k{i % 50}", "n": i} for i in range(1000)])
    with project.worker("h") as worker:
        until("it opened", lambda: "the breaker is open" in worker.log)
        until("ps can tell", lambda: any(s.get("breaker") == "open" for s in worker.said))
        until("all are paused", lambda: any(s.get("paused") == 2 for s in worker.said))
        project.send("in", [{"k": f"k{i % 50}", "n": i} for i in range(1000, 1200)])
        until("some probes", lambda: worker.log.count("unavailable, waiting") >= 6)
        tried = worker.log.count("unavailable, waiting") + worker.log.count("attempt 1 failed")
        assert tried < 40, "an open breaker tries one event at a time"
        (project.folder / "back").touch()
        counts = worker.wait_settled(1200)
        assert worker.terminate() == 0
    assert counts["done"] == 1200
    assert project.read("h.dlq") == []
    found = outs(project)
    for k in range(50):
        assert [n for key, n in found if key == f"k{k}"] == list(range(k, 1200, 50))


def test_the_fuse_stops_a_handler_that_gives_up_too_much(make: Make) -> None:
    code = """
        import pathlib
        from orchestrator import Emit, Reject

        def handle(event):
            if not pathlib.Path("mended").exists():
                raise Reject("a bug of mine")
            return Emit("out", {"k": event.value["k"], "n": event.value["n"]})
    """
    fuse = "dlq: h.dlq\n    fuse: {share: 0.5, of: 20}\n    breaker: {wait: 100ms, max-wait: 200ms}"
    project = make(YAML.replace("dlq: h.dlq", fuse), **{"code.py": code})
    project.send("in", [{"k": f"k{i}", "n": i} for i in range(200)])
    with project.worker("h") as worker:
        until("it says so", lambda: "the fuse is blown" in worker.log)
        until("it tries again", lambda: worker.log.count("Reject") >= 14)
        assert len(project.read("h.dlq")) == 10
        (project.folder / "mended").touch()
        counts = worker.wait_settled(200)
        assert "the flow goes on" in worker.log
        worker.terminate()
    assert (counts["done"], counts["dead_lettered"]) == (190, 10)
