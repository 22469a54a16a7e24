"""Records to a story: who caused whom, and what became of each."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from orchestrator.cli.render import trace_tree
from orchestrator.config.model import DedupPolicy, Handler, KafkaSettings, Pipeline, Topic
from orchestrator.delivery.headers.dead_letters import Death, Sender, read_letter, write_letter
from orchestrator.delivery.headers.lineage import stamp
from orchestrator.delivery.headers.redrive import restore, send_back
from orchestrator.delivery.outcome import Failed
from orchestrator.operations.trace.causality import Node, RecordPlace, RecordReader, connect, outcome_of, place_of
from orchestrator.records import Headers, Record


def topic(name: str, **more: object) -> Topic:
    return Topic(name, f"ns.{name}", partitions=1, replication=1, configs={}, **more)  # type: ignore[arg-type]


PAY = Handler("pay", "python", "x:y", "ns.p.pay", consumes=("in",), produces=("out",), dedup=DedupPolicy("id", 600.0))
SEE = Handler("see", "python", "x:y", "ns.p.see", consumes=("in", "out"), dedup=DedupPolicy("id", 600.0))
PIPELINE = Pipeline(
    "p", "ns", Path(), KafkaSettings(),
    {"in": topic("in", dlq="dlq"), "out": topic("out", dlq="dlq"), "dlq": topic("dlq", is_dlq=True)},
    {}, {"pay": PAY, "see": SEE},
)  # fmt: skip
READING = RecordReader(PIPELINE)


def record(name: str, offset: int, at: int, headers: Headers = (), event_id: str = "e1") -> Record:
    return Record(f"ns.{name}", 0, offset, at, b"k", json.dumps({"id": event_id}).encode(), headers)


def letter_of(event: Record, reason: str, offset: int, at: int, by: str = "pay") -> Record:
    """As a worker writes it."""
    death = Death(
        reason=reason, failed=Failed("reject", "no such user", "Reject"), attempts=3, first_failed=1.0, last_failed=2.0
    )  # type: ignore[arg-type]
    out = write_letter(event, Sender(f"ns.p.{by}", "p", by), death, "ns.dlq", 1)
    return Record("ns.dlq", 0, offset, at, out.key, out.value, out.headers)


def story(*records: Record) -> tuple[list[Node], dict[RecordPlace, Node]]:
    shuffled = random.Random(len(records)).sample(records, len(records))
    nodes = {place_of(r): READING.node(r) for r in shuffled}
    return connect(nodes), nodes


def test_an_output_hangs_below_its_event_whatever_order_they_were_read_in() -> None:
    event = record("in", 5, 1_000)
    output = record("out", 9, 1_040, stamp("ns.p.pay", event, 2, 7))
    after = record("out", 10, 1_100, stamp("ns.p.see", output, 1, 8))
    (root,), _ = story(after, output, event)
    assert [(n.topic, n.since(root), n.via, n.attempt) for n in root.walk()] == [
        ("in", 0, "", 0),
        ("out", 40, "ns.p.pay", 2),
        ("out", 100, "ns.p.see", 1),
    ]
    assert len({n.trace for n in root.walk()}) == 1, "an event without a trace has the one that its handlers derive"


def test_what_handlers_made_of_it() -> None:
    event = record("in", 5, 1_000)
    output = record("out", 9, 1_040, stamp("ns.p.pay", event, 2, 7))
    (root,), nodes = story(event, output)
    done = outcome_of(PAY, root, True, nodes.values())
    assert (done.outcome, done.attempts, len(done.effects)) == ("done", 2, 1)
    assert outcome_of(SEE, root, False, nodes.values()).outcome == "pending"
    assert [h.name for h in READING.consumers(PIPELINE, root)] == ["pay", "see"]


def test_a_letter_decides_though_the_commit_is_still_to_come() -> None:
    event = record("in", 5, 1_000)
    (root,), nodes = story(letter_of(event, "rejected", 0, 1_010), event)
    outcome = outcome_of(PAY, root, False, nodes.values())
    assert (outcome.outcome, outcome.reason, outcome.attempts) == ("dead-lettered", "rejected", 3)
    assert outcome_of(SEE, root, True, nodes.values()).outcome == "done", "it is a letter of the other handler"


def test_a_broken_contract_and_a_copy_are_skipped() -> None:
    event = record("in", 5, 1_000)
    (root,), nodes = story(letter_of(event, "schema", 0, 1_010), event)
    assert outcome_of(SEE, root, True, nodes.values()).reason == "breaks the contract"
    copy, later = record("in", 6, 2_000), record("in", 7, 2_000 + 600_001)
    roots, nodes = story(event, copy, later)
    reasons = [outcome_of(SEE, node, True, nodes.values()).reason for node in roots]
    assert reasons == ["", "a copy of offset 5", ""], "the last one is outside of the window"


def test_a_redriven_letter_hangs_below_its_letter_and_may_fail_again() -> None:
    event = record("in", 5, 1_000)
    first = letter_of(event, "rejected", 0, 1_010)
    told = read_letter(first.headers)
    assert told is not None
    redriven = Record("ns.p.pay.redrive", 0, 0, 5_000, b"k", event.value, send_back(first, told, "", 1).headers)
    output = record("out", 3, 5_020, stamp("ns.p.pay", redriven, 1, 7))
    (root,), nodes = story(output, redriven, first, event)
    assert [n.kind for n in root.walk()] == ["event", "letter", "redriven", "event"]
    again = nodes[place_of(redriven)]
    assert [h.name for h in READING.consumers(PIPELINE, again)] == ["pay"], "it goes to this handler only"
    assert outcome_of(PAY, again, True, nodes.values()).outcome == "done"
    restored = restore(redriven)
    assert restored is not None
    (root,), _ = story(letter_of(restored, "rejected", 1, 5_030), redriven, first, event)
    assert [n.kind for n in root.walk()] == ["event", "letter", "redriven", "letter"]


def test_a_contract_letter_goes_back_to_every_handler_and_each_may_fail_again() -> None:
    event = record("in", 5, 1_000)
    first = letter_of(event, "schema", 0, 1_010)
    told = read_letter(first.headers)
    assert told is not None
    back = {
        by: Record(f"ns.p.{by}.redrive", 0, 0, 5_000, b"k", event.value, send_back(first, told, "", 1).headers)
        for by in ("pay", "see")
    }
    again = {by: restore(redriven) for by, redriven in back.items()}
    assert again["pay"] is not None and again["see"] is not None
    by_see, by_pay = letter_of(again["see"], "schema", 1, 5_010, "see"), letter_of(again["pay"], "schema", 2, 5_020)
    (root,), nodes = story(event, first, *back.values(), by_see, by_pay)
    for letter, by in ((by_see, "see"), (by_pay, "pay")):
        parent = nodes[place_of(letter)].parent
        assert parent is nodes[place_of(back[by])] and parent.parent is nodes[place_of(first)]
    assert outcome_of(SEE, nodes[place_of(back["see"])], True, nodes.values()).outcome == "dead-lettered"
    assert outcome_of(SEE, nodes[place_of(first)], True, nodes.values()).effects == (), "whoever reads the DLQ did not"
    assert outcome_of(SEE, root, True, nodes.values()).outcome == "skipped"


def test_an_event_whose_cause_is_gone_begins_its_story() -> None:
    event = record("in", 5, 1_000)
    (root,), _ = story(record("out", 9, 1_040, stamp("ns.p.pay", event, 1, 7)))
    assert root.cause == RecordPlace("ns.in", 0, 5)
    assert "no longer there" in trace_tree.as_text([root], {}, colored=False)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_circle_of_causes_loses_no_record(length: int) -> None:
    places = [record("out", n, 1_000 + n) for n in range(length)]
    circle = [r._replace(headers=stamp("g", places[(n + 1) % length], 1, 1)) for n, r in enumerate(places)]
    roots, _ = story(*circle)
    assert sorted(n.record.offset for root in roots for n in root.walk()) == list(range(length))


def test_nothing_of_a_record_reaches_the_terminal_as_it_is() -> None:
    evil = "\x1b[31m\u202e\n"
    event = Record("ns.in", 0, 1, 1_000, evil.encode(), json.dumps({"id": evil}).encode(), ())
    (root,), nodes = story(event, letter_of(event, "rejected", 0, 1_010))
    outcomes = {node.place: [outcome_of(PAY, node, True, nodes.values())] for node in nodes.values()}
    text = trace_tree.as_text([root], outcomes, colored=False)
    assert "\x1b" not in text and "\u202e" not in text and "\\x1b[31m\\u202e\\n" in text
    assert len(text.splitlines()) == 4


def test_what_a_deleted_topic_caused_is_no_effect_of_the_record_at_its_place_in_the_new_one() -> None:
    former = record("in", 5, 1_000)
    output = record("out", 9, 1_040, stamp("ns.p.pay", former, 1, 7))
    letter = letter_of(former, "rejected", 3, 1_050, by="see")
    now = record("in", 5, 90_000, event_id="e2")
    roots, nodes = story(now, output, letter)
    assert len(roots) == 3
    assert outcome_of(PAY, nodes[place_of(now)], True, []).outcome == "done"
    assert outcome_of(SEE, nodes[place_of(now)], True, []).outcome == "done"


def test_a_story_may_be_deeper_than_python_calls_itself() -> None:
    """Anybody can write headers that make a chain of records."""
    depth = 1_200
    chain = [record("in", 0, 1_000)]
    for offset in range(1, depth):
        chain.append(record("in", offset, 1_000 + offset, stamp("other", chain[-1], 1, offset)))
    (root,), _ = story(*chain)
    assert sum(1 for _ in root.walk()) == len(trace_tree.as_json([root], {})) == depth
    assert f"@{depth - 1}" in trace_tree.as_text([root], {}, colored=False)
