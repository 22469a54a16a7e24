"""Text from outside of the pipeline file: what messages may show of it."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Producer as RdProducer

from orchestrator.config import build, load, portable, restored
from orchestrator.config.model import KafkaSettings, Pipeline
from orchestrator.errors import UsageError
from orchestrator.kafka.ping import ping
from orchestrator.kafka.producer import Producer
from orchestrator.kafka.properties import client_properties
from orchestrator.outside import Outside, masked, origins_of, shown
from orchestrator.worker.runners.http import display
from tests.support.config import document, found, only, yaml_text

SECRET = Outside("s3cr3t", "${TOKEN}")


def test_it_is_its_text_for_everybody_but_messages() -> None:
    assert (SECRET, shown(SECRET), shown("s3cr3t")) == ("s3cr3t", "${TOKEN}", "s3cr3t")
    assert json.loads(json.dumps([SECRET])) == orjson.loads(orjson.dumps([SECRET])) == ["s3cr3t"]
    for copied in (copy.deepcopy(SECRET), pickle.loads(pickle.dumps(SECRET))):
        assert shown(copied) == "${TOKEN}"


@pytest.mark.parametrize(
    ("value", "message", "expected"),
    [
        ("s3cr3t", 'Invalid value "s3cr3t" for "debug"', 'Invalid value "${X}" for "debug"'),
        ("s3cr3t,other", 'Invalid value "other"', 'Invalid value "${X}"'),
        ("kafka.corp:9092", "Failed to resolve 'kafka.corp:9092': no", "Failed to resolve '${X}': no"),
        ("a1:9092,b2.corp:9092", "b2.corp:9092/bootstrap: b2.corp is away", "${X}/bootstrap: ${X} is away"),
        ("https://idp.corp/t0k3n/x", "cannot reach idp.corp, asked for t0k3n", "cannot reach ${X}, asked for ${X}"),
        ("all", "all of them, overall", "${X} of them, overall"),
        ("h:9092", "after 9092 ms", "after 9092 ms"),
        ("", "nothing", "nothing"),
    ],
)
def test_what_a_library_says_is_masked_with_its_pieces(value: str, message: str, expected: str) -> None:
    assert masked(message, [None, 7, "literal", Outside(value, "${X}")]) == expected
    assert masked(message, [value]) == message


# Findings


def test_a_literal_that_is_equal_is_not_blamed(tmp_path: Path) -> None:
    handlers = {"h": {"python": "m:f", "consumes": ["gone"], "dlq": "none", "env": {"A": "${A}"}}}
    message = only(found(tmp_path, document(handlers=handlers), {"A": "gone"})).message
    assert message == "nothing declares the topic `gone`"


def test_the_same_text_from_outside_is_not_shown(tmp_path: Path) -> None:
    handlers = {"h": {"python": "m:f", "consumes": ["${A}"], "dlq": "none"}, "i": {"service": "gone"}}
    finding = only(found(tmp_path, document(handlers=handlers), {"A": "gone"}))
    assert finding.message == "nothing declares the topic `${A}`" and "gone" not in finding.hint


@pytest.mark.parametrize(
    "sections",
    [
        {"namespace": "${A}"},
        {"kafka": {"bootstrap": "${A}"}},
        {"kafka": {"client": {"linger.ms": "${A}"}}},
        {"topics": {"t": {"partitions": "${A}"}}},
        {"topics": {"t": {"retention": "${A}"}}},
        {"topics": {"t": {"configs": {"segment.ms": "${A}"}}}},
        {"topics": {"t": {"dlq": "${A}"}}},
        {"topics": {"t": {"schema": "${A}"}}},
        {"events": {"e": {"topic": "${A}"}}},
        {"handlers": {"h": {"exec": "${A}", "consumes": ["${A}"]}}},
        {"handlers": {"h": {"python": "${A}", "consumes": ["${A}", "${A}"], "dlq": "${A}", "guarantee": "${A}"}}},
    ],
)
def test_no_finding_shows_it(tmp_path: Path, sections: dict[str, object]) -> None:
    findings = found(tmp_path, document(**sections), {"A": "s3cr3t b@d"}, alone=False)
    assert findings and "s3cr3t" not in str(findings)


# Across processes


def pipeline(folder: Path) -> Pipeline:
    file = folder / "pipeline.yaml"
    client = {"sasl.password": "${TOKEN}", "debug": "literal"}
    handlers = {"h": {"exec": ["${TOKEN}", "x"], "consumes": ["t"], "dlq": "${TOKEN}"}}
    file.write_text(yaml_text(document(kafka={"client": client}, topics={"t": {}}, handlers=handlers)))
    made = load([file], {"TOKEN": "s3cr3t"}).pipeline
    assert made is not None
    return made


def test_a_worker_knows_where_texts_come_from(tmp_path: Path) -> None:
    first = pipeline(tmp_path)
    second = restored(json.loads(json.dumps(portable(first))))
    for made in (first, second, build(first.tree, tmp_path)):
        assert made == first
        assert shown(made.kafka.client["sasl.password"]) == shown(made.handlers["h"].target[0]) == "${TOKEN}"
        assert [shown(topic.name) for topic in made.topics.values()] == ["t", "${TOKEN}"]
    assert len(list(origins_of(second.tree))) == 3


# librdkafka


@pytest.mark.parametrize("name", ["debug", "security.protocol", "broker.address.family", "plugin.library.paths"])
def test_an_invalid_value_is_shown_as_it_is_written(name: str) -> None:
    settings = KafkaSettings(client={name: SECRET})
    properties = client_properties(settings, "producer", "127.0.0.1:1")
    for make in (lambda: Producer(properties), lambda: ping("127.0.0.1:1", properties)):
        with pytest.raises(UsageError) as caught:
            make()
        assert "${TOKEN}" in caught.value.message and "s3cr3t" not in caught.value.message


def test_its_log_is_masked(caplog: pytest.LogCaptureFixture) -> None:
    url = Outside("http://127.0.0.1:1/s3cr3t", "${URL}")
    login = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.method": "oidc"}
    client = {**login, "sasl.oauthbearer.client.id": "me", "sasl.oauthbearer.client.secret": SECRET}
    client |= {"sasl.oauthbearer.token.endpoint.url": url, "debug": "conf", "log_level": "7"}
    settings = KafkaSettings(client=client)
    with caplog.at_level(logging.DEBUG, "kpipe.librdkafka"):
        producer = RdProducer(client_properties(settings, "producer", Outside("localhost:1", "${KAFKA}")))
        for _ in range(50):
            producer.poll(0.1)
            if "OIDC" in caplog.text and "bootstrap.servers" in caplog.text:
                break
    assert "OIDC" in caplog.text and "${URL}" in caplog.text
    assert "s3cr3t" not in caplog.text and "localhost:1" not in caplog.text


# URLs


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("https://u:pw@host/hook?key=1", "https://host/hook"),
        (Outside("https://host/s3cr3t", "https://host/${TOKEN}"), "https://host/${TOKEN}"),
        (Outside("https://u:pw@host/s3cr3t?k=1", "https://u:pw@host/${TOKEN}?k=1"), "https://host/${TOKEN}"),
        (Outside("https://host", "${URL}"), "${URL}"),
    ],
)
def test_an_endpoint_is_named_without_what_is_secret(target: str, expected: str) -> None:
    assert display(target) == expected
