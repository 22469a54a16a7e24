"""Events: names for `kpipe send`."""

from __future__ import annotations

from orchestrator.config.checks.facts import PipelineFacts
from orchestrator.config.checks.handlers import check_topic


def check(facts: PipelineFacts) -> None:
    """Each goes to a topic that exists, and its name means one thing."""
    for name, event in facts.doc.section("events").items():
        if "topic" not in event:
            continue
        check_topic(facts, ("events", name, "topic"), event["topic"])
        if name in facts.topics and event["topic"] != name:
            message = f"the event `{name}` has the name of a topic that it does not go to"
            hint = "`kpipe send` takes both kinds of names; rename the event"
            facts.doc.find("event-name", ("events", name), message, hint, key=True)
