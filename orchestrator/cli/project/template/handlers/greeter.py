"""Gives every greeting that is asked for."""

from __future__ import annotations

from orchestrator import Emit, Event, Reject


def greet(event: Event) -> Emit:
    """Called for every event of `greetings.requested` that keeps its schema; what it returns is sent."""
    name = event.value["name"]
    if name == "nobody":
        raise Reject("nobody can be greeted")  # goes to greetings.dlq; any other exception is tried again first
    # An id made from the request's: the same request handled twice gives the same greeting, and the copy is skipped.
    given = {"eventId": f"given-{event.value['eventId']}", "name": name, "text": f"Hello, {name}!"}
    return Emit("greetings.given", given)
