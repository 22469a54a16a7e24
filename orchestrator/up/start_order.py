"""In which order handlers are started and stopped: by how far each is from the end of the flow of events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from orchestrator.config.model import Pipeline
from orchestrator.supervisor.ending import GROUND

#: A handler or a topic: the kind ("handler", "topic") and its name.
_Node = tuple[str, str]


def stages(pipeline: Pipeline) -> dict[str, int]:
    """Handler -> its stage, from 1: that of handlers whose events no other handler consumes.

    A handler is started after, and stopped before, those that consume what it writes. The handlers of a loop share a
    stage, which is as many stages before the next one as the loop has handlers. Takes time in proportion to the file.
    """
    after = _flow(pipeline)
    distance: dict[_Node, int] = {}
    for component in _Search(after).components():
        handlers = sum(kind == "handler" for kind, _ in component)
        further = (distance[node] for member in component for node in after[member] if node in distance)
        distance |= dict.fromkeys(component, handlers + max(further, default=0))
    return {name: GROUND + distance["handler", name] for name in pipeline.handlers}


def _flow(pipeline: Pipeline) -> dict[_Node, list[_Node]]:
    """From each handler to the topics that it writes, and from each topic to the handlers that consume it."""
    after: dict[_Node, list[_Node]] = {("topic", name): [] for name in pipeline.topics}
    for name, handler in pipeline.handlers.items():
        after["handler", name] = [("topic", topic) for topic in dict.fromkeys(_written(pipeline, name))]
        for topic in handler.consumes:
            after["topic", topic].append(("handler", name))
    return after


def _written(pipeline: Pipeline, name: str) -> Iterator[str]:
    handler = pipeline.handlers[name]
    yield from handler.produces
    yield from pipeline.dlqs_of(handler)


class _Search:
    """Tarjan's algorithm (Depth-first search and linear graph algorithms, 1972), without recursion."""

    def __init__(self, after: Mapping[_Node, Sequence[_Node]]) -> None:
        self._after = after
        #: In which order nodes were entered, and the earliest pending node that each leads back to.
        self._number: dict[_Node, int] = {}
        self._low: dict[_Node, int] = {}
        #: Nodes that were entered and belong to no component yet.
        self._pending: dict[_Node, None] = {}

    def components(self) -> Iterator[list[_Node]]:
        """The strongly connected components; each comes after those that it leads to."""
        for root in self._after:
            way = [] if root in self._number else [self._enter(root)]
            while way:
                node, rest = way[-1]
                ahead = next((other for other in rest if self._is_new(node, other)), None)
                if ahead is not None:
                    way.append(self._enter(ahead))
                    continue
                way.pop()
                if way:
                    before = way[-1][0]
                    self._low[before] = min(self._low[before], self._low[node])
                if self._low[node] == self._number[node]:
                    yield self._complete(node)

    def _enter(self, node: _Node) -> tuple[_Node, Iterator[_Node]]:
        self._number[node] = self._low[node] = len(self._number)
        self._pending[node] = None
        return node, iter(self._after[node])

    def _is_new(self, node: _Node, other: _Node) -> bool:
        """Whether `other` was not entered yet. One that is pending is in a loop with `node`."""
        if other in self._pending:
            self._low[node] = min(self._low[node], self._number[other])
        return other not in self._number

    def _complete(self, first: _Node) -> list[_Node]:
        component: list[_Node] = []
        while not component or component[-1] != first:
            component.append(self._pending.popitem()[0])
        return component
