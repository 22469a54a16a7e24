"""Fixtures shared by the whole suite."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """The bootstrap address of a real Apache Kafka, shared by the run."""
    given = os.environ.get("KPIPE_TEST_BOOTSTRAP")
    if not given:
        pytest.fail("no Kafka: set KPIPE_TEST_BOOTSTRAP")
    yield given
