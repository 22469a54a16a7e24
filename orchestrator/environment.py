"""The environment that kpipe gives to the programs it starts: what they need to run, and no secrets of the user.

A variable is on the list when its value is a place, a language, a limit or a switch. Variables that hold passwords,
tokens, keys or addresses of other systems are never on it, nor those that hold the options of a language's runtime
(`JAVA_TOOL_OPTIONS`, `NODE_OPTIONS`): such options can hold anything. Users name what a handler needs beyond that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_FINDING = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "HOSTNAME", "TMPDIR", "TMP", "TEMP",
    "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME",
    "LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH",
)  # fmt: skip
_TEXT = ("LANG", "LANGUAGE", "TZ", "TERM", "COLORTERM", "NO_COLOR", "FORCE_COLOR")
#: Where toolchains and packages are.
_LANGUAGES = (
    "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "JAVA_HOME", "NODE_PATH", "GOPATH", "GOROOT", "GOCACHE",
    "CARGO_HOME", "RUSTUP_HOME", "GEM_HOME", "GEM_PATH", "PERL5LIB", "DOTNET_ROOT",
)  # fmt: skip
#: Which certificates to trust: paths of public files.
_TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
#: kpipe's own settings: a worker, a service with `Publisher` or a kpipe command in a handler reads them again.
_KPIPE = (
    "KPIPE_ALLOWED_HOSTS",
    "KPIPE_ALLOW_FILES",
    "KPIPE_ALLOW_PROPERTIES",
    "KPIPE_CACHE",
    "KPIPE_INSTANCE",
    "KPIPE_STATE_DIR",
)

NAMES = frozenset((*_FINDING, *_TEXT, *_LANGUAGES, *_TRUST, *_KPIPE))
#: Locale categories, and the variables of CPython itself, whose names have no second `_`.
_PATTERN = re.compile(r"LC_[A-Z]+|PYTHON[A-Z0-9]+|PYTHON_(CPU_COUNT|GIL|JIT)", re.ASCII)

#: How a program reaches the network. Clients read them in both spellings; CGI made the lower case of the first usual.
PROXIES = tuple(
    spelling for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy") for spelling in (name, name.upper())
)


def small(environ: Mapping[str, str], more: Iterable[str] = ()) -> dict[str, str]:
    """The part of `environ` that any program may have, and the variables named in `more`.

    A proxy's address is part of it unless it holds a user or a password (`http://user:password@proxy`).
    """
    named = frozenset(more)
    return {name: value for name, value in environ.items() if name in named or _harmless(name, value)}


def _harmless(name: str, value: str) -> bool:
    if name in PROXIES:
        return "@" not in value
    return name in NAMES or _PATTERN.fullmatch(name) is not None
