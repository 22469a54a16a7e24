"""How large DLQs and topics of redriven letters become: by what their sources take on the cluster, not by the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.config import load
from orchestrator.config.model import Pipeline
from orchestrator.config.topics import LETTER_HEADROOM
from orchestrator.provisioning.on_demand import make
from orchestrator.provisioning.ownership import owner_of
from orchestrator.provisioning.plan import specs
from orchestrator.provisioning.survey import Survey, survey
from orchestrator.records import Claim, Refusal, TopicState
from tests.support.cluster import DEFAULTS, FakeClaims, FakeCluster, state

LIMIT = "max.message.bytes"
DEFAULT = int(DEFAULTS[LIMIT])
YAML = """
kpipe: 1
pipeline: shop
topics:
  in: {key: k, dlq: in.dlq}
  more: {key: k, dlq: in.dlq}
handlers:
  h: {python: "m:f", consumes: [in, more]}
"""


def pipeline(folder: Path, yaml: str = YAML) -> Pipeline:
    (folder / "pipeline.yaml").write_text(yaml)
    loaded = load([folder / "pipeline.yaml"], {})
    assert loaded.pipeline is not None, loaded.findings
    return loaded.pipeline


def there(pipeline: Pipeline) -> FakeCluster:
    """The cluster as the file has it."""
    return FakeCluster([state(spec) for spec in specs(pipeline)])


def override(cluster: FakeCluster, topic: str, limit: int | None) -> None:
    """Somebody else sets a topic's limit, or takes it away."""
    old = cluster.topics[topic]
    rest = {key: value for key, value in (old.overrides or {}).items() if key != LIMIT}
    cluster.topics[topic] = replace(old, overrides=rest if limit is None else {**rest, LIMIT: str(limit)})


def planned(seen: Survey) -> list[tuple[str, str, str | int | None, str | int | None]]:
    return [(c.action, c.topic, c.old, c.new) for c in seen.plan.changes if c.field == LIMIT]


def test_a_source_that_somebody_raised_is_a_change_of_its_dlq(tmp_path: Path) -> None:
    file = pipeline(tmp_path)
    cluster = there(file)
    assert survey(file, cluster, FakeClaims()).plan.is_empty
    override(cluster, "more", 5_000_000)
    seen = survey(file, cluster, FakeClaims())
    assert planned(seen) == [("config", "in.dlq", str(DEFAULT + LETTER_HEADROOM), str(5_000_000 + LETTER_HEADROOM))]
    assert seen.plan.changes[0].risk == "safe" and not seen.notes


def test_a_dlq_is_not_lowered_when_its_source_is(tmp_path: Path) -> None:
    file = pipeline(tmp_path)
    cluster = there(file)
    override(cluster, "in.dlq", 5_064_000)
    assert survey(file, cluster, FakeClaims()).plan.is_empty, "larger letters may be on their way to it"


def test_the_broker_is_asked_where_no_topic_shows_its_limit(tmp_path: Path) -> None:
    file = pipeline(tmp_path)
    cluster = FakeCluster()
    cluster.limit = 10_000_000
    assert ("create", "in.dlq", None, str(10_064_000)) in planned(survey(file, cluster, FakeClaims()))
    cluster = there(file)
    cluster.limit = None
    seen = survey(file, cluster, FakeClaims())
    assert seen.plan.is_empty and not seen.notes and cluster.looks == 1, "the topics show it: it is not asked"


def test_a_broker_that_does_not_say_is_noted_and_the_file_counts(tmp_path: Path) -> None:
    cluster = FakeCluster()
    cluster.limit = None
    seen = survey(pipeline(tmp_path), cluster, FakeClaims())
    assert ("create", "in.dlq", None, str(DEFAULT + LETTER_HEADROOM)) in planned(seen)
    assert all("in.dlq" in note and "DESCRIBE_CONFIGS on the cluster" in note for note in seen.notes) and seen.notes


def test_configs_that_may_not_be_read_are_noted_and_the_file_counts(tmp_path: Path) -> None:
    file = pipeline(tmp_path)
    cluster = there(file)
    cluster.topics["in"] = TopicState("in", 3, 1, None)
    seen = survey(file, cluster, FakeClaims())
    assert not seen.plan.changes
    [note] = seen.notes
    assert "in.dlq is sized by the file" in note and "DESCRIBE_CONFIGS on the topic in" in note


