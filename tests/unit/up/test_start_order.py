"""The order of starting and stopping, whatever the flow looks like."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config import build
from orchestrator.config.model import Pipeline
from orchestrator.up.start_order import stages

Flow = dict[str, tuple[list[str], list[str]]]


def pipeline(flow: Flow) -> Pipeline:
    """`flow` has for each handler what it consumes and produces."""
    topics = {topic for consumes, produces in flow.values() for topic in (*consumes, *produces)}
    tree = {
        "kpipe": 1,
        "pipeline": "p",
        "topics": {topic: {"dlq": "none"} for topic in sorted(topics)},
        "handlers": {
            name: {"python": "m:f", "consumes": consumes, "dlq": "none", **({"produces": produces} if produces else {})}
            for name, (consumes, produces) in flow.items()
        },
    }
    return build(tree, Path("/"))


def test_twenty_handlers_that_all_feed_each_other() -> None:
    """Going through all ways without a circle would take 20! of them."""
    everywhere = [f"t{n}" for n in range(20)]
    found = stages(pipeline({f"h{n}": (everywhere, everywhere) for n in range(20)}))
    assert set(found.values()) == {20}


def test_many_ways_to_the_end() -> None:
    """Two handlers in each of 30 layers: 2 ** 30 ways."""
    flow = {f"h{layer}-{side}": ([f"t{layer}"], [f"t{layer + 1}"]) for layer in range(30) for side in "ab"}
    found = stages(pipeline(flow))
    assert [found[f"h{layer}-a"] for layer in range(30)] == list(range(30, 0, -1))


def test_a_long_chain() -> None:
    found = stages(pipeline({f"h{n}": ([f"t{n}"], [f"t{n + 1}"]) for n in range(3_000)}))
    assert found["h0"] == 3_000 and found["h2999"] == 1


def test_a_loop_with_a_way_out_and_one_in() -> None:
    flow = {
        "before": (["in"], ["a"]),
        "one": (["a"], ["b"]),
        "two": (["b"], ["a", "out"]),
        "after": (["out"], []),
    }
    assert stages(pipeline(flow)) == {"before": 4, "one": 3, "two": 3, "after": 1}


EDGES = st.dictionaries(
    st.sampled_from([f"h{n}" for n in range(8)]),
    st.tuples(
        st.lists(st.sampled_from("abcde"), min_size=1, unique=True), st.lists(st.sampled_from("abcde"), unique=True)
    ),
    min_size=1,
)


@given(EDGES)
def test_what_feeds_another_stands_higher_unless_they_are_in_a_loop(flow: Flow) -> None:
    found = stages(pipeline(flow))
    feeds = {name: {o for o, (consumes, _) in flow.items() if set(consumes) & set(flow[name][1])} for name in flow}
    leads = {name: _reached(feeds, name) for name in flow}
    for name, others in feeds.items():
        for other in others:
            together = name in leads[other]
            assert found[name] == found[other] if together else found[name] > found[other]
    assert min(found.values()) >= 1


def _reached(feeds: Mapping[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    ahead = [start]
    while ahead:
        new = feeds[ahead.pop()] - reached
        reached |= new
        ahead += new
    return reached
