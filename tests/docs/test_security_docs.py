"""docs/security.md says what processes get, and which properties run code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.config.guarded import GUARDED, guarded_reason
from orchestrator.environment import NAMES, PROXIES, small

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted({*NAMES, *(name for name in PROXIES if name.islower()), "LC_*"}))
def test_the_small_environment(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_what_it_says_is_left_out() -> None:
    left_out = re.search(r"such as `(\w+)` or `(\w+)`, can hold anything and are not part of it", PAGE)
    assert left_out is not None
    assert small(dict.fromkeys([*left_out.groups(), "SSH_AUTH_SOCK", "AWS_PROFILE", "DATABASE_URL"], "x")) == {}


@pytest.mark.parametrize(
    "name",
    [*GUARDED, *(f"sasl.kerberos.{part}" for part in ("principal", "keytab", "service.name"))],
)
def test_the_properties_that_run_code(name: str) -> None:
    assert f"`{name}`" in PAGE.split("## Properties that run code")[1].split("## Secrets")[0]
    assert guarded_reason(name, "$(id)")
