"""Whatever somebody else did to the limits of topics: after a sync the DLQs take what their sources take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.config import build
from orchestrator.config.model import Pipeline
from orchestrator.config.topics import LETTER_HEADROOM
from orchestrator.provisioning.execute import carry_out
from orchestrator.provisioning.on_demand import make
from orchestrator.provisioning.plan import specs
from orchestrator.provisioning.survey import survey
from tests.support.cluster import DEFAULTS, FakeClaims, FakeCluster, state

LIMIT = "max.message.bytes"
SIZES = st.sampled_from(["700", "100000", "1048588", "2000000", "9000000"])
MAYBE = st.none() | SIZES
SOURCES, DLQS = ("a", "b"), ("a.dlq", "h.dlq")


@st.composite
def files(draw: st.DrawFn) -> Pipeline:
    """Two topics, a DLQ of each kind and a handler; every limit is in the file or not."""

    def configs(limit: str | None) -> dict[str, Any]:
        return {} if limit is None else {"configs": {LIMIT: limit}}

    topics: dict[str, Any] = {name: {"key": "k", "dlq": "a.dlq", **configs(draw(MAYBE))} for name in SOURCES}
    topics |= {name: own for name in DLQS if (own := configs(draw(MAYBE)))}
    handlers = {"h": {"python": "m:f", "consumes": list(SOURCES), "dlq": "h.dlq"}}
    return build({"kpipe": 1, "pipeline": "p", "topics": topics, "handlers": handlers}, Path())


@settings(max_examples=150, deadline=None)
@given(st.lists(files(), min_size=1, max_size=3), st.data())
def test_a_dlq_takes_what_its_sources_take(life: list[Pipeline], data: st.DataObject) -> None:
    cluster, claims = FakeCluster(), FakeClaims()
    cluster.limit = data.draw(st.none() | SIZES.map(int))
    for file in life:
        carry_out(survey(file, cluster, claims), cluster, claims, sleep=lambda _: None)
        make([file.handlers["h"]], file, cluster, claims)
        for name in data.draw(st.lists(st.sampled_from([*SOURCES, *DLQS]), unique=True)):
            meddle(cluster, name, data.draw(MAYBE))
        seen = survey(file, cluster, claims)
        before = {name: topic.record_limit or 0 for name, topic in cluster.topics.items()}
        carry_out(seen, cluster, claims, sleep=lambda _: None)
        assert survey(file, cluster, claims).plan.is_empty
        now = {name: topic.record_limit or 0 for name, topic in cluster.topics.items()}
        for dlq in (file.topics[name] for name in DLQS):
            needed = max(max(before[name], now[name]) for name in dlq.dlq_for) + LETTER_HEADROOM
            if dlq.follows:
                assert now[dlq.name] >= max(needed, before[dlq.name]), "and it is never lowered"
            else:
                assert now[dlq.name] == int(dlq.configs[LIMIT]), "the user's own stays the user's"
                assert any(dlq.name in note for note in seen.notes) == (now[dlq.name] < needed)
        assert now["p.h.redrive"] >= max(now[name] for name in DLQS), "what was dead-lettered can be sent back"


@settings(deadline=None)
@given(files())
def test_a_cluster_that_is_as_the_file_says_needs_no_change(file: Pipeline) -> None:
    cluster = FakeCluster([state(spec) for spec in specs(file)])
    assert survey(file, cluster, FakeClaims()).plan.is_empty


def meddle(cluster: FakeCluster, topic: str, limit: str | None) -> None:
    """Somebody else sets the topic's limit, or takes it away."""
    old = cluster.topics[topic]
    rest = {key: value for key, value in (old.overrides or {}).items() if key != LIMIT}
    own = rest if limit is None else {**rest, LIMIT: limit}
    cluster.topics[topic] = replace(old, overrides=own, defaults=DEFAULTS)
