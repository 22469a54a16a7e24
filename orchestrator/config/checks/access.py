"""How clients log in, and whether others can listen: what looks protected and is not. Warnings only."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from orchestrator.config.checks.facts import PipelineFacts
from orchestrator.config.checks.kafka import KINDS
from orchestrator.config.owned import canonical
from orchestrator.config.syntax.nodes import Path
from orchestrator.config.topics import config_text

#: How librdkafka reads a boolean.
_TRUE, _FALSE = ("true", "t", "1"), ("false", "f", "0")
_SCHEME = re.compile(r"^[A-Za-z_]+://")
#: Suites that encrypt nothing or ask for no certificate, and the level at which OpenSSL takes any.
_WEAK = re.compile(r"(^|[:, +])(e?NULL|aNULL|ADH|AECDH|LOW|EXP(ORT)?)\b|@SECLEVEL=0", re.IGNORECASE)
_TLS = "security.protocol: SASL_SSL encrypts it"
#: Properties that switch a protection off: name, the values that do, what follows, what to do.
_SWITCHES = (
    (
        "enable.ssl.certificate.verification", _FALSE, "any server can pose as the cluster and read the login",
        "remove it, and name the authority that signed the cluster's certificate: ssl.ca.location",
    ),
    (
        "ssl.endpoint.identification.algorithm", ("none",),
        "any server with a trusted certificate, whatever its name, can pose as the cluster",
        "remove it: a certificate has to name the host that is connected to",
    ),
    (
        "enable.sasl.oauthbearer.unsecure.jwt", _TRUE, "the client logs in with a token that anybody can make",
        "for tests only: use `sasl.oauthbearer.method: oidc`",
    ),
)  # fmt: skip


class _Stated(NamedTuple):
    """A property's value and the place that states it."""

    value: str
    path: Path


def check(facts: PipelineFacts) -> None:
    """Every way in which a client's login or data is open to others; each place once."""
    warned: set[Path] = set()
    for kind in KINDS[1:]:
        for path, message, hint in _open_doors(_effective(facts, kind), remote=_is_remote(facts)):
            if path not in warned:
                warned.add(path)
                facts.doc.warn("insecure", path, message, hint, key=True)


def _effective(facts: PipelineFacts, kind: str) -> dict[str, _Stated]:
    """What clients of this kind get from the file, by first names."""
    return {
        canonical(name): _Stated(config_text(value), ("kafka", section, name))
        for section in ("client", kind)
        for name, value in facts.doc.section("kafka", section).items()
    }


def _open_doors(stated: Mapping[str, _Stated], *, remote: bool) -> Iterator[tuple[Path, str, str]]:
    protocol = stated["security.protocol"].value.lower() if "security.protocol" in stated else "plaintext"
    yield from _unused(stated, protocol)
    if protocol == "sasl_plaintext" and remote:
        what = "the login and all data cross the network unencrypted"
        yield stated["security.protocol"].path, f"with SASL_PLAINTEXT {what}", _TLS
    for name, values, what, hint in _SWITCHES:
        if name in stated and stated[name].value.lower() in values:
            yield stated[name].path, f"`{name}`: {what}", hint
    ciphers = stated.get("ssl.cipher.suites")
    if ciphers is not None and _WEAK.search(ciphers.value):
        what = "these suites leave out encryption or the check of certificates"
        yield ciphers.path, f"`ssl.cipher.suites`: {what}", "remove it: OpenSSL's own choice is safe"
    endpoint = stated.get("sasl.oauthbearer.token.endpoint.url")
    if endpoint is not None and endpoint.value.lower().startswith("http:") and not _is_local(_host(endpoint.value)):
        what = "the client's secret and its token cross the network unencrypted"
        yield endpoint.path, f"`sasl.oauthbearer.token.endpoint.url`: {what}", "use an https:// address"


def _unused(stated: Mapping[str, _Stated], protocol: str) -> Iterator[tuple[Path, str, str]]:
    """Logins and certificates that `security.protocol` leaves aside: librdkafka connects without them."""
    protected, unset = protocol.endswith("ssl"), "security.protocol" not in stated
    why = "without security.protocol" if unset else "with this security.protocol"
    names = [n for n in ("sasl.password", "sasl.username", *stated) if n in stated and n.startswith("sasl.")]
    if names and not protocol.startswith("sasl_"):
        hint = "security.protocol: SASL_SSL makes them log in"
        yield stated[names[0]].path, f"`{names[0]}` is not used {why}: clients connect without a login", hint
    name = next((name for name in stated if name.startswith("ssl.")), "")
    if name and not protected:
        yield stated[name].path, f"`{name}` is not used {why}: nothing is encrypted", "set it to SSL or SASL_SSL"


def _is_remote(facts: PipelineFacts) -> bool:
    servers = facts.doc.get("kafka", "bootstrap") or ""
    hosts = [_host(_SCHEME.sub("", server.strip())) for server in servers.split(",") if server.strip()]
    return not all(map(_is_local, hosts))


def _host(address: str) -> str:
    """The host of `host:port` or of a URL; empty where there is none."""
    try:
        return urlsplit(address if "//" in address else f"//{address}").hostname or ""
    except ValueError:
        return ""


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
