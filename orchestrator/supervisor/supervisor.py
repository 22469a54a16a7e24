"""Many children: started stage by stage, watched, stopped in reverse, one exit code at the end.

Rules of this file:
- The first thing that decides the end decides the exit code (`Supervisor.code`): a failure for good, or what asked to
  stop. A later one never makes a failure look like success.
- What is retired (scaled away) counts for nothing of that, and is forgotten once it has ended.
- A stage is stopped when everything above it is gone, so that what produces ends before what consumes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from orchestrator.errors import EXIT_OK
from orchestrator.observe.totals import Totals
from orchestrator.supervisor.ending import GROUND, Ending, ending, failure
from orchestrator.supervisor.events import Fact
from orchestrator.supervisor.keeper import Keeper
from orchestrator.supervisor.logs.output import Show
from orchestrator.supervisor.policy import OVER, Rules, State
from orchestrator.supervisor.spec import ChildSpec


class Supervisor:
    """The children of one `kpipe up`. To be made and used inside a running event loop."""

    def __init__(
        self,
        logs: Path,
        *,
        hear: Callable[[Fact], None],
        show: Show,
        rules: Rules | None = None,
        chance: Callable[[], float] = random.random,
        patient: bool = False,
    ) -> None:
        """`patient`: somebody may mend what has failed, so that a failure ends nothing unless it is essential."""
        self._patient = patient
        self._logs = logs
        self._hear, self._show, self._chance = hear, show, chance
        self._rules = rules or Rules()
        self._keepers: dict[str, Keeper] = {}
        #: The counts of each handler, of processes that are gone, too.
        self.totals: dict[str, Totals] = {}
        self._retired: set[str] = set()
        self._failure: Ending | None = None
        self._stop: Ending | None = None
        self._killed = False
        self._bug: BaseException | None = None
        self._change = asyncio.Event()

    @property
    def keepers(self) -> Sequence[Keeper]:
        """In the order in which they were declared."""
        return tuple(self._keepers.values())

    @property
    def stopping(self) -> Ending | None:
        """Why everything stops, once it does."""
        return self._stop

    @property
    def failure(self) -> Ending | None:
        """The failure that decides the exit code, if one does."""
        return self._failure

    @property
    def code(self) -> int:
        """The exit code: that of the first failure or of what asked to stop, whichever came first."""
        first, then = (self._failure, self._stop)
        if first is not None:
            return first.code
        return then.code if then is not None else EXIT_OK

    def start(self, specs: Iterable[ChildSpec]) -> None:
        """Start these as well, lower stages first. Names must be new."""
        added = [self._keeper(spec) for spec in specs]
        self._keepers |= {keeper.spec.name: keeper for keeper in added}
        for keeper in sorted(added, key=lambda k: k.spec.stage):
            if self._stop is None:
                keeper.launch()

    def restart(self, names: Iterable[str]) -> None:
        """Start these afresh, in order and whatever became of them. Nothing once everything stops."""
        for name in names:
            if self._stop is None:
                self._retired.discard(name)
                self._keepers[name].restart()

    def retire(self, names: Iterable[str]) -> None:
        """Stop these, and forget them once they have ended."""
        self._retired |= set(names)
        # Stopping one may be what makes others be forgotten.
        for keeper in [keeper for keeper in self.keepers if keeper.spec.name in self._retired]:
            keeper.stop()
        self._changed()

    def retiring(self, name: str) -> bool:
        """Whether it is only waited for."""
        return name in self._retired

    def hurry(self, seconds: float, lowest_stage: int) -> None:
        """Nothing of this stage or a higher one gets more than `seconds` to stop."""
        for keeper in self.keepers:
            if keeper.spec.stage >= lowest_stage:
                keeper.hurry(seconds)

    def stop(self, why: Ending) -> None:
        """Stop everything in order. The first reason counts."""
        if self._stop is None:
            self._stop = why
        self._changed()

    def kill(self, why: Ending) -> None:
        """Kill everything now."""
        if self._stop is None:
            self._stop = why
        self._killed = True
        for keeper in self.keepers:
            keeper.kill()
        self._changed()

    def broken(self, bug: BaseException) -> None:
        """Something failed that must not: stop, and let `over` raise it."""
        self._bug = self._bug or bug
        self.stop(Ending(1, f"{type(bug).__name__}: {bug}"))

    async def settled(self) -> bool:
        """Wait until every child is ready (true) or one of them cannot be any more, or everything stops (false)."""
        await self._until(
            lambda: self._stop is not None or all(keeper.life.state in OVER | {State.READY} for keeper in self.keepers)
        )
        return self._stop is None and all(keeper.life.state is State.READY for keeper in self.keepers)

    async def asked_to_stop(self) -> Ending:
        """Wait until there is a reason to stop."""
        await self._until(lambda: self._stop is not None)
        assert self._stop is not None
        return self._stop

    async def over(self) -> None:
        """Wait until everything is stopped. Raises what `broken` was told."""
        await self._until(lambda: self._stop is not None and all(k.life.state in OVER for k in self.keepers))
        for keeper in self.keepers:
            keeper.output.close()
        if self._bug is not None:
            raise self._bug

    def _keeper(self, spec: ChildSpec) -> Keeper:
        return Keeper(
            spec, self._rules, self._logs,
            hear=self._hear, show=self._show, changed=self._changed, broken=self.broken, chance=self._chance,
            totals=self.totals.setdefault(spec.handler, Totals()),
        )  # fmt: skip

    def _changed(self) -> None:
        self._forget_retired()
        children = [(k.spec, k.life) for k in self.keepers if k.spec.name not in self._retired]
        if self._failure is None and (self._stop is None or self._stop.code == EXIT_OK):
            fatal = [(s, life) for s, life in children if not self._patient or s.essential or s.stage == GROUND]
            self._failure = next(filter(None, (failure(spec, life) for spec, life in fatal)), None)
        if self._stop is None:
            self._stop = ending(children, self._patient)
        if self._stop is not None and not self._killed:
            self._stop_next()
        self._change.set()

    def _forget_retired(self) -> None:
        for name in [name for name in self._retired if self._keepers[name].life.state in OVER]:
            self._retired.discard(name)
            self._keepers.pop(name).output.close()

    def _stop_next(self) -> None:
        """Ask the highest stage that is left to stop; those that wait for a start need not be waited for."""
        alive = [keeper for keeper in self.keepers if keeper.life.state not in OVER]
        top = max((keeper.spec.stage for keeper in alive), default=0)
        for keeper in alive:
            if keeper.life.again:
                keeper.stop()  # not to be started again
            idle = keeper.life.state in (State.WAITING, State.BACKING_OFF)
            if (idle or keeper.spec.stage == top) and keeper.life.state is not State.STOPPING:
                keeper.stop()

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            self._change.clear()
            await self._change.wait()
