"""The steps of one smoke scenario: each sends, asks or expects something, and says what is not as expected."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from random import getrandbits
from typing import TYPE_CHECKING, Any, NoReturn

from orchestrator.config.model import Topic
from orchestrator.config.scenarios import Scenario, ScenarioStep
from orchestrator.contracts import encode_json, outgoing
from orchestrator.delivery.headers.lineage import TRACEPARENT, new_traceparent
from orchestrator.errors import ContractError, HandlerError, WaitTimeout
from orchestrator.operations.readiness import Deadline
from orchestrator.operations.records.where import document
from orchestrator.operations.smoke.http_request import HttpResponse, request
from orchestrator.operations.smoke.matching import ask, difference, filled, judge_record, judge_response, shown
from orchestrator.operations.trace.causality import HandlerOutcome, Node, RecordPlace
from orchestrator.records import Outgoing, Record

if TYPE_CHECKING:
    from orchestrator.operations.smoke.runner import SmokeRunner

#: How long a scenario that has failed may go on before its story is told (seconds).
_AFTERMATH = 3.0
#: How many records that came close are told.
_CLOSE = 3


class Unmet(Exception):
    """An expectation that is not met; `close` are what came nearest to it."""

    def __init__(self, why: str, close: Sequence[str] = ()) -> None:
        super().__init__(why)
        self.why = why
        self.close = tuple(close)


class ScenarioRun:
    """One scenario while it runs: what it has captured, sent, and seen."""

    def __init__(self, runner: SmokeRunner, scenario: Scenario) -> None:
        self._runner = runner
        self._scenario = scenario
        self._mark = runner.mark
        self._idle = False
        makers: Mapping[str, Callable[[], str]] = {"uuid": new_id, "now": now}
        self._scope: dict[str, Any] = {name: makers[kind]() for name, kind in scenario.generate.items()}
        self._parent = new_traceparent(getrandbits(192))
        self.trace = self._parent[3:35].decode()
        self._tallies: dict[str, dict[str, int]] = {}
        if any(step.kind == "accounting" for step in scenario.steps):
            # What earlier scenarios have left to do must not count here.
            runner.idle(Deadline(scenario.steps[0].within))
            self._tallies = runner.tallies()

    def step(self, step: ScenarioStep) -> None:
        """Raises `Unmet`."""
        spec = filled(step.spec, self._scope, self._runner.environ)
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
            self._runner.idle(Deadline(_AFTERMATH))
        self._runner.catch_up()
        return self._runner.story(self._seen()[:200])

    # The kinds of steps: each returns what `capture` may ask about.

    def _send(self, spec: Mapping[str, Any], deadline: Deadline) -> Mapping[str, Any]:
        self._idle = False
        topic, value = self._runner.value_of(spec)
        headers: dict[str, str | bytes] = {TRACEPARENT: self._parent}
        headers |= {name: str(text) for name, text in spec.get("headers", {}).items()}
        try:
            out = self._record(spec, topic, value, headers)
        except ContractError as broken:
            raise Unmet(broken.message, [f"{path}: {why}" for path, why in broken.violations]) from None
        first, *_ = self._runner.send([out] * spec.get("copies", 1))
        return document(first, topic.name)

    def _record(self, spec: Mapping[str, Any], topic: Topic, value: Any, headers: dict[str, str | bytes]) -> Outgoing:
        key = spec.get("key")
        if "raw" not in spec and spec.get("validate", True):
            return outgoing(topic, self._runner.contract(topic), value, key, headers)
        raw = spec["raw"].encode() if "raw" in spec else None if value is None else encode_json(value)
        own = value.get(topic.key) if isinstance(value, dict) and topic.key else None
        key = own if key is None and isinstance(own, str) else key
        encoded = tuple((n, v if isinstance(v, bytes) else v.encode()) for n, v in headers.items())
        return Outgoing(topic.kafka_name, None if key is None else key.encode(), raw, encoded)

    def _http(self, spec: Mapping[str, Any], deadline: Deadline) -> Mapping[str, Any]:
        self._idle = False
        port = self._runner.pipeline.handlers[spec["handler"]].port
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
            self._runner.read_on()

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
            self._runner.read_on()
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
        now_ = self._runner.tallies()
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
                self._runner.idle(deadline)
            except WaitTimeout as late:
                raise Unmet(f"the pipeline is not idle: {late.message}") from None
            self._idle = True

    def _seen(self) -> list[Record]:
        return self._runner.seen(self._mark)

    def _matching(self, spec: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
        """The records that are as described, and the last of the others of that topic, with what is different."""
        topic = spec.get("topic") or spec["dlq"]
        matching, close = [], []
        for record in self._seen():
            if self._runner.name_of(record) != topic:
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
