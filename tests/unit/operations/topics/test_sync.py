"""How a sync can end: refused before the first write at the lines that say so, or partly applied and finished later."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from orchestrator.cli.render import output, topics_plan
from orchestrator.config import Loaded
from orchestrator.errors import FindingsError, ForbiddenError, KpipeError
from orchestrator.kafka.clients import TopicAdmin
from orchestrator.operations.topics import sync as steps
from orchestrator.provisioning.survey import Survey, survey
from orchestrator.records import Finding, Refusal
from tests.support.cluster import FakeClaims, FakeCluster
from tests.support.config import loaded

FORBIDDEN = Refusal("TOPIC_AUTHORIZATION_FAILED", "Authorization failed.")
FILE = """\
kpipe: 1
pipeline: shop
defaults:
  topic: {replication: 7, configs: {flush.ms: 1s}}
  dlq: {configs: {segment.ms: 1s}}
topics:
  orders: {dlq: dead, retention: 1d, configs: {compression.type: lz4}}
  plain: {dlq: dead}
"""


def look(folder: Path, cluster: FakeCluster, content: str = FILE) -> tuple[Loaded, Survey, TopicAdmin]:
    file = loaded(folder, content)
    assert file.pipeline is not None, file.findings
    claims = FakeClaims()
    connection = cast(TopicAdmin, TopicAdmin(cast(Any, cluster), cast(Any, claims)))
    return file, survey(file.pipeline, cluster, claims), connection


def refused(folder: Path, *refusals: tuple[str, str, str], lenient: bool = False) -> list[Finding]:
    cluster = FakeCluster(refuse={topic: Refusal(code, text) for topic, code, text in refusals})
    file, seen, connection = look(folder, cluster)
    with pytest.raises(FindingsError) as caught:
        steps.verify(seen.plan, connection, file, lenient=lenient)
    assert cluster.writes == []
    return list(caught.value.findings)


@pytest.mark.parametrize(
    ("topic", "code", "text", "line", "word"),
    [
        ("orders", "INVALID_CONFIG", "Invalid value lz4 for configuration compression.type", 7, "lz4"),
        ("orders", "INVALID_CONFIG", "Invalid value for configuration retention.ms", 7, "1d"),
        ("plain", "INVALID_CONFIG", "Unknown topic config name: flush.ms", 4, "1s"),
        ("dead", "INVALID_CONFIG", "Unknown topic config name: segment.ms", 5, "1s"),
        ("plain", "INVALID_REPLICATION_FACTOR", "only 1 broker(s) are registered", 4, "7"),
        ("dead", "POLICY_VIOLATION", "no", 7, "dead"),
        ("plain", "POLICY_VIOLATION", "no", 8, "{dlq: dead}"),
    ],
)
def test_a_refusal_is_shown_where_the_file_says_it(
    tmp_path: Path, topic: str, code: str, text: str, line: int, word: str
) -> None:
    [finding] = refused(tmp_path, (topic, code, text))
    assert (finding.line, finding.severity) == (line, "error")
    assert FILE.splitlines()[line - 1][finding.column - 1 :].startswith(word)
    assert text in finding.message


def test_every_refusal_is_shown_at_once(tmp_path: Path) -> None:
    findings = refused(tmp_path, ("orders", "POLICY_VIOLATION", "no"), ("plain", "POLICY_VIOLATION", "no"))
    assert [finding.line for finding in findings] == [7, 8]


def test_whoever_only_looks_is_warned_about_missing_permissions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, seen, connection = look(tmp_path, FakeCluster(refuse={"orders": FORBIDDEN}))
    topics_plan.show_warnings(steps.verify(seen.plan, connection, file, lenient=True))
    assert "warning: orders: Kafka would refuse this: Authorization failed." in capsys.readouterr().err
    with pytest.raises(ForbiddenError, match="CREATE on the topic orders"):
        steps.verify(seen.plan, connection, file, lenient=False)


def test_what_fails_in_the_end_is_named_with_1_and_a_second_run_finishes(tmp_path: Path) -> None:
    cluster = FakeCluster(late={"orders": Refusal("POLICY_VIOLATION", "not today")})
    file, seen, connection = look(tmp_path, cluster)
    steps.verify(seen.plan, connection, file, lenient=False)
    with pytest.raises(KpipeError, match="orders: create: not today") as caught:
        steps.apply(seen, connection)
    assert caught.value.exit_code == 1
    assert "everything else was applied" in caught.value.hint
    assert set(cluster.topics) == {"plain", "dead"}
    cluster.late.clear()
    assert file.pipeline is not None
    again = survey(file.pipeline, cluster, connection.claims)
    assert {change.topic for change in again.plan.changes} == {"orders"}
    assert steps.apply(again, connection)
    assert survey(file.pipeline, cluster, connection.claims).plan.is_empty


def test_progress_is_shown_for_many_topics_and_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(output, "in_place", lines.append)
    topics = "".join(f"  t{number}: {{dlq: none}}\n" for number in range(60))
    _, seen, connection = look(tmp_path, FakeCluster(), f"kpipe: 1\npipeline: shop\ntopics:\n{topics}")
    steps.apply(seen, connection, topics_plan.progress)
    assert lines[0] == "Creating topics: 0 of 60"
    assert lines[-1] == ""


def test_a_few_topics_are_no_progress_to_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(output, "in_place", lines.append)
    _, seen, connection = look(tmp_path, FakeCluster())
    steps.apply(seen, connection, topics_plan.progress)
    assert lines == []
