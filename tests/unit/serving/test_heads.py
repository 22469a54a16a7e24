"""Heads and hosts, without a socket."""

from __future__ import annotations

import h11
import pytest

from orchestrator.serving import Hosts, ListenerLimits, RequestRefused
from orchestrator.serving.heads import read_head
from orchestrator.serving.hosts import names_in
from orchestrator.serving.limits import connections


def request(target: str = "/", version: str = "1.1", **headers: str) -> h11.Request:
    named = [(name.replace("_", "-"), value) for name, value in {"host": "localhost", **headers}.items()]
    return h11.Request(method="GET", target=target, http_version=version, headers=named)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/a%20b?x=1?2", "/a%20b", "x=1?2"),
        ("//evil/x", "//evil/x", ""),
        ("http://localhost:1/metrics?a", "/metrics", "a"),
        ("http://localhost", "/", ""),
    ],
)
def test_targets(target: str, path: str, query: str) -> None:
    head = read_head(request(target), Hosts(), ListenerLimits())
    assert (head.path, head.query, head.length) == (path, query, 0)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (request("http://[/"), 400),
        (request("http://"), 400),
        (request("*"), 400),
        (request("ftp://localhost/"), 400),
        (request("http://evil/"), 421),
        (request("http://localhost@evil/"), 421),
        (request(host="evil"), 421),
        (request(host=""), 421),
        (request(version="2.0"), 505),
        (request(content_encoding="gzip"), 415),
        (request(transfer_encoding="chunked", content_length="3"), 400),
        (request(**{f"x{n}": "" for n in range(100)}), 431),
    ],
)
def test_what_is_refused(head: h11.Request, status: int) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_head(head, Hosts(), ListenerLimits())
    assert refused.value.answer.status == status and refused.value.answer.body["error"]


def test_the_length_of_a_body() -> None:
    assert read_head(request(content_length="0012"), None, ListenerLimits()).length == 12
    assert read_head(request(transfer_encoding="chunked"), None, ListenerLimits()).length is None


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST:80", "localhost.", "127.0.0.1:9464", "[::1]", "[::1]:1"])
def test_loopback_is_allowed(name: str) -> None:
    assert Hosts().allow(name)


@pytest.mark.parametrize(
    "name",
    ["evil", "localhost.evil", "127.0.0.1.evil", "evil:80", "localhost@evil", "evil#localhost", "::1", "[::1", "[]",
     "10.0.0.1", "", " ", "localhost:x", "localhost:80:80", "localhost\\evil", "localhost/x", "xn--lcalhost-0cb"],
)  # fmt: skip
def test_all_others_are_not(name: str) -> None:
    assert not Hosts().allow(name)


def test_hosts_are_configured_by_the_environment() -> None:
    environ = {"KPIPE_ALLOWED_HOSTS": "Metrics.internal, 10.1.2.3,,[fe80::1]"}
    hosts = Hosts.of(environ, "more")
    assert all(hosts.allow(name) for name in ("metrics.internal:1", "10.1.2.3", "[fe80::1]:80", "more", "localhost"))
    assert not hosts.allow("evil") and not hosts.allow("10.1.2.4")
    assert names_in(environ) == ["10.1.2.3", "fe80::1", "metrics.internal"] and names_in({}) == []


def test_addresses_can_be_allowed_as_a_whole() -> None:
    hosts = Hosts(addresses=True)
    assert hosts.allow("10.0.0.1:80") and hosts.allow("[fe80::1]") and not hosts.allow("evil")


def test_few_files_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, most in ((256, 32), (1024, 128), (100_000, 200), (8, 4)):
        monkeypatch.setattr("resource.getrlimit", lambda _, soft=soft: (soft, soft))
        assert connections(200) == most
