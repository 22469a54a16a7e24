"""Fixtures shared by the whole suite."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from orchestrator.errors import KpipeError


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses the fixture `kafka`, by itself or by another fixture, is marked so: `make quick` leaves it out."""
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker("kafka")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of a real Apache Kafka, shared by the run.

    `KPIPE_TEST_BOOTSTRAP` names one that runs; else kpipe's own local broker is started for the run. Without
    either the tests fail: they are never skipped.
    """
    given = os.environ.get("KPIPE_TEST_BOOTSTRAP")
    if given:
        yield given
        return
    from tests.support.broker import kafka_in

    try:
        with kafka_in(tmp_path_factory.mktemp("kafka") / ".kpipe") as address:
            yield address
    except KpipeError as problem:
        pytest.fail(f"no Kafka for the tests: {problem.message} ({problem.hint})", pytrace=False)
