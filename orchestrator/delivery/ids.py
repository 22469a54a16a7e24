"""Many ids in little memory: 15 bytes of each and a byte to it, side by side in buckets. DESIGN section 5, step 4.

Linear hashing: with every few ids one bucket more, which takes half of the ids of one that has its turn, so that no
call ever pays for the whole table. A bucket is searched by `bytearray.find`, which looks at a kilobyte at once.

About 20 bytes an id, where a dict of ints takes 90 to 115.
"""

from __future__ import annotations

#: Bytes of an id, and of an id with its byte.
KEY = 15
_ENTRY = KEY + 1
#: Ids of a bucket, in the mean.
_FILL = 32


class Ids:
    """Ids of `KEY` evenly distributed bytes (a hash), each with a number below 256."""

    __slots__ = ("_buckets", "_count", "_mask")

    def __init__(self) -> None:
        self._buckets = [bytearray()]
        #: The buckets' number, rounded up to a power of two, less one.
        self._mask = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, key: bytes, low: int) -> int | None:
        """The number that came with the id, None when it is not here; `low` is the id's first 4 bytes as a number."""
        buckets, mask = self._buckets, self._mask
        number = low & mask
        bucket = buckets[number if number < len(buckets) else number & (mask >> 1)]
        at = bucket.find(key)
        while at % _ENTRY:  # not there (-1), or across the border of two ids
            if at < 0:
                return None
            at = bucket.find(key, at + 1)
        return bucket[at + KEY]

    def put(self, key: bytes, low: int, number: int) -> None:
        """Take the id, or give it another number."""
        place = low & self._mask
        bucket = self._buckets[place if place < len(self._buckets) else place & (self._mask >> 1)]
        at = bucket.find(key)
        while at % _ENTRY and at >= 0:
            at = bucket.find(key, at + 1)
        if at >= 0:
            bucket[at + KEY] = number
            return
        bucket += key
        bucket.append(number)
        self._count += 1
        if self._count > _FILL * len(self._buckets):
            self._split()

    def _split(self) -> None:
        """One more bucket, with those ids of its lower half's that belong there."""
        new = len(self._buckets)
        if new > self._mask:
            self._mask = 2 * self._mask + 1
        old = self._buckets[new & (self._mask >> 1)]
        stay, go = bytearray(), bytearray()
        for at in range(0, len(old), _ENTRY):
            entry = old[at : at + _ENTRY]
            if int.from_bytes(entry[:4], "little") & self._mask == new:
                go += entry
            else:
                stay += entry
        self._buckets[new & (self._mask >> 1)] = stay
        self._buckets.append(go)
