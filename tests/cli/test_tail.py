"""`kpipe tail` on a real Kafka: which records, in which order, how they look, and how it ends."""

from __future__ import annotations

import base64
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Producer

from orchestrator.records import TopicSpec
from tests.support.orders import Orders, orders_in, write
from tests.support.shell import KPIPE, environment, eventually, on_terminal, raw, running

pytestmark = pytest.mark.kafka

#: An hour ago, on the full second: old enough for `@-30m`, young enough for the broker's retention.
START = (int(time.time()) - 3600) * 1000
#: Enough that holding all of them at once would be seen in the memory of the process.
LOTS = 400_000
#: Runs a command, then writes the peak of its memory (KB on Linux).
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
"""


def moment(n: int) -> datetime:
    """When record `n` was written."""
    return datetime.fromtimestamp(START / 1000 + n, UTC)


@pytest.fixture(scope="module")
def shop(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orders]:
    with orders_in(tmp_path_factory.mktemp("shop"), kafka) as made:
        # One record a second, over the partitions in turn: 30 in all, 10 in each.
        records = [
            {
                "value": json.dumps({"n": n}).encode(),
                "key": f"k{n % 4}".encode(),
                "partition": n % 3,
                "timestamp": START + n * 1000,
            }
            for n in range(30)
        ]
        write(kafka, made.topic("orders"), records)
        yield made


@pytest.fixture
def topic(shop: Orders) -> Iterator[str]:
    """A topic that the file does not know, with two partitions."""
    name = f"{shop.namespace}-{uuid.uuid4().hex[:8]}"
    assert shop.admin.create([TopicSpec(name, 2, 1)])[name] is None
    eventually(lambda: name in shop.admin.topic_names())
    yield name
    shop.admin.delete([name])


def numbers(records: list[dict[str, Any]]) -> list[int]:
    return [record["value"]["n"] for record in records]


def test_the_last_ten_of_the_whole_topic_by_time(shop: Orders) -> None:
    assert numbers(shop.tailed("orders")) == list(range(20, 30))


@pytest.mark.parametrize(("count", "expected"), [(1, [29]), (12, list(range(18, 30))), (99, list(range(30)))])
def test_the_last_n(shop: Orders, count: int, expected: list[int]) -> None:
    assert numbers(shop.tailed("orders", "-n", str(count))) == expected


@pytest.mark.parametrize("name", ["orders", "namespace"])
def test_both_names_of_a_topic_work_and_the_files_is_shown(shop: Orders, name: str) -> None:
    [record] = shop.tailed(shop.topic("orders") if name == "namespace" else "orders", "-n", "1")
    assert record == {
        "topic": "orders",
        "partition": 2,
        "offset": 9,
        "timestamp": START + 29_000,
        "key": "k1",
        "value": {"n": 29},
        "headers": [],
    }


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("beginning", set(range(30))),
        ("8", {24, 25, 26, 27, 28, 29}),
        ("10", set()),
        ("999", set()),
        (f"@{START + 25_000}", {25, 26, 27, 28, 29}),
        ("@-30m", set()),
        ("@-2h", set(range(30))),
        (f"@{moment(27):%Y-%m-%dT%H:%M:%SZ}", {27, 28, 29}),
        ("@0", set(range(30))),
    ],
    ids=["beginning", "8", "10", "999", "milliseconds", "minutes", "hours", "moment", "epoch"],
)
def test_where_to_start(shop: Orders, start: str, expected: set[int]) -> None:
    found = shop.tailed("orders", "-o", start)
    assert {record["value"]["n"] for record in found} == expected
    for partition in range(3):
        mine = [record["offset"] for record in found if record["partition"] == partition]
        assert mine == sorted(mine)


def test_only_some_partitions(shop: Orders) -> None:
    assert numbers(shop.tailed("orders", "-p", "1", "-n", "2")) == [25, 28]
    assert {r["partition"] for r in shop.tailed("orders", "-p", "0,2", "-o", "beginning")} == {0, 2}
    assert {r["partition"] for r in shop.tailed("orders", "-p", "0", "-p", "2")} == {0, 2}


def test_only_one_key(shop: Orders) -> None:
    assert numbers(shop.tailed("orders", "-k", "k3", "-n", "3")) == [19, 23, 27]
    assert sorted(numbers(shop.tailed("orders", "-k", "k3", "-o", "9"))) == [27]
    assert shop.tailed("orders", "-k", "nobody") == []


def test_only_what_passes_the_filters(shop: Orders) -> None:
    assert numbers(shop.tailed("orders", "--where", "value.n > `5` && value.n < `9`")) == [6, 7, 8]
    assert numbers(shop.tailed("orders", "--where", "value.n > `5`", "-k", "k3", "-n", "2")) == [23, 27]
    assert numbers(shop.tailed("orders", "--grep", '"n": 1[0-3]}')) == [10, 11, 12, 13]
    assert sorted(numbers(shop.tailed("orders", "-o", "beginning", "--where", "value.n < `2`", "-c", "2"))) == [0, 1]


def test_only_one_header(shop: Orders, topic: str) -> None:
    records = [{"value": b"%d" % n, "partition": n % 2, "headers": [("trace", b"t%d" % (n % 3))]} for n in range(9)]
    write(shop.bootstrap, topic, records)
    assert {r["value"] for r in shop.tailed(topic, "-H", "trace: t1")} == {1, 4, 7}
    assert shop.tailed(topic, "-H", "trace:t1", "-H", "trace:t2") == []


def test_it_says_how_much_it_scanned(shop: Orders) -> None:
    done = shop.run("tail", "orders", "--where", "value.n == `3`")
    assert done.code == 0
    assert re.fullmatch(r"scanned 30 records in \d\.\d s, 1 shown\n", done.err)
    failing = shop.run("tail", "orders", "--where", "contains(value.items, 'x')")
    assert failing.out == ""
    assert "--where could not be asked about 30 of them: In function contains()" in failing.err


def test_a_met_expectation_ends_it_at_once(shop: Orders, topic: str) -> None:
    assert len(shop.tailed("orders", "--expect", "12")) == 12
    with running(shop.folder, "tail", topic, "--expect", "2", "--timeout", "60s", "--json") as tail:
        write(shop.bootstrap, topic, [{"value": b"%d" % n, "partition": n} for n in range(2)])
        assert {json.loads(tail.line())["value"] for _ in range(2)} == {0, 1}
        assert tail.child.wait(10) == 0


def test_an_unmet_expectation_is_6(shop: Orders) -> None:
    started = time.monotonic()
    done = shop.run("tail", "orders", "-k", "k1", "--where", "value.n > `17`", "--expect", "4", "--timeout", "1500ms")
    assert time.monotonic() - started > 1.5
    assert (done.code, len(done.out.splitlines())) == (6, 3)
    assert "expected 4 records, found 3 within 1.5 s" in done.err
    done = shop.run("tail", "orders", "-k", "nobody", "--expect", "1", "--timeout", "300ms", "--json")
    assert (done.code, done.out) == (6, "")
    *_, error = done.err.splitlines()
    assert json.loads(error)["error"]["message"] == "expected 1 record, found 0 within 0.3 s"
    assert shop.run("tail", "notes", "--expect", "1").code == 6


def test_any_number_of_records_takes_the_same_memory_and_ctrl_c_is_quick(shop: Orders, topic: str) -> None:
    producer = Producer({"bootstrap.servers": shop.bootstrap, "queue.buffering.max.messages": 500_000, "linger.ms": 20})
    for n in range(LOTS):
        producer.produce(topic, value=b'{"n": %d, "pad": "%s"}' % (n, b"x" * 100), key=b"%d" % n)
    assert producer.flush(60) == 0
    words = [KPIPE, "tail", topic, "--where", f"value.n == `{LOTS // 3}`"]
    # Started by a small process: the peak of a child begins with the memory of whoever forked it.
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *words], cwd=shop.folder, env=environment(), capture_output=True, check=True
    )
    assert done.stdout.count(b"\n") == 1
    assert int(done.stderr.split()[-1]) < 150_000, "all of them at once would be far above"
    with running(shop.folder, "tail", topic, "-o", "beginning", "--where", "value.n < `1000` || value.x") as tail:
        tail.line()
        started = time.monotonic()
        assert tail.interrupt() == 130
        assert time.monotonic() - started < 1.5
        assert tail.child.stderr is not None
        assert b"scanned " in tail.child.stderr.read()


def test_it_ends_after_so_many(shop: Orders) -> None:
    assert numbers(shop.tailed("orders", "-c", "3")) == [20, 21, 22]
    assert len(shop.tailed("orders", "-o", "beginning", "-c", "7")) == 7


def test_the_last_with_a_key_far_back(shop: Orders, topic: str) -> None:
    wanted = [{"key": b"rare", "value": b"%d" % n, "partition": 0} for n in range(3)]
    write(shop.bootstrap, topic, [*wanted, *({"key": b"common", "value": b"0", "partition": 0} for _ in range(6000))])
    assert [r["value"] for r in shop.tailed(topic, "-k", "rare", "-n", "2")] == [1, 2]


def test_several_topics_are_merged_by_time_and_named(shop: Orders, topic: str) -> None:
    write(shop.bootstrap, topic, [{"value": b"0", "timestamp": START + 27_500}])
    found = shop.tailed("orders", topic, "-n", "3")
    assert [(r["topic"], r["timestamp"] - START) for r in found] == [
        ("orders", 27_000),
        (topic, 27_500),
        ("orders", 28_000),
        ("orders", 29_000),
    ]
    assert f"  {topic}[" in shop.run("tail", "orders", topic).out


def test_an_empty_topic_is_empty_and_quick(shop: Orders) -> None:
    started = time.monotonic()
    assert shop.run("tail", "notes")[:] == (0, "", "")
    assert time.monotonic() - started < 5


def test_transactions_show_what_was_committed_and_end(shop: Orders, topic: str) -> None:
    producer = Producer({"bootstrap.servers": shop.bootstrap, "transactional.id": topic, "linger.ms": 0})
    producer.init_transactions(10)
    for number, commit in enumerate((True, False, True, False)):
        producer.begin_transaction()
        for _ in range(4):
            producer.produce(topic, value=b"%d" % number, partition=0)
        producer.flush(10)
        producer.commit_transaction(10) if commit else producer.abort_transaction(10)
    values = [0] * 4 + [2] * 4
    # The markers reach the partition a moment after the coordinator's answer.
    eventually(lambda: [r["value"] for r in shop.tailed(topic, "-o", "beginning")] == values)
    assert [r["value"] for r in shop.tailed(topic, "-n", "8")] == values, "markers and aborted records do not count"


def test_any_bytes_come_out_again(shop: Orders, topic: str) -> None:
    every_byte = bytes(range(256))
    records = [
        {"key": None, "value": None},
        {"key": b"\xff\xfe", "value": every_byte},
        {"key": b"", "value": b""},
        {"key": b"k", "value": b"null"},
        {"key": b"k", "value": b'{"big": 123456789012345678901234567890, "f": 1.10}'},
        {"key": b"k", "value": b"[" * 5000},
        {"key": b"k", "value": b"NaN", "headers": [("a", b"1"), ("a", None), ("b", b"\xff")]},
        {"key": b"k", "value": b'"' + b"x" * 900_000 + b'"'},
    ]
    write(shop.bootstrap, topic, [{**record, "partition": 0} for record in records])
    shown = shop.tailed(topic)
    assert [back(r, "key") for r in shown] == [r["key"] for r in records]
    for record, line in zip(records, shown, strict=True):
        if "value_base64" in line:
            assert base64.b64decode(line["value_base64"]) == record["value"]
        elif record["value"] is None:
            assert line["value"] is None
        else:
            assert line["value"] == json.loads(record["value"])
    assert shown[6]["headers"] == [["a", "1"], ["a", None], ["b", {"base64": "/w=="}]]
    assert '"f":1.10' in shop.run("tail", topic, "--json").out
    faithful = raw(shop.folder, "tail", topic, "-o", "1", "-c", "1", "--format", r"%k%v\c").stdout
    assert faithful == b"\xff\xfe" + every_byte


def back(record: dict[str, Any], name: str) -> bytes | None:
    if f"{name}_base64" in record:
        return base64.b64decode(record[f"{name}_base64"])
    return None if record[name] is None else str(record[name]).encode()


EVIL = b"\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\r\n" + "\u202e\u0085".encode()


@pytest.mark.parametrize("more", [(), ("--json",), ("--format", "%k %v %h")])
def test_nothing_in_a_record_acts_on_a_terminal(shop: Orders, topic: str, more: tuple[str, ...]) -> None:
    as_json = json.dumps({"x": EVIL.decode("latin-1")}, ensure_ascii=False).encode()
    write(shop.bootstrap, topic, [{"key": EVIL, "value": v, "headers": [("h", EVIL)]} for v in (EVIL, as_json)])
    code, sent = on_terminal(shop.folder, "--no-color", "tail", topic, *more)
    assert code == 0
    text = sent.decode().replace("\r\n", "\n")  # the terminal's own line ends
    assert len(text.splitlines()) == 2
    assert not set(text) & {"\x1b", "\x07", "\x9b", "\x7f", "\r", "\u202e", "\u0085"}
    assert "owned" in text


def test_people_get_no_raw_bytes_through_a_pipe_either(shop: Orders, topic: str) -> None:
    write(shop.bootstrap, topic, [{"key": EVIL, "value": EVIL}])
    out = shop.run("tail", topic).out
    assert not set(out) & {"\x1b", "\x07", "\x9b", "\x7f", "\r", "\u202e"}


def test_colours_on_a_terminal_only(shop: Orders) -> None:
    assert b"\x1b[36m2@9\x1b[0m" in on_terminal(shop.folder, "tail", "orders", "-n", "1")[1]
    assert b"\x1b" not in on_terminal(shop.folder, "tail", "orders", "-n", "1", env={"NO_COLOR": "1"})[1]
    assert "\x1b" not in shop.run("tail", "orders", "-n", "1").out


def test_what_people_see(shop: Orders) -> None:
    done = shop.run("tail", "orders", "-n", "1", env={"TZ": "UTC"})
    assert done == (0, f'{moment(29):%Y-%m-%d %H:%M:%S}.000  2@9  k1  {{"n":29}}\n', "")


def test_a_large_value_is_cut_on_a_terminal_only(shop: Orders, topic: str) -> None:
    write(shop.bootstrap, topic, [{"value": b'"' + b"x" * 50_000 + b'"'}])
    assert b"more characters" in on_terminal(shop.folder, "--no-color", "tail", topic)[1]
    assert "x" * 50_000 in shop.run("tail", topic).out


def test_a_dead_letter_tells_its_reason(shop: Orders) -> None:
    said = {
        "id": "shop.payments/orders/1/7",
        "reason": "schema",
        "topic": "orders",
        "partition": "1",
        "offset": "7",
        "handler": "payments",
        "attempts": "1",
        "violations": '[{"path":"$.amount","message":"\\"ten\\" is not of type \\"number\\""}]',
    }
    headers = [(f"kpipe-dlq-{name}", value.encode()) for name, value in said.items()]
    write(shop.bootstrap, shop.topic("orders.dlq"), [{"key": b"o", "value": b'{"amount":"ten"}', "headers": headers}])
    lines = shop.run("tail", "orders.dlq", "-n", "1").out.splitlines()
    assert lines[0].endswith('  o  {"amount":"ten"}')
    assert lines[1:] == [
        "    schema from orders[1]@7 by payments, 1 attempt",
        '    $.amount: "ten" is not of type "number"',
    ]
    [letter] = shop.tailed("orders.dlq", "-n", "1")
    assert ["kpipe-dlq-reason", "schema"] in letter["headers"]


def test_following_shows_the_last_and_then_what_comes(shop: Orders, topic: str) -> None:
    write(shop.bootstrap, topic, [{"value": b"%d" % n, "partition": 0} for n in range(12)])
    with running(shop.folder, "tail", topic, "-f", "-n", "2", "--json") as tail:
        assert [json.loads(tail.line())["value"] for _ in range(2)] == [10, 11]
        write(shop.bootstrap, topic, [{"value": b"12", "partition": 1}, {"value": b"13", "partition": 1}])
        assert [json.loads(tail.line())["value"] for _ in range(2)] == [12, 13]
        assert tail.interrupt() == 130
        assert tail.child.stderr is not None
        assert tail.child.stderr.read() == b""


def test_following_from_the_end_until_a_count(shop: Orders, topic: str) -> None:
    write(shop.bootstrap, topic, [{"key": b"a", "value": b"0", "partition": 0}])
    with running(shop.folder, "tail", topic, "-f", "-o", "end", "-k", "a", "-c", "1", "--format", "%v") as tail:
        # Nothing tells from outside that it is at the end: keep writing until one is seen.
        def heard() -> bool:
            write(shop.bootstrap, topic, [{"key": b"b", "value": b"no"}, {"key": b"a", "value": b"yes"}])
            return bool(select.select([tail.child.stdout], [], [], 0.3)[0])

        eventually(heard)
        assert tail.line() == "yes"
        assert tail.child.wait(10) == 0


def test_ctrl_c_is_quick_and_silent(shop: Orders) -> None:
    with running(shop.folder, "tail", "orders", "-f") as tail:
        for _ in range(10):
            tail.line()
        started = time.monotonic()
        assert tail.interrupt() == 130
        assert time.monotonic() - started < 1.5
        assert tail.child.communicate() == (b"", b"")


def test_sigterm_ends_it(shop: Orders) -> None:
    with running(shop.folder, "tail", "orders", "-f", "-n", "1") as tail:
        tail.line()
        tail.child.terminate()
        assert tail.child.wait(5) in (-signal.SIGTERM, 143)


@pytest.mark.parametrize("more", [(), ("-f",)])
def test_a_pipe_that_closes_ends_it_quietly(shop: Orders, more: tuple[str, ...]) -> None:
    """`kpipe tail … | head -1`: also while it follows and nothing new comes."""
    with subprocess.Popen(
        [KPIPE, "tail", "orders", "-o", "beginning", *more],
        cwd=shop.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as tail:
        assert tail.stdout is not None
        assert tail.stderr is not None
        assert select.select([tail.stdout], [], [], 15)[0]
        os.read(tail.stdout.fileno(), 1)
        tail.stdout.close()
        assert tail.wait(10) in ((141,) if more else (0, 141))
        assert tail.stderr.read() == b""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ordrs",), ["no topic `ordrs`", "did you mean `orders`"]),
        (("orders", "-o", "sometime"), ["-o sometime", "@-15m"]),
        (("orders", "-o", "end"), ["-o end shows nothing", "-f"]),
        (("orders", "-n", "0"), ["-n 0 shows nothing"]),
        (("orders", "-n", "5", "-o", "beginning"), ["-n and -o"]),
        (("orders", "--json", "--format", "%v"), ["--format and --json"]),
        (("orders", "--format", "%q"), ["%q", "%k key"]),
        (("orders", "-p", "3"), ["-p 3", "0 to 2"]),
        (("notes", "-p", "1"), ["-p 1", "one partition"]),
        (("orders", "-p", "x"), ["-p x"]),
        (("orders", "-c", "0"), ["-c"]),
        (("orders", "-n", "-1"), ["-n"]),
        (("orders", "--where", "value.n > 1"), ["--where value.n > 1", "backticks"]),
        (("orders", "--grep", "("), ["--grep (", "not a regular expression"]),
        (("orders", "-H", "x"), ["-H x", "name:value"]),
        (("orders", "--timeout", "1s"), ["--timeout", "--expect"]),
        (("orders", "--expect", "1", "--timeout", "1"), ["--timeout 1:", "unit"]),
        (("orders", "--expect", "2", "-c", "1"), ["-c 1", "--expect 2"]),
        (("orders", "-f", "pipeline.yaml"), ["no topic `pipeline.yaml`", "kpipe -f pipeline.yaml"]),
    ],
)
def test_wrong_words(shop: Orders, words: tuple[str, ...], said: list[str]) -> None:
    done = shop.run("tail", *words)
    assert (done.code, done.out) == (2, "")
    assert all(part in done.err for part in said), done.err


def test_a_declared_topic_that_is_not_there(shop: Orders) -> None:
    done = shop.run("tail", "late")
    assert (done.code, done.out) == (4, "")
    assert "kpipe topics sync" in done.err


def test_looking_never_creates_a_topic(shop: Orders) -> None:
    shop.run("tail", "late")
    shop.run("tail", f"{shop.namespace}-ghost")
    assert not {shop.topic("late"), f"{shop.namespace}-ghost"} & shop.admin.topic_names()


def test_a_topic_deleted_while_followed_is_an_error(shop: Orders) -> None:
    name = f"{shop.namespace}-{uuid.uuid4().hex[:8]}"
    assert shop.admin.create([TopicSpec(name, 1, 1)])[name] is None
    eventually(lambda: name in shop.admin.topic_names())
    write(shop.bootstrap, name, [{"value": b"1"}])
    with running(shop.folder, "tail", name, "-f") as tail:
        tail.line()
        shop.admin.delete([name])
        assert tail.child.wait(40) == 4
        assert tail.child.stderr is not None
        said = tail.child.stderr.read().decode()
    assert f"cannot read on: {name} [0]" in said
    assert "deleted" in said


def test_no_consumer_group_is_left_behind(shop: Orders) -> None:
    shop.tailed("orders")
    from confluent_kafka.admin import AdminClient

    groups = AdminClient({"bootstrap.servers": shop.bootstrap}).list_consumer_groups().result(10)
    assert not [group.group_id for group in groups.valid if "reader" in group.group_id]
