"""How long to wait before the next try: exponential, bounded, spread. DESIGN section 5, step 6."""

from __future__ import annotations

#: Delays vary by this share up and down, so that what failed together does not come back together.
JITTER = 0.2


def delay_of(nth: int, base: float, most: float, chance: float) -> float:
    """Seconds to wait after the `nth` failure (from 1): `base` doubled each time, at most `most`, jittered.

    `chance` is uniform in [0, 1). The exponent is bounded before it is used, so that no count overflows.
    """
    doublings = min(max(nth, 1) - 1, 64)
    return min(base * 2.0**doublings, most) * (1 - JITTER + 2 * JITTER * chance)
