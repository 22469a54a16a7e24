"""Which errors say that the system has run out of something, and that trying again later is all there is to do."""

from __future__ import annotations

import errno

_OVERLOAD = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def is_overload(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _OVERLOAD
