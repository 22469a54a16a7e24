"""How `kpipe smoke` tells what it found: a table, JSON (docs/json.md), and JUnit XML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as XML

from orchestrator.cli.render import output, trace_tree
from orchestrator.config.scenarios import Scenario
from orchestrator.errors import KpipeError
from orchestrator.operations.smoke.runner import Verdict

#: What XML 1.0 cannot say.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def show(verdicts: Sequence[Verdict], seconds: float, *, as_json: bool, alone: bool) -> None:
    """All of them, on stdout; `alone`: `seconds` are not those of the scenarios only."""
    failed = sum(not verdict.passed for verdict in verdicts)
    if as_json:
        output.json_line(
            {
                "passed": len(verdicts) - failed,
                "failed": failed,
                "seconds": round(seconds, 3),
                "scenarios": [_as_json(verdict) for verdict in verdicts],
            }
        )
        return
    rows = [(v.scenario.name, "passed" if v.passed else "FAILED", v.steps, f"{v.seconds:.1f}s") for v in verdicts]
    head, *lines = output.table_lines(("SCENARIO", "RESULT", "STEPS", "TIME"), rows)
    output.data(output.paint(head, "bold"))
    for verdict, line in zip(verdicts, lines, strict=True):
        output.data(output.paint(line, "green" if verdict.passed else "red"))
    for verdict in verdicts:
        if not verdict.passed:
            output.data(f"\n{output.safe(_text(verdict), lines=True)}")
            _story(verdict)
    also = ", start and stop included" if alone else ""
    output.say(f"{len(verdicts) - failed} passed, {failed} failed in {seconds:.1f} s{also}")


def _story(verdict: Verdict) -> None:
    if verdict.roots:
        output.data("  what became of its events:")
        text = trace_tree.as_text(verdict.roots, verdict.outcomes, colored=output.colored())
        for line in text.splitlines():
            output.data(f"    {line}")


def _text(verdict: Verdict) -> str:
    """Where it failed, why, and what came close."""
    step = verdict.failed
    assert step is not None
    place = f"{step.mark.file}:{step.mark.line}:{step.mark.column}"
    lines = [f"{place}: {verdict.scenario.name}: `{step.kind}` failed", f"  {verdict.why}"]
    return "\n".join([*lines, *(f"    {line}" for line in verdict.close)])


def _as_json(verdict: Verdict) -> dict[str, Any]:
    scenario, step = verdict.scenario, verdict.failed
    failure = None
    if step is not None:
        failure = {
            "file": step.mark.file,
            "line": step.mark.line,
            "column": step.mark.column,
            "kind": step.kind,
            "message": verdict.why,
            "close": list(verdict.close),
            "records": trace_tree.as_json(verdict.roots, verdict.outcomes),
        }
    return {
        "name": scenario.name,
        "file": scenario.mark.file,
        "line": scenario.mark.line,
        "passed": verdict.passed,
        "steps": verdict.steps,
        "seconds": round(verdict.seconds, 3),
        "failure": failure,
    }


def write_junit(
    path: Path,
    pipeline: str,
    verdicts: Sequence[Verdict],
    scenarios: Sequence[Scenario],
    seconds: float,
    error: str = "",
) -> None:
    """All `scenarios` as test cases; those without a verdict have the `error` that kept them from one."""
    rest = scenarios[len(verdicts) :]
    failures = sum(not verdict.passed for verdict in verdicts)
    counts = {"tests": len(scenarios), "failures": failures, "errors": len(rest), "skipped": 0}
    suites = XML.Element("testsuites")
    told = {"name": f"{pipeline}: kpipe smoke", "time": f"{seconds:.3f}"} | {k: str(n) for k, n in counts.items()}
    told["timestamp"] = datetime.now(UTC).isoformat(timespec="seconds")
    suite = XML.SubElement(suites, "testsuite", told)
    for verdict in verdicts:
        case = _case(suite, verdict.scenario, verdict.seconds)
        if not verdict.passed:
            failure = XML.SubElement(case, "failure", {"message": _xml(verdict.why), "type": "expectation"})
            story = trace_tree.as_text(verdict.roots, verdict.outcomes, colored=False) if verdict.roots else ""
            failure.text = _xml(f"{_text(verdict)}\n{story}")
    for scenario in rest:
        case = _case(suite, scenario, 0.0)
        XML.SubElement(case, "error", {"message": _xml(error.partition("\n")[0]), "type": "start"}).text = _xml(error)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        XML.ElementTree(suites).write(path, encoding="utf-8", xml_declaration=True)
    except OSError as problem:
        raise KpipeError(f"{path} cannot be written: {problem.strerror}") from None


def _case(suite: XML.Element, scenario: Scenario, seconds: float) -> XML.Element:
    file = scenario.mark.file
    named = {"classname": Path(file).stem, "name": scenario.name, "file": file, "line": str(scenario.mark.line)}
    return XML.SubElement(suite, "testcase", {k: _xml(v) for k, v in named.items()} | {"time": f"{seconds:.3f}"})


def _xml(text: str) -> str:
    return _NOT_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
