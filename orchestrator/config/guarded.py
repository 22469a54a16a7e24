"""The librdkafka properties by which a pipeline file could run code: refused unless the user's environment allows them.

A pipeline file may come from somebody else. With these it could have a library loaded, a command run, or a credential
fetched that neither the file nor the user's environment names, by any command that connects to Kafka.
tests/unit/kafka/test_librdkafka_properties.py decides every property of the installed librdkafka.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from orchestrator.config.owned import canonical

#: The user's variable: names of properties with commas or spaces between them.
ALLOW = "KPIPE_ALLOW_PROPERTIES"

#: Property name (never an alias) -> what it does.
GUARDED: Mapping[str, str] = MappingProxyType(
    {
        "plugin.library.paths": "loads libraries and runs their code",
        "sasl.kerberos.kinit.cmd": "is run by a shell",
        "sasl.oauthbearer.metadata.authentication.type": "fetches a credential of this machine from its cloud provider "
        "and sends it to the cluster",
        "ssl.engine.id": "chooses a library that OpenSSL loads",
        "ssl.engine.location": "loads a library and runs its code",
        "ssl.providers": "loads libraries of OpenSSL and runs their code",
    }
)

#: librdkafka puts these, as they are, into the words of `kinit` and has a shell run that. What is safe in there: no
#: space, quote, `$`, `;` or the like, and no option of `kinit`.
_IN_SHELL: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "sasl.kerberos.keytab": re.compile(r"[\w./~@%+=:,-]*", re.ASCII),
        "sasl.kerberos.principal": re.compile(r"[\w.][\w./@-]*", re.ASCII),
        "sasl.kerberos.service.name": re.compile(r"[\w.][\w./@-]*", re.ASCII),
    }
)


def allowed_properties(environ: Mapping[str, str]) -> frozenset[str]:
    """What the user allows, by first names."""
    return frozenset(canonical(name.lower()) for name in re.split(r"[\s,]+", environ.get(ALLOW, "")) if name)


def guarded_reason(name: str, value: str) -> str | None:
    """What makes `name` with this value unsafe in a file of somebody else's; None when it is not."""
    first = canonical(name.strip().lower())
    pattern = _IN_SHELL.get(first)
    if pattern is not None and not pattern.fullmatch(value):
        return "is put into a command that a shell runs, and has characters that mean something to it"
    return GUARDED.get(first)
