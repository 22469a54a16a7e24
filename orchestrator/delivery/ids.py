"""Many ids in little memory, looked up at the price of one dict. DESIGN section 5, step 4.

What decides about nearly every event is that its id is *not* here, so that is what costs least: a dict of 61 bits of
each id's hash (`first`). Only where that is known is the other hash asked (`second`, 8 bytes). Those stand side by side
in pages, with a byte of each event's payload; the dict's value is the page, shared by all ids in it.

70 to 100 bytes an id, whatever its length: 32 of the number, 27 to 60 of its place in the dict, 9 of the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: Bytes of a second hash.
WIDTH = 8
#: A page of so many ids takes no more: looking through one stays quick.
_FULL = 1_024

#: The second hashes, and the numbers that came with them.
Page = tuple[bytearray, bytearray]


class Ids:
    """Ids of two hashes, each with a number below 256."""

    __slots__ = ("_known", "_page")

    def __init__(self) -> None:
        self._known: dict[int, Page] = {}
        #: The page that takes the next ones.
        self._page: Page = bytearray(), bytearray()

    def __len__(self) -> int:
        return len(self._known)

    @property
    def firsts(self) -> Mapping[int, object]:
        """Those that may be here, by their first hashes: whoever is not in it, is not here."""
        return self._known

    def get(self, first: int, second: bytes) -> int | None:
        """The number that came with the id, None when it is not here."""
        page = self._known.get(first)
        if page is None:
            return None
        seconds, numbers = page
        at = seconds.rfind(second)  # the last one counts
        while at % WIDTH:  # not there (-1), or across the border of two
            if at < 0:
                return None
            at = seconds.rfind(second, 0, at + WIDTH - 1)
        return numbers[at // WIDTH]

    def put(self, firsts: Sequence[int], seconds: bytes, numbers: bytes) -> None:
        """Take ids, or give them other numbers: both hashes and the number of each, in the same order."""
        page = self._page
        if len(page[1]) + len(numbers) > _FULL:
            page = self._page = bytearray(), bytearray()
        page[0].extend(seconds)
        page[1].extend(numbers)
        known = self._known
        for first in firsts:
            known[first] = page
