"""Running smoke scenarios against a pipeline that runs: what is done, what is waited for, and what was found.

Everything that comes into the pipeline's topics is read along, once, from the beginning of the run. Whatever a scenario
sends carries a trace of its own, so that what belongs to another scenario is known and left out.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import getrandbits
from typing import Any, NoReturn, Protocol

from orchestrator.config.model import Pipeline, Topic
from orchestrator.config.scenarios import Scenario, ScenarioStep
from orchestrator.contracts import Contract, encode_json, load_contracts, outgoing
from orchestrator.contracts.examples import build_example, load_example
from orchestrator.delivery.headers.lineage import TRACEPARENT, new_traceparent, trace_of
from orchestrator.delivery.offsets.checkpoint import read_checkpoint
from orchestrator.errors import BrokerError, ContractError, HandlerError, WaitTimeout
from orchestrator.kafka.admin.committed import commits
from orchestrator.kafka.clients import Clients
from orchestrator.kafka.producer import SendFailure
from orchestrator.operations.idle import ClusterOffsets, until_idle
from orchestrator.operations.readiness import Deadline
from orchestrator.operations.records.where import document
from orchestrator.operations.smoke.http_request import HttpResponse, request
from orchestrator.operations.smoke.matching import ask, difference, filled, judge_record, judge_response, shown
from orchestrator.operations.trace.causality import HandlerOutcome, Node, RecordPlace, RecordReader, connect, place_of
from orchestrator.records import Outgoing, Record, TopicPartition

#: Between two looks of which both find nothing to do: a worker's outputs are acknowledged before it commits, so what is
#: still on its way shows as lag; only a service that publishes later on could come in between.
_APART = 0.3
_ACKNOWLEDGED = 15.0
#: Seconds between two looks at whether records have come.
_MOMENT = 0.05
#: How long a scenario that has failed may go on before its story is told (seconds).
_AFTERMATH = 3.0
#: How many records that came close are told.
_CLOSE = 3


class PipelineUnderTest(Protocol):
    """The pipeline that is tried."""

    pipeline: Pipeline
    bootstrap: str
    state_dir: Path


class Unmet(Exception):
    """An expectation that is not met; `close` are what came nearest to it."""

    def __init__(self, why: str, close: Sequence[str] = ()) -> None:
        super().__init__(why)
        self.why = why
        self.close = tuple(close)


@dataclass
class Verdict:
    """How one scenario ended. `failed` is the step that did; `roots` is the story of its events then."""

    scenario: Scenario
    seconds: float = 0.0
    steps: int = 0
    failed: ScenarioStep | None = None
    why: str = ""
    close: tuple[str, ...] = ()
    roots: list[Node] = field(default_factory=list)
    outcomes: dict[RecordPlace, list[HandlerOutcome]] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return self.failed is None


class SmokeRunner:
    """Runs scenarios, one after the other. A context manager."""

    def __init__(self, ground: PipelineUnderTest, environ: Mapping[str, str]) -> None:
        self.ground = ground
        self.pipeline = ground.pipeline
        self._environ = environ
        self._contracts = load_contracts(self.pipeline)
        clients = Clients(self.pipeline.kafka, ground.bootstrap)
        self._consumer = clients.consumer_properties()
        self._producer = clients.producer()
        self._reader = clients.reader()
        self._cluster = ClusterOffsets(self.pipeline, ground.bootstrap)
        self._reading = RecordReader(self.pipeline)
        self._names = {topic.kafka_name: topic.name for topic in self.pipeline.topics.values()}
        #: The traces of earlier scenarios.
        self._others: set[str] = set()
        self._records: list[Record] = []
        #: How far each partition was read.
        self._at = self._ends()

    def __enter__(self) -> SmokeRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.__exit__()
        self._producer.close(0)

    def prove(self, scenario: Scenario) -> Verdict:
        """Raises `HandlerError` when a handler fails for good meanwhile, and `BrokerError`."""
        began = time.monotonic()
        verdict = Verdict(scenario)
        run = ScenarioRun(self, scenario)
        for step in scenario.steps:
            try:
                run.step(step)
            except Unmet as unmet:
                verdict.failed, verdict.why, verdict.close = step, unmet.why, unmet.close
                verdict.roots, verdict.outcomes = run.story()
                break
            verdict.steps += 1
        self._others.add(run.trace)
        verdict.seconds = time.monotonic() - began
        return verdict

    # What a run asks for.

    def catch_up(self) -> bool:
        """Read what has come into the topics since the last time; whether that was anything."""
        ends = self._reader.ends(self._at)
        news = {tp: at for tp, at in self._at.items() if ends[tp] > at}
        for batch in self._reader.read(news, {tp: ends[tp] for tp in news}):
            self._records.extend(batch)
        self._at = ends
        return bool(news)

    def read_on(self) -> None:
        """The same; when nothing has come, after a moment."""
        if not self.catch_up():
            time.sleep(_MOMENT)

    def _ends(self) -> dict[TopicPartition, int]:
        there = self._reader.topics()
        partitions = [TopicPartition(t, n) for t in dict.fromkeys(self._reading.topics) for n in range(there.get(t, 0))]
        return self._reader.ends(partitions)

    def seen(self, mark: int) -> list[Record]:
        """What came since `mark` and is of no other scenario."""
        return [record for record in self._records[mark:] if trace_of(record.headers) not in self._others]

    @property
    def mark(self) -> int:
        return len(self._records)

    def send(self, outs: Sequence[Outgoing]) -> list[Record]:
        """Send and wait for the acknowledgements. Raises `BrokerError`."""
        sent: dict[int, Record] = {}
        failures: list[SendFailure] = []
        for number, out in enumerate(outs):

            def report(
                failure: SendFailure | None, partition: int, offset: int, n: int = number, o: Outgoing = out
            ) -> None:
                if failure is not None:
                    failures.append(failure)
                else:
                    sent[n] = Record(o.topic, partition, offset, -1, o.key, o.value, o.headers)

            self._producer.send(out, report)
        if self._producer.flush(_ACKNOWLEDGED) or failures:
            raise BrokerError(f"Kafka did not take what was sent: {failures[0].message if failures else 'no answer'}")
        return [sent[n] for n in range(len(outs))]

    def idle(self, deadline: Deadline) -> None:
        until_idle(self.ground.state_dir, self.pipeline, deadline, _APART)
        self.catch_up()

    def tallies(self) -> dict[str, dict[str, int]]:
        """What every handler has settled, by its commits: exact while it is idle."""
        found = {}
        for handler in self.pipeline.handlers.values():
            if handler.consumes:
                topics = self.pipeline.inputs_of(handler).kafka_names
                known = commits(self._consumer, handler.group, self._cluster.partitions(topics))
                each = [read_checkpoint(*said).tally for said in known.values()]
                found[handler.name] = {
                    "done": sum(t.done for t in each),
                    "dead_lettered": sum(t.dead_lettered for t in each),
                    "skipped": sum(t.skipped for t in each),
                }
        return found

    def value_of(self, spec: Mapping[str, Any]) -> tuple[Topic, Any]:
        """The topic and the value of a `send`."""
        template = self.pipeline.events.get(spec.get("event", ""))
        if template is None:
            return self.pipeline.topics[spec["topic"]], spec.get("value")
        example = load_example(template, self.pipeline.base)
        patches = [spec["set"]] if "set" in spec else []
        value = build_example(example, template.generate, patches, new_id=new_id, now=now)
        return self.pipeline.topics[template.topic], value

    def contract(self, topic: Topic) -> Contract:
        return self._contracts.get(topic.name, Contract(topic.name))

    def name_of(self, record: Record) -> str:
        return self._names.get(record.topic, record.topic)

    def story(self, records: Sequence[Record]) -> tuple[list[Node], dict[RecordPlace, list[HandlerOutcome]]]:
        from orchestrator.operations.trace.outcomes import outcomes_of

        roots = connect({place_of(r): self._reading.node(r) for r in records})
        return roots, outcomes_of(self.pipeline, self.ground.bootstrap, self._reading, roots)


class ScenarioRun:
    """One scenario while it runs: what it has captured, sent, and seen."""

    def __init__(self, prover: SmokeRunner, scenario: Scenario) -> None:
        self._prover = prover
        self._scenario = scenario
        self._mark = prover.mark
        self._idle = False
        makers: Mapping[str, Callable[[], str]] = {"uuid": new_id, "now": now}
        self._scope: dict[str, Any] = {name: makers[kind]() for name, kind in scenario.generate.items()}
        self._parent = new_traceparent(getrandbits(192))
        self.trace = self._parent[3:35].decode()
        self._tallies: dict[str, dict[str, int]] = {}
        if any(step.kind == "accounting" for step in scenario.steps):
            # What earlier scenarios have left to do must not count here.
            prover.idle(Deadline(scenario.steps[0].within))
            self._tallies = prover.tallies()

    def step(self, step: ScenarioStep) -> None:
        """Raises `Unmet`."""
        spec = filled(step.spec, self._scope, self._prover._environ)
        do = {
            "send": self._send, "http": self._http, "expect": self._expect, "absent": self._absent,
            "accounting": self._accounting,
        }[step.kind]  # fmt: skip
        about = do(spec, Deadline(step.within))
        for name, expression in step.capture.items():
            found = ask(expression, about)
            if found is None:
                raise Unmet(f"capture: {name}: {expression} finds nothing", [shown(about, 600)])
            self._scope[name] = found

    def story(self) -> tuple[list[Node], dict[RecordPlace, list[HandlerOutcome]]]:
        # Told a moment later it says more: handlers commit once a second.
        with contextlib.suppress(WaitTimeout, HandlerError):
            self._prover.idle(Deadline(_AFTERMATH))
        self._prover.catch_up()
        return self._prover.story(self._seen()[:200])

    # The kinds of steps: each returns what `capture` may ask about.

    def _send(self, spec: Mapping[str, Any], deadline: Deadline) -> Mapping[str, Any]:
        self._idle = False
        topic, value = self._prover.value_of(spec)
        headers: dict[str, str | bytes] = {TRACEPARENT: self._parent}
        headers |= {name: str(text) for name, text in spec.get("headers", {}).items()}
        try:
            out = self._record(spec, topic, value, headers)
        except ContractError as broken:
            raise Unmet(broken.message, [f"{path}: {why}" for path, why in broken.violations]) from None
        first, *_ = self._prover.send([out] * spec.get("copies", 1))
        return document(first, topic.name)

    def _record(self, spec: Mapping[str, Any], topic: Topic, value: Any, headers: dict[str, str | bytes]) -> Outgoing:
        key = spec.get("key")
        if "raw" not in spec and spec.get("validate", True):
            return outgoing(topic, self._prover.contract(topic), value, key, headers)
        raw = spec["raw"].encode() if "raw" in spec else None if value is None else encode_json(value)
        own = value.get(topic.key) if isinstance(value, dict) and topic.key else None
        key = own if key is None and isinstance(own, str) else key
        encoded = tuple((n, v if isinstance(v, bytes) else v.encode()) for n, v in headers.items())
        return Outgoing(topic.kafka_name, None if key is None else key.encode(), raw, encoded)

    def _http(self, spec: Mapping[str, Any], deadline: Deadline) -> Mapping[str, Any]:
        self._idle = False
        port = self._prover.pipeline.handlers[spec["handler"]].port
        method = spec.get("method", "GET")
        patient = spec.get("retry", method in ("GET", "HEAD"))
        while True:
            answer = request(int(port or 0), method, spec, self._parent.decode(), deadline.left)
            why = judge_response(spec, answer) if isinstance(answer, dict) else str(answer)
            if not why:
                assert isinstance(answer, dict)
                return answer
            if deadline.left <= 0 or not (patient or answer is HttpResponse.REFUSED):
                close = (
                    [f"{method} {spec.get('path', '/')} answered {shown(answer, 600)}"]
                    if isinstance(answer, dict)
                    else []
                )
                raise Unmet(f"{why} (not{self._in_time(deadline)})" if patient else why, close)
            self._prover.read_on()

    def _expect(self, spec: Mapping[str, Any], deadline: Deadline) -> Mapping[str, Any]:
        wanted = spec.get("count")
        while True:
            matching, close = self._matching(spec)
            if matching and (wanted is None or len(matching) > wanted):
                break
            if wanted is not None and len(matching) == wanted:
                self._settle(deadline)
                matching, close = self._matching(spec)
                break
            if deadline.left <= 0:
                self._missed(spec, len(matching), close, deadline)
            self._prover.read_on()
        if wanted is not None and len(matching) != wanted:
            raise Unmet(
                f"{_described(spec)}: expected {wanted}, found {len(matching)}",
                [shown(m, 600) for m in matching[:_CLOSE]],
            )
        return matching[0]

    def _missed(self, spec: Mapping[str, Any], found: int, close: list[str], deadline: Deadline) -> NoReturn:
        wanted = spec.get("count", 1)
        said = f"expected {wanted}, found {found}" if "count" in spec else "none came"
        raise Unmet(f"{_described(spec)}: {said}{self._in_time(deadline)}", close)

    def _absent(self, spec: Mapping[str, Any], deadline: Deadline) -> Mapping[str, Any]:
        self._settle(deadline)
        matching, _ = self._matching(spec)
        if matching:
            raise Unmet(
                f"{_described(spec)}: expected none, found {len(matching)}", [shown(m, 600) for m in matching[:_CLOSE]]
            )
        return {}

    def _accounting(self, spec: Mapping[str, Any], deadline: Deadline) -> Mapping[str, Any]:
        self._settle(deadline)
        now_ = self._prover.tallies()
        found = {name: {way: now_[name][way] - self._tallies[name][way] for way in now_[name]} for name in spec}
        why = difference(dict(spec), found)
        if why:
            raise Unmet(f"accounting: {why}", [f"{name}: {shown(counts)}" for name, counts in found.items()])
        return found

    # What they share.

    def _settle(self, deadline: Deadline) -> None:
        """Until nothing is left to do. Raises `Unmet` when that takes too long."""
        if not self._idle:
            try:
                self._prover.idle(deadline)
            except WaitTimeout as late:
                raise Unmet(f"the pipeline is not idle: {late.message}") from None
            self._idle = True

    def _seen(self) -> list[Record]:
        return self._prover.seen(self._mark)

    def _matching(self, spec: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
        """The records that are as described, and the last of the others of that topic, with what is different."""
        topic = spec.get("topic") or spec["dlq"]
        matching, close = [], []
        for record in self._seen():
            if self._prover.name_of(record) != topic:
                continue
            why = judge_record(spec, record, topic)
            if why:
                close.append(f"{topic}[{record.partition}]@{record.offset}: {why}")
            else:
                matching.append(document(record, topic))
        return matching, close[-_CLOSE:]

    def _in_time(self, deadline: Deadline) -> str:
        return f" within {deadline.seconds:g} s"


def _described(spec: Mapping[str, Any]) -> str:
    """`payments.authorized {"orderId":"…"}`."""
    rest = {name: value for name, value in spec.items() if name not in ("topic", "dlq", "count")}
    return f"{spec.get('topic') or spec['dlq']} {shown(rest)}" if rest else str(spec.get("topic") or spec["dlq"])


def new_id() -> str:
    return str(uuid.uuid4())


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
