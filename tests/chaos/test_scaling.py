"""Replicas come and go under load: nothing lost, nothing out of order, and no partition stands still for long."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.chaos.checker import check
from tests.chaos.logs import whole
from tests.chaos.scene import Scene

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.timeout(300)]

RATE = 2_000.0
#: Seconds without an output of a partition that has events.
LONGEST_PAUSE = 5.0
#: More of `kafka:`, to compare: `, consumer: {group.protocol: consumer}`.
KAFKA = os.environ.get("KPIPE_CHAOS_KAFKA", "")


def test_one_replica_to_four_and_back_under_load(tmp_path: Path, kafka: str) -> None:
    scene = Scene(tmp_path, kafka, kafka=KAFKA)
    with scene.up() as up:
        with scene.load(RATE, seed=1) as load:
            time.sleep(2)  # the load before, not a wait for a state
            took = [scaled(scene, count) for count in (4, 1)]
            time.sleep(2)
            sent = load.stop()
        scene.wait_drained(60)
        scene.kpipe("down")
        assert up.wait(60) == 0, scene.log
    report = check(kafka, scene.topics, scene.group, {}, {})
    pauses = longest_pauses(kafka, scene)
    print(f"scaled to 4 in {took[0]:.1f} s and to 1 in {took[1]:.1f} s; {sent['acknowledged']:,} events;")
    print(f"repeated {report.duplicated}; longest pause of each partition {pauses}")
    assert report.events == sent["acknowledged"] and not report.violations, report
    assert max(pauses.values()) < LONGEST_PAUSE, f"{pauses}\n{scene.log[-3000:]}"


def scaled(scene: Scene, count: int) -> float:
    began = time.monotonic()
    done = scene.kpipe("scale", f"work={count}")
    assert done.code == 0, done.err
    return time.monotonic() - began


def longest_pauses(bootstrap: str, scene: Scene) -> dict[int, float]:
    """Seconds between two outputs of a partition of the input, as Kafka stamped them."""
    at: dict[int, list[int]] = {}
    for message in whole(bootstrap, scene.topics["out"]):
        at.setdefault(message.partition(), []).append(message.timestamp()[1])
    return {p: max(b - a for a, b in pairwise(sorted(times))) / 1000 for p, times in sorted(at.items())}
