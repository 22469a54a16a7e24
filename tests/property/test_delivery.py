"""Any history of outcomes, receipts, rebalances and deaths: what must hold of the delivery core and the worker's loop.

A history is a list of steps, drawn by Hypothesis, so that whatever breaks shrinks to the shortest list that breaks it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, given, settings

from tests.support.history import (
    PARTITIONS,
    REFUSALS,
    UNREADABLE,
    Commit,
    History,
    Land,
    Produce,
    Rebalance,
    Restart,
    Spoil,
    Turn,
    Wait,
)
from tests.support.simulation import FASTEST, OUTCOMES
from tests.support.transactions import FATES

partitions = st.sampled_from(PARTITIONS)
fates = st.lists(st.sampled_from(("ok", "ok", "ok", *FATES)), max_size=4)
outcomes = st.lists(st.sampled_from(OUTCOMES), max_size=6)
receipts = st.lists(st.sampled_from((None, None, *REFUSALS)), max_size=6)
paces = st.lists(st.integers(0, 2 * FASTEST - 1), max_size=4)
steps = st.one_of(
    st.builds(
        Produce,
        partitions,
        st.lists(
            st.tuples(
                st.sampled_from(["a", "b", "c", None]),
                st.booleans(),
                st.integers(0, 2),
                st.sampled_from([False] * 11 + [True]),
            ),
            min_size=1,
            max_size=6,
        ),
    ),
    st.builds(
        Turn,
        st.integers(0, 6),
        outcomes,
        receipts,
        st.integers(0, 8),
        st.sampled_from(["revoke", "lose", "kill"]),
        partitions,
        fates,
        paces,
    ),
    st.builds(
        Turn, st.integers(1, 6), outcomes, receipts, st.just(0), st.just(""), st.just(0), fates, paces, st.booleans()
    ),
    st.builds(Wait, st.sampled_from([0.5, 2.0, 10.0])),
    st.builds(Commit, st.sampled_from(["made", "late", "unheard", "refused"])),
    st.builds(Land, st.integers(0, 3)),
    st.builds(Spoil, partitions, st.sampled_from(UNREADABLE)),
    st.builds(Rebalance, partitions, st.sampled_from(["revoke", "lose", "assign"])),
    st.builds(Restart, st.booleans(), st.booleans()),
)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.large_base_example, HealthCheck.data_too_large, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(st.sampled_from([1, 1, 3]), st.lists(steps, min_size=20, max_size=60))
def test_any_history(concurrency: int, history: list[Any]) -> None:
    """No commit covers an unsettled event (checked at each commit), keys keep their order, and the sums are right."""
    run = History(concurrency)
    for step in history:
        run.take(step)
    run.finish()


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.large_base_example, HealthCheck.data_too_large, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(st.sampled_from([1, 1, 3]), st.lists(steps, min_size=20, max_size=60))
def test_any_history_exactly_once(concurrency: int, history: list[Any]) -> None:
    """The same with transactions that abort, time out, are fenced or end unknown, and with zombies: none is twice."""
    run = History(concurrency, exactly_once=True)
    for step in history:
        run.take(step)
    run.finish()
    written = Counter((partition, offset) for _, partition, offset in run.world.acknowledged)
    twice = {place for place, times in written.items() if times > 1}
    assert twice <= run.world.forgotten, "every event has one output or one letter"
