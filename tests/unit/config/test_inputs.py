"""What a handler reads and where its letters go, and how large a record of a topic may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.building import build
from orchestrator.config.model import BROKER_MAX_MESSAGE_BYTES, Pipeline


def pipeline(namespace: str = "dev", **handlers: dict[str, Any]) -> Pipeline:
    topics = {"in": {"dlq": "in.dlq"}, "more": {"dlq": "in.dlq"}, "out": {}}
    tree = {"kpipe": 1, "pipeline": "shop", "namespace": namespace, "topics": topics, "handlers": handlers}
    return build({name: value for name, value in tree.items() if value}, Path("/project"))


def python(*consumes: str, **more: Any) -> dict[str, Any]:
    return {"python": "m:f", "consumes": list(consumes), **more}


def test_the_topic_of_redriven_letters_comes_last() -> None:
    file = pipeline(h=python("more", "in"))
    inputs = file.inputs_of(file.handlers["h"])
    assert [topic.name for topic in inputs.topics] == ["more", "in"]
    assert inputs.kafka_names == ("dev.more", "dev.in", "dev.shop.h.redrive")
    assert file.redrive_topics() == {"dev.shop.h.redrive": file.handlers["h"]}


def test_without_a_namespace_its_name_has_no_prefix() -> None:
    file = pipeline("", h=python("in"))
    assert file.inputs_of(file.handlers["h"]).kafka_names == ("in", "shop.h.redrive")


def test_nothing_is_sent_back_to_one_that_reads_dead_letters_only() -> None:
    file = pipeline(h=python("in"), letters=python("in.dlq"))
    inputs = file.inputs_of(file.handlers["letters"])
    assert (inputs.kafka_names, inputs.ordinary, inputs.redrive) == (("dev.in.dlq",), (), None)
    assert list(file.redrive_topics()) == ["dev.shop.h.redrive"]


def test_a_service_reads_nothing() -> None:
    file = pipeline(web={"service": "run", "produces": ["out"]})
    assert file.inputs_of(file.handlers["web"]).kafka_names == ()
    assert file.dlqs_of(file.handlers["web"]) == ()


@pytest.mark.parametrize(
    ("own", "dlqs"),
    [({}, ("in.dlq",)), ({"dlq": "h.dlq"}, ("h.dlq", "in.dlq")), ({"dlq": "none"}, ("in.dlq",))],
)
def test_letters_go_to_the_handlers_dlq_and_to_the_topics(own: dict[str, str], dlqs: tuple[str, ...]) -> None:
    file = pipeline(h=python("in", "more", **own))
    assert file.dlqs_of(file.handlers["h"]) == dlqs


def test_the_first_handler_of_a_topic_writes_its_contract_letters() -> None:
    file = pipeline(a=python("in"), b=python("more", "in"))
    writers = [(name, t) for name, h in file.handlers.items() for t in h.consumes if file.writes_contract_letters(h, t)]
    assert writers == [("a", "in"), ("b", "more")]


def test_a_topic_takes_what_the_file_says_else_what_brokers_do() -> None:
    topics = {"small": {"configs": {"max.message.bytes": "500KB"}}, "usual": {}}
    file = build({"kpipe": 1, "pipeline": "p", "topics": topics}, Path("/project"))
    assert file.topics["small"].record_limit == 500_000
    assert file.topics["usual"].record_limit == BROKER_MAX_MESSAGE_BYTES
