"""Running smoke scenarios against a pipeline that runs: what is done, what is waited for, and what was found.

Everything that comes into the pipeline's topics is read along, once, from the beginning of the run. Whatever a scenario
sends carries a trace of its own, so that what belongs to another scenario is known and left out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from orchestrator.config.model import Pipeline, Topic
from orchestrator.config.scenarios import Scenario, ScenarioStep
from orchestrator.contracts import Contract, load_contracts
from orchestrator.contracts.examples import build_example, load_example
from orchestrator.delivery.headers.lineage import trace_of
from orchestrator.delivery.offsets.checkpoint import read_checkpoint
from orchestrator.errors import BrokerError
from orchestrator.kafka.admin.committed import commits
from orchestrator.kafka.clients import Clients
from orchestrator.kafka.producer import SendFailure
from orchestrator.operations.idle import ClusterOffsets, until_idle
from orchestrator.operations.readiness import Deadline
from orchestrator.operations.smoke.steps import ScenarioRun, Unmet, new_id, now
from orchestrator.operations.trace.causality import HandlerOutcome, Node, RecordPlace, RecordReader, connect, place_of
from orchestrator.records import Outgoing, Record, TopicPartition

#: Between two looks of which both find nothing to do: a worker's outputs are acknowledged before it commits, so what is
#: still on its way shows as lag; only a service that publishes later on could come in between.
_APART = 0.3
_ACKNOWLEDGED = 15.0
#: Seconds between two looks at whether records have come.
_MOMENT = 0.05


class PipelineUnderTest(Protocol):
    """The pipeline that is tried."""

    pipeline: Pipeline
    bootstrap: str
    state_dir: Path


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
        self.environ = environ
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
