"""`kpipe validate`: everything that is wrong with the pipeline file, its schemas and its examples, at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from orchestrator.cli.context import App
from orchestrator.cli.render import output
from orchestrator.errors import EXIT_OK, EXIT_USAGE, FindingsError, KpipeError

if TYPE_CHECKING:
    from orchestrator.config import Loaded
    from orchestrator.config.model import EventTemplate, Pipeline
    from orchestrator.config.syntax.grammar import Grammar
    from orchestrator.contracts import Contract
    from orchestrator.contracts.unusable import Unusable
    from orchestrator.records import Finding

#: What stands for `generate`d fields while an example is checked.
_ID = "00000000-0000-4000-8000-000000000000"
_NOW = "2000-01-01T00:00:00.000Z"
#: Values of an example times values of its schema: each may have to be held against each.
_MOST_WORK = 100_000_000


@click.command("validate")
@click.option("--print-schema", is_flag=True, help="Print the JSON Schema of the pipeline file, for editors, and end.")
@click.option("--print-smoke-schema", is_flag=True, help="Print the JSON Schema of smoke files, and end.")
@click.pass_obj
def command(app: App, print_schema: bool, print_smoke_schema: bool) -> int:
    """Check the pipeline file and everything it names, and show all findings at once.

    Reads the file and its overlays, the schemas and the examples, and the smoke files beside it. It asks no Kafka.
    Ends with 0 when there is no error (warnings are shown), else with 2. With --json each finding is one JSON line.
    """
    from orchestrator.config.syntax import grammar

    if print_schema or print_smoke_schema:
        return _print_schema(grammar.PIPELINE if print_schema else grammar.SMOKE)
    loaded = app.read()
    findings = [*loaded.findings, *contract_findings(loaded), *_smoke_findings(app, loaded.pipeline)]
    for finding in findings:
        if app.json:
            output.json_line(finding.as_json())
        else:
            output.data(output.finding_text(finding))
    errors = sum(finding.severity == "error" for finding in findings)
    if not app.json:
        _summarize(app, loaded.pipeline, findings, errors)
    return EXIT_USAGE if errors else EXIT_OK


def _print_schema(of: Grammar) -> int:
    import json

    output.data(json.dumps(of.root, indent=2, ensure_ascii=False))
    return EXIT_OK


def _smoke_findings(app: App, pipeline: Pipeline | None) -> Sequence[Finding]:
    """Those of the files that `kpipe smoke` would read."""
    from orchestrator.config.scenarios import load_smoke, smoke_files

    base = app.files[0].parent
    files = smoke_files(base, os.environ)
    if not files:
        return ()
    from orchestrator.operations.smoke.matching import check_expression

    return load_smoke(files, pipeline, os.environ, check_expression, base).findings


def _summarize(app: App, pipeline: Pipeline | None, findings: Sequence[Finding], errors: int) -> None:
    warnings = _count(len(findings) - errors, "warning")
    if pipeline is None or errors:
        output.say(f"{_count(errors, 'error')}, {warnings}")
        return
    names = output.safe(" + ".join(str(path) for path in app.files))
    dlqs = sum(topic.is_dlq for topic in pipeline.topics.values())
    topics = f"{_count(len(pipeline.topics), 'topic')} ({_count(dlqs, 'DLQ')})"
    output.data(f"{names}: ok: {topics}, {_count(len(pipeline.handlers), 'handler')}, {warnings}")
    output.say("next: `kpipe up` starts it")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def contract_findings(loaded: Loaded) -> list[Finding]:
    """What the schemas say that the file alone does not: they compile, and the examples keep them."""
    from orchestrator.contracts import load_contracts
    from orchestrator.contracts.sources import files_of
    from orchestrator.contracts.unusable import Unusable

    if loaded.pipeline is None:
        return []
    try:
        contracts = load_contracts(loaded.pipeline)
    except FindingsError as error:
        return list(error.findings)
    unusable = Unusable(files_of(loaded.pipeline.base))
    found = [
        loaded.finding("contract", ("topics", topic, option), message, hint)
        for topic, option, message, hint in _contract_problems(loaded.pipeline, unusable)
    ]
    for event in loaded.pipeline.events.values():
        schema = loaded.pipeline.topics[event.topic].schema
        most = _MOST_WORK // (1 if schema is None else unusable.size(schema))
        for message, hint in _example_problems(loaded.pipeline, event, contracts[event.topic], most):
            place = ("events", event.name, "example" if event.example else "generate")
            found.append(loaded.finding("example", place, message, hint))
    return found


def _contract_problems(pipeline: Pipeline, unusable: Unusable) -> Iterator[tuple[str, str, str, str]]:
    """Why producers and consumers of a topic can never meet: the topic, the option that is wrong, message and hint."""
    for topic in pipeline.topics.values():
        if topic.schema is None:
            continue
        if unusable.schema(topic.schema):
            message = f"no event can keep the contract of `{topic.name}`: nothing can be sent to it"
            yield topic.name, "schema", message, "`kpipe schemas show` prints it with all that it refers to"
        elif topic.key is not None and (problem := unusable.key(topic.schema, topic.key)):
            message = f"by the contract of `{topic.name}` {problem}: its events cannot have this key"
            yield topic.name, "key", message, "name a member with text or a whole number"


def _example_problems(
    pipeline: Pipeline, event: EventTemplate, contract: Contract, most: int
) -> Iterator[tuple[str, str]]:
    """Why `kpipe send NAME` alone would be refused: message and hint of each reason.

    An example with more values than `most` is not checked, and that is a reason, too.
    """
    from orchestrator.config.budget import size
    from orchestrator.config.reading import NOT_SHOWN, Reach
    from orchestrator.contracts.examples import build_example, load_example

    if event.example is None:
        return
    try:
        example = load_example(event, pipeline.base)
        value = build_example(example, event.generate, new_id=lambda: _ID, now=lambda: _NOW)
    except (KpipeError, ValueError) as error:
        hint = error.hint if isinstance(error, KpipeError) else "`generate` names fields such as `a.b`"
        yield f"the event `{event.name}` cannot be made: {error}", hint
        return
    if size(value) > most:
        yield f"the example of `{event.name}` is too large for a contract of this size", "make one of them smaller"
        return
    own = Reach.of(pipeline.base, os.environ).is_own(event.example)
    for violation in contract.violations(value):
        place = f"{violation.path}: {violation.message}" if own else NOT_SHOWN
        hint = "change the example or the schema: `kpipe send` refuses such an event"
        yield f"the example of `{event.name}` breaks the contract of `{event.topic}`: {place}", hint
