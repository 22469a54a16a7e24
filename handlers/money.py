"""Amounts of money: decimal numbers, never binary arithmetic."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation


def exact(number: object) -> Decimal:
    """The decimal number that a JSON number was written as: 99.99 is 99.99, not 99.9899999….

    A float is read by its shortest decimal form, which is what the sender wrote (up to 15 significant
    digits). Raises ValueError for what is no finite number.
    """
    try:
        amount = Decimal(str(number))
    except InvalidOperation:
        raise ValueError(f"{number!r} is not an amount") from None
    if not amount.is_finite():
        raise ValueError(f"{number!r} is not an amount")
    return amount


def survives(amount: Decimal) -> bool:
    """Whether `amount` comes out of a JSON reader that uses doubles (most do) as it went in."""
    return Decimal(str(float(amount))) == amount
