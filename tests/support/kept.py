"""A worker that is started again whenever it ends because a topic was made anew, as the supervisor would."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.errors import EXIT_RENEWED
from tests.support.worker import Project, Worker, until


class Kept:
    """`lives` are its processes, the newest last. Any other end than a renewal is kept, and fails `check`."""

    def __init__(self, project: Project, handler: str, slot: int = 0) -> None:
        self._project, self._handler, self._slot = project, handler, slot
        self._stopping = False
        self.lives = [Worker(project, handler, slot)]
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    @property
    def worker(self) -> Worker:
        return self.lives[-1]

    @property
    def log(self) -> str:
        return "\n".join(life.log for life in self.lives)

    def check(self) -> None:
        """Every life that has ended was renewed."""
        assert all(life.process.poll() in (None, EXIT_RENEWED) for life in self.lives), self.log

    def terminate(self) -> int:
        """Ask its newest life to stop, once that can hear it; the exit code, 0 also where it was being renewed."""
        until("its newest life is ready", lambda: self.worker.is_ready)
        self._stopping = True
        code = self.worker.terminate()
        return 0 if code == EXIT_RENEWED else code

    def kill(self) -> None:
        self._stopping = True
        self.worker.kill()
        self._thread.join(10)
        self.worker.kill()

    def _keep(self) -> None:
        while self.worker.process.wait() == EXIT_RENEWED and not self._stopping:
            self.lives.append(Worker(self._project, self._handler, self._slot))


@contextmanager
def kept(project: Project, handler: str, slot: int = 0) -> Iterator[Kept]:
    started = Kept(project, handler, slot)
    try:
        yield started
    finally:
        started.kill()
