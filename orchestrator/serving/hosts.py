"""Whose `Host` a listener answers.

A web page can make its own name point to 127.0.0.1 after it was loaded (DNS rebinding). The browser then takes a
listener on loopback for a part of that page's site and lets the page read every answer. But it still sends the page's
name as `Host`, so a listener that knows its own names is safe.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

#: Further names, separated by commas: behind a proxy or in Docker Desktop a listener has another name.
VARIABLE = "KPIPE_ALLOWED_HOSTS"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
#: RFC 3986, section 3.2, without user names: `name`, `name:port`, `[address]:port`.
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@/?#\\\s]+))(?::[0-9]{0,5})?")


@dataclass(frozen=True)
class Hosts:
    """The names of a listener, in lower case. With `addresses` every IP address is one: only names can be rebound."""

    names: frozenset[str] = LOOPBACK
    addresses: bool = False

    @classmethod
    def of(cls, environ: Mapping[str, str], *more: str, addresses: bool = False) -> Hosts:
        """Loopback, `more`, and what the environment adds."""
        listed = (*environ.get(VARIABLE, "").split(","), *more)
        return cls(LOOPBACK | {_bare(name) for name in listed if name.strip()}, addresses)

    def allow(self, authority: str) -> bool:
        """Whether `authority`, the value of a `Host` header, names this listener. The port does not matter."""
        match = _AUTHORITY.fullmatch(authority)
        if match is None:
            return False
        name = _bare(match[1] or match[2])
        return name in self.names or (self.addresses and _is_address(name))


def _bare(name: str) -> str:
    return name.strip().strip("[]").lower().removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def names_in(environ: Mapping[str, str]) -> list[str]:
    """What the environment adds, to be handed to another process."""
    return sorted(Hosts.of(environ).names - LOOPBACK)
