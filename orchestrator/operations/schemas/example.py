"""One contract: its schema with everything that it refers to, and an example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.errors import ContractError, UsageError
from orchestrator.text import did_you_mean

if TYPE_CHECKING:
    from orchestrator.config.model import EventTemplate, Pipeline, Topic
    from orchestrator.contracts import Contract
    from orchestrator.operations.loading import Project


@dataclass(frozen=True, slots=True)
class ContractView:
    """The contract of `topic`. `schema` and `example` are JSON values, None where there is none.

    `made_up`: the example is not from the file, but made from the schema.
    """

    topic: Topic
    schema: Any
    example: Any
    made_up: bool


def contract_of(project: Project, event: str) -> ContractView:
    """The contract of an event or a topic of the file. Raises UsageError when the file has none of that name."""
    from orchestrator.contracts.resolve import resolved
    from orchestrator.contracts.sources import files_of

    pipeline, contracts = project.pipeline, project.contracts
    template = pipeline.events.get(event) or _template_of(pipeline, event)
    name = template.topic if template else event
    topic = pipeline.topics.get(name)
    if topic is None:
        hint = did_you_mean(event, [*pipeline.events, *pipeline.topics]) or "`kpipe topics ls` lists the topics"
        raise UsageError(f"the file has no event and no topic `{event}`", hint)
    schema = None if topic.schema is None else resolved(topic.schema, files_of(pipeline.base))
    example = None if template is None or template.example is None else _example(pipeline, template)
    made_up = example is None
    if made_up and schema is not None:
        example = _made_up(topic, contracts[name], pipeline)
    return ContractView(topic, schema, example, made_up and example is not None)


def _template_of(pipeline: Pipeline, topic: str) -> EventTemplate | None:
    """The first event that is sent to `topic` and has an example."""
    return next((e for e in pipeline.events.values() if e.topic == topic and e.example is not None), None)


def _example(pipeline: Pipeline, template: EventTemplate) -> Any:
    import uuid
    from datetime import UTC, datetime

    from orchestrator.contracts.examples import build_example, load_example

    return build_example(
        load_example(template, pipeline.base),
        template.generate,
        new_id=lambda: str(uuid.uuid4()),
        now=lambda: datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )


def _made_up(topic: Topic, contract: Contract, pipeline: Pipeline) -> Any:
    """The same at every call; None for a schema that none can be made up from."""
    from orchestrator.operations.send.drafts import Draft
    from orchestrator.operations.send.fake import FakeEvents

    try:
        return FakeEvents(topic, contract, pipeline.base, seed=0).value(Draft(None, {}, (), ()), validate=True)
    except (ContractError, UsageError):
        return None
