"""What the processes of handlers get of kpipe's own environment: no secret that nobody named for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import load
from orchestrator.supervisor.spec import ChildSpec
from orchestrator.up.child_specs import Surroundings, children
from orchestrator.up.publish_endpoint import PublishEndpoint
from tests.support.config import document, found, only, yaml_text

OURS = {
    "PATH": "/bin", "HOME": "/h", "LC_ALL": "C.UTF-8", "KAFKA_PASSWORD": "kafka", "DB_PASSWORD": "db",
    "GITHUB_TOKEN": "token", "HTTPS_PROXY": "http://u:pw@proxy:3128",
}  # fmt: skip
HANDLERS: dict[str, Any] = {
    "pay": {"python": "m:f", "consumes": ["t"], "dlq": "none", "env": {"DB": "${DB_PASSWORD}"}},
    "run": {"exec": ["x"], "consumes": ["t"], "dlq": "none", "inherit-env": ["GITHUB_TOKEN", "NOT_SET"]},
    "post": {"http": "https://x", "consumes": ["t"], "dlq": "none"},
    "all": {"service": "x", "inherit-env": True},
    "view": {"service": "x"},
    "api": {"service": "x", "produces": ["t"], "env": {"WEB": "${WEB_TOKEN:-}"}},
}


def specs(folder: Path, environ: dict[str, str] = OURS, **sections: Any) -> dict[str, ChildSpec]:
    file = folder / "pipeline.yaml"
    client = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "u",
        "sasl.password": "${KAFKA_PASSWORD}",
    }
    kafka = {"bootstrap": "k:1", "client": client}
    file.write_text(yaml_text(document(**{"kafka": kafka, "topics": {"t": {}}, "handlers": HANDLERS, **sections})))
    loaded = load([file], environ)
    assert loaded.pipeline is not None, loaded.findings
    around = Surroundings(loaded.pipeline, (file,), "k:1", environ)
    return {spec.name: spec for spec in children(list(loaded.pipeline.handlers.values()), around)}


def inherited(spec: ChildSpec) -> set[str]:
    return {name for name in OURS if name in spec.env}


def test_a_handler_gets_what_programs_need_and_its_own_env(tmp_path: Path) -> None:
    pay = specs(tmp_path)["pay"]
    assert inherited(pay) == {"PATH", "HOME", "LC_ALL"}
    assert pay.env["DB"] == "db" and pay.env["KPIPE_HANDLER"] == "pay"


def test_what_it_names_comes_along(tmp_path: Path) -> None:
    made = specs(tmp_path)
    assert inherited(made["run"]) == {"PATH", "HOME", "LC_ALL", "GITHUB_TOKEN"} and "NOT_SET" not in made["run"].env
    assert inherited(made["all"]) == OURS.keys()


def test_an_http_handler_finds_its_way_out(tmp_path: Path) -> None:
    assert inherited(specs(tmp_path)["post"]) == {"PATH", "HOME", "LC_ALL", "HTTPS_PROXY"}


def test_a_default_for_all_handlers(tmp_path: Path) -> None:
    made = specs(tmp_path, defaults={"handler": {"inherit-env": ["DB_PASSWORD"]}})
    assert "DB_PASSWORD" in made["view"].env and "DB_PASSWORD" not in made["run"].env


def test_a_service_that_produces_gets_no_more(tmp_path: Path) -> None:
    """`Publisher` asks `kpipe up` for the pipeline (publish/validated_pipeline.py) and needs none of its variables."""
    made = specs(tmp_path, {**OURS, "WEB_TOKEN": "w"})
    assert inherited(made["api"]) == {"PATH", "HOME", "LC_ALL"} and made["api"].env["WEB"] == "w"
    assert inherited(made["view"]) == {"PATH", "HOME", "LC_ALL"}


def test_the_publish_endpoint_gets_nothing_either(tmp_path: Path) -> None:
    specs(tmp_path)
    pipeline = load([tmp_path / "pipeline.yaml"], OURS).pipeline
    assert pipeline is not None
    publishing = PublishEndpoint(list(pipeline.handlers.values()))
    try:
        assert inherited(publishing.spec(pipeline, "k:1", OURS)) == {"PATH", "HOME", "LC_ALL"}
    finally:
        publishing.close()


@pytest.mark.parametrize("value", ["yes", 1, ["A B"], [1], {"A": "x"}])
def test_it_is_a_list_of_names_or_all(tmp_path: Path, value: Any) -> None:
    handlers = {"s": {"service": "x", "inherit-env": value}}
    assert next(f.code for f in found(tmp_path, document(handlers=handlers))) in ("type", "value")


def test_kpipes_own_variables_are_not_to_be_named(tmp_path: Path) -> None:
    handlers = {"s": {"service": "x", "inherit-env": ["A", "KPIPE_BOOTSTRAP"]}}
    assert only(found(tmp_path, document(handlers=handlers))).code == "env"


@pytest.mark.parametrize(
    "handler",
    [
        {"exec": ["prog", "--token", "${TOKEN}"], "consumes": ["t"], "dlq": "none"},
        {"service": "prog --token ${TOKEN:-x}"},
        {"python": "m:f", "interpreter": "${TOKEN}/python", "consumes": ["t"], "dlq": "none"},
    ],
)
def test_references_in_the_words_of_a_command_are_seen_by_others(tmp_path: Path, handler: dict[str, Any]) -> None:
    tree = document(topics={"t": {}}, handlers={"h": handler})
    finding = only(found(tmp_path, tree, {"TOKEN": "s3cr3t"}))
    assert (finding.severity, finding.code) == ("warning", "process-list")
    assert "`env`" in finding.hint and "s3cr3t" not in str(finding)


def test_literal_words_and_variables_are_fine(tmp_path: Path) -> None:
    handler = {"service": "prog --cost $$5", "env": {"TOKEN": "${TOKEN}"}}
    assert found(tmp_path, document(handlers={"h": handler}), {"TOKEN": "s3cr3t"}) == []
