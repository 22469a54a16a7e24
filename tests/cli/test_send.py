"""`kpipe send` on a real Kafka: what arrives, what is refused, what is said."""

from __future__ import annotations

import json
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.records import TopicSpec
from tests.support.orders import Orders, orders_in, write
from tests.support.shell import kpipe, on_terminal, raw, running

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def shop(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orders]:
    with orders_in(tmp_path_factory.mktemp("shop"), kafka) as made:
        yield made


def test_the_example_with_fresh_fields_twice(shop: Orders) -> None:
    before = time.time() * 1000
    first, second = shop.sent("order")[0], shop.sent("order")[0]
    assert set(first) == {"topic", "partition", "offset", "timestamp", "key", "value", "headers"}
    assert first["topic"] == "orders"
    assert first["value"]["user"] == {"name": "a", "age": 4}
    assert uuid.UUID(first["value"]["eventId"]) != uuid.UUID(second["value"]["eventId"])
    assert first["key"] == first["value"]["orderId"] != second["key"]
    made = datetime.fromisoformat(first["value"]["createdAt"]).timestamp() * 1000
    assert before - 1 <= made <= first["timestamp"] + 1 <= time.time() * 1000 + 1


def test_what_was_said_is_what_is_there(shop: Orders) -> None:
    [sent] = shop.sent("order", "-H", "trace: abc", "-H", "trace:d:e")
    there = shop.tailed("orders", "-p", str(sent["partition"]), "-o", str(sent["offset"]), "-c", "1")
    assert there == [sent]
    assert sent["headers"][:2] == [["trace", "abc"], ["trace", "d:e"]]
    assert [name for name, _ in sent["headers"][2:]] == ["traceparent"], "every event that is sent begins a trace"
    [joined] = shop.sent("order", "-H", "traceparent:mine")
    assert joined["headers"] == [["traceparent", "mine"]], "unless it is to be in another"


def test_the_bytes_of_a_headers_name_are_sent_as_they_are(shop: Orders) -> None:
    [sent] = shop.sent("order", "-H", b"caf\xe9:v\xff".decode("utf-8", "surrogateescape"), "-H", "caf\u00e9: w")
    odd = [{"base64": "Y2Fm6Q=="}, {"base64": "dv8="}]
    assert sent["headers"][:2] == [odd, ["caf\u00e9", "w"]]
    place = ("-p", str(sent["partition"]), "-o", str(sent["offset"]), "-c", "1")
    assert shop.tailed("orders", *place) == [sent]
    [again] = shop.sent("orders", "--records", "-", stdin=json.dumps(sent).encode())
    assert again["headers"] == sent["headers"]
    shown = raw(shop.folder, "tail", "orders", *place, "--format", "%h")
    assert shown.stdout.startswith(b"caf\xe9=v\xff,caf\xc3\xa9=w,traceparent=")


def test_one_line_for_each_event(shop: Orders) -> None:
    done = shop.run("send", "order", "-n", "3", "-k", "k\x1b1")
    assert (done.code, done.err) == (0, "")
    assert len(done.out.splitlines()) == 3
    for line in done.out.splitlines():
        assert re.fullmatch(r"orders\[[0-2]\]@\d+ key=k\\x1b1", line)


def test_every_one_of_many_is_acknowledged_in_order_with_its_own_id(shop: Orders) -> None:
    sent = shop.sent("order", "-n", "2500", "-p", "1")
    assert len({event["value"]["eventId"] for event in sent}) == 2500
    offsets = [event["offset"] for event in sent]
    assert offsets == list(range(offsets[0], offsets[0] + 2500))


def test_numbers_are_sent_as_they_are_written(shop: Orders) -> None:
    shop.sent("order", '{"amount": 99.90}', "--set", "user.age=1.0", "-k", "exact")
    shown = shop.run("tail", "orders", "-k", "exact", "-n", "1", "--format", r"%v\n").out
    assert '"amount":99.90' in shown
    assert '"age":1.0' in shown
    shop.sent("order", "-k", "example")
    assert '"amount":150.00' in shop.run("tail", "orders", "-k", "example", "-n", "1", "--format", "%v").out


def test_json_is_merged_and_set_wins(shop: Orders) -> None:
    [sent] = shop.sent("order", '{"user": {"age": 5}, "orderId": "mine"}', "--set", "user.name=b", "--set", "n=null")
    assert sent["value"]["user"] == {"name": "b", "age": 5}
    assert sent["value"]["n"] is None
    assert sent["key"] == sent["value"]["orderId"] == "mine"


def test_an_integer_key_is_decimal(shop: Orders) -> None:
    assert shop.sent("order", "--set", "orderId=9007199254740993")[0]["key"] == "9007199254740993"


