"""The handlers of one `kpipe up`: which run, how many replicas of each, and how that changes while it runs.

Each handler has the pipeline that it was last started with: its options and its contracts. A crash and `scale` start
processes with just that; only `restart` and `--watch` bring another one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.config.model import Handler, Pipeline
from orchestrator.errors import UsageError
from orchestrator.observe.totals import Totals
from orchestrator.supervisor import view
from orchestrator.supervisor.control.status import HandlerStatus
from orchestrator.supervisor.ending import GROUND
from orchestrator.supervisor.keeper import Keeper
from orchestrator.supervisor.policy import FAILURES, RUNNING, State
from orchestrator.supervisor.spec import ChildSpec
from orchestrator.supervisor.supervisor import Supervisor
from orchestrator.text import did_you_mean
from orchestrator.up import child_specs

if TYPE_CHECKING:
    from orchestrator.observe.exposition import Processes

#: As in the pipeline file's grammar.
MOST_REPLICAS = 1000


def scaled(handlers: Sequence[Handler], counts: Mapping[str, int]) -> tuple[Handler, ...]:
    """The handlers with these numbers of replicas. Raises `UsageError`."""
    for name, count in counts.items():
        check_scale(find(handlers, name), count)
    return tuple(replace(h, replicas=counts.get(h.name, h.replicas)) for h in handlers)


def check_scale(handler: Handler, count: int) -> None:
    """Raises `UsageError` when there cannot be so many replicas."""
    if not 0 <= count <= MOST_REPLICAS:
        raise UsageError(f"{handler.name}={count}: a handler has 0 to {MOST_REPLICAS} replicas")
    if handler.port is not None and count > 1:
        raise UsageError(
            f"`{handler.name}` listens on port {handler.port}, which only one process can have", "scale it to 0 or 1"
        )


def find(handlers: Iterable[Handler], name: str) -> Handler:
    """The handler of that name. Raises `UsageError`."""
    known = {handler.name: handler for handler in handlers}
    if name not in known:
        hint = did_you_mean(name, known) or f"it has {', '.join(known)}"
        raise UsageError(f"the running pipeline has no handler `{name}`", hint)
    return known[name]


class Replicas:
    """The handlers under `supervisor`. Nothing runs before `start`."""

    def __init__(self, pipeline: Pipeline, handlers: Sequence[Handler], supervisor: Supervisor, fatal: bool) -> None:
        self.handlers = {handler.name: handler for handler in handlers}
        self._pipeline = pipeline
        self._supervisor = supervisor
        self._fatal = fatal
        self._around: child_specs.Surroundings | None = None
        #: What each handler's processes are started with.
        self._settings: dict[str, child_specs.Surroundings] = {}

    @property
    def started(self) -> bool:
        return self._around is not None

    def start(self, around: child_specs.Surroundings) -> None:
        """Start all of them, what stands later in the flow first."""
        self._around = around
        self._settings = dict.fromkeys(self.handlers, around)
        self._supervisor.start(self._specs(list(self.handlers.values())))

    def restart(self, names: Iterable[str]) -> None:
        """Every replica of these handlers, of which each must be known."""
        wanted = set(names)
        alive = [k for k in self._keepers() if not self._supervisor.retiring(k.spec.name)]
        self._supervisor.restart([k.spec.name for k in alive if k.spec.handler in wanted])

    def scale(self, name: str, count: int) -> None:
        """Start or stop replicas until there are `count`; the highest slots go first. Raises `UsageError`."""
        check_scale(self.handlers[name], count)
        self.handlers[name] = replace(self.handlers[name], replicas=count)
        there = {k.spec.slot: k.spec.name for k in self._keepers() if k.spec.handler == name}
        leaving = {slot for slot, child in there.items() if self._supervisor.retiring(child)}
        self._supervisor.retire(there[slot] for slot in there if slot >= count)
        self._supervisor.restart(there[slot] for slot in leaving if slot < count)
        missing = [slot for slot in range(count) if slot not in there]
        self._supervisor.start(spec for spec in self._specs([self.handlers[name]]) if spec.slot in missing)

    def adopt(self, pipeline: Pipeline, handlers: Iterable[Handler], changed: Collection[str]) -> None:
        """Run these handlers of this pipeline from now on: new ones are started, others stopped, `changed` restarted.

        How many replicas there are stays as `scale` left it, unless the file says something new about it.
        """
        self._pipeline = pipeline
        wanted = {handler.name: handler for handler in handlers}
        for name in [name for name in self.handlers if name not in wanted]:
            self._supervisor.retire([k.spec.name for k in self._keepers() if k.spec.handler == name])
            del self.handlers[name], self._settings[name]
        self._take(pipeline, wanted.values())
        self.restart(name for name in changed if name in wanted)
        for name, handler in list(self.handlers.items()):
            self.scale(name, handler.replicas)

    def renew(self, pipeline: Pipeline, names: Collection[str]) -> None:
        """Restart these handlers as `pipeline` has them; all others stay as they are. Raises `UsageError`."""
        self._take(pipeline, [pipeline.handlers[name] for name in names])
        self.restart(names)
        for name in names:
            self.scale(name, self.handlers[name].replicas)

    def settings(self, name: str) -> child_specs.Surroundings | None:
        """What the processes of this handler are started with; None before they are."""
        return self._settings.get(name)

    def _take(self, pipeline: Pipeline, handlers: Iterable[Handler]) -> None:
        """Have these handlers be of this pipeline from their next start on."""
        assert self._around is not None
        settings = replace(self._around, pipeline=pipeline)
        taken = [replace(handler, replicas=self._replicas(handler)) for handler in handlers]
        for handler in taken:
            check_scale(handler, handler.replicas)
        for handler in taken:
            self.handlers[handler.name] = handler
            self._settings[handler.name] = settings
            self._respecify(handler.name)

    def _replicas(self, handler: Handler) -> int:
        """How many of it are to run: what `scale` said, unless the file says something new."""
        if handler.name not in self.handlers:
            return handler.replicas
        was = self._settings[handler.name].pipeline.handlers[handler.name].replicas
        return self.handlers[handler.name].replicas if was == handler.replicas else handler.replicas

    def _respecify(self, name: str) -> None:
        """What its processes are started with from now on."""
        specs = {spec.slot: spec for spec in self._specs([self.handlers[name]])}
        for keeper in self._keepers():
            if keeper.spec.handler == name and keeper.spec.slot in specs:
                keeper.respecify(replace(specs[keeper.spec.slot], name=keeper.spec.name))

    @property
    def failed(self) -> list[str]:
        """The handlers of which a process has failed for good."""
        return list(dict.fromkeys(k.spec.handler for k in self._keepers() if k.life.state in FAILURES))

    def status(self, now: float) -> list[HandlerStatus]:
        """What `kpipe ps` shows, in the file's order: also of handlers that are not to run."""
        shown = {entry.name: entry for entry in view.handlers(self._keepers(), now)}
        return [shown.get(name) or view.absent(name) for name in self._pipeline.handlers]

    def processes(self) -> list[Processes]:
        """What the metrics are made of, of each handler that was asked for."""
        return [self._processes(name, handler.replicas) for name, handler in self.handlers.items()]

    def _processes(self, name: str, replicas: int) -> Processes:
        from orchestrator.observe.exposition import Processes

        mine = [keeper for keeper in self._keepers() if keeper.spec.handler == name]
        running = [keeper for keeper in mine if keeper.life.state in RUNNING]
        return Processes(
            name,
            self._supervisor.totals.get(name) or Totals(),
            replicas,
            sum(keeper.life.state is State.READY for keeper in running),
            [keeper.metering.measured for keeper in running],
            [place for keeper in running for place in keeper.metering.places],
        )

    def _keepers(self) -> list[Keeper]:
        return [keeper for keeper in self._supervisor.keepers if keeper.spec.stage != GROUND]

    def _specs(self, handlers: Sequence[Handler]) -> list[ChildSpec]:
        groups: dict[int, list[Handler]] = {}
        for handler in handlers:
            groups.setdefault(id(self._settings[handler.name]), []).append(handler)
        specs = [
            spec for group in groups.values() for spec in child_specs.children(group, self._settings[group[0].name])
        ]
        return [replace(spec, essential=True) for spec in specs] if self._fatal else specs
