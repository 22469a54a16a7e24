"""What every child process may have of the user's environment."""

from __future__ import annotations

import pytest

from orchestrator.environment import small

SECRETS = (
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "CI_JOB_TOKEN", "DATABASE_URL", "GH_TOKEN", "GITHUB_TOKEN",
    "JAVA_TOOL_OPTIONS", "KAFKA_PASSWORD", "KPIPE_PUBLISH_TOKEN", "NODE_OPTIONS", "NPM_TOKEN", "PGPASSWORD",
    "PYTHON_KEYRING_PASSWORD", "PYTHON_TOKEN", "SSH_AUTH_SOCK",
)  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_not_part_of_it(name: str) -> None:
    assert small({name: "s3cr3t"}) == {}


@pytest.mark.parametrize(
    "name",
    ["HOME", "KPIPE_STATE_DIR", "LANG", "LC_ALL", "PATH", "PYTHONPATH", "SSL_CERT_FILE", "TMPDIR", "TZ", "VIRTUAL_ENV"],
)
def test_what_programs_need_to_run_is(name: str) -> None:
    assert small({name: "value"}) == {name: "value"}


def test_what_is_named_comes_along_and_only_where_it_is_set() -> None:
    assert small({"A": "1", "B": "2"}, more=("A", "C")) == {"A": "1"}


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy"])
def test_a_proxy_is_passed_on_without_a_password(name: str) -> None:
    assert small({name: "http://proxy:3128"}) == {name: "http://proxy:3128"}
    assert small({name: "http://user:pw@proxy:3128"}) == {}
    assert small({name: "http://user:pw@proxy:3128"}, more=(name,)) != {}