def test_the_key_and_partition_can_be_given(shop: Orders) -> None:
    [sent] = shop.sent("order", "-k", "other", "-p", "2")
    assert (sent["key"], sent["partition"]) == ("other", 2)


def test_java_and_kpipe_agree_on_the_partition_of_a_key(shop: Orders) -> None:
    # murmur2("21") % 3 and so on, as Java's DefaultPartitioner computes them.
    placed = {key: shop.sent("order", "-k", key)[0]["partition"] for key in ("21", "foobar", "abc")}
    assert placed == {key: (murmur2(key.encode()) & 0x7FFFFFFF) % 3 for key in placed}


def murmur2(data: bytes) -> int:
    """Kafka's `Utils.murmur2`, unsigned."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    for i in range(0, len(data) - len(data) % 4, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    rest = data[len(data) - len(data) % 4 :]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def test_a_topics_name_works_too(shop: Orders) -> None:
    [sent] = shop.sent("notes", '{"a": null}')
    assert (sent["topic"], sent["key"], sent["value"]) == ("notes", None, {"a": None})
    assert shop.sent(shop.topic("notes"), "[1]")[0]["topic"] == "notes"


def test_a_tombstone_needs_a_key(shop: Orders) -> None:
    [sent] = shop.sent("orders", "null", "-k", "gone")
    assert (sent["key"], sent["value"]) == ("gone", None)
    assert "value_base64" not in shop.tailed("orders", "-k", "gone")[0]
    done = shop.run("send", "orders", "null")
    assert done.code == 2
    assert "tombstone" in done.err


def ends(shop: Orders) -> int:
    return len(shop.tailed("orders", "-o", "beginning"))


@pytest.mark.parametrize(
    ("words", "paths"),
    [
        (('{"amount": "ten"}',), ["$.amount"]),
        (('{"amount": "ten", "eventId": "no"}', "--set", "createdAt=soon"), ["$.amount", "$.eventId", "$.createdAt"]),
        (('{"amount": null}',), ["$.amount"]),
        (("[]",), ["$"]),
        (('{"orderId": null}',), ["$.orderId"]),
        (('{"orderId": 1.5}',), ["$.orderId"]),
    ],
)
def test_an_invalid_event_is_refused_with_every_path(shop: Orders, words: tuple[str, ...], paths: list[str]) -> None:
    before = ends(shop)
    done = shop.run("send", "order", *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: the event breaks the contract of orders\n")
    said = [line.strip().partition(": ")[0] for line in done.err.splitlines()[1:-1]]
    assert sorted(said) == sorted(paths)
    assert "--no-validate" in done.err
    assert ends(shop) == before


def test_violations_in_json(shop: Orders) -> None:
    done = shop.run("send", "order", '{"amount": "ten"}', "--json")
    [violation] = json.loads(done.err)["error"]["violations"]
    assert violation == {"path": "$.amount", "message": '"ten" is not of type "number"'}


def test_one_wrong_line_and_nothing_is_sent(shop: Orders) -> None:
    before = ends(shop)
    done = shop.run("send", "order", "-", stdin=b'{"amount": 1}\n{"amount": "ten"}\n')
    assert (done.code, done.out) == (2, "")
    assert "$.amount" in done.err
    assert "1 of 2 events break the contract of orders" in done.err
    assert "line 2: $.amount" in done.err
    assert ends(shop) == before


def test_an_invalid_event_needs_no_kafka_to_be_refused(shop: Orders, tmp_path: Path) -> None:
    for name in ("order.json", "example.json", "pipeline.yaml"):
        text = (shop.folder / name).read_text().replace(shop.bootstrap, "127.0.0.1:1")
        (tmp_path / name).write_text(text)
    started = time.monotonic()
    done = kpipe(tmp_path, "send", "order", '{"amount": "ten"}')
    assert done.code == 2
    assert time.monotonic() - started < 5


def test_without_validation_it_is_sent_as_it_is(shop: Orders) -> None:
    [sent] = shop.sent("order", "--no-validate", '{"amount": "ten"}')
    assert sent["value"]["amount"] == "ten"
    assert sent["key"] == sent["value"]["orderId"]
    assert shop.sent("orders", "--no-validate", '{"amount": "ten"}')[0]["key"] is None
    assert shop.sent("orders", "--no-validate", "[]")[0]["value"] == []


def test_bytes_that_are_not_json_are_sent_with_no_validate_only(shop: Orders) -> None:
    noise = b"\x00\xff\x1b[2J{\n"
    assert shop.run("send", "notes", "-", stdin=noise).code == 2
    [sent] = shop.sent("notes", "-", "--no-validate", "-k", "noise", stdin=noise)
    assert (sent["value"], sent["value_base64"]) == (None, "AP8bWzJKewo=")
    assert shop.tailed("notes", "-k", "noise") == [sent]


def test_json_lines_from_a_file(shop: Orders) -> None:
    (shop.folder / "two.json").write_text('{"amount": 1}\n{"amount": 2}\n')
    assert [event["value"]["amount"] for event in shop.sent("order", "@two.json")] == [1, 2]
    assert [event["value"]["amount"] for event in shop.sent("order", "@two.json", "-n", "2")] == [1, 2, 1, 2]


def test_every_wrong_line_is_named(shop: Orders) -> None:
    lines = [b'{"amount": %s}' % (b'"x"' if n % 3 == 0 else b"1") for n in range(1, 100)]
    done = shop.run("send", "order", "-", "--json", stdin=b"\n\n".join(lines))
    assert (done.code, done.out) == (2, "")
    error = json.loads(done.err)["error"]
    assert error["message"] == "33 of 99 events break the contract of orders"
    paths = [violation["path"] for violation in error["violations"]]
    assert paths == [f"line {2 * n - 1}: $.amount" for n in range(3, 61, 3)] + ["…"]


def test_what_kafka_refuses_is_named_by_its_line_and_the_others_are_sent(shop: Orders) -> None:
    # Two are too large even where they are compressed.
    texts = ("x", os.urandom(1_500_000).hex(), "xx", os.urandom(1_600_000).hex())
    lines = [json.dumps({"text": text, "k": 1}) for text in texts]
    done = shop.run("send", "notes", "-", "--json", "-k", "partly", stdin="\n\n".join(lines).encode())
    assert done.code == 1
    assert [len(json.loads(line)["value"]["text"]) for line in done.out.splitlines()] == [1, 2]
    error = json.loads(done.err)["error"]
    assert error["exit_code"] == 1
    first, *others = error["message"].splitlines()
    assert first.startswith("Kafka refused 2 of 4 events: ")
    assert [line.split(":")[0].strip() for line in others] == ["line 3", "line 7"]


def test_records_are_sent_again_as_tail_shows_them(shop: Orders) -> None:
    name = f"{shop.namespace}-{uuid.uuid4().hex[:8]}"
    assert shop.admin.create([TopicSpec(name, 1, 1), TopicSpec(f"{name}-2", 1, 1)]) == {name: None, f"{name}-2": None}
    records: list[dict[str, Any]] = [
        {"key": b"a", "value": b'{"amount": 1.50, "text": "gr\xc3\xbcn\\u001b"}'},
        {"key": None, "value": b"[1]", "headers": [("trace", b"1"), ("trace", None), ("bin", b"\xff\x00")]},
        {"key": b"\xff\xfe", "value": b"\x00\xff not json"},
        {"key": b"gone", "value": None},
        {"key": b"n", "value": b"null"},
        {"key": b"", "value": b""},
    ]
    write(shop.bootstrap, name, records)
    try:
        shown = shop.run("tail", name, "--json").out
        refused = shop.run("send", f"{name}-2", "--records", "-", stdin=shown.encode())
        assert refused.code == 2
        assert "line 3: $: is not JSON" in refused.err
        again = shop.run("send", f"{name}-2", "--records", "--no-validate", "-", stdin=shown.encode())
        assert (again.code, again.err) == (0, "")
        first, second = shop.tailed(name), shop.tailed(f"{name}-2")
        for record in (*first, *second):
            record.pop("timestamp"), record.pop("topic")
        assert first == second
    finally:
        shop.admin.delete([name, f"{name}-2"])


def test_records_keep_the_contract_and_can_be_mended(shop: Orders) -> None:
    [sent] = shop.sent("order", "--no-validate", '{"amount": "ten"}', "-H", "a:b")
    line = json.dumps(sent).encode()
    assert shop.run("send", "orders", "--records", "-", stdin=line).code == 2
    [mended] = shop.sent("orders", "--records", "-", "--set", "amount=10", "-H", "c:d", stdin=line)
    assert (mended["key"], mended["partition"]) == (sent["key"], sent["partition"])
    assert mended["value"] == {**sent["value"], "amount": 10}
    assert ["a", "b"] in sent["headers"]
    assert mended["headers"] == [*sent["headers"], ["c", "d"]]


def test_at_a_rate(shop: Orders) -> None:
    started = time.monotonic()
    sent = shop.sent("order", "-n", "300", "--rate", "200", "-k", "paced")
    assert time.monotonic() - started > 1.4
    times = [event["timestamp"] for event in sent]
    assert 1350 < times[-1] - times[0] < 5000


def test_on_a_terminal_many_are_summed_up(shop: Orders) -> None:
    code, sent = on_terminal(shop.folder, "send", "order", "-n", "3000", "--rate", "2000")
    assert code == 0
    text = sent.decode()
    assert re.search(r"\d[\d,]* of 3,000 events, [\d,]+ a second", text)
    assert re.search(r"sent 3,000 events in \d\.\d s, [\d,]+ a second", text)
    assert "orders[" not in text
    code, sent = on_terminal(shop.folder, "send", "order", "-n", "3", "--no-color")
    assert len(re.findall(r"orders\[[0-2]\]@\d+ key=", sent.decode())) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ordr",), ["no topic `ordr`", "did you mean `order`"]),
        (("order", "{"), ["not JSON", "--no-validate"]),
        (("order", "@none.json"), ["none.json", "No such file"]),
        (("orders",), ["no example", "kpipe send TOPIC"]),
        (("order", "-p", "3"), ["-p 3", "0 to 2"]),
        (("order", "-p", "-1"), ["-p"]),
        (("order", "--set", "amount"), ["--set amount"]),
        (("order", "-H", "x"), ["-H x"]),
        (("order", "-H", "kpipe-source:g/t/0/0/1"), ["-H kpipe-source", "kpipe's own"]),
        (("order", "-H", "kpipe-dlq-id:x"), ["-H kpipe-dlq-id", "kpipe's own"]),
        (("order", "--rate", "0"), ["--rate"]),
        (("orders", "--records"), ["--records needs records"]),
        (("orders", "--records", "{}"), ["the input is not a record", "tail --json"]),
    ],
)
def test_wrong_words(shop: Orders, words: tuple[str, ...], said: list[str]) -> None:
    done = shop.run("send", *words)
    assert (done.code, done.out) == (2, "")
    assert all(part in done.err for part in said), done.err


def test_a_declared_topic_that_is_not_there(shop: Orders) -> None:
    done = shop.run("send", "late", "{}")
    assert (done.code, done.out) == (4, "")
    assert f"{shop.namespace}.late is declared, but not on the cluster" in done.err
    assert "kpipe topics sync" in done.err


def test_an_event_that_is_too_large_is_refused(shop: Orders) -> None:
    (shop.folder / "large.json").write_text(json.dumps({"text": os.urandom(1_500_000).hex()}))
    done = shop.run("send", "notes", "@large.json")
    assert (done.code, done.out) == (4, "")
    assert "refused 1 of 1 events" in done.err
    assert "too large" in done.err


def test_a_broker_that_accepts_and_never_answers(shop: Orders, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        for name in ("order.json", "example.json", "pipeline.yaml"):
            (tmp_path / name).write_text((shop.folder / name).read_text().replace(shop.bootstrap, address))
        done = kpipe(tmp_path, "send", "order", timeout=20)
    assert (done.code, done.out) == (4, "")
    assert address in done.err
    assert len(done.err.splitlines()) == 2


def test_on_a_terminal_the_key_cannot_act(shop: Orders) -> None:
    code, sent = on_terminal(shop.folder, "send", "order", "-k", "\x1b]0;x\x07", "--no-color")
    assert code == 0
    assert b"\x1b" not in sent
    assert rb"key=\x1b]0;x\x07" in sent


def test_ctrl_c_in_the_middle_is_quick(shop: Orders) -> None:
    with running(shop.folder, "send", "order", "-n", "200000") as send:
        send.line()
        started = time.monotonic()
        assert send.interrupt() == 130
        assert time.monotonic() - started < 3
        assert send.child.stderr is not None
        assert re.fullmatch(rb"ended after [\d,]+ of 200,000 events\n", send.child.stderr.read())


def test_a_pipe_that_closes_ends_it_quietly(shop: Orders) -> None:
    with running(shop.folder, "send", "order", "-n", "200000") as send:
        send.line()
        assert send.child.stdout is not None
        send.child.stdout.close()
        assert send.child.wait(15) == 141
        assert send.child.stderr is not None
        assert send.child.stderr.read() == b""


def test_events_are_made_up_from_the_contract(shop: Orders) -> None:
    def made(*words: str) -> list[Any]:
        return [sent["value"] for sent in shop.sent("order", "--fake", *words)]

    first = made("--seed", "7", "-n", "5")
    assert first == made("--seed", "7", "-n", "5") != made("--seed", "8", "-n", "5")
    assert len({event["eventId"] for event in first}) == 5
    assert {event["user"]["name"] for event in made("-n", "3", "--set", "user.name=Ann", '{"note": 1}')} == {"Ann"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("order", "--seed", "7"), "give --fake, too"),
        (("order", "--fake", "--records", "-"), "give one of them"),
        (("orders.dlq", "--fake"), "has no schema"),
        (("order", "--fake", "--set", "amount=many"), "$.amount"),
    ],
)
def test_what_cannot_be_made_up(shop: Orders, words: tuple[str, ...], said: str) -> None:
    done = shop.run("send", *words)
    assert (done.code, done.out) == (2, "") and said in done.err, done