@pytest.mark.parametrize(("own", "noted"), [("2MB", True), ("6MB", False)])
@pytest.mark.parametrize("where", ["topics", "defaults"])
def test_a_dlq_with_a_limit_of_its_own_stays_the_users(tmp_path: Path, own: str, noted: bool, where: str) -> None:
    configs = f"configs: {{{LIMIT}: {own}}}"
    yaml = (
        YAML.replace("handlers:", f"  in.dlq: {{{configs}}}\nhandlers:")
        if where == "topics"
        else YAML.replace("topics:", f"defaults: {{dlq: {{{configs}}}}}\ntopics:")
    )
    file = pipeline(tmp_path, yaml)
    cluster = there(file)
    override(cluster, "in", 5_000_000)
    seen = survey(file, cluster, FakeClaims())
    assert seen.plan.is_empty, "what the user says is not changed"
    assert bool(seen.notes) == noted
    if noted:
        [note] = seen.notes
        assert "in.dlq takes 2000000 bytes" in note and "in 5000000" in note


def test_a_limit_in_the_file_is_what_the_source_goes_back_to_and_what_was_larger_still_fits_its_dlq(
    tmp_path: Path,
) -> None:
    file = pipeline(tmp_path, YAML.replace("in: {key: k,", f"in: {{key: k, configs: {{{LIMIT}: 2MB}},"))
    cluster = there(file)
    override(cluster, "in", 5_000_000)
    changes = {topic: new for _, topic, _, new in planned(survey(file, cluster, FakeClaims()))}
    assert changes == {"in": "2000000", "in.dlq": "5064000"}


def test_a_limit_that_the_file_set_before_goes_back_to_the_brokers(tmp_path: Path) -> None:
    file = pipeline(tmp_path)
    cluster = there(file)
    override(cluster, "in", 100_000)
    claims = FakeClaims(Claim("in", owner_of(file), "", created=True, declared=True, configs=(LIMIT,)))
    assert planned(survey(file, cluster, claims)) == [("config", "in", "100000", None)]
    override(cluster, "in.dlq", 164_000)
    assert ("config", "in.dlq", "164000", str(DEFAULT + LETTER_HEADROOM)) in planned(survey(file, cluster, claims))


def test_a_limit_is_never_beyond_what_kafka_takes(tmp_path: Path) -> None:
    file = pipeline(tmp_path)
    cluster = there(file)
    override(cluster, "in", 2**31 - 1)
    assert planned(survey(file, cluster, FakeClaims()))[0][3] == str(2**31 - 1)


def test_topics_of_redriven_letters_take_what_their_dlqs_took(tmp_path: Path) -> None:
    file = pipeline(tmp_path)
    cluster = there(file)
    override(cluster, "in", 5_000_000)
    override(cluster, "in.dlq", 7_000_000)
    made = make([file.handlers["h"]], file, cluster, FakeClaims())
    assert made.limits == {"shop.h.redrive": 7_000_000} and not made.notes
    assert (cluster.topics["shop.h.redrive"].overrides or {})[LIMIT] == "7000000"
    override(cluster, "in.dlq", 8_000_000)
    assert planned(survey(file, cluster, FakeClaims())) == [("config", "shop.h.redrive", "7000000", "8000000")]
    assert make([file.handlers["h"]], file, cluster, FakeClaims()).limits == {"shop.h.redrive": 8_000_000}
    assert cluster.topics["shop.h.redrive"].record_limit == 8_000_000, "raised before the first letter goes there"


def test_one_that_may_not_be_raised_is_noted(tmp_path: Path) -> None:
    file = pipeline(tmp_path)
    cluster = there(file)
    make([file.handlers["h"]], file, cluster, FakeClaims())
    override(cluster, "in.dlq", 8_000_000)
    cluster.late["shop.h.redrive"] = Refusal("TOPIC_AUTHORIZATION_FAILED", "not you")
    made = make([file.handlers["h"]], file, cluster, FakeClaims())
    assert made.limits["shop.h.redrive"] == DEFAULT + LETTER_HEADROOM
    assert "not you" in made.notes[0] and "8000000" in made.notes[0]


def test_the_limit_in_force() -> None:
    assert TopicState("t", 1, 1, {LIMIT: "5"}, DEFAULTS).record_limit == 5
    assert TopicState("t", 1, 1, {}, DEFAULTS).record_limit == DEFAULT
    assert TopicState("t", 1, 1, None).record_limit is None


def test_a_client_that_is_narrower_than_the_cluster_is_noted(tmp_path: Path) -> None:
    file = pipeline(tmp_path, YAML.replace("topics:", 'kafka: {producer: {message.max.bytes: "2000000"}}\ntopics:'))
    cluster = there(file)
    assert not survey(file, cluster, FakeClaims()).notes
    override(cluster, "in", 5_000_000)
    assert any(
        "kafka.producer.message.max.bytes lets 2000000" in note for note in survey(file, cluster, FakeClaims()).notes
    )
