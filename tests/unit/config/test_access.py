"""Warnings about logins and connections that look protected and are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.config import column, document, found, only

LOGIN = {"sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "p"}
SAFE = {"security.protocol": "SASL_SSL", **LOGIN}
REMOTE = "kafka.example.com:9092"


def warnings(folder: Path, *, bootstrap: str = REMOTE, **kinds: dict[str, Any]) -> list[str]:
    """The messages, all of which have to be warnings."""
    findings = found(folder, document(kafka={"bootstrap": bootstrap, **kinds}))
    assert {(finding.severity, finding.code) for finding in findings} <= {("warning", "insecure")}
    return [finding.message for finding in findings]


def test_a_login_over_tls_is_fine(tmp_path: Path) -> None:
    assert warnings(tmp_path, client={**SAFE, "ssl.ca.location": "ca.pem"}) == []
    assert warnings(tmp_path, client={"security.protocol": "ssl", "ssl.ca.location": "ca.pem"}) == []
    assert warnings(tmp_path, client={}) == []


def test_a_password_that_no_client_uses(tmp_path: Path) -> None:
    tree = document(kafka={"bootstrap": REMOTE, "client": LOGIN})
    finding = only(found(tmp_path, tree))
    assert finding.message == "`sasl.password` is not used without security.protocol: clients connect without a login"
    assert finding.column == column(tree, '"sasl.password"') and "SASL_SSL" in finding.hint
    assert len(warnings(tmp_path, client={**LOGIN, "security.protocol": "PLAINTEXT"})) == 1
    assert len(warnings(tmp_path, client={**LOGIN, "security.protocol": "SSL"})) == 1
    assert len(warnings(tmp_path, client={"sasl.mechanisms": "OAUTHBEARER"})) == 1


def test_each_kind_of_client_has_its_own(tmp_path: Path) -> None:
    assert len(warnings(tmp_path, client=LOGIN, consumer={"security.protocol": "SASL_SSL"})) == 1
    everywhere = {kind: {"security.protocol": "SASL_SSL"} for kind in ("consumer", "producer", "admin")}
    assert warnings(tmp_path, client=LOGIN, **everywhere) == []
    assert warnings(tmp_path, consumer=SAFE) == []


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "sasl_plaintext"])
@pytest.mark.parametrize("bootstrap", [REMOTE, "10.0.0.1:9092", "localhost:1,kafka:1", "PLAINTEXT://kafka:9092"])
def test_a_login_that_the_network_can_read(tmp_path: Path, protocol: str, bootstrap: str) -> None:
    (message,) = warnings(tmp_path, bootstrap=bootstrap, client={**LOGIN, "security.protocol": protocol})
    assert "unencrypted" in message


@pytest.mark.parametrize(
    "bootstrap", ["localhost:1", "127.0.0.1:1, 127.8.8.8:2", "[::1]:9092", "kafka.localhost:1", ""]
)
def test_this_machine_is_no_network(tmp_path: Path, bootstrap: str) -> None:
    assert warnings(tmp_path, bootstrap=bootstrap, client={**LOGIN, "security.protocol": "SASL_PLAINTEXT"}) == []


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("enable.ssl.certificate.verification", False, True),
        ("enable.ssl.certificate.verification", "0", "1"),
        ("ssl.endpoint.identification.algorithm", "none", "https"),
        ("enable.sasl.oauthbearer.unsecure.jwt", True, False),
        ("ssl.cipher.suites", "ALL:eNULL", "ECDHE-RSA-AES256-GCM-SHA384:!aNULL"),
        ("ssl.cipher.suites", "DEFAULT@SECLEVEL=0", "DEFAULT@SECLEVEL=2"),
        ("sasl.oauthbearer.token.endpoint.url", "http://idp.example.com/t", "https://idp.example.com/t"),
        ("sasl.oauthbearer.token.endpoint.url", "HTTP://idp.example.com/t", "http://127.0.0.1:8080/t"),
    ],
)
def test_a_protection_that_is_switched_off(tmp_path: Path, name: str, bad: Any, good: Any) -> None:
    (message,) = warnings(tmp_path, client={**SAFE, name: bad})
    assert f"`{name}`" in message
    assert warnings(tmp_path, client={**SAFE, name: good}) == []


def test_certificates_without_tls(tmp_path: Path) -> None:
    (message,) = warnings(tmp_path, client={"ssl.ca.location": "ca.pem", "ssl.crl.location": "crl.pem"})
    assert message == "`ssl.ca.location` is not used without security.protocol: nothing is encrypted"


def test_a_login_comes_from_outside_and_is_shown_nowhere(tmp_path: Path) -> None:
    client = {"security.protocol": "${P}", "sasl.password": "${W}", "sasl.oauthbearer.token.endpoint.url": "${U}"}
    environ = {"P": "SASL_PLAINTEXT", "W": "s3cr3t", "U": "http://idp.example.com/s3cr3t"}
    findings = found(tmp_path, document(kafka={"bootstrap": REMOTE, "client": client}), environ)
    assert [finding.code for finding in findings] == ["insecure"] * 2
    assert "s3cr3t" not in str(findings)
