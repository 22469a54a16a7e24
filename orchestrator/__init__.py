"""kpipe: event-driven systems on Apache Kafka from one file.

What a handler's author imports: `Event, Emit, Reject, Retry, Unavailable, Publisher`. Each is loaded when it is
first used, so that `kpipe --help` does not pay for a Kafka client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.event import Emit, Event, Letter, Reject, Retry, Unavailable
    from orchestrator.publish.publisher import Publisher

__all__ = ["Emit", "Event", "Letter", "Publisher", "Reject", "Retry", "Unavailable"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "Publisher":
        from orchestrator.publish.publisher import Publisher

        return Publisher
    if name in __all__:
        from orchestrator import event

        return getattr(event, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
