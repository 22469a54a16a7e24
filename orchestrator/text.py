"""Text for people, whoever shows it: escapes for terminals, and suggestions for misspelled names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

# What a terminal may act on instead of showing it: C0, DEL and C1 controls; the Unicode line separators; characters of
# the category Cf, which format others: they turn the direction of the text around them (CVE-2021-42574) or take no
# room; code points that no encoding carries.
_UNSAFE = (
    "\x00-\x1f\x7f-\x9f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
# Compiled when first used, by `re` itself: most commands never meet one of them.
_UNSAFE_IN_LINE = f"[{_UNSAFE}]"
_UNSAFE_IN_TEXT = f"(?![\n\t])[{_UNSAFE}]"
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def safe(text: str, *, lines: bool = False) -> str:
    """`text` with every character that a terminal could act on as an escape such as `\\x1b` or `\\u202e`.

    `lines` keeps line feeds and tabs, for messages of several lines.
    """
    if text.isprintable():  # Python calls none of those characters printable, and knows it in a third of the time
        return text
    return re.sub(_UNSAFE_IN_TEXT if lines else _UNSAFE_IN_LINE, _escape, text)


def json_safe(text: str) -> str:
    """JSON text with the same characters escaped the way JSON does it: what it says is unchanged.

    They can stand inside of strings only (RFC 8259), so no token is touched.
    """
    return text if text.isprintable() else re.sub(_UNSAFE_IN_LINE, lambda found: _json_escape(found[0]), text)


def dumps(value: Any) -> str:
    """Compact JSON on one line, not yet escaped for terminals. Raises ValueError for what JSON cannot say."""
    import json

    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """A hint that names what was probably meant, or ""."""
    from difflib import get_close_matches

    close = get_close_matches(word, list(names), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(f'`{name}`' for name in close)}?" if close else ""


def _escape(found: re.Match[str]) -> str:
    char = found[0]
    point = ord(char)
    if char in _NAMED:
        return _NAMED[char]
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i] << 8 | units[i + 1]:04x}" for i in range(0, len(units), 2))
