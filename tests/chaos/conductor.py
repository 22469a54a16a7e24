"""Disturbs workers and brokers at random: the same seed makes the same plan.

At most one broker is away at a time, and the next one goes only when all replicas are in sync again: what Kafka itself
promises to survive. A replica is not killed so often that its supervisor lets it rest.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from tests.chaos.scene import Scene
from tests.support.brokers import Broker, Brokers
from tests.support.shell import KPIPE, environment

#: What happens, and how often in comparison.
ACTIONS = {"kill worker": 4, "pause worker": 3, "scale": 3, "kill broker": 2, "pause broker": 2}
MOST_REPLICAS = 4
#: Kills of one replica within a minute; at five failures its supervisor lets it rest.
MOST_KILLS = 3


class Planned(NamedTuple):
    """At `at` seconds; `which` and `long` (0 to 1) choose the victim and for how long."""

    at: float
    action: str
    which: float
    long: float


def plan(seed: int, seconds: float, actions: Sequence[str], every: float) -> list[Planned]:
    """Things to happen, in the mean every so many seconds."""
    chance = random.Random(seed)
    made, at = [], 1.0
    while at < seconds:
        action = chance.choices(list(actions), [ACTIONS[a] for a in actions])[0]
        made.append(Planned(at, action, chance.random(), chance.random()))
        at += chance.uniform(0.4, 1.6) * every
    return made


class Conductor:
    """Carries a plan out, and remembers what it did to whom and when (epoch seconds)."""

    def __init__(self, scene: Scene, brokers: Brokers | None, most_pause: float) -> None:
        self._scene, self._brokers, self._most_pause = scene, brokers, most_pause
        self.done: Counter[str] = Counter()
        self.kills: dict[int, float] = {}
        self.pauses: dict[int, list[tuple[float, float]]] = defaultdict(list)
        self._slots: dict[int, list[float]] = defaultdict(list)
        self._busy: list[threading.Thread] = []
        self._one_broker = threading.Lock()
        self._paused: set[int] = set()
        self._scaling: subprocess.Popen[bytes] | None = None
        self.troubles: list[str] = []

    def run(self, planned: Sequence[Planned]) -> None:
        began = time.monotonic()
        for one in planned:
            time.sleep(max(0.0, began + one.at - time.monotonic()))
            self._do(one)

    def finish(self) -> None:
        """Until everything that was taken away is back."""
        for thread in self._busy:
            thread.join(120)
        if self._scaling is not None:
            self._scaling.wait(180)
        if self._brokers is not None:
            self._brokers.wait_whole()

    def _do(self, one: Planned) -> None:
        if one.action == "scale":
            self._scale(1 + int(one.which * MOST_REPLICAS))
        elif one.action.endswith("worker"):
            self._worker(one)
        elif self._brokers is not None and self._one_broker.acquire(blocking=False):
            nodes = self._brokers.nodes
            self._start(self._broker, one, nodes[int(one.which * len(nodes))])

    def _start(self, what: object, *args: object) -> None:
        thread = threading.Thread(target=what, args=args, daemon=True)  # type: ignore[arg-type]
        self._busy.append(thread)
        thread.start()

    # -- workers ------------------------------------------------------------------------------------------------------

    def _worker(self, one: Planned) -> None:
        now = time.time()
        running = [
            (i["slot"], i["pid"])
            for i in self._scene.work().get("instances", ())
            if i["pid"] and i["pid"] not in self._paused and i["state"] in ("ready", "starting", "not-ready")
        ]
        if one.action == "kill worker":
            running = [r for r in running if len([t for t in self._slots[r[0]] if now - t < 65]) < MOST_KILLS]
        if not running:
            return
        slot, pid = running[int(one.which * len(running))]
        if one.action == "pause worker":
            self._start(self._pause, pid, 0.5 + one.long * self._most_pause)
            return
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.kills[pid] = time.time()
            self._slots[slot].append(time.time())
            self.done["kill worker"] += 1

    def _pause(self, pid: int, seconds: float) -> None:
        self._paused.add(pid)
        began = time.time()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            self.done["pause worker"] += 1
            time.sleep(seconds)
            os.kill(pid, signal.SIGCONT)
        self.pauses[pid].append((began, time.time()))
        self._paused.discard(pid)

    def _scale(self, count: int) -> None:
        if self._scaling is not None and self._scaling.poll() is None:
            return
        self._scaling = subprocess.Popen(
            [KPIPE, "scale", f"work={count}"], cwd=self._scene.folder, env=environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.done["scale"] += 1

    # -- brokers ------------------------------------------------------------------------------------------------------

    def _broker(self, one: Planned, node: Broker) -> None:
        assert self._brokers is not None
        try:
            if one.action == "kill broker":
                node.kill()
                time.sleep(one.long * 3)
                node.start()
            else:
                node.pause()
                time.sleep(0.5 + one.long * self._most_pause)
                node.go_on()
            self.done[one.action] += 1
            self._brokers.wait_whole()
        except Exception as problem:
            self.troubles.append(f"{one.action} {node.node}: {problem!r}")
        finally:
            self._one_broker.release()
