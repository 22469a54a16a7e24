"""Calls of confluent-kafka inside a `try`.

A C function that returns something although it raised is told from others by whoever calls it. CPython 3.11 does so at
first only: once a line has run some times, its calls of C functions are specialised, and the exception comes up at some
later line, outside the `try`. `checked(function, …)` calls it in a way that always looks.
"""

from __future__ import annotations

from operator import call as checked

__all__ = ["checked"]
