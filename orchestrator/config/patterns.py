"""What a regular expression costs once it is compiled: `\\w{150}` becomes 150 copies of a large automaton."""

from __future__ import annotations

import re
from functools import lru_cache

#: A class of Unicode (`\\w`, `\\p{L}`) has this many times the states of a character.
_CLASS = 80
_TOKEN = re.compile(
    r"(?P<unicode>\\[pP]\{[^}]{0,50}\}|\\[wWdDsSbBpP])"
    r"|(?P<set>\[(?:[^\[\]\\]|\\.)*+\])"
    r"|\{(?P<least>[0-9]{1,9})?(?P<comma>,)?(?P<most>[0-9]{1,9})?\}"
    r"|(?P<open>\()|(?P<close>\))"
    r"|(?P<character>\\.|.)",
    re.DOTALL,
)
_LIMIT = 10**9


@lru_cache(maxsize=4096)
def weight(pattern: str) -> int:
    """About how many states `pattern` has; one takes some 250 bytes. Linear in its length, whatever it holds."""
    totals, last = [0], 0
    for token in _TOKEN.finditer(pattern):
        kind = token.lastgroup
        if kind == "open":
            totals.append(0)
            last = 0
        elif kind == "close":
            if len(totals) > 1:
                last = totals.pop()
                totals[-1] = min(_LIMIT, totals[-1] + last)
        elif token["least"] is not None or token["most"] is not None:
            times = int(token["most"] or token["least"])
            totals[-1] = min(_LIMIT, totals[-1] + last * max(0, times - 1))
            last = min(_LIMIT, last * max(1, times))
        else:
            last = _CLASS if kind == "unicode" else _of_set(token["set"]) if kind == "set" else 1
            totals[-1] += last
    return min(_LIMIT, sum(totals))


def _of_set(text: str) -> int:
    return 1 + _CLASS * len(re.findall(r"\\[pPwWdDsS]", text))
